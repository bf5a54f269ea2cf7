"""Slots for time: clock times and places that stand for an IANA time zone."""

from __future__ import annotations

from collections.abc import Mapping

from dualtune_mlx.synthesis.values.sampling import Draw, Slot, copied, read_toml

_PLACES = read_toml("zones.toml")
CITIES: Mapping[str, str] = _PLACES["cities"]
"""Well-known cities and their IANA time zones."""

ZONES: tuple[str, ...] = tuple(_PLACES["zones"].split())
"""IANA time zones that a user may name outright."""


def place(draw: Draw) -> Slot:
    """A city, which stands for its time zone, or a time zone itself."""
    if draw.chance(0.65):
        return Slot(*draw.rng.choice(tuple(CITIES.items())))
    return copied(draw.rng.choice(ZONES))


def time(draw: Draw) -> Slot:
    """A time of day as people write it; the value is always HH:MM on the 24-hour clock."""
    if draw.chance(0.06):
        return draw.rng.choice((Slot("noon", "12:00"), Slot("midnight", "00:00")))
    hour = draw.rng.randint(0, 23)
    minute = draw.rng.choice((0, 0, 15, 30, 45, draw.rng.randint(0, 59), draw.rng.randint(0, 59)))
    value = f"{hour:02}:{minute:02}"
    if draw.chance(0.55):
        return Slot(value.removeprefix("0") if draw.chance(0.15) and hour >= 1 else value, value)
    half = draw.rng.choice((" am", "am", " AM") if hour < 12 else (" pm", "pm", " PM"))
    short = str(hour % 12 or 12)
    return Slot((short if minute == 0 and draw.chance(0.7) else f"{short}:{minute:02}") + half, value)
