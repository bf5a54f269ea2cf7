"""Templates of single requests, read from the TOML files in ``wordings/``.

A file has one table for each way to use a tool::

    [[read_text_file]]
    arguments = { path = "{file}", head = "{lines}" }
    train = ["Show me the first {lines} lines of {file}", "head -n {lines} {file}"]
    valid = ["The top {lines} lines of {file}"]
    test = ["How does {file} begin? {lines} lines will do."]

``"{lines}"`` alone keeps the type of the slot's value, here a number. ``"{commit}:{file}"`` joins two values to a
string. Text without braces is taken as it is. ``weight = 2`` makes a template twice as frequent within its tool.
``unless = ["get-sum"]`` leaves a template out where this tool is visible, because the tool would be the better choice.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from dualtune_mlx.data import SPLITS
from dualtune_mlx.errors import DataError
from dualtune_mlx.synthesis.values.slots import SLOTS, slot_names
from dualtune_mlx.tools import RESPOND

WORDINGS: Traversable = files(__package__) / "wordings"
"""The folder with this package's templates."""


@dataclass(frozen=True)
class RequestTemplate:
    """One way to use a tool: which arguments the call has, and how people ask for it."""

    tool: str
    wordings: Mapping[str, tuple[str, ...]]
    """The wordings of each split; a wording is a request with slots."""
    arguments: Mapping[str, Any]
    """The pattern of the call's arguments, with the same slots; empty for ``respond``."""
    answer: str
    """For ``respond``, the answer in words; empty for tools."""
    weight: float
    """How often the template is used, relative to the others of its tool."""
    unless: frozenset[str]
    """Tools; where one of them is visible, the template is not used."""

    @classmethod
    def from_dict(cls, tool: str, table: Mapping[str, Any], where: str) -> RequestTemplate:
        """Read a template.

        Raises:
            DataError: when a key or a slot is not known, or a wording lacks a slot that the arguments need.
        """
        content = "answer" if tool == RESPOND.name else "arguments"
        known = {content, "weight", "unless", *SPLITS}
        if unknown := set(table) - known or {content} - set(table):
            raise DataError(
                "a table of wordings has unknown or missing keys",
                where=where,
                got=", ".join(sorted(unknown)),
                expected=f"{content}, and any of {', '.join(sorted(known - {content}))}",
            )
        arguments = table.get("arguments", {})
        wordings = {split: tuple(table.get(split, ())) for split in SPLITS}
        for wording in (wording for split in SPLITS for wording in wordings[split]):
            _check_slots(wording, slot_names(arguments), where)
        unless = frozenset(table.get("unless", ()))
        return cls(tool, wordings, arguments, table.get("answer", ""), float(table.get("weight", 1)), unless)


def _check_slots(wording: str, needed: set[str], where: str) -> None:
    named = slot_names(wording)
    if missing := needed - named:
        raise DataError(
            "a wording lacks slots that its arguments need",
            where=where,
            got=repr(wording),
            expected=", ".join(f"{{{name}}}" for name in sorted(missing)),
        )
    if unknown := {name for name in named if name.rstrip("0123456789") not in SLOTS}:
        raise DataError(
            "a wording has unknown slots",
            where=where,
            got=", ".join(f"{{{name}}}" for name in sorted(unknown)),
            expected=", ".join(SLOTS),
            fix="use one of these slots, or add yours to SLOTS in dualtune_mlx/synthesis/values/slots.py",
        )


def visible_templates(visible: Collection[str], folder: Traversable = WORDINGS) -> dict[str, list[RequestTemplate]]:
    """The templates for these tools and for ``respond``, by tool.

    A file of which no tool is visible is left out.
    """
    found: dict[str, list[RequestTemplate]] = {}
    for by_tool in _read_folder(folder):
        if set(by_tool) == {RESPOND.name} or not set(by_tool).isdisjoint(visible):
            for tool, templates in by_tool.items():
                found.setdefault(tool, []).extend(one for one in templates if one.unless.isdisjoint(visible))
    return found


def load_templates(folder: Traversable = WORDINGS) -> dict[str, list[RequestTemplate]]:
    """All templates of the TOML files in a folder, by tool; the tools keep the order of the files.

    Raises:
        DataError: when a file is not TOML, or does not hold a list of tables for each tool.
    """
    found: dict[str, list[RequestTemplate]] = {}
    for by_tool in _read_folder(folder):
        for tool, templates in by_tool.items():
            found.setdefault(tool, []).extend(templates)
    return found


def _read_folder(folder: Traversable) -> Iterator[Mapping[str, list[RequestTemplate]]]:
    """The templates of each file, by tool; files in the order of their names."""
    sources = [item for item in folder.iterdir() if item.name.endswith(".toml")]
    for source in sorted(sources, key=lambda item: item.name):
        yield _parse(source.read_text("utf-8"), source.name)


@lru_cache
def _parse(text: str, source: str) -> Mapping[str, list[RequestTemplate]]:
    """The templates of a file, by tool; cached, because every generation needs them."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DataError(
            "a file of wordings is not TOML", where=source, got=error, fix="mend the file at the place that is named"
        ) from error
    return {tool: _parse_tool(tool, listed, source) for tool, listed in tables.items()}


def _parse_tool(tool: str, tables: Any, source: str) -> list[RequestTemplate]:
    where = f"{source}, tool {tool!r}"
    if not isinstance(tables, list):
        raise DataError("a tool's wordings are not a list of tables", where=where, expected=f"[[{tool}]] above each")
    return [RequestTemplate.from_dict(tool, table, where) for table in tables]
