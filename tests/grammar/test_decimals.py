"""Numbers under bounds and divisors: what fits is written with as few decimals as it has, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualtune_mlx.errors import ToolError
from dualtune_mlx.grammar.compiling import value_matcher
from dualtune_mlx.tools.schemas import Validator
from tests.grammar.test_compiling import can_write

BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")


def number(decimal: Decimal) -> Any:
    """As JSON has it: whole numbers as integers."""
    return float(decimal) if decimal % 1 else int(decimal)


DECIMALS = st.builds(
    lambda whole, kept: number(Decimal(whole).scaleb(-3).quantize(Decimal(1).scaleb(-kept))),
    st.integers(-2500, 2500),
    st.integers(0, 3),
)
SCHEMAS = st.fixed_dictionaries(
    {"type": st.sampled_from(["number", "integer", ["null", "number"]])},
    optional={**dict.fromkeys(BOUNDS, DECIMALS), "multipleOf": st.sampled_from([0.05, 0.1, 0.25, 0.5, 1, 1.5])},
)


def list_values(schema: dict[str, Any]) -> Iterator[Any]:
    """Numbers with few decimals, and the bounds' beginnings with their neighbours."""
    yield from (number(Decimal(twentieths) / 20) for twentieths in range(-60, 61))
    for bound in (Decimal(str(schema[key])) for key in BOUNDS if key in schema):
        for step in map(Decimal, ("1", "0.1", "0.01", "0.001")):
            near = bound.quantize(step, "ROUND_DOWN")
            yield from (number(near + other) for other in (-step, 0, step))


def find_wrong(schema: dict[str, Any]) -> list[Any]:
    """The numbers that fit and cannot be written, or can and do not fit."""
    fits = Validator(schema).fits
    values = list(list_values(schema))
    try:
        matcher = value_matcher(schema, "test")
    except ToolError:
        return list(filter(fits, values))
    return [value for value in values if writes(matcher.deep_copy(), value) != fits(value)]


def writes(matcher: Any, value: Any) -> bool:
    text = json.dumps(value).encode()
    return matcher.try_consume_tokens(list(text)) == len(text) and matcher.is_accepting()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(SCHEMAS)
def test_the_numbers_that_are_written_are_those_that_fit(schema):
    assert find_wrong(schema) == []


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(SCHEMAS)
def test_the_numbers_that_are_written_are_those_that_fit_many_times(schema):
    assert find_wrong(schema) == []


@pytest.mark.parametrize(
    ("schema", "fitting", "others"),
    [
        ({"minimum": 0.5, "maximum": 0.999}, (0.5, 0.9, 0.99, 0.999), (0.49, 0.9991, 1, 1.0)),
        ({"minimum": 0, "maximum": 0.95}, (0, 0.0, 0.9, 0.95), (-0.1, 0.96, 1)),
        ({"minimum": 0.05, "maximum": 0.15}, (0.05, 0.1, 0.15), (0.0, 0.04, 0.2)),
        ({"minimum": -0.95, "maximum": 0.95}, (-0.95, -0.9, 0, 0.9), (-0.96, 0.96)),
        ({"exclusiveMinimum": 0.5, "exclusiveMaximum": 0.75}, (0.51, 0.7, 0.74), (0.5, 0.75)),
        ({"exclusiveMinimum": 0, "maximum": 0.5}, (0.5, 0.05, 1e-34), (0, 0.0, 0.51)),
        ({"exclusiveMaximum": -1, "minimum": -1.25}, (-1.2, -1.25, -1.001), (-1, -1.0, -1.3)),
        ({"minimum": 1e-7, "maximum": 2.5e-5}, (1e-7, 2e-5, 2.5e-5), (0, 1e-8, 3e-5)),
        ({"maximum": 0.30000000000000004}, (0.3, 0, -7.5), (0.4,)),
        ({"minimum": 0, "maximum": 0.95, "multipleOf": 0.05}, (0.9, 0.95, 0.5), (0.91, 1)),
        ({"allOf": [{"maximum": 0.95}, {"minimum": 0.05}]}, (0.9, 0.05), (0.96, 0.04)),
        ({"type": ["number", "null"], "maximum": 0.95}, (0.9, None), (0.96, "a")),
        ({"type": "integer", "minimum": 0.5, "exclusiveMaximum": 2.5}, (1, 2), (0, 3, 1.5)),
    ],
)
def test_bounds(schema, fitting, others):
    schema = {"type": "number", **schema}
    assert [value for value in fitting if not can_write(schema, value)] == []
    assert [value for value in others if can_write(schema, value)] == []


def test_a_bound_without_a_type_bounds_numbers_alone():
    assert all(can_write({"maximum": 0.95}, value) for value in (0.9, "text", None, [1], {"a": 1}))
    assert not can_write({"maximum": 0.95}, 1)


@pytest.mark.parametrize("key", [*BOUNDS, "multipleOf"])
@pytest.mark.parametrize("value", [float("inf"), 10**400])
def test_numbers_that_cannot_be_counted_with_are_refused(key, value):
    with pytest.raises(ToolError, match="cannot be enforced"):
        can_write({"type": "number", key: value}, 1)


@pytest.mark.parametrize(
    ("divisor", "multiples", "other"),
    [
        (0.25, (1.5, 0.25, 2, 2.0, -7.75), 1.1),
        (0.01, (4.5, 4.02, 4), 4.025),
        (2.5, (5, 7.5, 5.0), 6),
        (0.125, (0.5, 1.125), 0.25 / 4),
        (1e-06, (1e-06, 0.1), 1e-07),
        (300, (600, -300), 100),
    ],
)
def test_a_multiple_is_written_with_as_few_decimals_as_it_has(divisor, multiples, other):
    schema = {"type": "number", "multipleOf": divisor, "allOf": [{"maximum": 1000}]}
    assert [value for value in multiples if not can_write(schema, value)] == []
    assert not can_write(schema, other)
