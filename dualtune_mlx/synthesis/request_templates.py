"""The wordings of requests: reading and checking the TOML files that hold them.

A file has one table for each form of a tool::

    [[read_text_file]]
    arguments = { path = "{file}", head = "{lines}" }
    train = ["Show me the first {lines} lines of {file}", "head -n {lines} {file}"]
    valid = ["The top {lines} lines of {file}"]
    test = ["How does {file} begin? {lines} lines will do."]

``"{lines}"`` alone keeps the type of the slot's value, here a number; ``"{commit}:{file}"`` joins two values to a
string; anything without braces is taken as it is. ``weight = 2`` makes a form twice as frequent within its tool.
``unless = ["get-sum"]`` leaves a form out where this tool is visible, which would be the better choice.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from dualtune_mlx.errors import DataError
from dualtune_mlx.synthesis.values.slots import SLOTS, slot_names
from dualtune_mlx.tools import RESPOND

SPLITS = ("train", "valid", "test")
FOLDER: Traversable = files(__package__) / "wordings"
"""The wordings of this package."""


@dataclass(frozen=True)
class Form:
    """One way to use a tool: which arguments are present, and how people ask for that.

    A form of ``respond`` has an ``answer`` instead of arguments. Within its tool, a form is
    used in proportion to its ``weight``; it is not used where one of the tools ``unless`` is visible.
    """

    tool: str
    wordings: Mapping[str, tuple[str, ...]]
    arguments: Mapping[str, Any]
    answer: str
    weight: float
    unless: frozenset[str]

    @classmethod
    def from_dict(cls, tool: str, table: Mapping[str, Any], where: str) -> Form:
        """Read a form.

        Raises:
            DataError: when a key or a slot is not known, or a wording lacks a slot that the arguments need.
        """
        content = "answer" if tool == RESPOND.name else "arguments"
        known = {content, "weight", "unless", *SPLITS}
        if unknown := set(table) - known or {content} - set(table):
            raise DataError(
                "a form of wordings has unknown or missing keys",
                where=where,
                got=", ".join(sorted(unknown)),
                expected=f"{content}, and any of {', '.join(sorted(known - {content}))}",
            )
        arguments = table.get("arguments", {})
        lists = {split: tuple(table.get(split, ())) for split in SPLITS}
        for wording in (wording for split in SPLITS for wording in lists[split]):
            _check_slots(wording, slot_names(arguments), where)
        unless = frozenset(table.get("unless", ()))
        return cls(tool, lists, arguments, table.get("answer", ""), float(table.get("weight", 1)), unless)


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


def visible_forms(visible: Collection[str], folder: Traversable = FOLDER) -> dict[str, list[Form]]:
    """The forms for these tools and ``respond``. A file is left out whole where none of its tools is visible."""
    found: dict[str, list[Form]] = {}
    for forms in _load(folder):
        if set(forms) == {RESPOND.name} or not set(forms).isdisjoint(visible):
            for tool, listed in forms.items():
                found.setdefault(tool, []).extend(form for form in listed if form.unless.isdisjoint(visible))
    return found


def load_forms(folder: Traversable = FOLDER) -> dict[str, list[Form]]:
    """All forms of the TOML files in a folder, by tool; the tools keep the order of the files.

    Raises:
        DataError: when a file is not TOML, or not a list of forms for each tool.
    """
    forms: dict[str, list[Form]] = {}
    for loaded in _load(folder):
        for tool, listed in loaded.items():
            forms.setdefault(tool, []).extend(listed)
    return forms


def _load(folder: Traversable) -> Iterator[Mapping[str, list[Form]]]:
    """The forms of each file, by tool, in the order of the files' names."""
    sources = [item for item in folder.iterdir() if item.name.endswith(".toml")]
    for source in sorted(sources, key=lambda item: item.name):
        yield _parsed(source.read_text("utf-8"), source.name)


@lru_cache
def _parsed(text: str, source: str) -> Mapping[str, list[Form]]:
    """The forms of a file, by tool; every generation needs them again."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DataError("a file of wordings is not TOML", where=source, got=error) from error
    return {tool: _forms(tool, listed, source) for tool, listed in tables.items()}


def _forms(tool: str, tables: Any, source: str) -> list[Form]:
    where = f"{source}, tool {tool!r}"
    if not isinstance(tables, list):
        raise DataError("a tool's forms are not a list", where=where, expected=f"[[{tool}]] above each form")
    return [Form.from_dict(tool, table, where) for table in tables]
