"""Ten tasks of several steps, done by the agent with real servers and judged by the world that they leave.

Not a benchmark itself; for ``accuracy.py``. It needs the extra ``demo``, git, node and Python's ``venv``. Six servers
with 56 tools are started afresh for every task, in a playground of its own (``playground.py``). A task is reached when
the scratch folder is exactly as it should be at the end: what was asked is done, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from dualtune_mlx.agent import Agent, Limits
from dualtune_mlx.agent.events import AgentEvent, CallProposed, RunEnded
from dualtune_mlx.benchmarks.playground import Playground, new_playground
from dualtune_mlx.benchmarks.world import World
from dualtune_mlx.engine import DualTune
from dualtune_mlx.errors import count_of
from dualtune_mlx.mcp import ApprovalPolicy, connect, read_config
from dualtune_mlx.tools import ToolCall

LIMITS = Limits(steps=8, seconds=300)
START_SECONDS = 60.0
"""Seconds that six servers may take to start together on a busy machine."""


@dataclass(frozen=True)
class Task:
    """A task for the agent, and how it is judged."""

    name: str
    request: str
    gold: tuple[ToolCall, ...]
    """The calls of a perfect agent."""
    after: Callable[[World], World]
    """From the world before the task to the world after it."""

    def is_reached(self, playground: Playground) -> bool:
        """Whether the playground's world is the one that the task asks for."""
        return playground.read_world() == self.after(playground.start)


def _call(server: str, name: str, **arguments: Any) -> ToolCall:
    return ToolCall(name, arguments, server)


TASKS = (
    Task(
        "archive",
        "Please make a folder called archive, and after that put notes/2025.md there, as archive/2025.md.",
        (
            _call("filesystem", "create_directory", path="archive"),
            _call("filesystem", "move_file", source="notes/2025.md", destination="archive/2025.md"),
        ),
        lambda world: world.move("notes/2025.md", "archive/2025.md"),
    ),
    Task(
        "handover",
        "Look at the text in notes/gate.txt first. Then save that very same text as data/handover.txt.",
        (
            _call("filesystem", "read_text_file", path="notes/gate.txt"),
            _call(
                "filesystem",
                "write_file",
                path="data/handover.txt",
                content="The gate opens with 4471 until October",
            ),
        ),
        lambda world: world.write("data/handover.txt", world.files["notes/gate.txt"]),
    ),
    Task(
        "rounding",
        "I changed src/beds.py. Open a branch named rounding and change over to it, then stage src/beds.py, and finish "
        'with a commit that says "Round the area".',
        (
            _call("git", "git_create_branch", branch_name="rounding"),
            _call("git", "git_checkout", branch_name="rounding"),
            _call("git", "git_add", files=["src/beds.py"]),
            _call("git", "git_commit", message="Round the area"),
        ),
        lambda world: world.start_branch("rounding").stage("src/beds.py").commit("Round the area"),
    ),
    Task(
        "stock",
        "Our database needs two corrections in the table seeds: a new row with the name Leek, 4 packets and the "
        "supplier Larkfield, and for the one named Carrot the number of packets becomes 9.",
        (
            _call(
                "sqlite",
                "write_query",
                query="INSERT INTO seeds (name, packets, supplier) VALUES ('Leek', 4, 'Larkfield')",
            ),
            _call("sqlite", "write_query", query="UPDATE seeds SET packets = 9 WHERE name = 'Carrot'"),
        ),
        lambda world: world.insert("seeds", "Leek", 4, "Larkfield").update(
            "seeds", ("Carrot", 3, "Larkfield"), ("Carrot", 9, "Larkfield")
        ),
    ),
    Task(
        "harvest",
        "I want a new table harvest in the database, its columns being plant (text) and kilos (integer). Once it is "
        "there, enter a first row: plant Tomato, kilos 12.",
        (
            _call("sqlite", "create_table", query="CREATE TABLE harvest (plant TEXT, kilos INTEGER)"),
            _call("sqlite", "write_query", query="INSERT INTO harvest (plant, kilos) VALUES ('Tomato', 12)"),
        ),
        lambda world: world.create_table("harvest", "plant", "kilos").insert("harvest", "Tomato", 12),
    ),
    Task(
        "member",
        'Keep in memory that there is Ida, an entity of type person, with the observation "grows dahlias". Then relate '
        "her to Garden Club: from Ida to Garden Club, relation type member_of.",
        (
            _call(
                "memory",
                "create_entities",
                entities=[{"name": "Ida", "entityType": "person", "observations": ["grows dahlias"]}],
            ),
            _call(
                "memory",
                "create_relations",
                relations=[{"from": "Ida", "to": "Garden Club", "relationType": "member_of"}],
            ),
        ),
        lambda world: world.remember("Ida", "person", "grows dahlias").relate("Ida", "member_of", "Garden Club"),
    ),
    Task(
        "farewell",
        'Two things to change in your memory: Greta gets one more observation, "lives in Lyon now", and the entity '
        "Tool Shed has to go.",
        (
            _call(
                "memory",
                "add_observations",
                observations=[{"entityName": "Greta", "contents": ["lives in Lyon now"]}],
            ),
            _call("memory", "delete_entities", entityNames=["Tool Shed"]),
        ),
        lambda world: world.observe("Greta", "lives in Lyon now").forget("Tool Shed"),
    ),
    Task(
        "title",
        'The heading of README.md is out of date: edit it so that "Allotment 12" reads "Allotment 14". Afterwards '
        'stage README.md and commit, with "Mend the heading" as the message.',
        (
            _call(
                "filesystem",
                "edit_file",
                path="README.md",
                edits=[{"oldText": "Allotment 12", "newText": "Allotment 14"}],
            ),
            _call("git", "git_add", files=["README.md"]),
            _call("git", "git_commit", message="Mend the heading"),
        ),
        lambda world: (
            world.write("README.md", world.files["README.md"].replace("Allotment 12", "Allotment 14"))
            .stage("README.md")
            .commit("Mend the heading")
        ),
    ),
    Task(
        "call",
        "We ring Tokyo (Asia/Tokyo) at 09:00 their time. Work out when that is in Asia/Kolkata, then create "
        "notes/call.txt with nothing in it but that time, as HH:MM.",
        (
            _call("time", "convert_time", source_timezone="Asia/Tokyo", time="09:00", target_timezone="Asia/Kolkata"),
            _call("filesystem", "write_file", path="notes/call.txt", content="05:30"),
        ),
        lambda world: world.write("notes/call.txt", "05:30"),
    ),
    Task(
        "supplier",
        "Query the table seeds for the supplier of the one named Basil, then add the supplier's name that you get, "
        "nothing more, as an observation about Garden Club in memory.",
        (
            _call("sqlite", "read_query", query="SELECT supplier FROM seeds WHERE name = 'Basil'"),
            _call(
                "memory",
                "add_observations",
                observations=[{"entityName": "Garden Club", "contents": ["Hill Farm Seeds"]}],
            ),
        ),
        lambda world: world.observe("Garden Club", "Hill Farm Seeds"),
    ),
)


def run_tasks(dualtune: DualTune, out: Console, tasks: Sequence[Task] = TASKS) -> list[dict[str, Any]]:
    """Do every task in a new playground; print a line and return a row for each.

    Raises:
        ServerError: when a server cannot be installed or started.
    """
    rows = []
    for task in tasks:
        with TemporaryDirectory() as folder:
            rows.append(run_task(task, dualtune, new_playground(Path(folder) / "playground")))
        row = rows[-1]
        word = "reached" if row["reached"] else "NOT reached"
        outside = "" if row["outside_unchanged"] else ", and something OUTSIDE the scratch folder was changed"
        out.print(
            f"task {task.name}: {word}, {count_of(row['steps'], 'call')}, {row['seconds']:.0f} s{outside}", markup=False
        )
    return rows


def run_task(task: Task, dualtune: DualTune, playground: Playground) -> dict[str, Any]:
    """Do a task as ``dualtune agent --approve auto`` does it when nobody can be asked.

    The row has ``task``, ``reached``, ``outside_unchanged``, ``calls``, how the run ended (``reason``, ``message``),
    ``steps``, ``seconds`` (without the servers' start) and ``tokens``. ``calls`` are server, name and arguments of the
    calls that were made or refused, without a call that ended the run.
    """
    before, configs = playground.outside_state(), read_config(playground.config)
    transcripts = playground.folder.with_name("transcripts")
    with connect(configs, START_SECONDS) as toolbox:
        agent = Agent(dualtune, toolbox, ApprovalPolicy(configs, "auto"), limits=LIMITS, transcripts=transcripts)
        events = list(agent.stream(task.request))
    ended = events[-1]
    assert isinstance(ended, RunEnded)
    return {
        "task": task.name,
        "reached": task.is_reached(playground),
        "outside_unchanged": playground.outside_state() == before,
        "calls": _call_records(events)[: ended.steps],
        "reason": ended.reason,
        "message": ended.message,
        "steps": ended.steps,
        "seconds": ended.seconds,
        "tokens": ended.tokens,
    }


def _call_records(events: list[AgentEvent]) -> list[dict[str, Any]]:
    calls = (event.call for event in events if isinstance(event, CallProposed) and not event.call.is_respond)
    return [{"server": call.server, "name": call.name, "arguments": dict(call.arguments)} for call in calls]
