"""Random words and phrases: the raw material of slot values."""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

SLOT = re.compile(r"\{([a-z_]+)(\d?)\}")
"""A placeholder: the kind of slot, and a digit when a wording needs two of a kind."""


@dataclass(frozen=True)
class Slot:
    """What the user writes, and the argument value it stands for."""

    surface: str
    value: Any


def copied(text: str) -> Slot:
    """A slot whose argument is exactly what the user writes."""
    return Slot(text, text)


def read_toml(name: str) -> dict[str, Any]:
    """A TOML file of ``synthesis``."""
    return tomllib.loads(files("dualtune_mlx.synthesis").joinpath(name).read_text("utf-8"))


WORDS: Mapping[str, tuple[str, ...]] = {kind: tuple(words.split()) for kind, words in read_toml("words.toml").items()}
"""Words by category."""

PHRASES: Mapping[str, list[str]] = read_toml("phrases.toml")
"""Sentences, lines of code and the like, with gaps for words."""


@dataclass(frozen=True)
class Draw:
    """The random choices of one slot; ``slots`` are those drawn before it that it may suit, by kind."""

    rng: random.Random
    slots: Mapping[str, Slot]

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def word(self, *kinds: str) -> str:
        """A word from one of the categories."""
        return self.rng.choice(WORDS[self.rng.choice(kinds)])

    def digits(self, low: int, high: int) -> str:
        return str(self.rng.randint(low, high))

    def invented(self) -> str:
        """A word that is in no list, so that copying is learned rather than a vocabulary."""
        return "".join(self.rng.choices(WORDS["syllables"], k=self.rng.randint(2, 4)))

    def phrase(self, kind: str) -> str:
        """A phrase of this kind, with every gap filled."""
        return SLOT.sub(lambda gap: self._gap(gap[1]), self.rng.choice(PHRASES[kind]))

    def _gap(self, kind: str) -> str:
        if kind in WORDS:
            return self.word(kind)
        return GAPS[kind](self)


GAPS: Mapping[str, Callable[[Draw], str]] = {
    "number": lambda draw: draw.digits(2, 20) if draw.chance(0.5) else draw.digits(21, 9999),
    "decimal": lambda draw: f"{draw.rng.randint(0, 99)}.{draw.rng.randint(0, 99)}",
    "clock": lambda draw: f"{draw.rng.randint(7, 20)}:{draw.rng.choice(('00', '15', '30', '45'))}",
    "date": lambda draw: f"20{draw.rng.randint(19, 28)}-{draw.rng.randint(1, 12):02}-{draw.rng.randint(1, 28):02}",
    "identifier": lambda draw: f"{draw.word('verbs')}_{draw.word('nouns', 'tech')}",
    "camel": lambda draw: draw.word("verbs") + draw.word("nouns", "tech").capitalize(),
    "constant": lambda draw: f"{draw.word('nouns', 'tech')}_{draw.word('nouns', 'tech')}".upper(),
    "invented": Draw.invented,
}
