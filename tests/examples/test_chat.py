"""The example window, with a tiny model: it draws what happens, runs nothing unasked, and stops when told to."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dualtune_mlx import Tool, ToolCall
from dualtune_mlx.engine.events import Candidates, Done, StageBegins
from dualtune_mlx.errors import UsageError
from dualtune_mlx.mcp import ToolResult
from tests.engine.engines import PATH, make_calling_engine

TEXT = {"type": "object", "properties": {"text": {"type": "string", "minLength": 400}}, "required": ["text"]}
SHORT = (Tool("read_file", "Read.", PATH), Tool("read_dir", "List.", PATH))
LONG = (Tool("say", "Say.", TEXT), Tool("write", "Write.", TEXT))
FOLDER = Path(__file__).parents[2] / "examples"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="only the package is here, without its examples")


@pytest.fixture(autouse=True)
def examples(monkeypatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(FOLDER))
    yield
    for name in ("chat", "backend"):
        sys.modules.pop(name, None)


@pytest.fixture
def backend() -> Iterator[Callable[..., Any]]:
    import backend as module

    made = []

    def make(tools: tuple[Tool, ...], execute: Any = None) -> Any:
        opened = make_calling_engine(list(tools)), tools, execute
        made.append(module.Backend(lambda stack: (stack.enter_context(opened[0]), *opened[1:])))
        return made[-1]

    yield make
    for one in made:
        one.close()
        assert not one._thread.is_alive()


def until(backend: Any, kind: type) -> list[object]:
    """The events up to the first of a kind."""
    events = [backend.events.get(timeout=20)]
    while not isinstance(events[-1], kind):
        events.append(backend.events.get(timeout=20))
    return events


def result(call: ToolCall) -> ToolResult:
    return ToolResult(call.server, call.name, (), f"ran {call.name}", None, False, 0.0)


def test_a_request_is_answered_and_run_only_when_asked_for(backend):
    import backend as module

    ran = []
    one = backend(SHORT, lambda call: ran.append(call) or result(call))
    assert one.events.get(timeout=20) == module.Ready(2, True)
    one.ask("show a.txt")
    events = until(one, Done)
    assert [type(event) for event in events[:3]] == [StageBegins, Candidates, StageBegins]
    assert ran == []
    one.execute(events[-1].call)
    assert until(one, ToolResult) == [result(events[-1].call)]


def test_what_is_stopped_stops_and_the_next_request_is_answered(backend):
    import backend as module

    one = backend(LONG)
    one.events.get(timeout=20)
    one.ask("show a.txt")
    until(one, Candidates)
    one.stop()
    assert not any(isinstance(event, Done) for event in until(one, module.Stopped))
    one.ask("show a.txt")
    until(one, Candidates)


def test_errors_are_events():
    import backend as module

    def opening(_):
        raise UsageError("there is nothing to open")

    one = module.Backend(opening)
    assert isinstance(one.events.get(timeout=20), UsageError)
    one.close()


@pytest.fixture
def root() -> Iterator[Any]:
    tk: Any = pytest.importorskip("tkinter")
    try:
        root = tk.Tk()
    except tk.TclError as error:
        pytest.skip(f"no display: {error}")
    yield root
    root.destroy()
    del root
    gc.collect()  # in this thread: Tcl aborts when its interpreter is deleted by another


def shown(widget: Any) -> str:
    """All text in a window."""
    own = str(widget.cget("text")) if "text" in widget.keys() else ""  # noqa: SIM118
    return "\n".join([own, *(shown(child) for child in widget.winfo_children())])


def wait_for(root: Any, condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, shown(root)
        root.update()
        time.sleep(0.005)


def test_the_window_shows_a_call_and_runs_it(root, backend):
    import chat

    window = chat.Window(root, backend(SHORT, result))
    wait_for(root, lambda: not window.busy)
    assert "2 tools" in shown(root)
    window.entry.insert(0, "show a.txt")
    window.ask()
    assert window.busy
    wait_for(root, lambda: not window.busy)
    text = shown(root)
    assert "show a.txt" in text
    assert "read_file" in text
    assert '{"path": "' in text
    assert "arguments 0." in text
    assert "ran read" not in text
    (run,) = [child for child in window.turn.card.winfo_children() if isinstance(child, chat.Button)]
    run._press()
    wait_for(root, lambda: not window.busy)
    assert "ran read" in shown(root)


def test_the_window_stays_awake_while_a_call_runs_and_stops_it(root, backend):
    import chat

    window = chat.Window(root, backend(LONG))
    wait_for(root, lambda: not window.busy)
    window.entry.insert(0, "show a.txt")
    window.ask()
    wait_for(root, lambda: window.turn.written is not None and '{"text"' in window.turn.written.cget("text"))
    assert window.busy
    window.stop._press()
    wait_for(root, lambda: not window.busy)
    assert "Stopped." in shown(root)
