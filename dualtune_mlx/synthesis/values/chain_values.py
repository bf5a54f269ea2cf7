"""Slots for chains of calls: values that follow from earlier ones, and values that only a tool's result holds."""

from __future__ import annotations

from dualtune_mlx.synthesis.values.paths import file
from dualtune_mlx.synthesis.values.sampling import Sampler
from dualtune_mlx.synthesis.values.slot import Slot


def inside(sampler: Sampler) -> Slot:
    """The path of ``{file}``, or of a new file, after it was moved into ``{folder}``."""
    name = str((sampler.slots.get("file") or file(sampler)).value).rpartition("/")[2]
    return Slot.verbatim(f"{str(sampler.slots['folder'].value).rstrip('/')}/{name}")


def moment(sampler: Sampler) -> Slot:
    """A date and time with its UTC offset, as the time server prints it."""
    day = f"20{sampler.digits(24, 29)}-{sampler.rng.randint(1, 12):02}-{sampler.rng.randint(1, 28):02}"
    clock = ":".join(f"{sampler.rng.randint(0, last):02}" for last in (23, 59, 59))
    offset = f"{sampler.rng.choice('+-')}{sampler.rng.randint(0, 9):02}:{sampler.rng.choice(('00', '30'))}"
    return Slot.verbatim(f"{day}T{clock}{offset}")


def hour(sampler: Sampler) -> Slot:
    """The time of day of ``{moment}``, as HH:MM."""
    return Slot.verbatim(str(sampler.slots["moment"].value)[11:16])


def digest(sampler: Sampler) -> Slot:
    """A full commit hash: 40 hex digits."""
    return Slot.verbatim("".join(sampler.rng.choices("0123456789abcdef", k=40)))


def addend(sampler: Sampler) -> Slot:
    """A number to add: mostly whole, sometimes negative, now and then with a binary fraction, whose sums are exact."""
    value: int | float = sampler.rng.randint(2, 99) if sampler.chance(0.5) else sampler.rng.randint(100, 99999)
    if sampler.chance(0.1):
        value += sampler.rng.choice((0.25, 0.5, 0.75))
    value = -value if sampler.chance(0.08) else value
    return Slot(str(value), value)


def total(sampler: Sampler) -> Slot:
    """The sum of ``{augend}`` and ``{addend}``, as JavaScript prints it."""
    return Slot.verbatim(number_text(sampler.slots["augend"].value + sampler.slots["addend"].value))


def tally(sampler: Sampler) -> Slot:
    """A count of rows, as text."""
    return Slot.verbatim(sampler.digits(0, 50) if sampler.chance(0.5) else sampler.digits(51, 99999))


def number_text(number: float) -> str:
    """The number as text; a whole number has no decimal point."""
    return str(int(number)) if number == int(number) else str(number)
