"""A group that imports a command when it is used, so that ``--help`` needs no model library."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from keyword import iskeyword
from typing import Any

import click

from dualtune_mlx.errors import UsageError


class LazyGroup(click.Group):
    """A group of commands that are modules of a package, each with its ``command``.

    Args:
        package: the package.
        summaries: what each command does, by its name, in the order of the help. The module of a name that is Python's
            own, such as ``import``, has a ``_`` behind it.
    """

    def __init__(self, *args: Any, package: str, summaries: Mapping[str, str], **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self._package, self._summaries = package, summaries

    def list_commands(self, context: click.Context) -> list[str]:
        return list(self._summaries)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in self._summaries:
            return None
        module = f"{name}_" if iskeyword(name) else name
        command: click.Command = import_module(f"{self._package}.{module}").command
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(self._summaries.items()))

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self._summaries:
            raise UsageError("there is no such command", got=args[0], expected=", ".join(self._summaries))
        return super().resolve_command(context, args)
