"""The fields of results, and which parameters may have their values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.lexical import split_words
from dualtune_mlx.tools.parameters import Parameter

GENERIC = frozenset(
    ("id", "name", "key", "title", "slug", "number", "uuid", "value", "label", "type", "text", "status")
)
"""Names that say nothing without what they are the name of."""
NAMES = ("name", "title", "slug", "key")
"""Fields that a thing goes by: a parameter ``project`` may have a project's name."""
VERBS = frozenset(
    ("get", "list", "search", "find", "read", "show", "fetch", "query", "describe", "all", "my", "allowed", "available")
)
"""What the name of a tool that reads begins with."""
BULLET = re.compile(r"^\s*(?:[-*+•>]|\d+[.)]|\[\w+\])?\s+|^(?:[-*+•]|\[\w+\])\s*")
PAIR = re.compile(r"([A-Za-z][\w -]{0,30}):\s+(\S.*)")
PATH = re.compile(r"\S*[/\\]\S*|[\w.-]+\.[A-Za-z]\w{0,4}")
DEEPEST = 12


@dataclass(frozen=True)
class Field:
    """Where a value stands in a result."""

    server: str
    parent: str
    """What it is a field of, in the singular and in snake case: ``project``."""
    name: str
    """Its name in snake case: ``id``, ``display_name``, ``path``."""


def find_fields(server: str, tool: str, content: Any) -> Iterator[tuple[Field, Any]]:
    """The strings and whole numbers of a result, each with its field.

    Args:
        server: the server that answered.
        tool: the tool that answered; its name says what a list without names is a list of.
        content: JSON, or the lines of a text.
    """
    words = [word for word in to_snake(tool).split("_") if word not in VERBS]
    about = singular("_".join(words))
    if isinstance(content, str):
        yield from find_lines(server, about, content)
    else:
        yield from _walk(server, about, "", content, DEEPEST)


def name_keys(place: Field) -> Iterator[str]:
    """The names in snake case by which values of a field are known, whatever parameter they are for."""
    if place.name not in GENERIC:
        yield place.name
    for parent in dict.fromkeys((place.parent, place.parent.rpartition("_")[2])) if place.parent else ():
        yield place.name if place.name.startswith(f"{parent}_") else f"{parent}_{place.name}"
        if place.name in NAMES:
            yield parent


def match_parameter(tool: Tool, parameter: Parameter, place: Field, value: Any) -> bool:
    """Whether a value of a field may be a parameter's: the same name and, where that says little, of the same thing."""
    kinds = {kind for one in parameter.alternatives for kind in _types(one)}
    if not kinds & ({"string"} if isinstance(value, str) else {"integer", "number"}):
        return False
    if any({"enum", "const", "format", "pattern"} & one.keys() for one in parameter.alternatives):
        return False
    name = singular(to_snake(parameter.path.removesuffix("[]").rpartition(".")[2]))
    if name == place.name and name in GENERIC:
        return not set(split_words(place.parent)).isdisjoint(split_words(tool.name))
    keys = set(name_keys(place))
    return name in keys or name.rpartition("_")[2] in keys


def to_snake(name: str) -> str:
    """A name in snake case: ``projectId`` is ``project_id``."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return re.sub(r"[^a-z0-9]+", "_", apart.lower()).strip("_")


def singular(name: str) -> str:
    """An English name in the singular: ``entries`` is ``entry``, ``open_branches`` is ``open_branch``."""
    for ending, one in (("ies", "y"), ("sses", "ss"), ("shes", "sh"), ("ches", "ch"), ("xes", "x"), ("ss", "ss")):
        if name.endswith(ending):
            return name.removesuffix(ending) + one
    return name.removesuffix("s") if not name.endswith(("us", "is")) else name


def _walk(server: str, parent: str, name: str, value: Any, left: int) -> Iterator[tuple[Field, Any]]:
    if left == 0:
        return
    if isinstance(value, Mapping):
        inner = singular(name) if name else parent
        for key, item in value.items():
            yield from _walk(server, inner, to_snake(str(key)), item, left - 1)
    elif isinstance(value, list):
        for item in value:
            yield from _walk(server, parent, name, item, left - 1)
    elif isinstance(value, str) and "\n" in value:
        yield from find_lines(server, parent, value)
    elif isinstance(value, str | int) and not isinstance(value, bool):
        yield Field(server, parent, singular(name) or "name"), value


def find_lines(server: str, about: str, text: str) -> Iterator[tuple[Field, Any]]:
    """The values in the lines of a text: ``name: value``, a path, or a word that stands alone.

    Args:
        about: what the text is about: the parent of its values.
    """
    for whole in text.splitlines():
        line = BULLET.sub("", whole).strip()
        if pair := PAIR.fullmatch(line):
            value = int(pair[2]) if re.fullmatch(r"-?\d{1,15}", pair[2]) else pair[2]
            yield Field(server, about, to_snake(pair[1])), value
        elif PATH.fullmatch(line):
            yield Field(server, about, "path"), line
        elif line and not re.search(r"\s|:$", line):
            yield Field(server, about, "name"), line


def _types(schema: Mapping[str, Any]) -> list[Any]:
    named = schema.get("type", ())
    return [named] if isinstance(named, str) else list(named)
