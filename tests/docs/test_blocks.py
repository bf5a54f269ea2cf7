"""The README: its code compiles, its commands parse, its links lead somewhere, its picture is the script's."""

from __future__ import annotations

import json
import re
import runpy
import shlex
from pathlib import Path

import click
import pytest

from dualtune_mlx.cli import main
from dualtune_mlx.prompts import PromptRenderer, Template
from dualtune_mlx.tools import Tool, ToolCall, as_messages
from dualtune_mlx.training.config import ConfigFile, merged
from tests import tiny

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
LINES = [line for language, code in BLOCKS if language == "bash" for line in code.replace("\\\n", " ").splitlines()]
COMMANDS = [line.removeprefix(".venv/bin/") for line in LINES if re.match(r"(\.venv/bin/)?dualtune ", line)]


def parse(line: str) -> None:
    """Parse a command line as click would, without running it.

    Raises:
        click.UsageError: when a command, an option or a value does not exist.
    """
    command: click.Command = main
    context = click.Context(main, info_name="dualtune")
    _, *arguments = shlex.split(line, comments=True)
    while isinstance(command, click.Group) and not set(arguments[:1]) <= {"--help", "--version"}:
        name, *arguments = arguments
        found = command.get_command(context, name)
        assert found is not None, f"there is no command {name!r} in: {line}"
        command, context = found, click.Context(found, parent=context, info_name=name)
    if not isinstance(command, click.Group):
        command.make_context(context.info_name, arguments, parent=context.parent)


def test_there_is_something_to_check() -> None:
    assert len(PYTHON) >= 2
    assert {shlex.split(line)[1] for line in COMMANDS} >= {"train", "call", "eval", "inspect", "convert", "doctor"}


@pytest.mark.parametrize("code", PYTHON, ids=lambda code: code.strip().splitlines()[0][:40])
def test_python_compiles(code: str) -> None:
    compile(code, "README.md", "exec", dont_inherit=True)


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_parse(line: str) -> None:
    parse(line)


@pytest.mark.parametrize("line", ["dualtune nothing", "dualtune train selector --no-such", "dualtune train nothing"])
def test_wrong_commands_do_not_parse(line: str) -> None:
    with pytest.raises((AssertionError, click.UsageError)):
        parse(line)


@pytest.mark.parametrize("code", [code for language, code in BLOCKS if language == "json"])
def test_json_is_json(code: str) -> None:
    json.loads(code)


@pytest.mark.parametrize("code", [code for language, code in BLOCKS if language == "yaml"])
def test_training_configurations_are_read(code: str, tmp_path: Path) -> None:
    file = tmp_path / "night.yaml"
    file.write_text(code)
    merged(ConfigFile.read(file), {})


def test_the_template_renders(tmp_path: Path) -> None:
    (code,) = (code for language, code in BLOCKS if language == "jinja")
    file = tmp_path / "own.jinja"
    file.write_text(code)
    prompt = PromptRenderer(Template(str(file)), tiny.tokenizer())
    stream = prompt.render(as_messages("What time is it?"), [Tool("now")], ToolCall("now"))
    assert prompt.encoder.decode(list(stream.span_tokens("selector"))) == "now\n"
    assert prompt.encoder.decode(list(stream.span_tokens("arguments"))) == "{}<|im_end|>\n"


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^make (\w+)", "\n".join(LINES), flags=re.MULTILINE)
    assert {"demo", "test"} <= set(targets)
    assert [target for target in targets if f"\n{target}:" not in makefile] == []


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)", README) + re.findall(r'src="([^"]+)"', README)
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


def test_the_picture_is_what_the_script_draws() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "make_stream_svg.py"))
    assert (ROOT / "docs" / "stream.svg").read_text(encoding="utf-8") == script["svg"]()
