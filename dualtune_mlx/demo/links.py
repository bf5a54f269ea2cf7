"""Slots for requests of several steps: paths that follow from others, sums, rows of tables, nodes of a graph."""

from __future__ import annotations

from dualtune_mlx.demo.draw import Draw, Slot, copied
from dualtune_mlx.demo.paths import file


def inside(draw: Draw) -> Slot:
    """The path that ``{file}``, or a new file, has once it is in ``{folder}``."""
    name = str((draw.slots.get("file") or file(draw)).value).rpartition("/")[2]
    return copied(f"{str(draw.slots['folder'].value).rstrip('/')}/{name}")


def moment(draw: Draw) -> Slot:
    """A date and time with its offset, as the time server prints it."""
    day = f"20{draw.digits(24, 29)}-{draw.rng.randint(1, 12):02}-{draw.rng.randint(1, 28):02}"
    clock = ":".join(f"{draw.rng.randint(0, last):02}" for last in (23, 59, 59))
    return copied(f"{day}T{clock}{draw.rng.choice('+-')}{draw.rng.randint(0, 9):02}:{draw.rng.choice(('00', '30'))}")


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


def figure(draw: Draw) -> Slot:
    """What a node of a graph is called: a person, a company, a project, a place."""
    invented = draw.invented().capitalize()
    person = f"{draw.word('first_names')} {draw.word('last_names')}"
    company = f"{draw.rng.choice((invented, draw.word('last_names')))} {draw.rng.choice(COMPANIES)}"
    project = f"{draw.word('adjectives')} {draw.word('nouns')}".title()
    kinds = (draw.word("first_names"), person, person, company, project, invented, draw.invented())
    return copied(draw.rng.choice(kinds))


COMPANIES = ("Ltd", "GmbH", "Labs", "Studio", "Inc", "Bakery", "Motors", "& Sons", "Press", "Energy")


def sort(draw: Draw) -> Slot:
    """The type of a node."""
    return copied(draw.word("nouns") if draw.chance(0.15) else draw.word("sorts"))


def bond(draw: Draw) -> Slot:
    """The type of a relation, in active voice."""
    return copied(draw.phrase("bond"))


def remark(draw: Draw) -> Slot:
    """Something worth knowing about somebody."""
    return copied(draw.phrase("trivia"))


def records(draw: Draw) -> Slot:
    """The name of a table: a plural, so that it is no keyword of SQL."""
    plural = f"{draw.word('nouns')}s"
    names = (plural, plural, f"{draw.word('nouns', 'tech')}_{plural}", f"{draw.invented()}s")
    return copied(draw.rng.choice(names))


def field(draw: Draw) -> Slot:
    """The name of a column."""
    name = draw.word("column_names")
    return copied(draw.rng.choice((name, name, f"{draw.word('nouns', 'tech')}_{name}", draw.invented())))


def entry(draw: Draw) -> Slot:
    """A short text in a row."""
    words = (draw.word("nouns"), draw.word("first_names"), draw.invented(), draw.word("food"))
    pairs = (f"{draw.word('adjectives')} {draw.word('nouns')}", f"{draw.word('first_names')} {draw.word('last_names')}")
    return copied(draw.rng.choice((*words, *pairs)))
