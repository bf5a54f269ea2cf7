"""Slots for databases: tables, columns, values, conditions, and SQL that users write themselves.

A value is a piece of SQL. Keywords are in upper case, names are as the user writes them, texts stand in single quotes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from dualtune_mlx.synthesis.values.clock import CITIES
from dualtune_mlx.synthesis.values.paths import enumeration
from dualtune_mlx.synthesis.values.sampling import PHRASES, WORDS, Sampler
from dualtune_mlx.synthesis.values.slot import SLOT_PATTERN, Slot

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


def _non_keyword(sampler: Sampler, name: Callable[[Sampler], str]) -> str:
    """Draw names until SQLite accepts one without quotes."""
    while (candidate := name(sampler)) in WORDS["sql_keywords"]:
        pass
    return candidate


def _name(sampler: Sampler, usual: str) -> str:
    """A usual name of a table or column, alone or after a noun, or a new one."""
    word, other = sampler.word(usual), sampler.word("nouns", "tech")
    new = sampler.rng.choice((f"{other}_{word}", f"{other}_{word}", other + word.capitalize(), sampler.invent()))
    return word if sampler.chance(0.6) else new


def _table(sampler: Sampler) -> str:
    if sampler.chance(0.2):
        return sampler.word("nouns", "tech") + sampler.rng.choice(("", "s", "s", "_data", "_list", "_log"))
    name = _name(sampler, "tables")
    style = sampler.rng.choice(("plain",) * 9 + ("capital", "year", "old"))
    styled = {
        "capital": name[0].upper() + name[1:],
        "year": f"{name}_{sampler.digits(2015, 2028)}",
        "old": f"old_{name}",
    }
    return styled.get(style, name)


def table(sampler: Sampler) -> Slot:
    """The name of a table, usually a plural."""
    return Slot.verbatim(_non_keyword(sampler, _table))


def key(sampler: Sampler) -> Slot:
    """A column that numbers the rows."""
    return Slot.verbatim(
        "id" if sampler.chance(0.6) else f"{sampler.word('nouns')}_{sampler.rng.choice(('id', 'id', 'no'))}"
    )


def column(sampler: Sampler) -> Slot:
    """A column that holds text."""
    return Slot.verbatim(_non_keyword(sampler, lambda sampler: _name(sampler, "columns")))


def numeric(sampler: Sampler) -> Slot:
    """A column that holds numbers."""
    return Slot.verbatim(_non_keyword(sampler, lambda sampler: _name(sampler, "numeric_columns")))


def _distinct_names(sampler: Sampler, counts: Sequence[int], *kinds: Callable[[Sampler], Slot]) -> list[str]:
    """Names of columns of these kinds, all different."""
    wanted = sampler.rng.choice(counts)
    found: dict[str, None] = {}
    while len(found) < wanted:
        found[sampler.rng.choice(kinds)(sampler).surface] = None
    return list(found)


def columns(sampler: Sampler) -> Slot:
    """Two to four columns."""
    names = _distinct_names(sampler, (2, 2, 2, 3, 3, 4), column, column, numeric, key)
    return Slot(enumeration(sampler, names).surface, ", ".join(names))


def _text(sampler: Sampler) -> str:
    first, last, noun = sampler.word("first_names"), sampler.word("last_names"), sampler.word("nouns")
    return sampler.rng.choice(
        (
            f"{first} {last}",
            f"{sampler.word('adjectives')} {noun}",
            f"{sampler.word('adjectives')} {noun}".capitalize(),
            f"O'{last}",
            f"{first}'s {noun}",
            sampler.rng.choice(tuple(CITIES)),
            f"{first.lower()}@{sampler.invent()}.com",
            *(_tag(sampler) for _ in range(7)),
        )
    )


def _tag(sampler: Sampler) -> str:
    word = sampler.word("states", "nouns", "first_names", "last_names", "food", "tech")
    code = f"{sampler.invent()[:3].upper()}-{sampler.digits(10, 999)}"
    return sampler.rng.choice((word, word, word, word, word.capitalize(), sampler.invent(), code))


def _escape_quotes(text: str) -> str:
    """The text as it stands in an SQL literal, without the quotes around it."""
    return text.replace("'", "''")


def cell(sampler: Sampler) -> Slot:
    """A text in a row. Like all free text, it stands in quotes or at the end of a wording."""
    text = _text(sampler)
    return Slot(text, _escape_quotes(text))


def tag(sampler: Sampler) -> Slot:
    """A text of one word, which needs no quotes."""
    return Slot.verbatim(_tag(sampler))


def amount(sampler: Sampler) -> Slot:
    """A number, a quarter of them with decimals."""
    if sampler.chance(0.25):
        return Slot.verbatim(f"{sampler.digits(0, 300)}.{sampler.rng.choice(('5', '25', '50', '75', '99'))}")
    return Slot.verbatim(
        sampler.rng.choice(("10", "50", "100", "1000", sampler.digits(2, 99), sampler.digits(100, 90000)))
    )


def day(sampler: Sampler) -> Slot:
    """A date in ISO form."""
    year, month, day = sampler.rng.randint(2015, 2028), sampler.rng.randint(1, 12), sampler.rng.randint(1, 28)
    return Slot.verbatim(f"{year}-{month:02}-{day:02}")


def _word_for_sql(sampler: Sampler, words: Mapping[str, tuple[str, ...]]) -> Slot:
    """A word, and the piece of SQL that it stands for."""
    return sampler.rng.choice([Slot(word, sql) for sql, listed in words.items() for word in listed])


def comparison(sampler: Sampler) -> Slot:
    """Words that stand for a comparison operator."""
    return _word_for_sql(sampler, COMPARISONS)


def aggregate(sampler: Sampler) -> Slot:
    """An adjective that stands for an aggregate function over a column."""
    return _word_for_sql(sampler, AGGREGATES)


def direction(sampler: Sampler) -> Slot:
    """A direction of sorting; its value follows ``ORDER BY column`` and is empty for ascending rows."""
    return _word_for_sql(sampler, DIRECTIONS)


def extreme(sampler: Sampler) -> Slot:
    """A superlative, and the direction of sorting that puts its rows first."""
    return _word_for_sql(sampler, EXTREMES)


def _quoted_literal(sampler: Sampler) -> Slot:
    """A text in quotes, and its SQL literal."""
    text = _text(sampler)
    quote = '"' if "'" in text or sampler.chance(0.3) else "'"
    return Slot(f"{quote}{text}{quote}", f"'{_escape_quotes(text)}'")


def _bare_literal(sampler: Sampler) -> Slot:
    """A word without quotes, and its SQL literal."""
    word = _tag(sampler)
    return Slot(word, f"'{word}'")


def _pairs(sampler: Sampler, counts: Sequence[int], *styles: str) -> tuple[str, list[str], list[str]]:
    """Columns with a value each.

    Returns the words for them in one of the styles, the names of the columns, and the literals. A number may stand
    before its column as a count: ``12 seats``.
    """
    wanted, style = sampler.rng.choice(counts), sampler.rng.choice(styles)
    text = _bare_literal if sampler.chance(0.25) else _quoted_literal
    values: dict[str, Slot] = {}
    texts = []
    while len(values) < wanted:
        kind, value_of = (numeric, amount) if sampler.chance(0.35) else (column, text)
        name, value = kind(sampler).surface, value_of(sampler)
        if name not in values:
            values[name] = value
            counted = kind is numeric and style == "{} {}" and sampler.chance(0.5)
            texts.append(f"{value.surface} {name}" if counted else style.format(name, value.surface))
    return sampler.rng.choice((" and ", ", ")).join(texts), list(values), [value.value for value in values.values()]


def row(sampler: Sampler) -> Slot:
    """Columns and values of a new row: ``name 'Ada' and city 'Lyon'``."""
    text, names, values = _pairs(sampler, (1, 2, 2, 2, 3, 3), "{} {}", "{} {}", "{} = {}", "{}: {}", "{}={}")
    return Slot(text, f"({', '.join(names)}) VALUES ({', '.join(values)})")


def changes(sampler: Sampler) -> Slot:
    """One or two columns with new values: ``status to 'paid'``."""
    text, names, values = _pairs(sampler, (1, 1, 2), "{} to {}", "{} to {}", "{} = {}")
    return Slot(text, ", ".join(f"{name} = {value}" for name, value in zip(names, values, strict=True)))


def _column_type(sampler: Sampler) -> Slot:
    kind = _word_for_sql(sampler, TYPES)
    constraint = sampler.rng.choice(("",) * 8 + (" not null", " unique"))
    return Slot(kind.surface + constraint, kind.value + constraint.upper())


def fields(sampler: Sampler) -> Slot:
    """Columns of a new table with their types, half of the time after a primary key."""
    names = _distinct_names(sampler, (2, 2, 3, 3), column, numeric)
    kinds = [_column_type(sampler) for _ in names]
    if sampler.chance(0.5):
        names.insert(0, key(sampler).surface)
        kinds.insert(0, Slot("integer primary key", "INTEGER PRIMARY KEY"))
    sql = [f"{name} {kind.value}" for name, kind in zip(names, kinds, strict=True)]
    style = sampler.rng.choice(("{} ({})", "{} ({})", "{} {}", "{} as {}", "{}: {}", "sql"))
    if style == "sql":
        return Slot.verbatim(", ".join(sql))
    texts = [style.format(name, kind.surface) for name, kind in zip(names, kinds, strict=True)]
    last = sampler.rng.choice((" and ", ", "))
    return Slot(", ".join(texts[:-1]) + last + texts[-1], ", ".join(sql))


def text_fields(sampler: Sampler) -> Slot:
    """Columns of a new table, all of type text."""
    names = _distinct_names(sampler, (2, 2, 3, 3), column)
    return Slot(enumeration(sampler, names).surface, ", ".join(f"{name} TEXT" for name in names))


def _statement(sampler: Sampler, kind: str) -> Slot:
    frame = sampler.rng.choice(PHRASES[kind])
    return Slot.verbatim(SLOT_PATTERN.sub(lambda gap: str(SQL_GAPS[gap[1]](sampler).value), frame))


def select_sql(sampler: Sampler) -> Slot:
    """A query that the user writes as SQL."""
    return _statement(sampler, "select_sql")


def write_sql(sampler: Sampler) -> Slot:
    """A change that the user writes as SQL."""
    return _statement(sampler, "write_sql")


def create_sql(sampler: Sampler) -> Slot:
    """A ``CREATE TABLE`` statement that the user writes."""
    return _statement(sampler, "create_sql")


SQL_GAPS: Mapping[str, Callable[[Sampler], Slot]] = {
    "table": table,
    "key": key,
    "column": column,
    "columns": columns,
    "numeric": numeric,
    "cell": cell,
    "tag": tag,
    "amount": amount,
    "day": day,
    "count": lambda sampler: Slot.verbatim(sampler.digits(2, 100)),
    "number": lambda sampler: Slot.verbatim(sampler.digits(2, 999)),
    "row": row,
    "changes": changes,
    "fields": fields,
    "text_fields": text_fields,
}
"""Slots that fill the gaps in whole SQL statements."""
