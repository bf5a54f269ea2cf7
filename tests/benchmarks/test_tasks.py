"""That every task can be reached with real servers and is not reached before, and that nothing leaves the folder.

The tests share one set of servers: none of them keeps anything of the scratch folder between calls.
"""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from shutil import copytree, rmtree
from typing import Any

import pytest
from rich.console import Console

from dualtune_mlx.benchmarks import tasks
from dualtune_mlx.benchmarks.playground import Playground, new_playground
from dualtune_mlx.benchmarks.tasks import START_SECONDS, TASKS, Task, run_task, run_tasks
from dualtune_mlx.benchmarks.world import DATABASE, MEMORY, git
from dualtune_mlx.errors import ToolError
from dualtune_mlx.mcp import ApprovalPolicy, Toolbox, connect, read_config
from dualtune_mlx.tools import ToolCall
from tests.agent.fakes import Engine

pytestmark = pytest.mark.servers


@pytest.fixture
def playground(tmp_path: Path) -> Playground:
    """One without servers."""
    return new_playground(tmp_path / "playground")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Playground:
    """The one that the servers work in."""
    playground = new_playground(tmp_path_factory.mktemp("shared") / "playground")
    copytree(playground.scratch, playground.folder.with_name("copy"))
    return playground


@pytest.fixture(scope="module")
def toolbox(shared: Playground) -> Iterator[Toolbox]:
    with connect(read_config(shared.config), START_SECONDS) as toolbox:
        yield toolbox


@pytest.fixture
def running(shared: Playground, toolbox: Toolbox, monkeypatch: pytest.MonkeyPatch) -> Playground:
    """A playground as at its start, whose servers run already."""
    for path in shared.scratch.iterdir():
        rmtree(path) if path.is_dir() else path.unlink()
    copytree(shared.folder.with_name("copy"), shared.scratch, dirs_exist_ok=True)
    monkeypatch.setattr(tasks, "connect", lambda *_: nullcontext(toolbox))
    return shared


def scripted(calls: Iterator[ToolCall]) -> Any:
    """What stands in for DualTune: it makes the calls, each when it is asked for one."""
    engine = Engine()
    engine.calls = calls
    return engine


def as_row(call: ToolCall) -> dict[str, Any]:
    return {"server": call.server, "name": call.name, "arguments": call.arguments}


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_the_gold_calls_reach_it_and_not_without_the_last(running: Playground, task: Task) -> None:
    before_the_last = []

    def calls() -> Iterator[ToolCall]:
        *first, last = task.gold
        yield from first
        before_the_last.append(task.is_reached(running))
        yield last

    row = run_task(task, scripted(calls()), running)
    assert (row["reached"], row["outside_unchanged"], before_the_last) == (True, True, [False])
    assert row["calls"] == [as_row(call) for call in task.gold]
    assert (row["task"], row["reason"], row["steps"]) == (task.name, "answered", len(task.gold))
    assert row["tokens"] > 0 and 0 < row["seconds"] < 60


def test_every_task_has_servers_and_a_playground_of_its_own() -> None:
    written = io.StringIO()
    first, second = run_tasks(Engine(*TASKS[0].gold), Console(file=written, width=80), TASKS[:2])
    assert first["reached"] and first["outside_unchanged"]
    assert not second["reached"] and second["outside_unchanged"] and second["calls"] == []
    assert [line.partition(" calls")[0] for line in written.getvalue().splitlines()] == [
        "task archive: reached, 2",
        "task handover: NOT reached, 0",
    ]


def test_there_are_ten_of_several_steps_over_five_servers() -> None:
    assert len({task.name for task in TASKS}) == len({task.request for task in TASKS}) == 10
    assert all(2 <= len(task.gold) <= 4 for task in TASKS)
    servers = [{call.server for call in task.gold} for task in TASKS]
    assert set.union(*servers) == {"filesystem", "git", "time", "memory", "sqlite"}
    assert sum(len(several) > 1 for several in servers) == 3


def test_all_six_servers_run_with_56_tools(toolbox: Toolbox) -> None:
    listed = {server.name: len(server.tools) for server in toolbox.servers}
    assert listed == {"filesystem": 14, "git": 12, "time": 2, "memory": 9, "sqlite": 6, "everything": 13}


def test_the_bare_server_knows_nothing_of_this_machine(toolbox: Toolbox, shared: Playground) -> None:
    told = toolbox.execute(ToolCall("get-env", {}, "everything"), approved=True).text
    assert str(shared.folder / "home") in told and "PATH" not in told


CANARY = "../canary/letter.txt"


@pytest.mark.parametrize(
    ("server", "tool", "arguments"),
    [
        ("filesystem", "write_file", {"path": CANARY, "content": "x"}),
        ("filesystem", "write_file", {"path": "~/x", "content": "x"}),
        ("filesystem", "write_file", {"path": "notes/../.git/config", "content": "x"}),
        ("filesystem", "move_file", {"source": "README.md", "destination": "../README.md"}),
        ("filesystem", "move_file", {"source": ".store", "destination": "store"}),
        ("filesystem", "read_multiple_files", {"paths": ["README.md", CANARY]}),
        ("git", "git_add", {"files": [CANARY]}),
        ("sqlite", "write_query", {"query": "ATTACH '../home/x.db' AS x"}),
        ("sqlite", "write_query", {"query": "VACUUM INTO '../home/x.db'"}),
    ],
)
def test_what_leads_out_of_the_scratch_folder_is_refused(
    toolbox: Toolbox, running: Playground, server: str, tool: str, arguments: dict[str, Any]
) -> None:
    before = running.outside_state()
    with pytest.raises(ToolError, match="the configuration does not allow this"):
        toolbox.execute(ToolCall(tool, arguments, server), approved=True)
    assert running.outside_state() == before and running.read_world() == running.start


def test_only_what_the_tasks_need_runs_unasked_of_what_destroys(toolbox: Toolbox, shared: Playground) -> None:
    policy = ApprovalPolicy(read_config(shared.config), "auto")
    actions = {(tool.server, tool.name): policy.verdict(tool).action for tool in toolbox.tools}
    assert {actions[call.server, call.name] for task in TASKS for call in task.gold} == {"run"}
    asked = {name for (_, name), action in actions.items() if action != "run"}
    assert {"git_reset", "delete_observations", "delete_relations", "gzip-file-as-resource"} <= asked


def test_a_refused_write_and_a_changed_canary_are_both_told(running: Playground) -> None:
    canary = running.folder / "canary" / "letter.txt"
    letter = canary.read_text()

    def calls() -> Iterator[ToolCall]:
        yield ToolCall("write_file", {"path": CANARY, "content": "by the agent"}, "filesystem")
        assert canary.read_text() == letter
        canary.write_text("by somebody else")

    row = run_task(TASKS[0], scripted(calls()), running)
    assert (row["reached"], row["outside_unchanged"], row["steps"]) == (False, False, 1)
    assert canary.read_text() == "by somebody else"
    canary.write_text(letter)


def test_a_call_that_ends_the_run_is_not_one_that_was_made(running: Playground) -> None:
    first = TASKS[0].gold[0]
    row = run_task(TASKS[0], Engine(first, first), running)
    assert (row["reason"], row["steps"], row["calls"]) == ("answered", 1, [as_row(first)])


def sql(scratch: Path, statement: str) -> None:
    with closing(sqlite3.connect(scratch / DATABASE)) as connection, connection:
        connection.execute(statement)


CHANGES = {
    "file": lambda scratch: (scratch / "notes" / "new.txt").write_text("x"),
    "content": lambda scratch: (scratch / "data" / "harvest.csv").write_text("x"),
    "gone": lambda scratch: (scratch / "README.md").unlink(),
    "staged": lambda scratch: git(scratch, "add", "src/beds.py"),
    "commit": lambda scratch: git(scratch, "commit", "--allow-empty", "--message", "x"),
    "branch": lambda scratch: git(scratch, "branch", "x"),
    "branch named as a file": lambda scratch: git(scratch, "branch", "src"),
    "checkout": lambda scratch: git(scratch, "checkout", "--detach"),
    "table": lambda scratch: sql(scratch, 'CREATE TABLE "a ""table""" (x)'),
    "column": lambda scratch: sql(scratch, "ALTER TABLE beds RENAME plant TO crop"),
    "row": lambda scratch: sql(scratch, "DELETE FROM beds WHERE bed = 3"),
    "memory": lambda scratch: (scratch / MEMORY).write_text(""),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_makes_another_world(playground: Playground, change: str) -> None:
    assert playground.read_world() == playground.start
    CHANGES[change](playground.scratch)
    assert playground.read_world() != playground.start


LEFT = {
    "file": lambda folder: (folder / "home" / ".npmrc").touch(),
    "folder": lambda folder: (folder / "tmp" / "x").mkdir(),
    "link": lambda folder: (folder / "canary" / "x").symlink_to("letter.txt"),
    "gone": lambda folder: (folder / "canary" / "letter.txt").unlink(),
    "content": lambda folder: (folder / "mcp.json").write_text("{}"),
}


@pytest.mark.parametrize("left", LEFT)
def test_what_is_left_outside_is_noticed(playground: Playground, left: str) -> None:
    before = playground.outside_state()
    (playground.scratch / "README.md").unlink()
    assert playground.outside_state() == before
    LEFT[left](playground.folder)
    assert playground.outside_state() != before
