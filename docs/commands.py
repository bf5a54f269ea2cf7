"""A hook of mkdocs: the page of commands is made of the commands themselves, so it cannot be wrong.

It replaces the line ``<!-- commands -->`` by a section for each command: its usage, its help, a table of its options.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from inspect import cleandoc

import click

from dualtune_mlx.cli import main

PLACE = "<!-- commands -->"


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
    rows = [option_row(option, context) for option in command.params if isinstance(option, click.Option)]
    if rows:
        yield "\n".join(["| option | meaning |", "| --- | --- |", *rows])


def option_row(option: click.Option, context: click.Context) -> str:
    """An option as a row of the table."""
    record = option.get_help_record(context)
    assert record is not None, f"{context.command_path}: {option.name} has no help"
    names, meaning = (escape(text).replace("|", "&#124;").replace("\n", " ") for text in record)
    return f"| <code>{names}</code> | {meaning} |"
