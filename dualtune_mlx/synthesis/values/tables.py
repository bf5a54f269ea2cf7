"""Slots for databases: tables, columns, values, conditions, and SQL that users write themselves.

A value is a piece of SQL in one style: upper-case keywords, names as the user writes them, text in single quotes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from dualtune_mlx.synthesis.values.clock import CITIES
from dualtune_mlx.synthesis.values.paths import joined
from dualtune_mlx.synthesis.values.sampling import PHRASES, SLOT, WORDS, Draw, Slot, copied

COMPARISONS: Mapping[str, tuple[str, ...]] = {
    ">": ("above", "over", "greater than", "more than", "higher than", "larger than", "bigger than", ">"),
    "<": ("below", "under", "less than", "lower than", "smaller than", "<"),
    ">=": ("at least", "no less than", ">="),
    "<=": ("at most", "no more than", "<="),
}
AGGREGATES: Mapping[str, tuple[str, ...]] = {
    "AVG": ("average", "mean"),
    "SUM": ("total", "summed"),
    "MAX": ("maximum", "highest", "largest", "max"),
    "MIN": ("minimum", "lowest", "smallest", "min"),
}
DIRECTIONS: Mapping[str, tuple[str, ...]] = {
    " DESC": ("descending", "in descending order", "highest first", "largest first", "from high to low"),
    "": ("ascending", "in ascending order", "lowest first", "smallest first", "from low to high"),
}
EXTREMES: Mapping[str, tuple[str, ...]] = {
    " DESC": ("highest", "largest", "biggest", "greatest", "top"),
    "": ("lowest", "smallest", "least"),
}
TYPES: Mapping[str, tuple[str, ...]] = {
    "TEXT": ("text", "text", "string"),
    "INTEGER": ("integer", "integer", "int", "whole number"),
    "REAL": ("real", "real", "float"),
}


def _no_keyword(draw: Draw, name: Callable[[Draw], str]) -> str:
    """A name that SQLite takes without quotes."""
    while (drawn := name(draw)) in WORDS["sql_keywords"]:
        pass
    return drawn


def _name(draw: Draw, usual: str) -> str:
    """A name as databases have them: a usual one, alone or after a noun, or a new one."""
    word, other = draw.word(usual), draw.word("nouns", "tech")
    new = draw.rng.choice((f"{other}_{word}", f"{other}_{word}", other + word.capitalize(), draw.invented()))
    return word if draw.chance(0.6) else new


def _table(draw: Draw) -> str:
    if draw.chance(0.2):
        return draw.word("nouns", "tech") + draw.rng.choice(("", "s", "s", "_data", "_list", "_log"))
    name = _name(draw, "tables")
    style = draw.rng.choice(("plain",) * 9 + ("capital", "year", "old"))
    styled = {"capital": name[0].upper() + name[1:], "year": f"{name}_{draw.digits(2015, 2028)}", "old": f"old_{name}"}
    return styled.get(style, name)


def table(draw: Draw) -> Slot:
    """A table, usually named by a plural."""
    return copied(_no_keyword(draw, _table))


def key(draw: Draw) -> Slot:
    """A column that numbers the rows."""
    return copied("id" if draw.chance(0.6) else f"{draw.word('nouns')}_{draw.rng.choice(('id', 'id', 'no'))}")


def column(draw: Draw) -> Slot:
    """A column that holds text."""
    return copied(_no_keyword(draw, lambda draw: _name(draw, "columns")))


def numeric(draw: Draw) -> Slot:
    """A column that holds numbers."""
    return copied(_no_keyword(draw, lambda draw: _name(draw, "numeric_columns")))


def _different(draw: Draw, counts: Sequence[int], *kinds: Callable[[Draw], Slot]) -> list[str]:
    """Different names of columns of these kinds."""
    wanted = draw.rng.choice(counts)
    found: dict[str, None] = {}
    while len(found) < wanted:
        found[draw.rng.choice(kinds)(draw).surface] = None
    return list(found)


def columns(draw: Draw) -> Slot:
    """Two to four columns."""
    names = _different(draw, (2, 2, 2, 3, 3, 4), column, column, numeric, key)
    return Slot(joined(draw, names).surface, ", ".join(names))


def _text(draw: Draw) -> str:
    first, last, noun = draw.word("first_names"), draw.word("last_names"), draw.word("nouns")
    return draw.rng.choice(
        (
            f"{first} {last}",
            f"{draw.word('adjectives')} {noun}",
            f"{draw.word('adjectives')} {noun}".capitalize(),
            f"O'{last}",
            f"{first}'s {noun}",
            draw.rng.choice(tuple(CITIES)),
            f"{first.lower()}@{draw.invented()}.com",
            *(_tag(draw) for _ in range(7)),
        )
    )


def _tag(draw: Draw) -> str:
    word = draw.word("states", "nouns", "first_names", "last_names", "food", "tech")
    code = f"{draw.invented()[:3].upper()}-{draw.digits(10, 999)}"
    return draw.rng.choice((word, word, word, word, word.capitalize(), draw.invented(), code))


def _quoted(text: str) -> str:
    """Text as SQL writes it, but for the quotes around it."""
    return text.replace("'", "''")


def cell(draw: Draw) -> Slot:
    """A text in a row. In a wording it stands in quotes or ends the message, like all free text."""
    text = _text(draw)
    return Slot(text, _quoted(text))


def tag(draw: Draw) -> Slot:
    """A text of one word, which is clear without quotes."""
    return copied(_tag(draw))


def amount(draw: Draw) -> Slot:
    """A number that is now and then a decimal."""
    if draw.chance(0.25):
        return copied(f"{draw.digits(0, 300)}.{draw.rng.choice(('5', '25', '50', '75', '99'))}")
    return copied(draw.rng.choice(("10", "50", "100", "1000", draw.digits(2, 99), draw.digits(100, 90000))))


def day(draw: Draw) -> Slot:
    """A date in ISO form."""
    year, month, day = draw.rng.randint(2015, 2028), draw.rng.randint(1, 12), draw.rng.randint(1, 28)
    return copied(f"{year}-{month:02}-{day:02}")


def _mapped(draw: Draw, words: Mapping[str, tuple[str, ...]]) -> Slot:
    """One of the words that stand for a piece of SQL."""
    return draw.rng.choice([Slot(word, sql) for sql, listed in words.items() for word in listed])


def comparison(draw: Draw) -> Slot:
    return _mapped(draw, COMPARISONS)


def aggregate(draw: Draw) -> Slot:
    """An adjective that stands for a function over a column."""
    return _mapped(draw, AGGREGATES)


def direction(draw: Draw) -> Slot:
    """What follows ``ORDER BY column``: nothing where the rows ascend."""
    return _mapped(draw, DIRECTIONS)


def extreme(draw: Draw) -> Slot:
    """Which end of the order the first rows are from."""
    return _mapped(draw, EXTREMES)


def _in_quotes(draw: Draw) -> Slot:
    """A text in quotes, and SQL's literal of it."""
    text = _text(draw)
    quote = '"' if "'" in text or draw.chance(0.3) else "'"
    return Slot(f"{quote}{text}{quote}", f"'{_quoted(text)}'")


def _bare(draw: Draw) -> Slot:
    """A word without quotes, and SQL's literal of it."""
    word = _tag(draw)
    return Slot(word, f"'{word}'")


def _pairs(draw: Draw, counts: Sequence[int], *styles: str) -> tuple[str, list[str], list[str]]:
    """Columns with a value each: as people write them in one of the styles, the columns, and the literals.

    A number may stand before its column, as what is counted: ``12 seats``.
    """
    wanted, style = draw.rng.choice(counts), draw.rng.choice(styles)
    text = _bare if draw.chance(0.25) else _in_quotes
    values: dict[str, Slot] = {}
    texts = []
    while len(values) < wanted:
        kind, value_of = (numeric, amount) if draw.chance(0.35) else (column, text)
        name, value = kind(draw).surface, value_of(draw)
        if name not in values:
            values[name] = value
            counted = kind is numeric and style == "{} {}" and draw.chance(0.5)
            texts.append(f"{value.surface} {name}" if counted else style.format(name, value.surface))
    return draw.rng.choice((" and ", ", ")).join(texts), list(values), [value.value for value in values.values()]


def row(draw: Draw) -> Slot:
    """The columns of a new row with their values: ``name 'Ada' and city 'Lyon'``."""
    text, names, values = _pairs(draw, (1, 2, 2, 2, 3, 3), "{} {}", "{} {}", "{} = {}", "{}: {}", "{}={}")
    return Slot(text, f"({', '.join(names)}) VALUES ({', '.join(values)})")


def changes(draw: Draw) -> Slot:
    """One or two columns with their new values: ``status to 'paid'``."""
    text, names, values = _pairs(draw, (1, 1, 2), "{} to {}", "{} to {}", "{} = {}")
    return Slot(text, ", ".join(f"{name} = {value}" for name, value in zip(names, values, strict=True)))


def _column_type(draw: Draw) -> Slot:
    kind = _mapped(draw, TYPES)
    constraint = draw.rng.choice(("",) * 8 + (" not null", " unique"))
    return Slot(kind.surface + constraint, kind.value + constraint.upper())


def fields(draw: Draw) -> Slot:
    """The columns of a new table with their types, half of the time after a primary key."""
    names = _different(draw, (2, 2, 3, 3), column, numeric)
    kinds = [_column_type(draw) for _ in names]
    if draw.chance(0.5):
        names.insert(0, key(draw).surface)
        kinds.insert(0, Slot("integer primary key", "INTEGER PRIMARY KEY"))
    sql = [f"{name} {kind.value}" for name, kind in zip(names, kinds, strict=True)]
    style = draw.rng.choice(("{} ({})", "{} ({})", "{} {}", "{} as {}", "{}: {}", "sql"))
    if style == "sql":
        return copied(", ".join(sql))
    texts = [style.format(name, kind.surface) for name, kind in zip(names, kinds, strict=True)]
    last = draw.rng.choice((" and ", ", "))
    return Slot(", ".join(texts[:-1]) + last + texts[-1], ", ".join(sql))


def text_fields(draw: Draw) -> Slot:
    """The columns of a new table whose columns are all of type text."""
    names = _different(draw, (2, 2, 3, 3), column)
    return Slot(joined(draw, names).surface, ", ".join(f"{name} TEXT" for name in names))


def _statement(draw: Draw, kind: str) -> Slot:
    frame = draw.rng.choice(PHRASES[kind])
    return copied(SLOT.sub(lambda gap: str(PARTS[gap[1]](draw).value), frame))


def select_sql(draw: Draw) -> Slot:
    """A query that the user has written."""
    return _statement(draw, "select_sql")


def write_sql(draw: Draw) -> Slot:
    """A change that the user has written as SQL."""
    return _statement(draw, "write_sql")


def create_sql(draw: Draw) -> Slot:
    """A new table that the user has written as SQL."""
    return _statement(draw, "create_sql")


PARTS: Mapping[str, Callable[[Draw], Slot]] = {
    "table": table,
    "key": key,
    "column": column,
    "columns": columns,
    "numeric": numeric,
    "cell": cell,
    "tag": tag,
    "amount": amount,
    "day": day,
    "count": lambda draw: copied(draw.digits(2, 100)),
    "number": lambda draw: copied(draw.digits(2, 999)),
    "row": row,
    "changes": changes,
    "fields": fields,
    "text_fields": text_fields,
}
"""The gaps in SQL that users write."""
