"""``dualtune data ask``: requests of the user's own, in the terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Any

import click
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from dualtune_mlx.cli import options
from dualtune_mlx.cli.calls import name_tool, quote_name
from dualtune_mlx.cli.output import console
from dualtune_mlx.data import read_tools
from dualtune_mlx.data.values import read_values
from dualtune_mlx.engine import DualTune
from dualtune_mlx.errors import UsageError, count_of, escape
from dualtune_mlx.learning.ask import BACK, QUIT, SKIP, Screen
from dualtune_mlx.learning.ask_files import ask
from dualtune_mlx.learning.filling import fill_with, find_arguments, list_known
from dualtune_mlx.prompts.parameters import first_sentence, parameter_text
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.parameters import list_parameters
from dualtune_mlx.tools.today import machine_date

DESCRIPTION = 300
"""Characters of a tool's description that are shown."""
MOST_PARAMETERS = 20
"""Parameters that are shown, those inside objects included."""
EXAMPLES = 3
"""Values of a parameter that are shown."""
Values = Mapping[str, Sequence[Any]]
HELP = f"{SKIP}: another tool · {BACK}: the step before · {QUIT}: leave and go on another time"


@click.command("ask")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Data folder with tools.json.")
@click.option("--count", type=click.IntRange(1), default=20, show_default=True, help="Requests there are to be.")
@click.option("--bundle", type=click.Path(path_type=Path), help="Let this bundle propose arguments.")
@options.model
def command(data: Path, count: int, bundle: Path | None, model: str | None) -> None:
    """Ask you for requests of your own, into DATA/test.jsonl: the test set that counts.

    A tool is shown; you type what you would say, and confirm or correct the call. Every fifth request is one that no
    tool serves.
    """
    if bundle is None:
        options.only_with("--bundle", "model")
    out, today = console(None), machine_date()
    tools, values = read_tools(data / "tools.json"), read_values(data)
    with suppress(ImportError):
        import readline  # noqa: F401  # arrow keys in what is typed
    with ExitStack() as stack:
        dualtune = stack.enter_context(DualTune.load(bundle, model)) if bundle else None
        fill = (
            fill_with(dualtune, tools, today, values)
            if dualtune
            else partial(find_arguments, today=today, values=values)
        )
        asker = Asker(out, tools, values)
        end = ask(data, asker.read_line, fill, count=count, today=today)
    done = end.count if end.state == "end" else end.number - 1
    out.print(f"\n{count_of(done, 'request')} of your own in {data / 'test.jsonl'}", markup=False, soft_wrap=True)
    if end.state != "end":
        out.print("Run the command again to go on.")


class Asker:
    """Shows screens and reads lines.

    Raises:
        UsageError: when there is nobody to ask: no terminal, and no line.
    """

    def __init__(self, out: Console, tools: tuple[Tool, ...], values: Values) -> None:
        self._out, self._tools, self._values = out, tools, values
        self._shown = 0
        self._heard = False

    def read_line(self, screen: Screen) -> str | None:
        """Show a screen; the line that is typed, None at the end of all lines and after Ctrl-C."""
        self._show(screen)
        if screen.note:
            self._out.print(Text(f"  {escape(screen.note)}", style="red"))
        try:
            line = self._out.input(Text(prompt_of(screen), style="bold"))
        except (EOFError, KeyboardInterrupt) as end:
            if not self._heard and isinstance(end, EOFError) and not sys.stdin.isatty():
                raise UsageError(
                    "nobody can be asked for requests",
                    got="standard input has no terminal and no line",
                    fix="run it in a terminal, or give it lines",
                ) from end
            return None
        if not sys.stdin.isatty():
            self._out.print(Text(escape(line)))  # where the terminal does not show it
        self._heard = True
        return line

    def _show(self, screen: Screen) -> None:
        if self._shown != screen.number or (screen.state == "request" and not screen.note):
            self._out.print(render_round(screen, self._tools, self._values))
            if screen.round.request:
                self._out.print(Text(f"you said: {escape(screen.round.request)}", style="bold"))
        self._shown = screen.number
        if screen.state != "request" and not screen.note:
            self._out.print(render_call(screen))


def prompt_of(screen: Screen) -> str:
    """What stands before the line that is typed."""
    if screen.state == "request":
        return "you say: "
    if screen.state == "value":
        return f"{escape(screen.round.missing)} = "
    return "Enter: right · NAME=VALUE: change · NAME=: remove > "


def render_round(screen: Screen, tools: tuple[Tool, ...], values: Values) -> RenderableType:
    """What a request is wanted for."""
    tool, title = screen.round.tool, f"{screen.number} of {screen.count}"
    if tool is None:
        return Panel(Group(*_describe_no_tool(tools)), title=title, title_align="left", subtitle=HELP)
    parts: list[RenderableType] = [
        Text(name_tool(tool.server, tool.name), style="bold cyan"),
        Text(escape(shorten(tool.description, DESCRIPTION))),
    ]
    if tool.takes_arguments:
        parts += [Text(""), parameter_table(tool, values)]
    return Panel(Group(*parts), title=title, title_align="left", subtitle=HELP)


def parameter_table(tool: Tool, values: Values) -> Table:
    """A tool's parameters, with types, descriptions, and values that the server holds."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for parameter in list_parameters(tool)[:MOST_PARAMETERS]:
        if parameter.path.endswith("[]"):  # its list says what it is
            continue
        is_outer = parameter.path in tool.parameters.get("properties", {})
        text = Text(escape(parameter_text(parameter)), style="" if is_outer and parameter.required else "dim")
        examples = ", ".join(map(str, list_known(values, tool, parameter)[:EXAMPLES]))
        about = filter(None, (first_sentence(parameter.description), examples and f"e.g. {examples}"))
        table.add_row(text, Text(escape(" ".join(about)), style="dim"))
    return table


def render_call(screen: Screen) -> RenderableType:
    """The call as far as it is known: its values, and what it needs."""
    tool, arguments = screen.round.tool, screen.round.arguments
    assert tool is not None
    table = Table(box=None, show_header=False, pad_edge=False)
    for name in dict.fromkeys([*tool.parameters.get("properties", {}), *arguments]):
        if name in arguments:
            value = json.dumps(arguments[name], ensure_ascii=False)
            table.add_row(f"  {escape(name)}", Text(escape(value), style="green"))
        elif name in tool.parameters.get("required", ()):
            table.add_row(f"  {escape(name)}", Text("?", style="yellow"))
    if not table.row_count:
        table.add_row(Text("  no arguments", style="dim"))
    return table


def _describe_no_tool(tools: tuple[Tool, ...]) -> Iterator[RenderableType]:
    yield Text("Say something that you might well ask for, and that none of your tools can do.", style="bold cyan")
    yield Text("")
    yield Columns([Text(quote_name(tool.name), style="dim") for tool in tools], padding=(0, 2))
