"""Lengths of time, in units that make them small numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dualtune_mlx.synthesis.conversions.conversion import Conversion, Leaf
from dualtune_mlx.synthesis.conversions.numbers import read_whole, spell_cardinal
from dualtune_mlx.synthesis.conversions.texts import split_name
from dualtune_mlx.tools.parameters import Parameter

LENGTHS = {
    "millisecond": 1,
    "second": 1_000,
    "minute": 60_000,
    "hour": 3_600_000,
    "day": 86_400_000,
    "week": 604_800_000,
    "month": 2_592_000_000,
    "year": 31_536_000_000,
}
"""Units of time with their milliseconds; a month has 30 days."""
SHORT = {
    "millisecond": ("ms", "millis"),
    "second": ("s", "sec", "secs", "ttl", "timeout"),
    "minute": ("m", "min", "mins"),
    "hour": ("h", "hr", "hrs"),
    "day": ("d",),
    "week": ("w", "wk"),
    "month": ("mo",),
    "year": ("y", "yr"),
}
"""Shorter words for the units. A time-out and a time to live are in seconds where nothing else is said."""
UNITS = {word: unit for unit in LENGTHS for word in (f"{unit}s", *SHORT[unit]) if len(word) > 1 and word != "min"}
"""Units by the words of parameters' names. A singular is a part of a date, and min is the least."""
_LETTERS = {letters: unit for unit, shorter in SHORT.items() for letters in shorter}
_SHORT = re.compile(r"(?P<past>now-)?(?P<count>\d{1,4})(?P<unit>ms|mo|[smhdwy])")
_DESCRIBED = re.compile(
    r"\b(?:in|of|as) (milliseconds|seconds|minutes|hours|days)\b|\((ms|milliseconds|seconds|minutes|hours|days)\)"
)


def find_unit(parameter: Parameter) -> int | None:
    """The milliseconds of the unit of time that a number is in, by its description or its name."""
    if match := _DESCRIBED.search(parameter.description.lower()):
        return LENGTHS[UNITS[match[1] or match[2]]]
    named = next((UNITS[word] for word in reversed(split_name(parameter.path)) if word in UNITS), "")
    return LENGTHS.get(named)


def _list_durations(leaf: Leaf) -> list[str]:
    if isinstance(leaf.value, str):
        match = _SHORT.fullmatch(leaf.value)
        if not match:
            return ["now", "right now"] if leaf.value == "now" else []
        words = spell_duration(int(match["count"]) * LENGTHS[_LETTERS[match["unit"]]])
        if not match["past"]:
            return words
        counted = [one.removeprefix("1 ") for one in words if not one.startswith("a")]
        return [*(f"{one} ago" for one in words), *(f"the last {one}" for one in counted)]
    unit, number = find_unit(leaf.parameter), read_whole(leaf.value)
    return spell_duration(number * unit, unit) if unit and number and number > 0 else []


def spell_duration(milliseconds: int, least: int = 1) -> list[str]:
    """A length of time in the units that it is a small number of: ``90 minutes``, ``an hour and a half``.

    Args:
        milliseconds: the length.
        least: the shortest unit, in milliseconds.
    """
    found = []
    for name, length in LENGTHS.items():
        if length < least:
            continue
        count, rest = divmod(milliseconds, length)
        one = f"{'an' if name == 'hour' else 'a'} {name}"
        if rest == 0 and 1 <= count < 100:
            found.append(f"{count} {name}{'s' * (count > 1)}")
            found += [f"{spell_cardinal(count)} {name}s"] if 1 < count <= 12 else [one] if count == 1 else []
        elif rest * 2 == length and name in ("minute", "hour", "day") and count < 12:
            found.append([f"half {one}", f"{one} and a half"][count] if count < 2 else f"{count}.5 {name}s")
    return found


def _list_other_durations(leaf: Leaf) -> Iterator[str]:
    """The same with shorter words, with a hyphen, and as the time up to now."""
    for words in _list_durations(leaf):
        count, _, unit = words.removeprefix("the last ").partition(" ")
        name = unit.removesuffix("s")
        for letters in SHORT.get(name, ()) if count.isdigit() else ():
            yield from (f"{count} {letters}", f"{count}{letters}")
        if count in ("1", "a", "an"):
            yield from (f"{before} {unit}" for before in ("one", "past", "last", "previous", "this", "next"))
        if count.endswith(".5") and count[:-2].isdigit():
            yield f"{spell_cardinal(int(count[:-2]))} and a half {unit}"
        yield from (words.replace(" ", "-").removesuffix("s"), words.replace("half an", "half"))
        if words.startswith("the last "):
            rest = words.removeprefix("the last ")
            yield from (f"{before} {rest}" for before in ("last", "past", "previous"))


DURATION = Conversion("duration", _list_durations, _list_other_durations)
"""A length of time: ``5 minutes`` for 300 seconds, ``the last hour`` for now-1h."""
