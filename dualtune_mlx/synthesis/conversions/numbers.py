"""Numbers in digits, in words, and with their units."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from dualtune_mlx.synthesis.conversions.conversion import Conversion, Leaf
from dualtune_mlx.synthesis.conversions.tables import read_set
from dualtune_mlx.synthesis.conversions.texts import fold, read_words, split_name
from dualtune_mlx.tools.parameters import Parameter

ONES = read_words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
TENS = read_words("_ _ twenty thirty forty fifty sixty seventy eighty ninety")
ORDINALS = {"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth"} | {
    "twelve": "twelfth"
}
DOZENS = {6: "half a dozen", 12: "a dozen", 24: "two dozen", 36: "three dozen", 48: "four dozen"}
ROUND = {100: ("hundred",), 1000: ("thousand",), 1_000_000: ("million",)}
FRACTIONS = {Fraction(1, 2): "half", Fraction(1, 4): "a quarter", Fraction(3, 4): "three quarters"}
_COUNTS = read_set("counts")
_SHARES = read_set("shares")


def is_number(value: Any) -> bool:
    """Whether a value is a number, or a string of digits."""
    if isinstance(value, str):
        return bool(re.fullmatch(r"-?\d{1,9}(?:\.\d{1,6})?", value))
    return isinstance(value, int | float) and not isinstance(value, bool)


def spell_number(value: Any) -> str:
    """A number in digits, without an exponent and without a fraction of zero."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return f"{value:.12f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def spell_cardinal(number: int) -> str:
    """A whole number below a thousand in words: ``two hundred and five``."""
    if number < 20:
        return ONES[number]
    if number < 100:
        return TENS[number // 10] + (f"-{ONES[number % 10]}" if number % 10 else "")
    rest = f" and {spell_cardinal(number % 100)}" if number % 100 else ""
    return f"{ONES[number // 100]} hundred{rest}"


def spell_ordinal(number: int) -> str:
    """An ordinal below a hundred in words: ``twenty-first``."""
    head, dash, last = spell_cardinal(number).rpartition("-")
    last = ORDINALS.get(last) or (f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th")
    return head + dash + last


def shorten_ordinal(number: int) -> str:
    """An ordinal in digits: ``21st``."""
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def read_whole(value: Any) -> int | None:
    """A value as a whole number; None where it is none."""
    number = float(value) if is_number(value) else 0.5
    return int(number) if number.is_integer() else None


def _list_digits(leaf: Leaf) -> list[str]:
    return [spell_number(leaf.value)] if is_number(leaf.value) and not isinstance(leaf.value, str) else []


def _recognize_digits(leaf: Leaf, text: str) -> bool:
    """Digits that are no part of a longer number or of a word that ends in them; a unit may follow at once.

    A comma between digits divides the items of a list, but not a number from its thousands.
    """
    if not is_number(leaf.value):
        return False
    number = spell_number(leaf.value)
    zeros = r"0*" if "." in number else r"(?:\.0+)?"
    thousands = "" if "[" in leaf.parameter.path else r"|,\d{3}(?!\d)"
    start = r"(?:(?<!\w)|(?<=\dx)|(?<=\b[hqx]))(?<!\d\.)" + (r"(?<!\d,)" if thousands and len(number) == 3 else "")
    digits = rf"{start}{re.escape(number)}{zeros}(?![\d_]|\.\d{thousands})"
    return bool(re.search(digits, fold(text), re.IGNORECASE))


DIGITS = Conversion("digits", _list_digits, recognize=_recognize_digits)
"""A number in digits."""


def _list_cardinals(leaf: Leaf) -> list[str]:
    number = read_whole(leaf.value)
    if number is None or isinstance(leaf.value, str) or number < 0:
        return []
    counts = not _COUNTS.isdisjoint(split_name(leaf.parameter.path))
    found = [spell_cardinal(number)] if number <= 12 or number in (15, 20, 50, 100, 200, 500) else []
    found += [DOZENS[number]] if number in DOZENS and counts else []
    return found + ([f"{spell_number(number / 1000)}k", f"{number:,}"] if number >= 1000 and number % 100 == 0 else [])


def _list_other_numbers(leaf: Leaf) -> Iterator[str]:
    if not is_number(leaf.value):
        return
    number = read_whole(leaf.value)
    if number is None:
        yield spell_number(leaf.value).replace(".", ",")
        return
    if 0 <= number < 100:
        yield from (spell_cardinal(number).replace("-", " "), spell_cardinal(number))
    if 0 < number < 100:
        yield from (spell_ordinal(number), shorten_ordinal(number))
    yield from ROUND.get(number, ())
    yield from {0: ("none", "no"), 1: ("single", "once"), 2: ("twice", "both", "couple", "pair")}.get(number, ())
    if 0 <= number < 99 and counts_from_zero(leaf.parameter):
        yield from (spell_ordinal(number + 1), shorten_ordinal(number + 1))
    if number < 0:
        yield f"minus {-number}"
        yield from (f"minus {spell_cardinal(-number)}",) if number > -1000 else ()
    if number >= 1000:
        yield from (f"{number:,}", f"{number:,}".replace(",", " "), f"{number:,}".replace(",", "."))


def counts_from_zero(parameter: Parameter) -> bool:
    """Whether a parameter says that it counts from 0."""
    text = parameter.description.lower()
    return "0-based" in text or "zero-based" in text or "0-index" in text or "starting from 0" in text


NUMBER_WORDS = Conversion("number words", _list_cardinals, _list_other_numbers)
"""A number in words, by the dozen, in thousands, with separators."""


def _list_shares(leaf: Leaf) -> list[str]:
    if isinstance(leaf.value, str) or not is_number(leaf.value) or _SHARES.isdisjoint(split_name(leaf.parameter.path)):
        return []
    share = Fraction(str(leaf.value)) * (100 if 0 < leaf.value < 1 else 1)
    words = [FRACTIONS[share / 100]] if share / 100 in FRACTIONS else []
    return (
        [f"{spell_number(float(share))}%", f"{spell_number(float(share))} percent", *words] if 0 < share <= 100 else []
    )


def _list_other_shares(leaf: Leaf) -> list[str]:
    if isinstance(leaf.value, str) or not is_number(leaf.value) or not 0 < leaf.value < 1:
        return []
    share = spell_number(float(Fraction(str(leaf.value)) * 100))
    return [f"{share}%", f"{share} %", f"{share} percent", FRACTIONS.get(Fraction(str(leaf.value)), "")]


SHARE = Conversion("share", _list_shares, _list_other_shares)
"""A fraction as a percentage."""
