"""For random schemas: what decoding can write fits, and what fits can be written."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, event, given, settings
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument
from hypothesis_jsonschema import from_schema

from dualtune_mlx import Tool
from dualtune_mlx.decoding import ArgumentGrammar, GrammarTokenizer
from dualtune_mlx.errors import ToolError
from dualtune_mlx.grammar import check_compiles, explain_unwritable
from dualtune_mlx.grammar.closing import close_objects
from dualtune_mlx.grammar.plain import to_plain
from dualtune_mlx.grammar.walking import map_subschemas
from dualtune_mlx.tools.schemas import check_arguments
from tests import tiny
from tests.decoding.test_grammar import draw_text
from tests.grammar.random_schemas import TOOL_SCHEMAS

TOKENIZER = GrammarTokenizer(tiny.tokenizer())
MANY = settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
FEW = settings(MANY, max_examples=40, derandomize=True, phases=[Phase.generate])  # a shorter example takes minutes


def compiled(schema: dict[str, Any]) -> Tool:
    """A tool of a schema that can be written at all."""
    tool = Tool("t", "", schema)
    try:
        check_compiles(tool)
    except ToolError as error:
        event(str(error.got).partition(":")[0])
        assume(False)
    return tool


def refuse_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Keys that are not listed may be written twice, of which the last one counts."""
    assume(len(dict(pairs)) == len(pairs))
    return dict(pairs)


def to_draft7(schema: Any) -> Any:
    """A schema in the newest dialect that hypothesis-jsonschema knows."""
    if not isinstance(schema, dict):
        return schema
    older = map_subschemas(schema, lambda item, *_: to_draft7(item))
    if "prefixItems" in older:
        older["additionalItems"] = older.get("items", True)
        older["items"] = older.pop("prefixItems")
    return {**older, "$defs": {name: to_draft7(item) for name, item in schema.get("$defs", {}).items()}}


def written_fits(schema: dict[str, Any], seed: int) -> None:
    tool = compiled(schema)
    text = draw_text(ArgumentGrammar(tool, TOKENIZER), random.Random(seed), limit=4000)
    arguments = json.loads(text, object_pairs_hook=refuse_repeated)
    assume("inf" not in repr(arguments))  # a number may have any exponent
    check_arguments(arguments, tool)


def fitting_is_written(schema: dict[str, Any], data: st.DataObject) -> None:
    tool = compiled(schema)
    try:
        arguments = data.draw(from_schema(to_draft7(close_objects(to_plain(schema)))))
        check_arguments(arguments, tool)
    except (InvalidArgument, ToolError):  # nothing fits, or hypothesis reads a pattern as Python does
        assume(False)
    assert explain_unwritable(tool, arguments) == ""


@FEW
@given(TOOL_SCHEMAS, st.integers(0, 99))
def test_what_decoding_can_write_fits(schema, seed):
    written_fits(schema, seed)


@FEW
@given(TOOL_SCHEMAS, st.data())
def test_what_fits_can_be_written(schema, data):
    fitting_is_written(schema, data)


@pytest.mark.slow
@MANY
@given(TOOL_SCHEMAS, st.integers(0, 99))
def test_what_decoding_can_write_fits_many_times(schema, seed):
    written_fits(schema, seed)


@pytest.mark.slow
@MANY
@given(TOOL_SCHEMAS, st.data())
def test_what_fits_can_be_written_many_times(schema, data):
    fitting_is_written(schema, data)
