"""Slots for requests of several steps: paths that follow from others, sums, and what servers print."""

from __future__ import annotations

from dualtune_mlx.synthesis.values.paths import file
from dualtune_mlx.synthesis.values.sampling import Draw, Slot, copied


def inside(draw: Draw) -> Slot:
    """The path that ``{file}``, or a new file, has once it is in ``{folder}``."""
    name = str((draw.slots.get("file") or file(draw)).value).rpartition("/")[2]
    return copied(f"{str(draw.slots['folder'].value).rstrip('/')}/{name}")


def moment(draw: Draw) -> Slot:
    """A date and time with its offset, as the time server prints it."""
    day = f"20{draw.digits(24, 29)}-{draw.rng.randint(1, 12):02}-{draw.rng.randint(1, 28):02}"
    clock = ":".join(f"{draw.rng.randint(0, last):02}" for last in (23, 59, 59))
    return copied(f"{day}T{clock}{draw.rng.choice('+-')}{draw.rng.randint(0, 9):02}:{draw.rng.choice(('00', '30'))}")


def hour(draw: Draw) -> Slot:
    """The time of day of ``{moment}``, as HH:MM."""
    return copied(str(draw.slots["moment"].value)[11:16])


def digest(draw: Draw) -> Slot:
    """A whole commit hash: 40 hex digits."""
    return copied("".join(draw.rng.choices("0123456789abcdef", k=40)))


def addend(draw: Draw) -> Slot:
    """A number to add: mostly whole, sometimes negative, now and then with a binary fraction, whose sums are exact."""
    value: int | float = draw.rng.randint(2, 99) if draw.chance(0.5) else draw.rng.randint(100, 99999)
    if draw.chance(0.1):
        value += draw.rng.choice((0.25, 0.5, 0.75))
    value = -value if draw.chance(0.08) else value
    return Slot(str(value), value)


def total(draw: Draw) -> Slot:
    """The sum of ``{augend}`` and ``{addend}``, as JavaScript prints it."""
    return copied(plain(draw.slots["augend"].value + draw.slots["addend"].value))


def tally(draw: Draw) -> Slot:
    """A count of rows, as text."""
    return copied(draw.digits(0, 50) if draw.chance(0.5) else draw.digits(51, 99999))


def plain(number: float) -> str:
    """A number without a fraction that is nought."""
    return str(int(number)) if number == int(number) else str(number)
