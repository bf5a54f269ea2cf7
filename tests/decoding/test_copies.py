"""What the data says of string parameters: which are always copied, and why the others are not held."""

from __future__ import annotations

import pytest

from dualtune_mlx import Tool
from dualtune_mlx.decoding.copies import MIN_EXAMPLES, CopyReport, report_copies
from dualtune_mlx.tools import PLAN
from tests.decoding.test_grounding import STRING, copies, make_decision, tool_with

DATE = {"type": "string", "format": "date"}


@pytest.mark.parametrize(
    ("decisions", "reason"),
    [
        ([], "0 of the 8 examples that it takes"),
        (copies(5), "5 of the 8 examples that it takes"),
        (copies(5, a=2), "7 of the 8 examples that it takes"),
        (copies(9, a=1, b=2), "3 of 12 values are not copied"),
        (copies(0, a=50), "50 of 50 values are not copied"),
        (copies(5, a=3), "3 of 8 values are not copied"),
        (copies(MIN_EXAMPLES), ""),
    ],
)
def test_every_free_string_is_held_or_has_a_reason(decisions, reason):
    report = report_copies(decisions, [tool_with(path=STRING)])
    assert report.ungrounded == ({"s/t": {"path": reason}} if reason else {})
    assert bool(report.grounding) is not bool(reason)


def test_strings_of_a_form_are_free_and_those_of_listed_values_are_not_told():
    tool = Tool(
        "t",
        "",
        {
            "properties": {
                "due": DATE,
                "mode": {"enum": ["a", "b"]},
                "kind": {"type": "string", "const": "x"},
                "count": {"type": "integer"},
                "name": {"$ref": "#/$defs/name"},
                "zone": {"anyOf": [STRING, {"type": "null"}]},
                "edits": {"type": "array", "items": {"type": "object", "properties": {"old": STRING}}},
            },
            "$defs": {"name": STRING},
        },
        "s",
    )
    decisions = [make_decision("on 2026-11-30", {"due": "2026-11-30", "name": "on"}, tool)] * 9
    found = report_copies(decisions, [tool]).ungrounded["s/t"]
    form, few = "its schema asks for a form or has a $ref", "0 of the 8 examples that it takes"
    assert found == {"due": form, "name": form, "zone": few, "edits[].old": few}


def test_a_plan_is_a_tool_like_others():
    decisions = [make_decision(f"do a{i} and b{i}", {"parts": [f"do a{i}"]}, PLAN) for i in range(9)]
    assert report_copies(decisions, [PLAN]) == CopyReport({"/plan": {"parts[]": ()}}, {})
