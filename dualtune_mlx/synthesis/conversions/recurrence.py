"""Rules of recurrence, as calendars have them (RFC 5545)."""

from __future__ import annotations

import re

from dualtune_mlx.synthesis.conversions.conversion import Conversion, Leaf
from dualtune_mlx.synthesis.conversions.dates import DAYS

_RULE = re.compile(
    r"(?:RRULE:)?FREQ=(DAILY|WEEKLY|MONTHLY|YEARLY)(?:;INTERVAL=(\d+))?(?:;BYDAY=(MO|TU|WE|TH|FR|SA|SU))?"
)
_PERIODS = {"DAILY": "day", "WEEKLY": "week", "MONTHLY": "month", "YEARLY": "year"}


def _list_words(leaf: Leaf) -> list[str]:
    match = _RULE.fullmatch(leaf.value) if isinstance(leaf.value, str) else None
    if not match:
        return []
    frequency, interval, day = match.groups()
    if day:
        name = next(one for one in DAYS if one.upper().startswith(day))
        return [f"every {name}"] if interval in (None, "1") else [f"every {interval} weeks on {name}"]
    period = _PERIODS[frequency]
    if interval in (None, "1"):
        return [frequency.lower(), f"every {period}", f"each {period}"]
    return [f"every {interval} {period}s"]


RECURRENCE = Conversion("recurrence", _list_words)
"""How often something happens: ``every Monday``."""
