"""Lengths of time, in units that make them small numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dualtune_mlx.synthesis.conversions.conversion import Conversion, Leaf
from dualtune_mlx.synthesis.conversions.numbers import read_whole, spell_cardinal
from dualtune_mlx.synthesis.conversions.texts import split_name
from dualtune_mlx.tools.parameters import Parameter

UNITS: dict[str, tuple[str, int]] = {
    "millisecond": ("millisecond", 1),
    "milliseconds": ("millisecond", 1),
    "ms": ("millisecond", 1),
    "millis": ("millisecond", 1),
    "second": ("second", 1_000),
    "seconds": ("second", 1_000),
    "secs": ("second", 1_000),
    "minute": ("minute", 60_000),
    "minutes": ("minute", 60_000),
    "mins": ("minute", 60_000),
    "hour": ("hour", 3_600_000),
    "hours": ("hour", 3_600_000),
    "day": ("day", 86_400_000),
    "days": ("day", 86_400_000),
}
"""Units of time by their words, with their milliseconds."""
LENGTHS = (("second", 1_000), ("minute", 60_000), ("hour", 3_600_000), ("day", 86_400_000), ("week", 604_800_000))
_LETTERS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_SHORT = re.compile(r"(?P<past>now-)?(?P<count>\d{1,4})(?P<unit>ms|[smhdw])")
_DESCRIBED = re.compile(
    r"\b(?:in|of|as) (milliseconds|seconds|minutes|hours|days)\b|\((ms|milliseconds|seconds|minutes|hours|days)\)"
)


def find_unit(parameter: Parameter) -> int | None:
    """The milliseconds of the unit of time that a number is in, by its name or its description."""
    named = next((UNITS[word] for word in reversed(split_name(parameter.path)) if word in UNITS), None)
    if named is None and (match := _DESCRIBED.search(parameter.description.lower())):
        named = UNITS[match[1] or match[2]]
    return named[1] if named else None


def _list_durations(leaf: Leaf) -> list[str]:
    if isinstance(leaf.value, str):
        match = _SHORT.fullmatch(leaf.value)
        if not match:
            return ["now", "right now"] if leaf.value == "now" else []
        words = spell_duration(int(match["count"]) * _LETTERS[match["unit"]])
        if not match["past"]:
            return words
        counted = [one.removeprefix("1 ") for one in words if not one.startswith("a")]
        return [*(f"{one} ago" for one in words), *(f"the last {one}" for one in counted)]
    unit = find_unit(leaf.parameter)
    number = read_whole(leaf.value) if unit else None
    return spell_duration(number * unit) if unit and number and number > 0 else []


def spell_duration(milliseconds: int) -> list[str]:
    """A length of time in the units that it is a small number of: ``90 minutes``."""
    found = []
    for name, length in LENGTHS:
        count, rest = divmod(milliseconds, length)
        if rest == 0 and 1 <= count < 100:
            found.append(f"{count} {name}{'s' * (count > 1)}")
            found += [f"{spell_cardinal(count)} {name}{'s' * (count > 1)}"] if 1 < count <= 12 else []
            found += [f"{'an' if name == 'hour' else 'a'} {name}"] if count == 1 else []
    return found


def _list_other_durations(leaf: Leaf) -> Iterator[str]:
    short = {"second": ("s", "sec", "secs"), "minute": ("min", "mins", "m"), "hour": ("h", "hrs", "hr"), "day": ("d",)}
    for words in _list_durations(leaf):
        count, _, unit = words.partition(" ")
        for letters in short.get(unit.rstrip("s"), ()) if count.isdigit() else ():
            yield from (f"{count} {letters}", f"{count}{letters}")
        yield words.replace(" ", "-").rstrip("s")
        if words.startswith("the last "):
            rest = words.removeprefix("the last ")
            yield from (f"last {rest}", f"past {rest}", f"previous {rest}")
        if words in ("half an hour", "30 minutes"):
            yield "half an hour"


DURATION = Conversion("duration", _list_durations, _list_other_durations)
"""A length of time: ``5 minutes`` for 300 seconds, ``the last hour`` for now-1h."""
