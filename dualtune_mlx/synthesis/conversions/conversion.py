"""What a conversion is: a value's words, and whether a text says it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dualtune_mlx.synthesis.conversions.texts import holds
from dualtune_mlx.tools.parameters import Parameter


@dataclass(frozen=True)
class Leaf:
    """A value of a call's arguments that is neither an object nor a list."""

    parameter: Parameter
    """What the schema says of it."""
    value: Any
    """The value."""
    today: str = ""
    """The date of the conversation, which words such as "tomorrow" are relative to; "" for none."""


@dataclass(frozen=True)
class Conversion:
    """One way in which words stand for a value."""

    name: str
    """Its name, which the filters count by."""
    list_words: Callable[[Leaf], Sequence[str]]
    """The words that people say for a value; none where this is no way for it."""
    list_others: Callable[[Leaf], Iterable[str]] = lambda leaf: ()
    """More words that are understood, but not said by the generator."""
    recognize: Callable[[Leaf, str], bool] | None = None
    """Whether a text says a value; None where it does when any of the words stands in it."""

    def find(self, leaf: Leaf, text: str) -> bool:
        """Whether a text says the value in this way."""
        if self.recognize:
            return self.recognize(leaf, text)
        return any(holds(text, words) for words in (*self.list_words(leaf), *self.list_others(leaf)))
