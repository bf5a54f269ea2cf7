"""``dualtune data``: a folder of data, from a list of tools to what is trained on. A file a command."""

from __future__ import annotations

import click

from dualtune_mlx.cli.lazy import LazyGroup

COMMANDS = {
    "tools": "Write the tools that can be used, and say what cannot be used and why.",
    "synthesize": "Make requests for the tools, by our generator or by a teacher.",
    "ask": "Ask you for requests of your own: the test set that counts.",
    "collect": "Run requests against live servers: trajectories of several steps.",
    "import": "Bring data of other programs into a data folder.",
    "check": "Find what is wrong with data, and take it out.",
    "split": "Divide data into train.jsonl, valid.jsonl and test.jsonl.",
}


@click.group("data", cls=LazyGroup, package=__name__, summaries=COMMANDS)
def command() -> None:
    """Make, check and divide the data of your own tools."""
