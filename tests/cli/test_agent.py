"""``agent`` and ``replay``: exit codes, JSON, the views, the question; and both whole, on a tiny model."""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from rich.console import Console

from dualtune_mlx.agent.events import CallProposed, CallResult, RunEnded
from dualtune_mlx.cli import agent as command
from dualtune_mlx.cli.calls import format_full, format_short
from dualtune_mlx.cli.live import RunDisplay
from dualtune_mlx.mcp import ApprovalQuestion
from dualtune_mlx.tools import Tool, ToolCall
from tests.agent.fakes import Engine, FakeToolbox, agent, call
from tests.cli.conftest import dualtune

GOOD = Path(__file__).parents[1] / "mcp" / "servers" / "good.py"
SAFE = ["die", "silence", "refuse"]
ECHO = ToolCall("echo", {"text": "hi", "folder": "/x"}, "good")
PID = ToolCall("pid", {}, "good")


@pytest.fixture
def mcp(tmp_path) -> Path:
    path = tmp_path / "mcp.json"
    entry = {"command": sys.executable, "args": [str(GOOD)], "dualtune": {"exclude": SAFE, "trust_unhinted": True}}
    path.write_text(json.dumps({"mcpServers": {"good": entry}}))
    return path


@pytest.fixture
def scripted(monkeypatch):
    """Calls that the command's engine makes."""

    def script(*calls):
        monkeypatch.setattr(command.DualTune, "load", lambda *_, **__: nullcontext(Engine(*calls)))

    return script


def run(mcp, tmp_path, *options):
    where = ["--bundle", tmp_path / "b", "--mcp", mcp, "--transcripts", tmp_path / "t"]
    return dualtune("agent", *where, *options, "do it")


def test_a_run_in_plain_lines(scripted, mcp, tmp_path):
    scripted(ECHO, PID)
    result = run(mcp, tmp_path, "--approve", "auto")
    assert result.exit_code == 0, result.output
    assert '1. good/echo(text="hi", folder="/x")' in result.output
    assert "result: /x: hi" in result.output and "echo 90.0%" in result.output
    assert "Done." in result.output and "2 calls" in result.output
    assert "\x1b" not in result.output


def test_the_same_call_after_its_success_is_an_end_with_an_answer_and_is_told(scripted, mcp, tmp_path):
    scripted(ECHO, ECHO)
    result = run(mcp, tmp_path, "--approve", "auto")
    assert result.exit_code == 0, result.output
    assert "Done.\nchosen again after it had succeeded, and taken as the end: good/echo\n1 call, " in result.output


def test_json_alone_is_one_value_an_event_a_line(scripted, mcp, tmp_path):
    scripted(ECHO)
    result = run(mcp, tmp_path, "--approve", "auto", "--json")
    events = json.loads(result.stdout)
    assert [event["event"] for event in events] == ["tools", "call", "approval", "result", "call", "answer", "end"]
    assert len(result.stdout.strip().splitlines()) == len(events) + 1
    assert events[-1]["answer"] == "Done."


def test_where_nobody_can_be_asked_nothing_is_executed(scripted, mcp, tmp_path):
    scripted(ECHO, PID)
    result = run(mcp, tmp_path, "--json", tmp_path / "events.json")
    events = json.loads((tmp_path / "events.json").read_text())
    assert result.exit_code == 1
    decided = [(event["action"], event["by"]) for event in events if event["event"] == "approval"]
    assert decided == [("refuse", "nobody")] * 2
    assert "failed: two calls in a row failed" in result.output and "there is no terminal" in result.output


def test_a_dry_run_and_a_limit(scripted, mcp, tmp_path):
    scripted(ECHO, PID)
    dry = run(mcp, tmp_path, "--dry-run")
    assert dry.exit_code == 0 and "you would be asked" in dry.output and "result:" not in dry.output
    limited = run(mcp, tmp_path, "--approve", "auto", "--steps", "1")
    assert limited.exit_code == 1 and "limit of 1 call " in limited.output


class Interrupted(Engine):
    """One call, then Ctrl-C."""

    def stream(self, *args, **options):
        if self.asked:
            raise KeyboardInterrupt
        yield from super().stream(*args, **options)


def test_ctrl_c_ends_with_130_and_leaves_a_transcript_and_no_server(monkeypatch, mcp, tmp_path):
    monkeypatch.setattr(command.DualTune, "load", lambda *_, **__: nullcontext(Interrupted(PID)))
    result = run(mcp, tmp_path, "--approve", "auto")
    assert result.exit_code == 130
    (transcript,) = (tmp_path / "t").iterdir()
    events = [json.loads(line) for line in transcript.read_text().splitlines()]
    assert events[-1]["reason"] == "interrupted"
    (pid,) = (event["text"] for event in events if event["event"] == "result")
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_an_option_without_its_owner_is_refused(mcp, tmp_path):
    result = run(mcp, tmp_path, "--planner-model", "m")
    assert result.exit_code == 2 and "--planner-model" in result.output


def test_a_run_of_a_real_engine_is_replayed_exactly_and_becomes_data(bundle, mcp, tmp_path):
    where = ["--bundle", bundle, "--mcp", mcp, "--transcripts", tmp_path / "t"]
    limits = ["--steps", 2, "--answer-tokens", 4, "--max-tokens", 200]
    ran = dualtune("agent", *where, *limits, "--approve", "auto", "--json", tmp_path / "run.json", "show a")
    events = json.loads((tmp_path / "run.json").read_text())
    assert any(event["event"] == "call" for event in events), ran.output
    transcript = events[-1]["transcript"]
    again = dualtune("replay", transcript, "--json", tmp_path / "again.json")
    rows = json.loads((tmp_path / "again.json").read_text())
    assert again.exit_code == 0, again.output
    assert [row["same"] for row in rows] == [True] * len(rows) and len(rows) >= 1
    assert max(row["drift"] for row in rows) < 1e-4
    changed = [json.loads(line) for line in Path(transcript).read_text().splitlines()]
    for line in changed:
        if line["event"] == "call":
            line["arguments"] = {"else": 1}
    other = tmp_path / "other.jsonl"
    other.write_text("".join(json.dumps(line) + "\n" for line in changed))
    different = dualtune("replay", other)
    assert different.exit_code == 1
    assert "recorded:" in different.output and '{"else": 1}' in different.output and "now:" in different.output


def test_replay_adds_a_run_to_a_data_folder(tmp_path):
    path = agent(Engine(call("read", path="a")), FakeToolbox(), tmp_path / "t").run("do it").transcript
    assert "added to" in dualtune("replay", path, "--train", tmp_path / "data").output
    assert "was there already" in dualtune("replay", path, "--train", tmp_path / "data").output


def test_replay_keeps_apart_what_fails_a_check(tmp_path):
    secret = "ghp_" + "a1" * 18
    path = agent(Engine(call("read", path=secret)), FakeToolbox(), tmp_path / "t").run("do it").transcript
    result = dualtune("replay", path, "--train", tmp_path / "data", "--json", tmp_path / "out.json")
    assert result.exit_code == 1 and "kept apart" in result.output and secret not in result.output
    value = json.loads((tmp_path / "out.json").read_text())
    assert (value["added"], value["reason"]) == (False, "secret") and value["file"].endswith("train.rejected.jsonl")


class Typing(Console):
    """A console at which somebody types."""

    def __init__(self, typed: str | None) -> None:
        super().__init__(file=io.StringIO(), width=80, force_terminal=False)
        self.typed = typed

    def input(self, prompt="", **_):
        self.print(prompt)
        if self.typed is None:
            raise EOFError
        return self.typed


@pytest.mark.parametrize(
    ("typed", "answer"),
    [("y", "yes"), ("Yes", "yes"), ("a", "always"), ("", "no"), ("n", "no"), ("x", "no"), (None, "no")],
)
def test_the_question_shows_the_call_in_full_and_takes_only_a_clear_yes(typed, answer):
    out = Typing(typed)
    long = "x" * 5_000
    made = ToolCall("delete", {"path": long, "note": "\x1b[2Jharmless\u202e", "[bold]": 1}, "fs")
    assert RunDisplay(out).ask(ApprovalQuestion(made, Tool("delete", server="fs"), "it is destructive")) == answer
    shown = out.file.getvalue()
    assert long in shown and '"[bold]": 1' in shown and "it is destructive" in shown
    assert "\x1b" not in shown and "\u202e" not in shown
    assert "\\u202e" in shown


def test_nothing_that_is_shown_can_steer_the_terminal():
    nasty = "\x1b]0;owned\x07\x9b2J\u200b"
    made = ToolCall("t", {nasty: nasty}, "s", unsaid=(nasty,))
    out = Console(file=io.StringIO(), width=80)
    with RunDisplay(out) as view:
        view.show(CallProposed(1, made))
        view.show(CallResult(nasty, True, details=nasty))
        view.show(RunEnded("answered", nasty, nasty))
    assert "unsaid: " in out.file.getvalue()
    for text in (format_short(made), format_full(made), out.file.getvalue()):
        assert all(one.isprintable() or one == "\n" for one in text)


def test_the_parts_of_a_task_are_shown_before_their_calls_and_their_ends_are_not(tmp_path):
    out = Console(file=io.StringIO(), width=100)
    engine = Engine(
        call("read", path="a"), ToolCall("respond"), call("write", path="b"), subtasks=("look at a", "copy it")
    )
    with RunDisplay(out) as view:
        for event in agent(engine, FakeToolbox(), tmp_path).stream("look at a and copy it"):
            view.show(event)
    text = out.file.getvalue()
    assert text.index("plan:") < text.index("- look at a") < text.index("- copy it") < text.index("1. fs/read")
    assert text.count("respond 10.0%") == 2 and "respond 90.0%" not in text


@pytest.mark.parametrize("width", [80, 120])
def test_the_live_view_leaves_the_steps_and_fits_the_width(width, tmp_path):
    out = Console(file=io.StringIO(), force_terminal=True, width=width)
    with RunDisplay(out) as view:
        for event in agent(Engine(call("read", path="a")), FakeToolbox(), tmp_path).stream("do it"):
            view.show(event)
    shown = out.file.getvalue()
    assert "█" * 18 in shown and "fs/read" in shown and "Done." in shown
