"""Grounded arguments: a string that the data always copied is held to spans of the conversation.

Nearly every wrong argument of a small model is a near-miss copy. Training counts, for each string
parameter, whether its values stand in the conversation word for word; where they always do (but for a
few constants, such as "." for the current folder), decoding allows only spans of the conversation and
those constants. The spans become an ``enum`` in the schema, so the grammar does the rest.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dualtune_mlx.data.steps import Step
from dualtune_mlx.tools import Message, Tool

MIN_EXAMPLES = 8
MAX_CONSTANTS = 3
MAX_SPANS = 4000
CONSTRAINTS = ("enum", "const", "pattern", "format", "minLength", "maxLength")

Grounding = Mapping[str, Mapping[str, tuple[str, ...]]]
"""For each tool ("server/name"), its grounded parameters (a path such as ``edits[].oldText``) and their constants."""

_BORDER = r"\s\"'`,;:?!()\[\]{}<>"
_START = re.compile(rf"(?:(?<=[{_BORDER}])|^)(?=[^\s])")
_END = re.compile(rf"(?<=[^\s])(?=[{_BORDER}.]|$)")


def learn_grounding(steps: Iterable[Step]) -> dict[str, dict[str, tuple[str, ...]]]:
    """Which parameters the data always copies from the conversation, and their constants."""
    copied: dict[tuple[str, str], int] = defaultdict(int)
    others: dict[tuple[str, str], list[str]] = defaultdict(list)
    for step in steps:
        tool = next((t for t in step.tools if t.name == step.call.name), None)
        if tool is None:
            continue
        spans = set(spans_of(step.messages))
        for path, value in _strings(step.call.arguments, tool.parameters):
            key = (f"{tool.server}/{tool.name}", path)
            if value in spans:
                copied[key] += 1
            else:
                others[key].append(value)
    grounding: dict[str, dict[str, tuple[str, ...]]] = defaultdict(dict)
    for (tool_name, path), count in copied.items():
        constants = sorted(set(others[tool_name, path]))
        repeated = len(constants) <= MAX_CONSTANTS and all(others[tool_name, path].count(c) > 1 for c in constants)
        if count >= MIN_EXAMPLES and repeated:
            grounding[tool_name][path] = tuple(constants)
    return dict(grounding)


def grounded(tool: Tool, messages: Iterable[Message], grounding: Grounding) -> Mapping[str, Any]:
    """The tool's schema with its grounded parameters held to spans of the conversation."""
    parameters = grounding.get(f"{tool.server}/{tool.name}", {})
    spans = spans_of(messages) if parameters else []
    if not spans:
        return tool.parameters
    schema: Mapping[str, Any] = _held(tool.parameters, "", parameters, spans)
    return schema


def spans_of(messages: Iterable[Message]) -> list[str]:
    """The spans that begin and end at word borders, of what the user and the tools wrote, the latest first.

    The longest spans go first where there would be more than ``MAX_SPANS``.
    """
    found: dict[str, None] = {}
    for message in reversed(list(messages)):
        if message.role in ("user", "tool"):
            for span in _spans(message.content, MAX_SPANS - len(found)):
                found.setdefault(span)
    return list(found)


def _spans(text: str, most: int) -> list[str]:
    starts = [match.start() for match in _START.finditer(text)]
    ends = [match.start() for match in _END.finditer(text)]
    if not starts or most <= 0:
        return []
    pairs: list[str] = []
    reach = len(ends) if len(starts) * len(ends) <= 2 * most else max(1, most // len(starts))
    for start in starts:
        following = [end for end in ends if end > start][:reach]
        pairs += [text[start:end] for end in following]
    return pairs[:most]


def _strings(value: Any, schema: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """The free strings in some arguments, with their paths."""
    if not isinstance(schema, Mapping):
        return
    if isinstance(value, str) and _is_free_string(schema):
        yield path, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _strings(item, schema.get("properties", {}).get(name), f"{path}.{name}".lstrip("."))
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item, schema.get("items"), f"{path}[]")


def _held(schema: Any, path: str, parameters: Mapping[str, tuple[str, ...]], spans: list[str]) -> Any:
    if path in parameters and _is_free_string(schema):
        return {**schema, "enum": list(dict.fromkeys([*spans, *parameters[path]]))}
    held = dict(schema)
    if isinstance(schema.get("properties"), Mapping):
        held["properties"] = {
            name: _held(item, f"{path}.{name}".lstrip("."), parameters, spans) if isinstance(item, Mapping) else item
            for name, item in schema["properties"].items()
        }
    if isinstance(schema.get("items"), Mapping):
        held["items"] = _held(schema["items"], f"{path}[]", parameters, spans)
    return held


def _is_free_string(schema: Mapping[str, Any]) -> bool:
    kinds = [schema, *schema.get("anyOf", ())]
    free = any(kind.get("type") == "string" for kind in kinds if isinstance(kind, Mapping))
    return free and not any(name in kind for kind in kinds if isinstance(kind, Mapping) for name in CONSTRAINTS)
