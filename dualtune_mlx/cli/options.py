"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import click
from click.core import ParameterSource

from dualtune_mlx.decoding import GROUNDINGS, Decoding
from dualtune_mlx.models import EMBEDDED
from dualtune_mlx.prompts import ARGUMENT_CARDS, AUTO, CARD_KINDS, TEMPLATES
from dualtune_mlx.tools.hierarchy import ROUTINGS

model = click.option("--model", default=None, metavar="M", help=f"A folder, a hub id, a .gguf file, or {EMBEDDED!r}.")
TEMPLATE_HELP = f"{', '.join(TEMPLATES)}, a file of yours, or {AUTO}: the model's own form."
template = click.option("--template", default="chatml", show_default=True, metavar="T", help=TEMPLATE_HELP)
routing = click.option(
    "--routing",
    type=click.Choice(ROUTINGS),
    default="auto",
    show_default=True,
    help="Choose servers, and groups of their tools, before tools: as the bundle learned it, always, or never.",
)
ROUTING_HELP = (
    "Train with the tools of one server or group: auto (where the bundle has a router or `train all` trains one), "
    "always, never."
)
PRESET_HELP = "Base values that the file and the flags override; paper: DualTune's."
CARDS_HELP = (
    "How tools are written: by name, as a signature with a sentence, as one with types and values (typed), or with the "
    "full schema."
)
ARGUMENT_CARD_HELP = (
    "What the arguments are written from: none: the cards of all tools; parameters: the tool's parameters too, behind "
    "its name; prefix: the tool alone with its parameters, in place of the cards."
)
argument_card = click.option(
    "--argument-card",
    type=click.Choice(ARGUMENT_CARDS),
    default="none",
    show_default=True,
    help=ARGUMENT_CARD_HELP,
)
cards = click.option("--cards", type=click.Choice(CARD_KINDS), default="signature", show_default=True, help=CARDS_HELP)


def _decoding_option(name: str, kind: click.ParamType) -> Callable[[Any], Any]:
    """The option of a field of ``Decoding``, with the field's default and help."""
    field = Decoding.__dataclass_fields__[name]
    flag = f"--{name.replace('_', '-')}"
    return click.option(flag, type=kind, default=field.default, show_default=True, help=field.metadata["help"])


max_tokens = _decoding_option("max_tokens", click.IntRange(1))
temperature = _decoding_option("temperature", click.FloatRange(0))
seed = _decoding_option("seed", click.IntRange(0, 2**64 - 1))
grounding = _decoding_option("grounding", click.Choice(GROUNDINGS))


def only_with(owner: str, *names: str) -> None:
    """Refuse options of the running command that do nothing without the option ``owner``.

    Raises:
        click.UsageError: when one of them was given.
    """
    refuse_given(names, f"goes with '{owner}' only")


def only_without(owner: str, *names: str) -> None:
    """Refuse options of the running command that do nothing beside the option ``owner``.

    Raises:
        click.UsageError: when one of them was given.
    """
    refuse_given(names, f"does not go with '{owner}'")


def refuse_given(names: Iterable[str], why: str) -> None:
    """Refuse options of the running command that were given.

    Raises:
        click.UsageError: when one of them was.
    """
    context = click.get_current_context()
    for name in names:
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise click.UsageError(f"Option '--{name.replace('_', '-')}' {why}.")


def required_model(model: str | None) -> str:
    """The model that was given.

    Raises:
        click.UsageError: when none was given.
    """
    if model is None:
        raise click.UsageError("Missing option '--model'.")
    return model
