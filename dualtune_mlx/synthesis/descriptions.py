"""What a parameter's description gives away: values that it takes, and examples of them."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from math import inf
from typing import Any

from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.parameters import Parameter

_QUOTED = r"""(?:'[^'\n]{1,60}'|"[^"\n]{1,60}"|`[^`\n]{1,60}`)"""
_PLAIN = r"""[\w.#:/@+*-]*[\w#*]"""
_SEPARATOR = r"""(?:\s*(?:,|/|\||;)?\s*(?:or|and)\s+|\s*[,|]\s*)"""
_EXAMPLES = re.compile(
    rf"(?:\be\.g\.|\bfor example|\bexamples?\s*:|\bsuch as|\bexamples?:|\bex:|\blike)[,:]?\s*"
    rf"({_QUOTED}(?:{_SEPARATOR}{_QUOTED})*|{_PLAIN}(?:{_SEPARATOR}{_PLAIN})*(?=[),.;\s]|$))",
    re.IGNORECASE,
)
_CHOICES = re.compile(
    rf"(?:\bone of(?: the)?|\ballowed values|\bvalid values|\bpossible values|\bvalid options|\beither|\boptions|"
    rf"\ballowed|\bvalues|\bsupported(?: values)?)(?: are| is)?\s*:?\s*\(?\s*"
    rf"({_QUOTED}(?:{_SEPARATOR}{_QUOTED})+|[a-z_-]+(?:{_SEPARATOR}[a-z_-]+)+(?=[).;]|$))",
    re.IGNORECASE,
)
_CHOICES_ALONE = re.compile(rf"^\s*({_QUOTED}(?:{_SEPARATOR}{_QUOTED})+)")
_CHOICES_NAMED = re.compile(r"([a-z_]{2,20}) or ([a-z_]{2,20})")
_GENERAL = frozenset(
    ("id", "ids", "uid", "name", "title", "url", "path", "key", "email", "slug", "number", "text", "null")
)
_CHOICES_EXPLAINED = re.compile(rf"^\s*({_QUOTED}) (?:for|to|=) .*?\b(?:or|and) ({_QUOTED}) (?:for|to|=) ")
_TYPES = re.compile(
    r"^(?:str|string|int|integer|float|number|bool|boolean|list(?: of \w+)?|dict|optional|required|,\s*)+(?=\W|$)[,\s]*"
)
_DEFAULT = re.compile(
    rf"\bdefault(?:s to|s| is|s is|:)?[: =]*\s*({_QUOTED}|-?\d+(?:\.\d+)?|true|false|[a-z_]+)", re.IGNORECASE
)
_BETWEEN = re.compile(r"\bbetween (\d+) and (\d+)|(?<![\d.-])(\d{1,4}) ?(?:-|to) ?(\d{1,6})(?![\d-])(?=[,;).\s]|$)")
_MOST = re.compile(r"\b(?:max(?:imum)?|at most|up to)(?: is| of|:)? ?(\d+)", re.IGNORECASE)
_LEAST = re.compile(r"\b(?:min(?:imum)?|at least)(?: is| of|:)? ?(\d+)", re.IGNORECASE)
_ITEM = re.compile(rf"({_QUOTED})|({_PLAIN})")
_QUOTES = "'\"`"


def describe(tool: Tool, parameter: Parameter) -> Parameter:
    """The parameter with what its tool's description says of it, where it has no description of its own."""
    if parameter.description or not tool.description:
        return parameter
    text = _find_argument(tool.description, parameter.path.removesuffix("[]").rpartition(".")[2])
    return replace(parameter, schema={**parameter.schema, "description": text}) if text else parameter


@lru_cache(maxsize=4096)
def _find_argument(text: str, name: str) -> str:
    """What a list of arguments in a tool's description says of one: ``unit (str): 'px' or 'pt'``; "" for nothing."""
    match = re.search(rf"(?<![\w.]){re.escape(name)}\s*(?:\([^()\n]*\)\s*)?:\s*([^\n]+)", text)
    if match:
        return match[1]
    inside = re.search(rf"(?<![\w.]){re.escape(name)}\s*\(([^()\n]+)\)", text)
    return _TYPES.sub("", inside[1]) if inside else ""


def list_choices(parameter: Parameter) -> tuple[Any, ...]:
    """The values that a parameter may have: those that its schema lists, else those that its description lists."""
    listed = [value for schema in parameter.alternatives for value in schema.get("enum", ())]
    listed += [schema["const"] for schema in parameter.alternatives if "const" in schema]
    if listed:
        return tuple(value for value in listed if value is not None)
    strings = any(schema.get("type", "string") == "string" for schema in parameter.alternatives)
    return _read_choices(parameter.description) if strings else ()


@lru_cache(maxsize=4096)
def _read_choices(description: str) -> tuple[str, ...]:
    match = _CHOICES.search(description) or _CHOICES_ALONE.search(description)
    named = _CHOICES_NAMED.fullmatch(description.strip(" ."))
    if named and _GENERAL.isdisjoint(named.groups()):
        return named.groups()
    explained = _CHOICES_EXPLAINED.search(description)
    found = _list_items(match[1] if match else ", ".join(explained.groups()) if explained else "")
    return found if all(1 < len(item) < 30 for item in found) and len(found) > 1 else ()


def find_default(parameter: Parameter) -> str:
    """What a parameter's description says that it is where nobody says it; "" for nothing."""
    match = _DEFAULT.search(parameter.description)
    return match[1].strip(_QUOTES) if match else ""


def find_bounds(parameter: Parameter) -> tuple[float, float]:
    """Between which numbers a parameter's description says that it lies."""
    text = parameter.description
    if match := _BETWEEN.search(text):
        low, high = float(match[1] or match[3]), float(match[2] or match[4])
        return (low, high) if low < high else (-inf, inf)
    most, least = _MOST.search(text), _LEAST.search(text)
    return float(least[1]) if least else -inf, float(most[1]) if most else inf


def list_examples(parameter: Parameter) -> tuple[Any, ...]:
    """Values that a parameter's schema or description has as examples; those of its description are strings."""
    given = [value for schema in (parameter.schema, *parameter.alternatives) for value in _listed_examples(schema)]
    return (
        *(one for place, one in enumerate(given) if one not in given[:place]),
        *_read_examples(parameter.description),
    )


def _listed_examples(schema: Any) -> list[Any]:
    examples = schema.get("examples", [])
    return [*(examples if isinstance(examples, list) else []), *([schema["example"]] if "example" in schema else [])]


@lru_cache(maxsize=4096)
def _read_examples(description: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(item for match in _EXAMPLES.finditer(description) for item in _list_items(match[1])))


def _list_items(listed: str) -> tuple[str, ...]:
    """The items of a list in a sentence, without their quotation marks."""
    quoted = listed[:1] in _QUOTES
    items = [match[1] if quoted else match[2] for match in _ITEM.finditer(listed)]
    return tuple(item.strip(_QUOTES) for item in items if item and item not in ("or", "and"))
