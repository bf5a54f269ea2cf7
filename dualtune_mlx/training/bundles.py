"""The bundle that a run writes into, and the one that it goes on from: each is for this model and template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dualtune_mlx.bundle import MANIFEST, Bundle
from dualtune_mlx.decoding import Evidence
from dualtune_mlx.errors import BundleError
from dualtune_mlx.models import BaseModel
from dualtune_mlx.prompts import PromptRenderer

MUST_MATCH = {
    "fingerprint": "another model",
    "template_hash": "another template",
    "cards": "another kind of tool card",
    "argument_card": "another kind of argument card",
}
"""What a bundle must share with a run, and what differs otherwise."""


def open_or_create(
    folder: str | Path, base: BaseModel, renderer: PromptRenderer, evidence: Evidence | None = None
) -> Bundle:
    """The bundle in a folder, checked by ``open_matching``; a new one, not written yet, where there is none."""
    if (Path(folder) / MANIFEST).exists():
        return open_matching(folder, base, renderer)
    return replace(_new_bundle(folder, base, renderer), evidence=evidence)


def open_start(folder: str | Path, base: BaseModel, renderer: PromptRenderer) -> Bundle:
    """Open a bundle to go on from: one for this model and template. What cards tell is read under any card.

    Raises:
        BundleError: when it is missing or damaged, or was made with another model or template.
    """
    return open_matching(folder, base, renderer, but=("cards", "argument_card"))


def open_matching(folder: str | Path, base: BaseModel, renderer: PromptRenderer, but: Sequence[str] = ()) -> Bundle:
    """Open a bundle that is for this model, template and kinds of card; what ``but`` names may differ.

    Raises:
        BundleError: when it is missing or damaged, or was made with another model, template or kind of card.
    """
    opened, wanted = Bundle.open(folder), _new_bundle(folder, base, renderer)
    for name, what in MUST_MATCH.items():
        if name in but:
            continue
        got, expected = getattr(wanted, name), getattr(opened, name)
        if got != expected:
            raise BundleError(
                f"the bundle was made with {what}",
                where=folder,
                got=got,
                expected=expected,
                fix="use another bundle folder, or the bundle's own model, template, cards and argument card",
            )
    opened.check_weights(base.name, base.weights)
    return opened


def _new_bundle(folder: str | Path, base: BaseModel, renderer: PromptRenderer) -> Bundle:
    template, cards = renderer.template, (renderer.cards, renderer.argument_card)
    return Bundle(Path(folder), base.name, base.fingerprint, template.name, template.hash, *cards, weights=base.weights)
