"""``dualtune data``: a folder of data, from a list of tools to what is trained on. A file a command."""

from __future__ import annotations

import click

from dualtune_mlx.cli.data import tools


@click.group("data")
def command() -> None:
    """Make, check and divide the data of your own tools."""


command.add_command(tools.command)
