"""The tables of this package: hand-written words, read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from dualtune_mlx.synthesis.values.sampling import read_toml


@dataclass(frozen=True)
class Action:
    """A family of actions and how people ask for it; ``actions.toml`` says what the fields are."""

    family: str
    names: tuple[str, ...]
    verbs: tuple[str, ...]
    object: str
    say: tuple[str, ...]
    ask: tuple[str, ...]
    need: tuple[str, ...]
    note: tuple[str, ...]
    shell: tuple[str, ...]
    direct: frozenset[str]


@dataclass(frozen=True)
class Kind:
    """A kind of parameters and how people say its values; ``parameters.toml`` says what the fields are."""

    name: str
    role: str
    say: tuple[str, ...]
    short: tuple[str, ...]
    before: tuple[str, ...] = ()


@cache
def read_table(name: str) -> Mapping[str, Any]:
    """A table of this package."""
    return read_toml(f"phrasing/{name}.toml")


@cache
def word_set(name: str) -> frozenset[str]:
    """A set of words of ``words.toml``."""
    return frozenset(read_table("words")[name].split())


def word_table(name: str) -> Mapping[str, str]:
    """A table of words of ``words.toml``."""
    found: Mapping[str, str] = read_table("words")[name]
    return found


@cache
def actions() -> Mapping[str, Action]:
    """The families of actions by name."""
    return {
        family: Action(
            family=family,
            names=tuple(one["names"].split()),
            verbs=tuple(one["verbs"].split("|")),
            object=one["object"],
            say=tuple(one["say"]),
            ask=tuple(one["ask"]),
            need=tuple(one["need"]),
            note=tuple(one["note"]),
            shell=tuple(one["shell"].split()),
            direct=frozenset(one.get("direct", "").split()),
        )
        for family, one in read_table("actions").items()
    }


@cache
def families() -> Mapping[str, str]:
    """The family of each verb that stands in names and descriptions of tools."""
    found = {family: family for family in actions()}
    for family, action in actions().items():
        for name in action.names:
            found.setdefault(name, family)
    return found


@cache
def synonyms() -> Mapping[str, tuple[str, ...]]:
    """Other words for a noun."""
    found: dict[str, list[str]] = {}
    for line in read_table("nouns")["groups"]:
        group = line.split("|")
        for word in group[:1]:
            found.setdefault(word, []).extend(other for other in group if other != word)
    return {word: tuple(dict.fromkeys(others)) for word, others in found.items()}


@cache
def kinds() -> Mapping[str, Kind]:
    """The kinds of parameters by name."""
    return {
        name: Kind(name, one["role"], tuple(one["say"]), tuple(one["short"]), tuple(one.get("before", ())))
        for name, one in read_table("parameters").items()
    }


@cache
def kind_names() -> Mapping[tuple[str, ...], str]:
    """The kind of parameters whose name ends in these words."""
    found: dict[tuple[str, ...], str] = {}
    for kind, one in read_table("parameters").items():
        for name in filter(None, one["names"].split("|")):
            found.setdefault(tuple(name.split()), kind)
    return found


@dataclass(frozen=True)
class Idiom:
    """What people say for some actions on some things; ``idioms.toml`` says what the fields are."""

    actions: frozenset[str]
    things: frozenset[str]
    ways: Mapping[str, tuple[str, ...]]
    """The templates of each form: ``say``, ``ask``, ``need``, ``note``."""


@cache
def idioms() -> tuple[Idiom, ...]:
    """The idioms, in the order of the table."""
    return tuple(
        Idiom(
            frozenset(one["actions"].split()),
            frozenset(one["things"].split()),
            {form: tuple(one.get(form, ())) for form in ("say", "ask", "need", "note")},
        )
        for one in read_table("idioms")["idioms"]
    )


def find_idioms(family: str, noun: str, form: str) -> list[str]:
    """Templates of a form for an action on a thing."""
    return [way for one in idioms() if family in one.actions and noun in one.things for way in one.ways[form]]


@cache
def value_ways() -> Mapping[tuple[str, str], tuple[str, ...]]:
    """By family and form, templates that say the object and a value in one phrase."""
    return {
        (family, form): tuple(ways)
        for families_, one in read_table("values").items()
        for family in families_.split("_")
        for form, ways in one.items()
    }
