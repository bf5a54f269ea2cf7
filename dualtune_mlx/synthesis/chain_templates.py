"""Requests whose calls belong together: a folder is made and a file moved into it, a result is written down."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dualtune_mlx.synthesis import results
from dualtune_mlx.synthesis.conjunctions import JOINTS, join, places, without_stop
from dualtune_mlx.synthesis.dialogue import Dialogue
from dualtune_mlx.synthesis.requests import checked_call, noisy, shuffled_forever
from dualtune_mlx.synthesis.subtask_markup import MARK, unmarked
from dualtune_mlx.synthesis.values.sampling import read_toml
from dualtune_mlx.synthesis.values.slots import draw_slots, ends_open, slot_names, surface, values
from dualtune_mlx.tools import Tool


@dataclass(frozen=True)
class Chain:
    """Some calls in their order, and how people ask for them all.

    A call has a ``tool`` and a pattern of ``arguments``; with a ``result``, the slots in it are those that later
    arguments need. ``steps`` are orders for each call, which the joints of training put together; in whole sentences
    the parts are marked (``marks``).
    """

    calls: tuple[Mapping[str, Any], ...]
    wordings: Mapping[str, tuple[str, ...]]
    steps: tuple[tuple[str, ...], ...]

    @property
    def tools(self) -> list[str]:
        return [call["tool"] for call in self.calls]

    def wording(self, split: str, rng: random.Random) -> str:
        """One of the wordings; in training as often one that is put together."""
        if split != "train" or rng.random() < 0.5:
            return rng.choice(self.wordings[split])
        in_order = [joint for joint in JOINTS[split] if places(joint) == list(range(1, len(self.steps) + 1))]
        return join(rng.choice(in_order), [rng.choice(orders) for orders in self.steps])

    def plan(self, split: str, visible: Mapping[str, Tool], rng: random.Random) -> Dialogue:
        """The chain in one of its wordings."""
        wording = self.wording(split, rng)
        return self.asked(noisy(wording, rng) if split == "train" else wording, visible, rng)

    def asked(self, wording: str, visible: Mapping[str, Tool], rng: random.Random) -> Dialogue:
        """The chain in a wording, with values in its slots."""
        told = [str(call.get("result", "")) for call in self.calls]
        derived = [f"{{{name}}}" for call in self.calls for name in sorted(slot_names(call["arguments"]))]
        slots = draw_slots("\n".join([wording, *told, *derived]), rng)
        calls = [checked_call(visible[call["tool"]], values(call["arguments"], slots), wording) for call in self.calls]
        answers = (
            results.with_arguments(surface(said, slots), call, rng) if said else results.said(call, rng)
            for call, said in zip(calls, told, strict=True)
        )
        request, subtasks = unmarked(wording)
        for_calls = tuple(surface(subtask, slots) for subtask in subtasks)
        open_ended = ends_open(wording, slots)
        return Dialogue(surface(request, slots), tuple(calls), tuple(answers), for_calls, open_ended=open_ended)


def _chain(table: Mapping[str, Any]) -> Chain:
    splits = ("train", "valid", "test")
    wordings = {split: tuple(table.get(split, ())) for split in splits}
    return Chain(tuple(table["calls"]), wordings, tuple(map(tuple, table["steps"])))


CHAINS: tuple[Chain, ...] = tuple(map(_chain, read_toml("chains.toml")["chain"]))


def usable(split: str, visible: Collection[str]) -> list[Chain]:
    """The chains that have wordings in a split, all of whose tools are visible."""
    return [chain for chain in CHAINS if chain.wordings[split] and set(chain.tools) <= set(visible)]


def linked(split: str, visible: Mapping[str, Tool], rng: random.Random) -> Iterator[Dialogue]:
    """Plans without end, every usable chain as often as any other."""
    for chain in shuffled_forever(usable(split, visible), rng):
        yield chain.plan(split, visible, rng)


def whole(
    split: str, visible: Mapping[str, Tool], rng: random.Random, wanted: Callable[[str], bool]
) -> Iterator[Dialogue]:
    """Requests of several calls in one order, in the wanted wordings, without end; none if there is no such wording."""
    found = [(chain, without_stop(text)) for chain in usable(split, visible) for text in chain.wordings[split]]
    undivided = [(chain, text) for chain, text in found if not MARK.search(text) and wanted(text) and text[-1] != "."]
    for chain, text in shuffled_forever(undivided, rng) if undivided else ():
        yield chain.asked(text, visible, rng)
