"""Words for a day that depend on the day on which they are said. English alone."""

from __future__ import annotations

import re

_DAYS = "monday|tuesday|wednesday|thursday|friday|saturday|sunday"
_UNITS = "day|week|month|year|quarter|weekend"
_COUNT = r"(?:\d+|an?|one|two|three|four|five|six|seven|eight|nine|ten|a couple of|a few)"
RELATIVE = re.compile(
    rf"\b(?:(?:the )?day (?:after tomorrow|before yesterday)|today|tonight|tomorrow|yesterday"
    rf"|this (?:morning|afternoon|evening)"
    rf"|(?:the )?(?:end|start|beginning|middle) of (?:the |this |next |last )?(?:week|month|year|quarter)"
    rf"|(?:next|last|this|past|coming|previous|following) (?:{_UNITS}|{_DAYS})"
    rf"|(?:in|within|after) {_COUNT} (?:{_UNITS})s?|{_COUNT} (?:{_UNITS})s? (?:ago|from (?:now|today)|hence)"
    rf"|(?:last|past|next) {_COUNT} (?:{_UNITS})s|(?:{_DAYS}))\b",
    re.IGNORECASE,
)


def find_relative_date(text: str) -> str:
    """The first words of a text that say a day relative to the day of speaking; "" where there are none."""
    found = RELATIVE.search(text)
    return found[0] if found else ""
