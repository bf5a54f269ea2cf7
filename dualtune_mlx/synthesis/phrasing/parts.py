"""The parts of a planned call that a request says: each argument with its kind, its name in words and its own words."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dualtune_mlx.synthesis.phrasing.names import readable, split_name
from dualtune_mlx.synthesis.phrasing.tables import Kind, kind_names, kinds, word_set
from dualtune_mlx.synthesis.planned_calls import PlannedCall, SaidValue

QUOTES = (('"', '"'), ('"', '"'), ('"', '"'), ("'", "'"), ("“", "”"), ("\u2018", "\u2019"), ("«", "»"))
STEP = re.compile(r"\[(\d+)\]|([^.\[\]]+)")


@dataclass(frozen=True)
class Part:
    """One argument, as a request says it."""

    label: str
    """The parameter's name in words."""
    kind: Kind
    words: str
    """Its words."""
    value: Any
    free: bool = True
    """Whether it is free text, which may be quoted."""
    marks: tuple[str, ...] = field(default=())
    """Words of its values, all of which a request must hold."""

    @property
    def short_label(self) -> str:
        """Its name without ``ID``, ``index`` and the like, where something is left."""
        first, _, last = self.label.rpartition(" ")
        return first if first and last in word_set("tails") else self.label

    def quoted(self, rng: random.Random) -> str:
        """Its words between quotation marks; bare now and then where that can be read."""
        if not self.free or '"' in self.words or "\n" in self.words or (" " not in self.words and rng.random() < 0.6):
            return self.words
        left, right = rng.choice(QUOTES)
        return self.words if right in self.words or left in self.words else f"{left}{self.words}{right}"


def read_parts(planned: PlannedCall, rng: random.Random) -> list[Part]:
    """The parts of a call, one for each argument that has words."""
    by_name: dict[str, list[SaidValue]] = {}
    for said in planned.said:
        if said.words:
            by_name.setdefault(_steps(said.path)[0], []).append(said)
    properties = planned.tool.parameters.get("properties", {})
    parts = [
        _read_part(name, said, properties.get(name, {}), planned.arguments.get(name), rng)
        for name, said in by_name.items()
    ]
    if any(part.kind.name == "source" for part in parts):  # beside a source, a target is a place to go to
        parts = [replace(part, kind=kinds()["destination"]) if part.label == "target" else part for part in parts]
    return parts


def _steps(path: str) -> list[str]:
    return [name or number for number, name in STEP.findall(path)] or [path]


def _read_part(name: str, said: list[SaidValue], schema: Any, value: Any, rng: random.Random) -> Part:
    label = readable(split_name(name)) or name
    kind = kind_of(name, value, said[0].words)
    marks = tuple(one.words for one in said)
    free = isinstance(value, str) and not _is_choice(schema) and kind.name != "code"
    words = marks[0] if len(said) == 1 and not isinstance(value, Mapping) else _say_many(said, rng)
    return Part(label, kind, words, value, free, marks)


def _is_choice(schema: Any) -> bool:
    return isinstance(schema, Mapping) and (
        "enum" in schema or any("enum" in one for one in schema.get("anyOf", ()) if isinstance(one, Mapping))
    )


def kind_of(name: str, value: Any, words: str) -> Kind:
    """The kind of a parameter: by the end of its name, else by its value."""
    split = readable(split_name(name)).lower().split()
    found = next((kind_names()[tuple(split[at:])] for at in range(len(split)) if tuple(split[at:]) in kind_names()), "")
    if isinstance(value, bool):
        found = "choice" if words.lower() in {"true", "false", "yes", "no", "on", "off"} else "flag"
    elif isinstance(value, int | float) and found in {"content", "title", "query", "path", "other", "author", "person"}:
        found = "measure"
    elif isinstance(value, Mapping) or (isinstance(value, list) and value and isinstance(value[0], Mapping)):
        found = "code"
    return kinds()[found or ("choice" if not isinstance(value, str) else "other")]


def _say_many(said: list[SaidValue], rng: random.Random) -> str:
    """The words of a list or an object: items in a row, entries with their names."""
    entries: dict[str, list[str]] = {}
    for one in said:
        steps = _steps(one.path)
        entries.setdefault(steps[1] if len(steps) > 2 else "", []).append(_say_entry(steps, one.words))
    if len(entries) > 1:
        return "; ".join(", ".join(texts) for texts in entries.values())
    texts = [text for listed in entries.values() for text in listed]
    if len(texts) == 1:
        return texts[0]
    if any(re.search(r",| and ", text) for text in texts):
        texts = [f'"{text}"' if '"' not in text else text for text in texts]
    last = rng.choice((" and ", " and ", ", ", ", and "))
    return ", ".join(texts[:-1]) + last + texts[-1]


def _say_entry(steps: list[str], words: str) -> str:
    last = steps[-1]
    return words if last.isdigit() else f"{readable(split_name(last)) or last} {words}"
