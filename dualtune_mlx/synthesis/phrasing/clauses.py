"""How the arguments of a call are said: which object is meant, where it is, and all the others."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dualtune_mlx.synthesis.phrasing.english import is_plural, pluralize
from dualtune_mlx.synthesis.phrasing.parts import Part
from dualtune_mlx.synthesis.phrasing.tables import kinds, synonyms, word_set, word_table
from dualtune_mlx.synthesis.phrasing.tool_sense import Thing

PAIRS = {
    ("source", "destination"): ("from {0} to {1}", "{0} to {1}", "from {0} into {1}"),
    ("start", "end"): ("from {0} to {1}", "between {0} and {1}", "from {0} until {1}"),
    ("old", "new"): ("{0} with {1}", "{0} by {1}", "{0} -> {1}"),
}
"""Kinds that are often said together."""
RANGES = (
    "from {l} {0} to {l} {1}",
    "from {l} {0} to {1}",
    "{ls} {0} to {1}",
    "between {l} {0} and {l} {1}",
    "{l} {0} through {1}",
    "{ls} {0}-{1}",
    "from {l} {0} down to {l} {1}",
)
"""Ways to say a range."""
DAY = re.compile(r"(?i)(?:the )?(?:\d|mon|tue|wed|thu|fri|sat|sun|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)")
SELF_NAMED = re.compile(r"[^\s]*[./@:#_\-\d][^\s]*")
"""Words that are seen to be no ordinary word."""


@dataclass(frozen=True)
class Roles:
    """The parts of a call by where they are said."""

    ids: tuple[Part, ...] = ()
    """Which object is meant: behind its noun."""
    places: tuple[Part, ...] = ()
    """Where it is."""
    rest: tuple[Part, ...] = ()
    mode: tuple[Part, ...] = ()
    """What is done: the verb says it."""


def share_out(parts: Sequence[Part], thing: Thing, wanted: str) -> Roles:
    """The roles of a call's parts, where its object is this thing.

    Args:
        parts: the parts of the call.
        thing: the object.
        wanted: the form of the object: one, new, many or none.
    """
    found: dict[str, list[Part]] = {"id": [], "in": [], "rest": [], "mode": []}
    for part in parts:
        if part.label.lower() == thing.head and wanted == "one" and part.kind.name != "code":
            part = replace(
                part, kind=kinds()["identifier"]
            )  # the page of a tool that reads pages is no page of results
        found[_role(part, thing, wanted)].append(part)
    if len(found["id"]) > 1:
        found["rest"] += found["id"][1:]
    return Roles(tuple(found["id"][:1]), tuple(found["in"]), tuple(found["rest"]), tuple(found["mode"]))


def _role(part: Part, thing: Thing, wanted: str) -> str:
    label = part.short_label.lower().split()
    names_it = label[-1:] == [thing.head] or thing.head in synonyms().get(label[-1], ())
    role = part.kind.role
    if part.kind.name == "path":
        role = "id" if thing.head in word_set("files") else "in"
    elif role == "in" and names_it:
        role = "id"
    elif role == "id":
        own = part.short_label == part.label or names_it  # "id", or "issue_id" of an issue
        role = "id" if own else "in" if part.kind.name == "identifier" else "rest"
    return "rest" if role == "id" and wanted in ("new", "many") else role


def say_part(part: Part, rng: random.Random, short: bool = False, labelled: bool = False) -> str:
    """A clause that says an argument.

    Args:
        part: the argument.
        rng: draws the way.
        short: in few words.
        labelled: with the parameter's name, because something else could be meant.
    """
    ways = [way for way in (part.kind.short if short else part.kind.say) if _fits(way, part)]
    if labelled:
        ways = [way for way in ways if "{l}" in way] or ["{l} {v}", "{l}: {v}", "the {l} is {v}"]
    return fill(rng.choice(ways or ["{l} {v}"]), part, rng)


def _fits(way: str, part: Part) -> bool:
    if part.kind.name in ("time", "due", "start", "end") and re.match(r"(on|at|for|by) \{v\}|from \{v\} on", way):
        return bool(DAY.match(part.words))
    if way.startswith(("number {v}", "#{v}")):
        return part.words.isdigit() or part.kind.name == "labels"
    if way.endswith("{v} {l}") and part.kind.name in ("measure", "amount"):
        return part.words.isalnum() and is_plural(part.label)
    return not (way in ("{v}", ": {v}") and part.kind.name == "other")


def fill(way: str, part: Part, rng: random.Random) -> str:
    """A way to say a part, with its words and its name in their places."""
    if (
        "{v}" in way
        and part.free
        and " " in part.words
        and part.kind.name in ("query", "other", "content", "title", "name", "old", "new")
        and '"{v}"' not in way
    ):
        way = way.replace("{v}", "{q}")
    label = part.label if rng.random() < 0.6 else part.short_label
    way = way.replace("{l} is", "{l} are") if is_plural(label) else way
    text = way.replace("{l}", label).replace("{q}", part.quoted(rng)) if "{q}" in way else way.replace("{l}", label)
    return text.replace("{v}", part.words)


def say_rest(parts: Sequence[Part], rng: random.Random, short: bool = False) -> list[str]:
    """Clauses for the parts, in an order drawn at random: long texts last, what belongs together in a pair."""
    counts = Counter(part.kind.name for part in parts)
    left = list(parts)
    clauses: list[tuple[float, str]] = []
    for (first, second), ways in PAIRS.items():
        ones = [next((part for part in left if part.kind.name == kind), None) for kind in (first, second)]
        if ones[0] and ones[1] and counts[first] == counts[second] == 1 and rng.random() < 0.7:
            said = [part.quoted(rng) if part.free else part.words for part in ones if part]
            clauses.append((_length(*said) + rng.random(), rng.choice(ways).format(*said)))
            left = [part for part in left if part not in ones]
    for begin, end, shared in _find_ranges(left):
        way = rng.choice(RANGES).format(begin.words, end.words, l=shared, ls=pluralize(shared))
        clauses.append((rng.random(), way))
        left = [part for part in left if part not in (begin, end)]
    for part in left:
        labelled = counts[part.kind.name] > 1 or (part.kind.name in ("choice", "measure") and not short)
        clauses.append((_length(part.words) + rng.random(), say_part(part, rng, short, labelled)))
    return [text for _, text in sorted(clauses)]


def _find_ranges(parts: Sequence[Part]) -> list[tuple[Part, Part, str]]:
    """Pairs of parts that begin and end a range, such as ``start row`` and ``end row``, with what it is a range of."""
    found = []
    for part in parts:
        begins, _, shared = part.label.partition(" ")
        ends = {"start": "end", "from": "to", "min": "max", "first": "last"}.get(begins)
        other = next((one for one in parts if shared and one.label == f"{ends} {shared}"), None)
        if other and part.kind.name in ("position", "measure", "limit", "offset"):
            found.append((part, other, shared))
    return found


def _length(*texts: str) -> int:
    return sum(len(text) for text in texts) // 25


def join_clauses(clauses: Sequence[str], rng: random.Random) -> str:
    """Clauses one after another, each behind a space, a comma or *and*."""
    text = ""
    for number, clause in enumerate(clauses):
        colon = clause.startswith((":", ","))
        comma = number and rng.random() < 0.45
        text += clause if colon else f"{',' if comma else ''} {clause}"
    return text


def say_manner(manner: str, parts: Sequence[Part], rng: random.Random) -> tuple[str, Part | None]:
    """The manner of a tool's name as a clause, with the value of the argument that it is about: ``after "Scope"``.

    Returns:
        The clause, and the part that it says; "" where an argument that is said elsewhere says it.
    """
    preposition, _, noun = manner.lower().partition(" ")
    if not noun:
        known = "" if preposition in word_set("prepositions") else preposition
        return word_table("manners").get(preposition, known), None
    last = noun.split()[-1]
    about = [part for part in parts if last in part.label.lower().split() or part.short_label.lower() == last]
    if not about:
        return ("" if last in word_set("files") and any(part.kind.name == "path" for part in parts) else manner), None
    part = about[0]
    value = part.quoted(rng)
    if part.kind.name in ("identifier", "position", "measure", "limit") or isinstance(part.value, bool | list):
        return f"{preposition} {part.short_label} {part.words}", part
    return f"{preposition} " + rng.choice((value, f"the {noun} {value}", f"{part.short_label} {value}")), part


def say_object(thing: str, ids: Sequence[Part], rng: random.Random, the: bool = True) -> str:
    """The object, with what says which one is meant: ``the issue 42``, ``x.docx``."""
    if not ids:
        return f"{rng.choices(('the', 'my', 'our', 'this', 'that'), (12, 1, 1, 1, 1))[0]} {thing}" if the else thing
    part = ids[0]
    bare = SELF_NAMED.fullmatch(part.words) is not None
    draw = rng.random()
    if part.kind.name in ("path", "url") and draw < 0.5 and bare:
        return part.words
    if bare and draw < 0.15:
        return part.words
    if draw < 0.5:
        return f"{'the ' if the and rng.random() < 0.7 else ''}{thing} {part.quoted(rng)}"
    if draw < 0.6 and the:
        return (
            f"{part.quoted(rng)}, the {thing},"
            if rng.random() < 0.2
            else f"the {part.quoted(rng)} {thing}"
            if part.kind.name != "path"
            else part.words
        )
    way = say_part(part, rng)
    return f"{'the ' if the else ''}{thing} {way}"
