"""The random words and phrases that the values of slots are made of."""

from __future__ import annotations

import random
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from dualtune_mlx.synthesis.values.slot import SLOT_PATTERN, Slot


def read_toml(name: str) -> dict[str, Any]:
    """Read a TOML file of the package ``synthesis``."""
    return tomllib.loads(files("dualtune_mlx.synthesis").joinpath(name).read_text("utf-8"))


WORDS: Mapping[str, tuple[str, ...]] = {kind: tuple(words.split()) for kind, words in read_toml("words.toml").items()}
"""Words by category."""

PHRASES: Mapping[str, list[str]] = read_toml("phrases.toml")
"""Sentences, lines of code and other texts by kind, with gaps for words."""


@dataclass(frozen=True)
class Sampler:
    """Draws words, numbers and phrases for the value of one slot."""

    rng: random.Random
    slots: Mapping[str, Slot]
    """Earlier slots of the same wording, by kind: the new value may depend on them."""

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.rng.random() < probability

    def word(self, *kinds: str) -> str:
        """A word from one of the categories."""
        return self.rng.choice(WORDS[self.rng.choice(kinds)])

    def digits(self, low: int, high: int) -> str:
        """A whole number between ``low`` and ``high``, both included, as text."""
        return str(self.rng.randint(low, high))

    def invent(self) -> str:
        """A word from no list: a model must copy it, because it cannot know it."""
        return "".join(self.rng.choices(WORDS["syllables"], k=self.rng.randint(2, 4)))

    def phrase(self, kind: str) -> str:
        """A phrase of this kind, with all gaps filled."""
        return SLOT_PATTERN.sub(lambda gap: self._fill_gap(gap[1]), self.rng.choice(PHRASES[kind]))

    def _fill_gap(self, kind: str) -> str:
        if kind in WORDS:
            return self.word(kind)
        return GAPS[kind](self)


GAPS: Mapping[str, Callable[[Sampler], str]] = {
    "number": lambda sampler: sampler.digits(2, 20) if sampler.chance(0.5) else sampler.digits(21, 9999),
    "decimal": lambda sampler: f"{sampler.rng.randint(0, 99)}.{sampler.rng.randint(0, 99)}",
    "clock": lambda sampler: f"{sampler.rng.randint(7, 20)}:{sampler.rng.choice(('00', '15', '30', '45'))}",
    "date": lambda sampler: (
        f"20{sampler.rng.randint(19, 28)}-{sampler.rng.randint(1, 12):02}-{sampler.rng.randint(1, 28):02}"
    ),
    "identifier": lambda sampler: f"{sampler.word('verbs')}_{sampler.word('nouns', 'tech')}",
    "camel": lambda sampler: sampler.word("verbs") + sampler.word("nouns", "tech").capitalize(),
    "constant": lambda sampler: f"{sampler.word('nouns', 'tech')}_{sampler.word('nouns', 'tech')}".upper(),
    "invented": Sampler.invent,
}
"""Gaps of phrases that are not simply a word."""
