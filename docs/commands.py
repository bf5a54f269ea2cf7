"""A hook of mkdocs: the page of commands is made of the commands themselves, so it cannot be wrong.

It replaces the line ``<!-- commands -->`` by a section for each command: its usage, its help, an example from the other
pages (where all examples are tested), and its options.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html import escape
from inspect import cleandoc
from pathlib import Path

import click

from dualtune_mlx.cli import main

DOCS = Path(__file__).parent
PLACE = "<!-- commands -->"
BLOCK = re.compile(r"^```bash\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
PARTS = {
    "steps": "Steps and learning rate",
    "rank": "The adapter",
    "validate_every": "Validation and checkpoints",
    "window": "Length, memory, seed",
}
"""The parts of the options of training, by the first option of each."""


def on_page_markdown(markdown: str, **_: object) -> str:
    """mkdocs calls this with the text of every page."""
    if PLACE not in markdown:
        return markdown
    root = click.Context(main, info_name="dualtune")
    return markdown.replace(PLACE, "\n\n".join(section for pair in commands(root) for section in described(*pair)))


def commands(context: click.Context) -> Iterator[tuple[click.Context, int]]:
    """The context of every command below this one, in the order of its group, and its depth."""
    group = context.command
    assert isinstance(group, click.Group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context)
        depth = inner.command_path.count(" ")
        yield inner, depth
        if isinstance(command, click.Group):
            yield from commands(inner)


def described(context: click.Context, depth: int) -> Iterator[str]:
    """The paragraphs of one command."""
    command = context.command
    yield f"{'#' * (depth + 1)} {context.command_path}"
    yield cleandoc(command.help or "").replace("\b\n", "")
    yield f"```text\n{' '.join([context.command_path, *command.collect_usage_pieces(context)])}\n```"
    example = "" if isinstance(command, click.Group) else find_example(context.command_path)
    if example:
        yield f"For example:\n\n```bash\n{example}\n```"
    yield from option_tables([one for one in command.params if isinstance(one, click.Option)], context)


def find_example(path: str) -> str:
    """The first use of a command in the pages, as it stands there; empty where there is none."""
    pages = sorted(DOCS.rglob("*.md"), key=lambda page: (page.parent.name != "tutorials", page))
    blocks = [block for page in pages for block in BLOCK.findall(page.read_text(encoding="utf-8"))]
    lines = [line for block in blocks for line in re.split(r"(?<!\\)\n", block)]
    return next((line for line in lines if line.startswith(f"{path} ") or line == path), "")


def option_tables(options: Sequence[click.Option], context: click.Context) -> Iterator[str]:
    """The options in a table; those of training in a table for each part."""
    parts = PARTS if set(PARTS) <= {option.name for option in options} else {}
    title, rows = "", list[str]()
    for option in options:
        if option.name in parts:
            yield from option_table(title, rows)
            title, rows = parts[str(option.name)], []
        rows.append(option_row(option, context))
    yield from option_table(title, rows)


def option_table(title: str, rows: list[str]) -> Iterator[str]:
    """A table under its title; nothing where it has no rows."""
    if rows:
        yield from [f"**{title}**"] * bool(title)
        yield "\n".join(["| option | meaning |", "| --- | --- |", *rows])


def option_row(option: click.Option, context: click.Context) -> str:
    """An option as a row of the table."""
    record = option.get_help_record(context)
    assert record is not None, f"{context.command_path}: {option.name} has no help"
    names, meaning = (escape(text).replace("|", "&#124;").replace("\n", " ") for text in record)
    return f"| <code>{names}</code> | {meaning} |"
