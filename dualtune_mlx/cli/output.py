"""What commands print: text for people, and JSON on stdout or into a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from dualtune_mlx.cli.console import SafeConsole
from dualtune_mlx.errors import escape
from dualtune_mlx.files import atomic_file, require_writable, write_json
from dualtune_mlx.tools.changes import ToolChanges

STDOUT = "-"
LINES = 10
"""How many lines a progress bar prints where there is no terminal."""

json_option = click.option(
    "--json",
    "json_to",
    is_flag=False,
    flag_value=STDOUT,
    metavar="[FILE]",
    help="Print JSON on stdout and everything else on stderr; with FILE write it there.",
)


def console(json_to: str | None, quiet: bool = False) -> Console:
    """The console for people: stderr when stdout belongs to JSON, and nothing at all when ``quiet``.

    Raises:
        UsageError: when the file for JSON cannot be written: better now than after hours of work.
    """
    if json_to not in (None, STDOUT):
        require_writable(Path(json_to))
    return SafeConsole(stderr=json_to == STDOUT, quiet=quiet)


def echo_json(text: str, nl: bool = True) -> None:
    """Print JSON on stdout, which may be a terminal: what cannot be seen is spelled out, the value is the same."""
    click.echo(escape(text), nl=nl)


def argument_or_file(argument: str | None, json_to: str | None, name: str) -> tuple[str, str | None]:
    """A command's last argument, and where its JSON goes.

    Click takes a last argument that follows ``--json`` for the file of the option; here it becomes the argument again.

    Raises:
        click.UsageError: when there is no argument.
    """
    if argument is not None:
        return argument, json_to
    if json_to in (None, STDOUT) or json_to.endswith(".json"):
        raise click.UsageError(f"Missing argument '{name}'. (A name that follows --json is its file.)")
    return json_to, STDOUT


def emit_json(json_to: str | None, value: Any) -> None:
    """Print a value as JSON, or write it into the file, if ``--json`` was given."""
    if json_to == STDOUT:
        echo_json(json.dumps(value, indent=2, ensure_ascii=False))
    elif json_to is not None:
        write_json(Path(json_to), value)


def write_pieces(json_to: str | None, pieces: Iterable[str]) -> None:
    """``emit_json`` of JSON that comes as text in pieces, because it may be long."""
    if json_to == STDOUT:
        for piece in pieces:
            echo_json(piece, nl=False)
    elif json_to is not None:
        with atomic_file(Path(json_to)) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.writelines(pieces)


def show_tool_changes(to: Console, changes: ToolChanges | None) -> None:
    """Say in a line how the visible tools differ from those that a bundle was trained on, where they do."""
    if changes:
        style = "yellow" if changes.untrained or changes.changed else "dim"
        to.print(Text(f"Not as in the bundle's training: {changes.describe()}", style=style))


@contextmanager
def progress(to: Console, title: str) -> Iterator[Callable[[int, int, str], None]]:
    """Show a progress bar with the time left; where there is no terminal, print a line now and then.

    It gives a function that is called with the number done, the total, and a few words.
    """
    if not to.is_terminal:
        yield lambda done, total, words: _print_line(to, title, done, total, words)
        return
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[words]}", markup=False),
        console=to,
    )
    with bar:
        task: TaskID = bar.add_task(title, total=None, words="")
        yield lambda done, total, words: bar.update(task, completed=done, total=total, words=words)


def _print_line(to: Console, title: str, done: int, total: int, words: str) -> None:
    if done == total or done % max(1, total // LINES) == 0:
        to.print(f"{title} {done}/{total} {words}", markup=False)
