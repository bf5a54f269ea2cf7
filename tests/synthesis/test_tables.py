"""Queries follow from the request alone, in one style, and SQLite takes them."""

from __future__ import annotations

import random
import re
import sqlite3
from functools import cache

import pytest

from dualtune_mlx.data import SPLITS
from dualtune_mlx.synthesis import generate_requests
from dualtune_mlx.synthesis.values.sampling import Sampler
from dualtune_mlx.synthesis.values.tables import cell, column, numeric, row, table
from dualtune_mlx.tools import ToolCall
from tests.synthesis.test_requests import requests_and_calls, server_tools

STATEMENTS = {
    "read_query": "SELECT ",
    "write_query": "(INSERT INTO|UPDATE|DELETE FROM) ",
    "create_table": "CREATE TABLE ",
}
SAID = {
    " > ": r"above|over|(great|high|larg|bigg)er than|more than|exceed|beyond|excess|after|later than|>",
    " < ": r"below|under|less than|(low|small|earli|old)er than|before|<",
    " >= ": r"at least|no less than|or more|upwards|>=",
    " <= ": r"at most|no more than|or less|up to|<=",
    "AVG(": r"average|mean",
    "SUM(": r"total|summed|sum|add|(al|taken |put )together",
    "MAX(": r"max|highest|largest",
    "MIN(": r"min|lowest|smallest",
    "COUNT(": r"count|how (many|often|large)|number|tally|a figure on|size of .* in rows",
    "DISTINCT": r"distinct|different|unique|(without|the) duplicates|no repeats|only once|once only|twice is no use",
    " DESC": r"descending|highest|largest|high to low|biggest|greatest|top|most|best|leading",
    " NOT NULL": r"not null",
    " IS NULL": r"\bnull",
    "IF NOT EXISTS": r"exist|(if|case) there(.s| is) no|isn.t there",
    "PRIMARY KEY": r"primary key",
    " INTEGER": r"\bint|whole number",
    " REAL": r"\breal\b|\bfloat\b",
    " TEXT": r"\btext\b|\bstring\b",
    " LIMIT ": r"\d",
    " GROUP BY ": r"\b(per|for (each|every)|by|spread over|beside each)\b",
    " AND ": r"\band\b|both",
    " ORDER BY ": r"sort|order|scending|\bby\b|alphabetical|est\b|least|top|most|from",
}
"""What a request says for a piece of SQL."""


@cache
def queries(split: str) -> list[tuple[str, ToolCall, str]]:
    """Requests, calls, and the SQL of the calls that have some."""
    made = requests_and_calls(generate_requests(split, 1500, seed=7, tools=server_tools("sqlite")))
    return [(request, call, call.arguments["query"]) for request, call in made if call.name in STATEMENTS]


def accepted(query: str) -> bool:
    """Whether SQLite reads the query; that a table is not there is no fault of the query's."""
    try:
        sqlite3.connect(":memory:").execute(query)
    except sqlite3.OperationalError as error:
        return "no such table" in str(error)
    return True


@pytest.mark.parametrize("split", SPLITS)
def test_sqlite_reads_every_query(split: str) -> None:
    assert [query for _, _, query in queries(split) if not accepted(query)] == []


@pytest.mark.parametrize("split", SPLITS)
def test_a_query_is_of_its_tools_kind_and_in_one_style(split: str) -> None:
    for request, call, query in queries(split):
        assert re.match(STATEMENTS[call.name], query) or query in request, query
        assert not re.search(r";|  |\s$", re.sub("'[^']*'", "''", query)), query


@pytest.mark.parametrize("split", SPLITS)
def test_every_name_and_value_of_a_query_stands_in_the_request(split: str) -> None:
    for request, _, query in queries(split):
        if query in request:
            continue
        texts = [text.replace("''", "'").strip("%") for text in re.findall(r"'((?:[^']|'')*)'", query)]
        names = re.findall(r"(?!\b[A-Z]{2,}\b)\b[\w.]+", re.sub(r"'(?:[^']|'')*'", "", query))
        assert [part for part in texts + names if part not in request] == [], (request, query)


@pytest.mark.parametrize("split", SPLITS)
def test_every_operator_of_a_query_follows_from_the_request(split: str) -> None:
    for request, _, query in queries(split):
        if query not in request:
            bare = re.sub(r"'(?:[^']|'')*'", "", query)
            silent = [sql for sql, said in SAID.items() if sql in bare and not re.search(said, request, re.IGNORECASE)]
            assert silent == [], (request, query)


def test_a_quote_inside_a_text_is_doubled() -> None:
    rng = random.Random(1)
    texts = [cell(Sampler(rng, {})) for _ in range(300)]
    assert any("'" in slot.surface for slot in texts)
    for slot in texts:
        assert sqlite3.connect(":memory:").execute(f"SELECT '{slot.value}'").fetchone() == (slot.surface,)


def test_a_row_has_a_value_for_every_column() -> None:
    rng = random.Random(1)
    for _ in range(300):
        slot = row(Sampler(rng, {}))
        names = slot.value[1:].partition(")")[0]
        database = sqlite3.connect(":memory:")
        database.execute(f"CREATE TABLE one ({names})")
        database.execute(f"INSERT INTO one {slot.value}")
        assert all(
            str(value) in slot.surface
            for value in database.execute(f"SELECT {names} FROM one").fetchone()
            if type(value) is str
        )


def test_a_number_of_a_row_stands_behind_its_column_or_before_it() -> None:
    rng = random.Random(1)
    found = {
        (slot.surface == f"{one[1]} {one[2]}", slot.surface == f"{one[2]} {one[1]}")
        for slot in (row(Sampler(rng, {})) for _ in range(500))
        if (one := re.fullmatch(r"\((\w+)\) VALUES \(([\d.]+)\)", slot.value)) and re.search(r"\w \w", slot.surface)
    }
    assert found == {(True, False), (False, True)}


def test_no_name_is_a_keyword() -> None:
    rng = random.Random(1)
    for kind in (table, column, numeric):
        for name in {kind(Sampler(rng, {})).value for _ in range(3000)}:
            assert accepted(f"SELECT {name} FROM {name}"), name
