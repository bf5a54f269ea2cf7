"""``data ask`` with lines for a terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from dualtune_mlx.cli import main
from dualtune_mlx.data import read_trajectories
from tests.cli.conftest import TOOLS, line


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "tools.json").write_text(json.dumps(TOOLS))
    return tmp_path


def ask(folder: Path, *lines: str, more: tuple = ()):
    typed = "".join(f"{one}\n" for one in lines)
    return CliRunner().invoke(main, ["data", "ask", "--data", str(folder), *more], input=typed)


def requests(folder: Path) -> list[str]:
    return [one.messages[0].content for one in read_trajectories(folder / "test.jsonl")]


def test_requests_come_into_the_test_set_one_after_the_other(folder):
    (folder / "test.jsonl").write_text(line("by hand", "now").rstrip("\n"))
    result = ask(folder, "show a.txt", "", "list it", "docs")
    assert result.exit_code == 0 and "1 of 20" in result.output and "path" in result.output
    assert requests(folder) == ["by hand", "show a.txt"]
    assert "1 request of your own" in result.output.replace("\n", " ")
    again = ask(folder, "", "what time is it")
    assert requests(folder) == ["by hand", "show a.txt", "list it", "what time is it"]
    assert "2 of 20" in again.output and "you said: list it" in again.output and not (folder / "ask.json").exists()


def test_it_ends_when_there_are_enough(folder):
    result = ask(folder, "show a.txt", "", more=("--count", "1"))
    assert "Run the command again" not in result.output
    assert "1 request of your own" in ask(folder, more=("--count", "1")).output.replace("\n", " ")


def test_values_that_the_servers_hold_are_shown_and_found(folder):
    (folder / "values.json").write_text(json.dumps({"fs/read_file/path": ["garden", "sky"]}))
    shown = ask(folder, "show me the garden", "").output
    assert "e.g. garden, sky" in shown and 'path  "garden"' in shown
    assert read_trajectories(folder / "test.jsonl")[0].messages[1].tool_calls[0].arguments == {"path": "garden"}


def test_what_is_inside_objects_is_shown(folder):
    point = {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}
    schema = {"type": "object", "properties": {"points": {"type": "array", "items": point}}, "required": ["points"]}
    (folder / "tools.json").write_text(json.dumps([{"name": "draw", "inputSchema": schema}]))
    result = ask(folder, "draw it", '[{"x": 1}]', "")
    assert "points[].x: number" in result.output and requests(folder) == ["draw it"]


def test_quit_leaves_and_keeps_what_is_undone(folder):
    ask(folder, "show something", "/quit", "never read")
    assert json.loads((folder / "ask.json").read_text())["request"] == "show something"
    assert not (folder / "test.jsonl").exists()


def test_without_a_terminal_and_lines_nobody_is_asked(folder):
    result = ask(folder)
    assert result.exit_code == 2 and "nobody can be asked" in result.output


def test_names_and_texts_of_tools_do_not_reach_the_terminal_as_they_are(folder):
    odd = {
        "name": "odd",
        "description": "Red \x1b[31m and [bold]bold[/bold].",
        "inputSchema": {"properties": {"a\x1b": {}}},
    }
    (folder / "tools.json").write_text(json.dumps([odd]))
    result = ask(folder, "do it", "", "/quit")
    assert "\x1b" not in result.output and "[bold]" in result.output


def test_the_model_is_the_bundles(folder):
    assert ask(folder, more=("--model", "x")).exit_code == 2
