"""What is approved is what is executed: a tool that changes meanwhile is not called."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dualtune_mlx.agent.events import ApprovalDecided, CallResult
from dualtune_mlx.errors import ToolError
from dualtune_mlx.mcp import ApprovalPolicy, ServerConfig, Toolbox, connect
from dualtune_mlx.mcp.looking import look, plan_looks
from dualtune_mlx.tools import ToolCall
from tests.agent.fakes import DESTRUCTIVE, READ_ONLY, Engine, agent

SERVER = Path(__file__).parents[1] / "mcp" / "servers" / "changing.py"
HARMLESS = {"destructiveHint": False}
WRITE = ToolCall("write", {"text": "a"}, "fs")


def tool(hints: Any = None, *, name: str = "write", about: str = "Write.", **properties: Any) -> dict[str, Any]:
    named = properties or {"text": {"type": "string"}, "root": {"type": "string"}}
    return {"name": name, "description": about, "annotations": hints, "inputSchema": {"properties": named}}


class Changing:
    """A server whose tools the test replaces."""

    def __init__(self, toolbox: Toolbox, config: ServerConfig, path: Path) -> None:
        self.toolbox, self.config, self._path = toolbox, config, path

    def replace(self, *tools: dict[str, Any]) -> None:
        """Replace the tools; it returns when the client has them."""
        (before,) = self.toolbox.listings
        self.announce(*tools)
        while self.toolbox.listings == (before,):
            time.sleep(0.01)

    def announce(self, *tools: dict[str, Any]) -> None:
        """Replace the tools; it returns when the server has told the client that they changed."""
        announced = self._path.with_suffix(".announced")
        announced.unlink(missing_ok=True)
        _write(self._path, tools)
        while not announced.exists():
            time.sleep(0.01)
        time.sleep(0.2)  # for the client to read it


def _write(path: Path, tools: Any) -> None:
    new = path.with_suffix(".new")
    new.write_text(json.dumps(tools))
    new.replace(path)


@pytest.fixture
def changing(tmp_path) -> Callable[..., Any]:
    @contextmanager
    def run(*tools: dict[str, Any], delay: float = 0, **fields: Any) -> Iterator[Changing]:
        path = tmp_path / "tools.json"
        _write(path, tools)
        config = ServerConfig("fs", sys.executable, (str(SERVER), str(path), str(delay)), **fields)
        with connect([config]) as toolbox:
            yield Changing(toolbox, config, path)

    return run


def run(server: Changing, tmp_path: Path, *calls: ToolCall, ask: Any = lambda _: "no", approve: str = "ask") -> Any:
    """The decisions and the results of a run."""
    one = agent(Engine(*calls), server.toolbox, tmp_path / "t", approve, ask, config=server.config)
    events = list(one.stream("do it"))
    decided = [(event.action, event.by) for event in events if isinstance(event, ApprovalDecided)]
    return decided, [event.details or event.text for event in events if isinstance(event, CallResult)]


REPLACED = {
    "a hint": tool(DESTRUCTIVE),
    "no hint": tool(),
    "a description": tool(HARMLESS, about="Write it everywhere."),
    "a schema": tool(HARMLESS, text={"type": "string"}, root={"type": "string"}, more={"type": "string"}),
    "a name": tool(HARMLESS, name="other"),
    "a pinned argument": tool(HARMLESS, text={"type": "string"}, base={"type": "string"}),
}


@pytest.mark.parametrize("way", ["listed", "announced"])
@pytest.mark.parametrize("new", REPLACED.values(), ids=REPLACED.keys())
def test_a_tool_that_is_replaced_while_the_question_stands_is_not_called(changing, tmp_path, new, way):
    with changing(tool(HARMLESS), pinned={"root": "/safe"}, delay=0.5 * (way == "announced")) as server:

        def ask(_: Any) -> str:
            (server.replace if way == "listed" else server.announce)(new)
            return "yes"

        decided, results = run(server, tmp_path, WRITE, ask=ask)
        assert decided == [("run", "user")]
        assert "write" in results[0] and "[" not in results[0].split("\n")[0]  # no answer of the server


@pytest.mark.parametrize(
    ("fields", "approve", "before"),
    [({"trust_hints": True}, "ask", READ_ONLY), ({}, "auto", HARMLESS), ({}, "ask", HARMLESS)],
    ids=["trust_hints", "auto", "always"],
)
@pytest.mark.parametrize("after", [DESTRUCTIVE, None], ids=["destructive", "unhinted"])
def test_a_hint_that_changes_between_two_calls_is_asked_about(changing, tmp_path, fields, approve, before, after):
    asked: list[Any] = []
    with changing(tool(before), **fields) as server:

        class Turning(Engine):
            """The tool changes after the first call, before the second one is written or while it is."""

            def stream(self, *args: Any, **options: Any) -> Any:
                if len(self.asked) == 1:
                    server.replace(tool(after))
                yield from super().stream(*args, **options)

        def ask(question: Any) -> str:
            asked.append(question)
            return "always" if question.tool.annotations == before else "no"

        engine = Turning(WRITE, ToolCall("write", {"text": "b"}, "fs"))
        one = agent(engine, server.toolbox, tmp_path / "t", approve, ask, config=server.config)
        results = [event for event in one.stream("do it") if isinstance(event, CallResult)]
    assert [event.is_error for event in results] == [False, True]
    assert asked[-1].tool.annotations == (after or {})


def test_the_arguments_that_were_shown_are_those_that_are_sent(changing, tmp_path):
    with changing(tool(HARMLESS), pinned={"root": "/safe"}) as server:
        shown = []

        def ask(question: Any) -> str:
            shown.append(question.call)
            return "yes"

        _, results = run(server, tmp_path, WRITE, ask=ask)
    assert json.loads(results[0]) == ["write", dict(shown[0].arguments)] == ["write", {"text": "a", "root": "/safe"}]


def test_a_tool_that_no_longer_takes_what_is_pinned_is_not_called(changing):
    with changing(tool(HARMLESS), tool(name="other", text={"type": "string"}), pinned={"root": "/safe"}) as server:
        server.replace(REPLACED["a pinned argument"], tool(name="other", text={"type": "string"}))
        assert [one.name for one in server.toolbox.tools] == ["other"]
        with pytest.raises(ToolError, match="'root'"):
            server.toolbox.execute(WRITE)
        server.replace(tool(HARMLESS))
        assert json.loads(server.toolbox.execute(WRITE).text)[1]["root"] == "/safe"


def test_a_look_is_at_the_tools_that_were_found_to_only_read(changing):
    with changing(tool(READ_ONLY, name="list")) as server:
        planned = plan_looks(server.toolbox, ApprovalPolicy([server.config], "auto"))
        server.replace(tool(DESTRUCTIVE, name="list"))
        (made,) = look(server.toolbox, planned)
    assert made.result is None and "changed" in made.failure
