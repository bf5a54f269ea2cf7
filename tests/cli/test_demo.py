"""What ``dualtune demo`` prints, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dualtune_mlx.cli import demo
from dualtune_mlx.demo import Recipe
from dualtune_mlx.demo.run import CallFailed, CallFinished, DemoCallback
from dualtune_mlx.errors import ToolError
from dualtune_mlx.learning.events import CommandStarted, DecisionEvaluated, Measured
from dualtune_mlx.mcp import ToolResult
from dualtune_mlx.tools import ToolCall
from dualtune_mlx.training import Job
from dualtune_mlx.training.session import RunSkipped, RunStarted
from tests.cli.conftest import dualtune

SCORES = {"tool": 0.5, "call": 0.25}
REPORT = {"n": 4, "server": 1.0, **SCORES, "intervals": {name: [0.1, 0.9] for name in ("server", "tool", "call")}}
VALUE = {"accuracy": dict.fromkeys(("base", "start", "trained"), SCORES), "bundle": "b", "seconds": 1.0, "calls": []}


def play(*events: Any) -> Callable[..., dict[str, Any]]:
    """Stands in for ``run_demo``: reports these events; an exception among them is raised."""

    def run(folder: Path, recipe: Recipe, *, report: DemoCallback) -> dict[str, Any]:
        del folder, recipe
        for event in events:
            if isinstance(event, BaseException):
                raise event
            report(event)
        return VALUE

    return run


def test_every_part_is_shown_as_the_command_that_does_the_same(tmp_path, monkeypatch):
    result = ToolResult("fs", "list", ({"type": "text", "text": "a.txt"},), "a.txt", None, False, 0.5)
    events = (
        CommandStarted(("learn", "--mcp")),
        *(DecisionEvaluated(done, 4) for done in range(1, 5)),
        Measured("before", REPORT),
        CommandStarted(("train", "selector")),
        RunSkipped(Job("selector")),
        CommandStarted(("call", "List it")),
        CallFinished("List it", ToolCall("list", {}, "fs"), result),
        CommandStarted(("call", "Read it")),
        CallFailed("Read it", ToolError("no such file")),
    )
    monkeypatch.setattr(demo, "run_demo", play(*events))
    said = dualtune("demo", "--dir", tmp_path, "--json", tmp_path / "demo.json")
    assert said.exit_code == 0
    shown = [line for line in said.stdout.splitlines() if line.startswith("$")]
    assert shown == [
        "$ dualtune learn --mcp",
        "$ dualtune train selector",
        *(f'$ dualtune call "{verb} it"' for verb in ("List", "Read")),
    ]
    for text in (
        "measure 4/4",
        "finished before",
        "result: a.txt",
        "Error: no such file",
        *("base model", "start bundle", "trained"),
        "Go on with",
        "dualtune learn --mcp mcp.json --bundle mine",
    ):
        assert text in said.stdout
    assert json.loads((tmp_path / "demo.json").read_text()) == VALUE


def test_json_alone_prints_nothing_else_on_stdout(tmp_path, monkeypatch):
    monkeypatch.setattr(
        demo, "run_demo", play(CommandStarted(("eval",)), Measured("base", REPORT), RunSkipped(Job("x")))
    )
    said = dualtune("demo", "--dir", tmp_path, "--json")
    assert json.loads(said.stdout) == VALUE
    assert "finished before" in said.stderr


@pytest.mark.parametrize("command", ["train", "eval", "call"])
def test_ctrl_c_says_how_to_go_on(tmp_path, monkeypatch, command):
    events = CommandStarted((command, "x")), RunStarted(Job("selector")), KeyboardInterrupt()
    monkeypatch.setattr(demo, "run_demo", play(*events))
    said = dualtune("demo", "--dir", tmp_path)
    assert said.exit_code == 130
    assert "to go on: the same command again" in said.stderr
    assert "Traceback" not in said.output
