"""Slots for time: times of day, and places that stand for an IANA time zone."""

from __future__ import annotations

from collections.abc import Mapping

from dualtune_mlx.synthesis.values.sampling import Sampler, read_toml
from dualtune_mlx.synthesis.values.slot import Slot

_PLACES = read_toml("zones.toml")
CITIES: Mapping[str, str] = _PLACES["cities"]
"""Well-known cities and their IANA time zones."""

ZONES: tuple[str, ...] = tuple(_PLACES["zones"].split())
"""IANA time zones that a user may name outright."""


def place(sampler: Sampler) -> Slot:
    """A city, which stands for its time zone, or a time zone itself."""
    if sampler.chance(0.65):
        return Slot(*sampler.rng.choice(tuple(CITIES.items())))
    return Slot.verbatim(sampler.rng.choice(ZONES))


def time(sampler: Sampler) -> Slot:
    """A time of day as people write it; the value is always HH:MM on the 24-hour clock."""
    if sampler.chance(0.06):
        return sampler.rng.choice((Slot("noon", "12:00"), Slot("midnight", "00:00")))
    hour = sampler.rng.randint(0, 23)
    minute = sampler.rng.choice((0, 0, 15, 30, 45, sampler.rng.randint(0, 59), sampler.rng.randint(0, 59)))
    value = f"{hour:02}:{minute:02}"
    if sampler.chance(0.55):
        return Slot(value.removeprefix("0") if sampler.chance(0.15) and hour >= 1 else value, value)
    half = sampler.rng.choice((" am", "am", " AM") if hour < 12 else (" pm", "pm", " PM"))
    short = str(hour % 12 or 12)
    return Slot((short if minute == 0 and sampler.chance(0.7) else f"{short}:{minute:02}") + half, value)
