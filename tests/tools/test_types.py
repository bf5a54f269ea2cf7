"""Calls as records, and what they cost."""

from __future__ import annotations

import json
from types import MappingProxyType

import pytest

from dualtune_mlx import Tool, ToolCall
from dualtune_mlx.errors import DataError, ToolError
from dualtune_mlx.tools import Message
from dualtune_mlx.tools.usage import COUNTERS, StageUsage, Usage

CANDIDATES = ((Tool("read", server="fs"), 0.75), (Tool("respond"), 0.25))


def test_a_record_has_all_that_is_known_of_a_call():
    usage = Usage({"selector": StageUsage("selector", forwards=2, seconds=0.5)})
    record = ToolCall("read", {"path": "a"}, "fs", 0.75, CANDIDATES, usage, ("path",)).to_record()
    assert json.loads(json.dumps(record)) == {
        "server": "fs",
        "name": "read",
        "arguments": {"path": "a"},
        "unsaid": ["path"],
        "confidence": 0.75,
        "candidates": [
            {"server": "fs", "name": "read", "probability": 0.75},
            {"server": "", "name": "respond", "probability": 0.25},
        ],
        "usage": usage.to_dict(),
    }
    assert list(record) == ["server", "name", "arguments", "unsaid", "confidence", "candidates", "usage"]


def test_where_the_engine_abstained_a_record_names_no_tool():
    record = ToolCall("", confidence=0.75, candidates=CANDIDATES).to_record()
    assert (record["server"], record["name"], record["usage"]) == (None, None, None)


def test_a_usage_has_every_counter_as_the_sum_over_its_stages():
    stages = {name: StageUsage(name, *range(start, start + len(COUNTERS))) for name, start in (("a", 1), ("b", 100))}
    usage = Usage(stages)
    assert [getattr(usage, name) for name in COUNTERS] == [101 + 2 * place for place in range(len(COUNTERS))]
    assert {name: usage.to_dict()[name] for name in COUNTERS} == {name: getattr(usage, name) for name in COUNTERS}
    assert list(usage.to_dict()["stages"]) == ["a", "b"]
    with pytest.raises(AttributeError):
        usage.tokens  # noqa: B018


@pytest.mark.parametrize("field", ["description", "server", "group"])
@pytest.mark.parametrize("value", [None, 5])
def test_a_tool_s_texts_are_text(field: str, value: object) -> None:
    with pytest.raises(ToolError, match=f"{field} is not text"):
        Tool("t", **{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["name", "description", "server", "group"])
def test_half_of_a_surrogate_pair_is_refused_before_a_tokenizer_meets_it(field: str) -> None:
    with pytest.raises(ToolError, match="not Unicode"):
        Tool(**{"name": "t", field: "a\ud83d"})
    with pytest.raises(DataError, match="not Unicode"):
        Message("user", "a\ud83d")


def nested(levels: int) -> object:
    value: object = {}
    for _ in range(levels):
        value = {"items": value}
    return value


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (nested(100_000), "recursion"),
        (10**5_000, "digits"),
        ("a\ud83d", "surrogates"),
        ({1, 2}, "set is no JSON"),
        (object(), "object is no JSON"),
    ],
    ids=["levels", "digits", "half a pair", "a set", "an object"],
)
def test_parameters_that_are_no_json_are_refused_before_a_prompt_has_them(value: object, says: str) -> None:
    with pytest.raises(ToolError, match=f"cannot be written as JSON(?s:.*){says}"):
        Tool("t", "", {"properties": {"a": {"default": value}}})
    with pytest.raises(ToolError):
        Tool("t", "", {"required": value})


def test_parameters_may_be_mappings_of_any_kind() -> None:
    Tool("t", "", MappingProxyType({"properties": MappingProxyType({"a": {}}), "required": ("a",)}))
