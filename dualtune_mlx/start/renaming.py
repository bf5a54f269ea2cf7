"""Other names for the tools of a set: in other styles, or masked, so that descriptions are read (arXiv 2410.04587)."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from dualtune_mlx.tools import Tool, ToolCall

RESTYLED = 0.4
"""Share of the other sets whose names are written in another style."""
SYLLABLES = ("ba", "co", "du", "fe", "gi", "ka", "lo", "mi", "nu", "po", "ra", "se", "ti", "vo", "wu", "xe", "za")
Style = Callable[[Sequence[str]], str]
STYLES: tuple[Style, ...] = (
    lambda words: "_".join(words),
    lambda words: "-".join(words),
    lambda words: words[0] + "".join(map(str.capitalize, words[1:])),
    lambda words: "".join(map(str.capitalize, words)),
)


@dataclass(frozen=True)
class Renaming:
    """Tools under other names, and the way from the old names to the new ones."""

    tools: tuple[Tool, ...]
    """The tools under their new names."""
    names: Mapping[str, str]
    """Each tool's new name by its old one."""
    parameters: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By a tool's old name, each of its parameters' new name by the old one; nothing where they keep theirs."""

    @classmethod
    def none(cls, tools: Sequence[Tool]) -> Renaming:
        """Every tool keeps its name."""
        return cls(tuple(tools), {tool.name: tool.name for tool in tools})

    def rename_call(self, call: ToolCall) -> ToolCall:
        """The call under the new names."""
        new = self.parameters.get(call.name, {})
        return replace(
            call,
            name=self.names[call.name],
            arguments={new.get(name, name): value for name, value in call.arguments.items()},
        )


def draw_renaming(tools: Sequence[Tool], rng: random.Random, masked: float) -> Renaming:
    """New names for the tools of a set. A share of ``masked`` sets gets names that say nothing; most keep theirs."""
    if rng.random() < masked and all(tool.description for tool in tools):
        return _mask(tools, rng)
    if rng.random() < RESTYLED:
        return _restyle(tools, rng)
    return Renaming.none(tools)


def split_name(name: str) -> list[str]:
    """The words of a name, in small letters: ``getUserInfo``, ``get-user-info`` and ``get_user_info`` have the same."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)] or [name]


def _restyle(tools: Sequence[Tool], rng: random.Random) -> Renaming:
    style, start = rng.choice(STYLES), rng.choice(((), (), ("api",), ("".join(rng.sample(SYLLABLES, 3)),)))
    names = {tool.name: style([*start, *split_name(tool.name)]) for tool in tools}
    if len(set(names.values())) < len(names) or "respond" in names.values():
        return Renaming.none(tools)
    return Renaming(tuple(replace(tool, name=names[tool.name]) for tool in tools), names)


def _mask(tools: Sequence[Tool], rng: random.Random) -> Renaming:
    invented = _invent_names(rng)
    names = {tool.name: next(invented) for tool in tools}
    parameters = {}
    if rng.random() < 0.5:
        parameters = {tool.name: {name: next(invented) for name in _plain_parameters(tool)} for tool in tools}
    masked = [_rename(tool, names[tool.name], parameters.get(tool.name, {})) for tool in tools]
    return Renaming(tuple(masked), names, parameters)


def _invent_names(rng: random.Random):
    seen = set()
    while True:
        name = "".join(rng.sample(SYLLABLES, rng.randint(2, 3)))
        if name not in seen:
            seen.add(name)
            yield name


def _plain_parameters(tool: Tool) -> list[str]:
    """Parameters that no other keyword of the schema names, and that are described."""
    if set(tool.parameters) - {"type", "properties", "required", "$schema", "additionalProperties", "title"}:
        return []
    return [name for name, value in tool.parameters.get("properties", {}).items() if value.get("description")]


def _rename(tool: Tool, name: str, new: Mapping[str, str]) -> Tool:
    schema = dict(tool.parameters)
    schema["properties"] = {new.get(key, key): value for key, value in schema.get("properties", {}).items()}
    schema["required"] = [new.get(key, key) for key in schema.get("required", [])]
    return replace(tool, name=name, parameters=schema)
