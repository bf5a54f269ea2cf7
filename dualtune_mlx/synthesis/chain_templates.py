"""Templates of requests that need a chain of calls: make a folder and move a file into it, write down a result."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dualtune_mlx.data import SPLITS
from dualtune_mlx.synthesis import results
from dualtune_mlx.synthesis.conjunctions import ORDER_CONJUNCTIONS, drop_full_stop, join, place_numbers
from dualtune_mlx.synthesis.dialogue import Dialogue
from dualtune_mlx.synthesis.requests import add_noise, make_call, shuffle_forever
from dualtune_mlx.synthesis.subtask_markup import SUBTASK, parse_markup
from dualtune_mlx.synthesis.values.sampling import read_toml
from dualtune_mlx.synthesis.values.slots import draw_slots, ends_open, fill_arguments, fill_text, slot_names
from dualtune_mlx.tools import Tool


@dataclass(frozen=True)
class ChainTemplate:
    """Several calls in their order, and how people ask for all of them."""

    calls: tuple[Mapping[str, Any], ...]
    """Each call has a ``tool`` and a pattern of ``arguments``.

    A call may have a ``result``: the text of its answer, with slots that later arguments need.
    """
    wordings: Mapping[str, tuple[str, ...]]
    """Whole sentences by split, in which subtasks are marked (``subtask_markup``)."""
    orders: tuple[tuple[str, ...], ...]
    """Orders for each call, which training joins by conjunctions."""

    @property
    def tools(self) -> list[str]:
        """The names of the tools, in the order of the calls."""
        return [call["tool"] for call in self.calls]

    def draw_wording(self, split: str, rng: random.Random) -> str:
        """One of the wordings; in training, half of the time joined orders."""
        if split != "train" or rng.random() < 0.5:
            return rng.choice(self.wordings[split])
        numbers = list(range(1, len(self.orders) + 1))
        in_order = [joint for joint in ORDER_CONJUNCTIONS[split] if place_numbers(joint) == numbers]
        return join(rng.choice(in_order), [rng.choice(orders) for orders in self.orders])

    def draw_dialogue(self, split: str, visible: Mapping[str, Tool], rng: random.Random) -> Dialogue:
        """The chain in one of its wordings, with values in its slots."""
        wording = self.draw_wording(split, rng)
        return self.fill(add_noise(wording, rng) if split == "train" else wording, visible, rng)

    def fill(self, wording: str, visible: Mapping[str, Tool], rng: random.Random) -> Dialogue:
        """The chain in this wording, with values in its slots."""
        given = [str(call.get("result", "")) for call in self.calls]
        derived = [f"{{{name}}}" for call in self.calls for name in sorted(slot_names(call["arguments"]))]
        slots = draw_slots("\n".join([wording, *given, *derived]), rng)
        calls = [
            make_call(visible[call["tool"]], fill_arguments(call["arguments"], slots), wording) for call in self.calls
        ]
        answers = (
            results.fill_call_arguments(fill_text(text, slots), call, rng) if text else results.success_text(call, rng)
            for call, text in zip(calls, given, strict=True)
        )
        request, marked = parse_markup(wording)
        subtasks = tuple(fill_text(subtask, slots) for subtask in marked)
        open_ended = ends_open(wording, slots)
        return Dialogue(fill_text(request, slots), tuple(calls), tuple(answers), subtasks, open_ended=open_ended)


def _read_template(table: Mapping[str, Any]) -> ChainTemplate:
    wordings = {split: tuple(table.get(split, ())) for split in SPLITS}
    return ChainTemplate(tuple(table["calls"]), wordings, tuple(map(tuple, table["orders"])))


CHAINS: tuple[ChainTemplate, ...] = tuple(map(_read_template, read_toml("chains.toml")["chain"]))
"""All templates of ``chains.toml``."""


def usable_chains(split: str, visible: Collection[str]) -> list[ChainTemplate]:
    """The chains that have wordings in the split, and of which all tools are visible."""
    return [chain for chain in CHAINS if chain.wordings[split] and set(chain.tools) <= set(visible)]


def chain_dialogues(split: str, visible: Mapping[str, Tool], rng: random.Random) -> Iterator[Dialogue]:
    """Endless dialogues, every usable chain equally often."""
    for chain in shuffle_forever(usable_chains(split, visible), rng):
        yield chain.draw_dialogue(split, visible, rng)


def undivided_chain_dialogues(
    split: str, visible: Mapping[str, Tool], rng: random.Random, accepts: Callable[[str], bool]
) -> Iterator[Dialogue]:
    """Endless dialogues of chains in wordings that are not divided into subtasks; none if there is no such wording.

    Only wordings are used for which ``accepts`` is true, and which do not end in a full stop.
    """
    found = [(chain, drop_full_stop(text)) for chain in usable_chains(split, visible) for text in chain.wordings[split]]
    undivided = [
        (chain, text) for chain, text in found if not SUBTASK.search(text) and accepts(text) and text[-1] != "."
    ]
    for chain, text in shuffle_forever(undivided, rng) if undivided else ():
        yield chain.fill(text, visible, rng)
