"""A tool's schema when some of its arguments are settled: what remains to be written beside them.

The settled arguments are worked into every subschema that applies to the arguments as a whole (``allOf``, ``anyOf``,
``oneOf``, ``not``, conditions, ``$ref``). What fits the result fits the whole schema together with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import replace
from typing import Any

from dualtune_mlx.errors import ToolError, UsageError
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.references import References, drop_unused_definitions, keep_references
from dualtune_mlx.tools.schemas import LONGEST_CHECK, Validator
from dualtune_mlx.tools.time_limit import limited_time

NAMES = frozenset(("properties", "patternProperties", "additionalProperties"))
"""Which arguments there are. These keywords belong together: of two schemas that have some, none is merged."""
ABOUT_GIVEN = (*NAMES, "propertyNames", "maxProperties")
"""What the given arguments alone can break."""
DEPENDENT = ("dependentRequired", "dependentSchemas", "dependencies")
NO_CONSTRAINTS = frozenset(
    ("title", "description", "default", "examples", "$comment", "$defs", "definitions", "$schema", "$id", "$anchor")
)


def find_argument_names(schema: Mapping[str, Any]) -> set[str]:
    """The names of the arguments that a schema lists, in whatever subschema applies to the arguments as a whole."""
    references, names = References(schema), set[str]()
    waiting: list[Any] = [schema]
    seen: set[str] = set()
    while waiting:
        one = waiting.pop()
        if not isinstance(one, Mapping):
            continue
        names |= {*one.get("properties", {}), *one.get("required", ()), *one.get("dependentRequired", {})}
        waiting += [part for key in ("allOf", "anyOf", "oneOf") for part in one.get(key, ())]
        waiting += [one[key] for key in ("if", "then", "else") if key in one]
        waiting += [part for key in DEPENDENT for part in one.get(key, {}).values()]
        if (reference := one.get("$ref")) and reference not in seen:
            seen.add(reference)
            waiting.append(references.find(reference))
    return names


def settle_arguments(tool: Tool, given: Mapping[str, Any], absent: Set[str]) -> Tool:
    """The tool with the schema of its other arguments.

    Args:
        tool: the tool, with a valid schema.
        given: arguments that have a value already.
        absent: arguments that may not be given.

    Raises:
        UsageError: when no call fits.
        ToolError: when the schema has a ``$ref`` that leads nowhere or to itself.
    """
    try:
        with limited_time(LONGEST_CHECK):
            schema = _Settling(tool, given, absent).settle(tool.parameters)
    except RecursionError:
        raise _schema_error(tool, "a tool's schema is nested too deeply") from None
    if schema is False:
        raise UsageError(
            "the pinned and forbidden arguments leave no call that fits the tool's schema",
            where=f"{tool.server}/{tool.name}",
            got=", ".join(sorted({*given, *absent})),
            expected="values that the tool takes",
            fix="change 'pinned' or 'rules' in the MCP configuration, or exclude the tool",
        )
    if schema == tool.parameters:
        return tool
    if "properties" in schema:  # what may not be given is not shown; the grammar is closed to it
        schema["properties"] = {name: one for name, one in schema["properties"].items() if one is not False}
    return replace(tool, parameters=drop_unused_definitions(keep_references(schema, tool)))


class _Settling:
    """Works settled arguments into the schemas of a tool. A schema that nothing fits any more becomes False."""

    def __init__(self, tool: Tool, given: Mapping[str, Any], absent: Set[str]) -> None:
        self._tool, self._given, self._absent = tool, dict(given), absent
        self._validator, self._references = Validator(tool.parameters, tool.full_name), References(tool.parameters)

    def settle(self, schema: Any, behind: frozenset[str] = frozenset()) -> Any:
        """The schema for the other arguments.

        Args:
            schema: applies to the arguments as a whole.
            behind: the references that led to it.
        """
        if not isinstance(schema, Mapping):
            return schema
        if self._absent & {*schema.get("required", ())} or not self._fits_given(schema):
            return False
        rest = self._strip(schema)
        joined = [*self._referred(rest, behind), *self._depending(rest, behind), *self._decided(rest, behind)]
        held = [self.settle(part, behind) for part in rest.pop("allOf", ())]
        if any(part is False for part in (*joined, *held)) or not self._choose(rest, behind):
            return False
        return _join(rest, joined, held)

    def _fits_given(self, schema: Mapping[str, Any]) -> bool:
        about = {key: schema[key] for key in ABOUT_GIVEN if key in schema}
        return self._validator.fits(self._given, about)

    def _strip(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """The schema without the settled arguments."""
        rest = dict(schema)
        if "properties" in rest:
            settled = {*self._given, *self._absent}
            rest["properties"] = {name: one for name, one in rest["properties"].items() if name not in settled}
        if "required" in rest:
            rest["required"] = [name for name in rest["required"] if name not in self._given]
        for key in ("minProperties", "maxProperties"):
            if key in rest:
                rest[key] = max(0, rest[key] - len(self._given))
        return rest

    def _referred(self, rest: dict[str, Any], behind: frozenset[str]) -> Iterator[Any]:
        """What the ``$ref`` leads to, in its place where the settled arguments change it."""
        reference = rest.get("$ref")
        if reference is None:
            return
        target = self._references.find(reference)
        if target is None or reference in behind:
            nowhere = "leads nowhere" if target is None else "refers to itself"
            raise _schema_error(self._tool, f"a tool's schema has a $ref that {nowhere}", reference)
        settled = self.settle(target, behind | {reference})
        if settled != target:
            del rest["$ref"]
            yield settled

    def _depending(self, rest: dict[str, Any], behind: frozenset[str]) -> Iterator[Any]:
        """What the given arguments bring along."""
        for key in DEPENDENT:
            kept = {}
            for name, needs in rest.pop(key, {}).items():
                settled = self.settle({"required": needs} if isinstance(needs, list) else needs, behind)
                if name in self._given:
                    yield settled
                elif settled is False:
                    yield {"properties": {name: False}}
                elif name not in self._absent and not _is_trivial(settled):
                    kept[name] = settled["required"] if isinstance(needs, list) else settled
            if kept:
                rest[key] = kept

    def _decided(self, rest: dict[str, Any], behind: frozenset[str]) -> Iterator[Any]:
        """What holds of ``if``, ``then``, ``else`` and ``not``, as far as that is decided."""
        if "if" in rest:
            condition, then, other = (self.settle(rest.pop(key, True), behind) for key in ("if", "then", "else"))
            if condition is False or _is_trivial(condition):
                yield then if condition is not False else other
            else:
                rest |= {"if": condition, "then": then, "else": other}
        if "not" in rest:
            refused = self.settle(rest.pop("not"), behind)
            if _is_trivial(refused):
                yield False
            elif refused is not False:
                rest["not"] = refused

    def _choose(self, rest: dict[str, Any], behind: frozenset[str]) -> bool:
        """Keep the branches of ``anyOf`` and ``oneOf`` that are left; whether there are any."""
        for key in ("anyOf", "oneOf"):
            if key not in rest:
                continue
            settled = [self.settle(branch, behind) for branch in rest.pop(key)]
            branches = [branch for branch in settled if branch is not False and not _is_trivial(branch)]
            trivial = sum(map(_is_trivial, settled))
            if not trivial and branches:
                rest[key] = branches
            elif key == "oneOf" and trivial == 1:
                _refuse(rest, branches)
            elif not trivial or key == "oneOf":
                return False
        return True


def _refuse(rest: dict[str, Any], branches: list[Any]) -> None:
    """Let none of the branches hold."""
    needed = [
        branch["required"][0] for branch in branches if branch.keys() == {"required"} and len(branch["required"]) == 1
    ]
    if len(needed) == len(branches):
        rest["properties"] = {**rest.get("properties", {}), **dict.fromkeys(needed, False)}
    else:
        rest["allOf"] = [*rest.get("allOf", ()), {"not": {"anyOf": branches}}]


def _join(rest: dict[str, Any], joined: list[Any], held: list[Any]) -> dict[str, Any]:
    """One schema for all of them. Those that cannot be merged stand in its ``allOf``."""
    apart = [*rest.pop("allOf", ()), *(part for part in held if not _is_trivial(part))]
    for part in joined:
        if _is_trivial(part):
            continue
        both = {key for key in part.keys() & rest.keys() - NO_CONSTRAINTS if part[key] != rest[key]}
        if both or (_named(rest) and _named(part)):
            apart.append(part)
        else:
            rest = {**part, **{key: value for key, value in rest.items() if value or key not in NAMES}}
    return {**rest, "allOf": apart} if apart else rest


def _named(schema: Mapping[str, Any]) -> bool:
    return any(schema.get(key) not in (None, {}) for key in NAMES)


def _is_trivial(schema: Any) -> bool:
    """Whether all arguments fit."""
    if not isinstance(schema, Mapping):
        return schema is True
    return all(
        key in NO_CONSTRAINTS
        or (value is True or value in ({}, []))
        or (key == "type" and "object" in value)
        or (key == "minProperties" and value == 0)
        for key, value in schema.items()
    )


def _schema_error(tool: Tool, what: str, got: str | None = None) -> ToolError:
    return ToolError(
        what,
        where=f"{tool.server}/{tool.name}",
        got=got,
        expected="a $ref into the schema itself" if got else None,
        fix="exclude the tool in the MCP configuration, or report this to the server's authors",
    )
