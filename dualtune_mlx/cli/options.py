"""Options that several commands share."""

from __future__ import annotations

import click
from click.core import ParameterSource

from dualtune_mlx.decoding import GROUNDINGS
from dualtune_mlx.engine.dualtune import MAX_TOKENS
from dualtune_mlx.models import EMBEDDED
from dualtune_mlx.prompts import CARD_KINDS, TEMPLATES
from dualtune_mlx.tools.hierarchy import ROUTINGS

model = click.option("--model", default=None, metavar="M", help=f"A folder, a hub id, a .gguf file, or {EMBEDDED!r}.")
TEMPLATE_HELP = f"{', '.join(TEMPLATES)}, or a file of yours."
template = click.option("--template", default="chatml", show_default=True, metavar="T", help=TEMPLATE_HELP)
max_tokens = click.option(
    "--max-tokens", type=click.IntRange(1), default=MAX_TOKENS, show_default=True, help="Longest arguments, in tokens."
)
grounding = click.option(
    "--grounding",
    type=click.Choice(GROUNDINGS),
    default="data",
    show_default=True,
    help="Hold the strings that training always saw copied to spans of the conversation; or none; or the unsure ones.",
)
routing = click.option(
    "--routing",
    type=click.Choice(ROUTINGS),
    default="auto",
    show_default=True,
    help="Choose servers, and groups of their tools, before tools: as the bundle learned it, always, or never.",
)
ROUTING_HELP = (
    "Show a stage one server's or group's tools instead of all: auto, where there is a router or all makes one."
)
CARDS_HELP = "How tools are written: by name, as a signature with a sentence, or with the full schema."
cards = click.option("--cards", type=click.Choice(CARD_KINDS), default="signature", show_default=True, help=CARDS_HELP)


def only_with(owner: str, *names: str) -> None:
    """Refuse options of the running command that do nothing without another one."""
    context = click.get_current_context()
    for name in names:
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise click.UsageError(f"Option '--{name.replace('_', '-')}' goes with '{owner}' only.")


def required_model(model: str | None) -> str:
    if model is None:
        raise click.UsageError("Missing option '--model'.")
    return model
