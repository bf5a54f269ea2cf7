"""Whether given arguments can be written, and where they stop; no model is needed for it."""

from __future__ import annotations

from typing import Any

import pytest

from dualtune_mlx import Tool
from dualtune_mlx.errors import ToolError
from dualtune_mlx.grammar import check_compiles, explain_unwritable

STRING = {"type": "string"}


def tool(required: list[str] | None = None, **properties: Any) -> Tool:
    listed = list(properties) if required is None else required
    return Tool("t", "", {"type": "object", "properties": properties, "required": listed})


EDITS = {"type": "array", "items": {"type": "object", "properties": {"old": STRING, "new": STRING}}}


@pytest.mark.parametrize(
    ("parameters", "arguments"),
    [
        (tool(path=STRING), {"path": 'größe 😀 "q" \n'}),
        (tool(when={"type": "string", "format": "date-time"}), {"when": "2026-05-06T12:30:00Z"}),
        (tool(a=STRING, b=STRING), {"b": "2", "a": "1"}),  # the grammar's order is that of the training data
        (tool(edits=EDITS), {"edits": [{"old": "a", "new": "b"}, {}]}),
        (tool(edits=EDITS), {"edits": []}),
        (Tool("t"), {}),
    ],
)
def test_what_can_be_written_needs_no_explanation(parameters, arguments):
    assert explain_unwritable(parameters, arguments) == ""


@pytest.mark.parametrize(
    ("parameters", "arguments", "explanation"),
    [
        (
            tool(when={"type": "string", "format": "date-time"}),
            {"when": "2026-05-06T12:30:00"},
            "$.when: after '\"2026-05-06T12:30:00' comes '\"', where '+' or '-' or '.' or 'Z' or 'z' may come",
        ),
        (tool(a=STRING), {"a": "1", "zz": 2}, "$.zz: after '{\"a\": \"1\"' comes ',', where '}' must come"),
        (tool(a=STRING, b=STRING), {"a": "1"}, '$: after \'{"a": "1"\' comes \'}\', where \', "b": "\' must come'),
        (tool(edits=EDITS), {"edits": [{}, {"new": 1}]}, "$.edits[1].new: after 'dits\": [{}, {\"new\": ' comes '1'"),
        (tool(edits=EDITS), {"edits": {}}, "$.edits: after '{\"edits\": ' comes '{', where '[' must come"),
        (Tool("t"), {"a": 1}, '$: the tool takes no arguments, not {"a": 1}'),
    ],
)
def test_what_cannot_be_written_is_explained_with_its_place(parameters, arguments, explanation):
    for _ in range(2):  # the compiled grammar is kept, and is not changed
        assert explanation in explain_unwritable(parameters, arguments)


def test_a_schema_is_tried_without_a_model():
    check_compiles(tool(a=STRING))
    with pytest.raises(ToolError, match="cannot be enforced(?s:.*)tool 't'(?s:.*)fix: "):
        check_compiles(tool(a={"type": "string", "not": {"const": "x"}}))
