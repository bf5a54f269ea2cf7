"""Dates and times around the date of the conversation."""

from __future__ import annotations

from datetime import date, timedelta

from dualtune_mlx.synthesis.conversions.texts import read_words, split_name
from dualtune_mlx.synthesis.values.sampling import Sampler
from dualtune_mlx.tools.parameters import Parameter

COMING = frozenset(read_words("due deadline schedule remind until departure arrival check flights hotels book"))
PAST = frozenset(read_words("since created updated from after started modified birthday"))


READS = frozenset(
    read_words("get list query search find fetch read show count analyze export view log record history report")
)
"""First words of a tool's name that look back."""


def draw_date(sampler: Sampler, parameter: Parameter, today: str, tool_name: str) -> str:
    """A date: mostly one of the next or the last few weeks, in the direction that the name asks for."""
    now = date.fromisoformat(today) if today else date(sampler.rng.randint(2024, 2027), 6, 15)
    words = {*split_name(parameter.path)} | COMING.intersection(split_name(tool_name))
    far = sampler.rng.choice((7, 14, 60, 300)) if today else 300
    reads = not READS.isdisjoint(split_name(tool_name)[:2])
    back = bool(reads or words & PAST) and not words & COMING
    low, high = (-far, 0) if back else (0, far)
    return (now + timedelta(sampler.rng.randint(low, high))).isoformat()


def draw_clock(sampler: Sampler) -> str:
    """A time of day at which something may begin."""
    return f"{sampler.rng.randint(7, 21):02}:{sampler.rng.choice(('00', '00', '00', '30', '15', '45'))}"


def draw_moment(sampler: Sampler, parameter: Parameter, today: str, tool_name: str) -> str:
    """A point in time in the form that the description shows."""
    text = parameter.description
    if "now-" in text and sampler.chance(0.6):
        return f"now-{draw_short_duration(sampler)}"
    day, clock = draw_date(sampler, parameter, today, tool_name), draw_clock(sampler)
    if "YYYY-MM-DD HH:MM" in text:
        return f"{day} {clock}{':00' if 'HH:MM:SS' in text else ''}"
    return f"{day}T{clock}:00{'Z' if 'RFC' in text or 'Z' in text or sampler.chance(0.5) else ''}"


def draw_short_duration(sampler: Sampler) -> str:
    """A length of time in letters: ``15m``."""
    return sampler.rng.choice(("5m", "10m", "15m", "30m", "1h", "2h", "3h", "6h", "12h", "24h", "1d", "7d", "30d"))


def draw_rrule(sampler: Sampler) -> str:
    """A rule of recurrence: ``RRULE:FREQ=WEEKLY;BYDAY=MO``."""
    day = sampler.rng.choice(("MO", "TU", "WE", "TH", "FR", "SA", "SU"))
    rules = ("FREQ=DAILY", "FREQ=WEEKLY", "FREQ=MONTHLY", "FREQ=YEARLY", f"FREQ=WEEKLY;BYDAY={day}")
    return f"RRULE:{sampler.rng.choice((*rules, rules[-1]))}"


def draw_iso_duration(sampler: Sampler) -> str:
    """A length of time in ISO 8601: ``PT15M``."""
    return sampler.rng.choice(("PT15M", "PT30M", "PT1H", "PT2H", "P1D", "P7D", "P2W", "P1M"))
