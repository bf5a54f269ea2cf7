"""A call's arguments, drawn from a tool's schema."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dualtune_mlx.synthesis.conversions.unsaid import is_default
from dualtune_mlx.synthesis.descriptions import describe, list_choices
from dualtune_mlx.synthesis.planning.kinds import UNSAYABLE, find_kind
from dualtune_mlx.synthesis.planning.quantities import draw_number
from dualtune_mlx.synthesis.planning.ranges import sort_bounds
from dualtune_mlx.synthesis.planning.strings import draw_string
from dualtune_mlx.synthesis.values.sampling import Sampler
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.parameters import Parameter
from dualtune_mlx.tools.references import References
from dualtune_mlx.tools.time_limit import seconds_left

DEEPEST = 5
"""Levels of objects and lists that are drawn. Below them an object has only what it must have."""
TRIES = 8
MOST = 100
"""Items of a list, and entries of an object, that are drawn at most. Where a schema wants more, no call is planned."""
Chooser = Callable[[Sequence[Parameter]], Sequence[str]]
"""Which of a call's optional parameters it has: from the parameters to their names."""


class Drawer:
    """Draws the arguments of one tool."""

    def __init__(
        self, tool: Tool, rng: random.Random, today: str, observed: Callable[[Tool, Parameter], Sequence[Any]]
    ) -> None:
        """
        Args:
            tool: the tool.
            rng: draws everything.
            today: the date of the conversation; "" for none.
            observed: values that the server really holds for a parameter of the tool.
        """
        self._tool, self._today, self._observed = tool, today, observed
        self._sampler = Sampler(rng, {})
        self._references = References(tool.parameters)
        self._used: list[Any] = []

    def draw(self, choose: Chooser) -> dict[str, Any]:
        """Arguments of a call, with the required parameters and the optional ones that are chosen."""
        self._used = []
        return self._draw_object(self.resolve(self._tool.parameters), "", 0, choose)

    def list_optional(self) -> list[Parameter]:
        """The optional parameters of the tool itself."""
        return self._list_optional(self.resolve(self._tool.parameters), "")

    def _list_optional(self, schema: Mapping[str, Any], path: str) -> list[Parameter]:
        required = schema.get("required", ())
        return [
            self._read(item, f"{path}.{name}" if path else name)
            for name, item in schema.get("properties", {}).items()
            if name not in required and isinstance(item, Mapping)
        ]

    def _read(self, schema: Any, path: str) -> Parameter:
        schema = schema if isinstance(schema, Mapping) else {}
        return describe(self._tool, Parameter(path, schema, tuple(self._list_alternatives(schema)), False))

    def _list_alternatives(self, schema: Mapping[str, Any], depth: int = 0) -> list[Mapping[str, Any]]:
        """What a schema may be, null left out where it may be something else."""
        schema = self.resolve(schema)
        options = [one for key in ("anyOf", "oneOf") for one in schema.get(key, ()) if isinstance(one, Mapping)]
        if not options or depth > DEEPEST:
            return [schema]
        rest = {key: value for key, value in schema.items() if key not in ("anyOf", "oneOf", "default", "description")}
        found = [one for option in options for one in self._list_alternatives({**rest, **option}, depth + 1)]
        return [one for one in found if one.get("type") != "null"] or found

    def resolve(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """The schema with what it refers to, and with all that it combines, at its own place."""
        for _ in range(DEEPEST):
            if isinstance(schema.get("$ref"), str):
                found = self._references.find(schema["$ref"])
                rest = {key: value for key, value in schema.items() if key != "$ref"}
                schema = {**(found if isinstance(found, Mapping) else {}), **rest}
            elif "allOf" in schema:
                schema = _merge(
                    [{k: v for k, v in schema.items() if k != "allOf"}, *map(self.resolve, schema["allOf"])]
                )
        return schema

    def _draw_value(self, schema: Any, path: str, depth: int) -> Any:
        """A value that is not its parameter's default, and that the call does not have yet."""
        value: Any = None
        parameter = self._read(schema, path)
        for _ in range(TRIES):
            seconds_left()
            value = self._draw_any(parameter, depth)
            if not is_default(parameter, value) and not (isinstance(value, str) and value in self._used):
                break
        if isinstance(value, str) and not list_choices(parameter):
            self._used.append(value)
        return value

    def _draw_any(self, parameter: Parameter, depth: int) -> Any:
        known = self._observed(self._tool, parameter)
        if known and self._sampler.chance(0.5):
            return self._sampler.rng.choice(known)
        schema = self._sampler.rng.choice(parameter.alternatives)
        choices = [one for one in list_choices(parameter) if _may_be(schema, one)]
        if choices:
            return self._sampler.rng.choice(choices)
        return self._draw_typed(schema, parameter, depth)

    def _draw_typed(self, schema: Mapping[str, Any], parameter: Parameter, depth: int) -> Any:
        kind = self._find_type(schema)
        if kind == "object":
            return self._draw_object(schema, parameter.path, depth, self._choose_some)
        if kind == "array":
            return self._draw_list(schema, parameter.path, depth)
        if kind == "boolean":
            return self._sampler.chance(0.85)
        if kind in ("integer", "number"):
            return draw_number(self._sampler, parameter, schema, kind == "integer")
        if kind == "null":
            return None
        return draw_string(self._sampler, self._tool, parameter, schema, self._today)

    def _find_type(self, schema: Mapping[str, Any]) -> str:
        kind = schema.get("type", "")
        if isinstance(kind, list):
            kinds = [one for one in kind if one != "null"] or ["null"]
            kind = "string" if "string" in kinds else self._sampler.rng.choice(kinds)
        if kind:
            return str(kind)
        return "object" if "properties" in schema else "array" if "items" in schema else "string"

    def _choose_some(self, parameters: Sequence[Parameter]) -> list[str]:
        """Which optional parts an object inside the arguments has: few, and rarely those that are hard to say."""
        chances = (0.25 if self.is_sayable(one) else 0.03 for one in parameters)
        return [
            one.path.rpartition(".")[2]
            for one, chance in zip(parameters, chances, strict=True)
            if self._sampler.chance(chance)
        ]

    def is_sayable(self, parameter: Parameter) -> bool:
        """Whether a person would say a value of a parameter by heart."""
        if find_kind(self._tool, parameter) in UNSAYABLE:
            return False
        return not any(self._is_formless(one) for one in parameter.alternatives)

    def _is_formless(self, schema: Mapping[str, Any]) -> bool:
        """Whether a schema is for an object of which nothing is known, or a list of them."""
        if self._find_type(schema) == "array":
            items = schema.get("items")
            return isinstance(items, Mapping) and self._is_formless(self.resolve(items))
        return self._find_type(schema) == "object" and not schema.get("properties")

    def _draw_object(self, schema: Mapping[str, Any], path: str, depth: int, choose: Chooser) -> dict[str, Any]:
        properties = schema.get("properties", {})
        required = [name for name in schema.get("required", ()) if isinstance(name, str)]
        optional = self._list_optional(schema, path) if depth < DEEPEST else []
        chosen = {*required, *choose(optional)}
        if not chosen and optional and depth:
            chosen = {self._sampler.rng.choice(optional).path.rpartition(".")[2]}
        parts = {
            name: properties.get(name, schema.get("additionalProperties", {})) for name in (*properties, *required)
        }
        found = {
            name: self._draw_value(part, f"{path}.{name}" if path else name, depth + 1)
            for name, part in parts.items()
            if name in chosen
        }
        if not properties and depth and schema.get("additionalProperties", True) is not False:
            found |= self._draw_map(schema, path, depth)
        return sort_bounds(found)

    def _draw_map(self, schema: Mapping[str, Any], path: str, depth: int) -> dict[str, Any]:
        """One or two entries of an object whose names are free."""
        others = schema.get("additionalProperties", {})
        others = others if isinstance(others, Mapping) and depth < DEEPEST else {"type": "string"}
        names = {
            self._sampler.word("columns", "nouns")
            for _ in range(min(max(self._sampler.rng.choice((1, 1, 2)), schema.get("minProperties", 1)), MOST))
        }
        return {name: self._draw_value(others, f"{path}.{name}", depth + 1) for name in sorted(names)}

    def _draw_list(self, schema: Mapping[str, Any], path: str, depth: int) -> list[Any]:
        items = schema.get("prefixItems", [])
        if not items:
            least, most = schema.get("minItems", 1), schema.get("maxItems", 8)
            wanted = self._sampler.rng.choice((1, 1, 1, 2) if self._is_composed(schema) else (1, 1, 2, 2, 3))
            items = [schema.get("items", {"type": "string"})] * max(min(max(wanted, least), most, MOST), 0)
        if depth > DEEPEST and not schema.get("minItems"):
            return []
        drawn = [self._draw_value(item, f"{path}[]", depth + 1) for item in items]
        different = [item for number, item in enumerate(drawn) if item not in drawn[:number]]
        return different if len(different) >= schema.get("minItems", 0) and "prefixItems" not in schema else drawn

    def _is_composed(self, schema: Mapping[str, Any]) -> bool:
        items = schema.get("items")
        return isinstance(items, Mapping) and self._find_type(self.resolve(items)) in ("object", "array")


def _may_be(schema: Mapping[str, Any], value: Any) -> bool:
    """Whether a choice is one of a schema's own, and none of another alternative's."""
    if "const" in schema:
        return bool(value == schema["const"])
    return (
        value in schema["enum"] if "enum" in schema else schema.get("type", "string") in ("string", ["string", "null"])
    )


def _merge(schemas: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Schemas that all hold, as one; of two that say the same, the last."""
    merged: dict[str, Any] = {}
    for schema in schemas:
        properties = {**merged.get("properties", {}), **schema.get("properties", {})}
        required = [*merged.get("required", ()), *schema.get("required", ())]
        merged |= {
            **schema,
            **({"properties": properties} if properties else {}),
            **({"required": required} if required else {}),
        }
    return merged
