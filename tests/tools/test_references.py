from __future__ import annotations

from typing import Any

from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.references import keep_references

CHANGED: dict[str, Any] = {"type": "integer"}


def keep(properties: dict[str, Any]) -> Any:
    """What becomes of properties beside one, ``a``, that is changed."""
    own = {"type": "object", "properties": {"a": {"type": "string"}, **properties}}
    changed = {"type": "object", "properties": {"a": CHANGED, **properties}}
    kept = keep_references(changed, Tool("t", "", own))
    assert kept["properties"].pop("a") == CHANGED
    return kept["properties"], kept.get("$defs")


def test_a_reference_to_a_changed_place_leads_to_what_was_there() -> None:
    copy = {"original-1": {"type": "string"}}
    assert keep({"b": {"$ref": "#/properties/a"}}) == ({"b": {"$ref": "#/$defs/original-1"}}, copy)


def test_arguments_that_are_named_like_keywords_hold_schemas() -> None:
    names = ("default", "enum", "const", "examples")
    properties, copies = keep({name: {"$ref": "#/properties/a"} for name in names})
    assert properties == {name: {"$ref": "#/$defs/original-1"} for name in names} and len(copies) == 1


def test_data_is_no_schema() -> None:
    data = {"b": {"const": {"$ref": "#/properties/a"}, "default": {"$ref": "#/properties/a"}}}
    assert keep(data) == (data, None)
