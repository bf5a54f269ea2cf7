"""The slots of wordings: every kind that may stand in braces, and how they are filled."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from typing import Any

from dualtune_mlx.synthesis.values import chain_values, clock, everything_server, graph, paths, revisions, tables, texts
from dualtune_mlx.synthesis.values.sampling import Sampler
from dualtune_mlx.synthesis.values.slot import SLOT_PATTERN, Slot

QUOTES = ('"', "'", "`")


def _number(low: int, high: int, usual: tuple[int, ...]) -> Callable[[Sampler], Slot]:
    """A slot for a whole number; three of ten are ``usual`` ones, the others are between ``low`` and ``high``."""

    def number(sampler: Sampler) -> Slot:
        value = sampler.rng.choice(usual) if sampler.chance(0.3) else sampler.rng.randint(low, high)
        return Slot(str(value), value)

    return number


SLOTS: Mapping[str, Callable[[Sampler], Slot]] = {
    # Drawn in this order, whatever the order in the wording: a later slot may suit an earlier one.
    "file": paths.file,
    "tracked": paths.tracked,
    "image": paths.image,
    "audio": paths.audio,
    "media": paths.media,
    "folder": paths.folder,
    "path": paths.path,
    "files": paths.files,
    "tracked_files": paths.tracked_files,
    "destination": paths.destination,
    "glob": paths.glob,
    "excluded": paths.excluded,
    "content": texts.content,
    "note": texts.note,
    "message": texts.message,
    "old": texts.old,
    "new": texts.new,
    "branch": revisions.branch,
    "known_branch": revisions.known_branch,
    "base": revisions.base,
    "sha": revisions.sha,
    "commit": revisions.commit,
    "target": revisions.target,
    "blob": revisions.blob,
    "date": revisions.date,
    "time": clock.time,
    "place": clock.place,
    "lines": _number(2, 500, (5, 10, 20, 25, 50, 100)),
    "context": _number(0, 40, (0, 1, 5, 8, 10)),
    "count": _number(2, 100, (3, 5, 10, 20)),
    "inside": chain_values.inside,
    "moment": chain_values.moment,
    "hour": chain_values.hour,
    "digest": chain_values.digest,
    "augend": chain_values.addend,
    "addend": chain_values.addend,
    "total": chain_values.total,
    "tally": chain_values.tally,
    "number": _number(2, 999, (7, 12, 144)),
    "entity": graph.entity,
    "subject": graph.entity,
    "object": graph.related,
    "relation": graph.relation,
    "link": graph.link,
    "kind": graph.kind,
    "a_kind": graph.a_kind,
    "trait": graph.trait,
    "fact": graph.fact,
    "other_fact": graph.fact,
    "topic": graph.topic,
    "table": tables.table,
    "key": tables.key,
    "column": tables.column,
    "columns": tables.columns,
    "numeric": tables.numeric,
    "cell": tables.cell,
    "tag": tables.tag,
    "amount": tables.amount,
    "day": tables.day,
    "comparison": tables.comparison,
    "aggregate": tables.aggregate,
    "direction": tables.direction,
    "extreme": tables.extreme,
    "row": tables.row,
    "changes": tables.changes,
    "fields": tables.fields,
    "text_fields": tables.text_fields,
    "select_sql": tables.select_sql,
    "write_sql": tables.write_sql,
    "create_sql": tables.create_sql,
    "insight": texts.insight,
    "few": _number(1, 10, (2, 3, 5)),
    "id": _number(1, 500, (1, 2, 3, 5, 7, 10, 42)),
    "quantity": everything_server.quantity,
    "term": everything_server.term,
    "town": everything_server.town,
    "severity": everything_server.severity,
    "resource_kind": everything_server.resource_kind,
    "url": everything_server.url,
    "data_uri": everything_server.data_uri,
    "archive": everything_server.archive,
    "saying": everything_server.saying,
    "theme": everything_server.theme,
    "noun": lambda sampler: Slot(word := sampler.word("nouns"), word),
    "tech": lambda sampler: Slot(word := sampler.word("tech"), word),
    "name": lambda sampler: Slot(word := sampler.word("first_names"), word),
    "sentence": texts.note,
}
"""How the value of each kind of slot is drawn."""

DETERMINED = frozenset(("hour", "total"))
"""Slots whose value follows from others alone: to draw again would give the same value."""


def slot_names(pattern: Any) -> set[str]:
    """The names of all slots in a wording, or anywhere in a pattern of arguments."""
    if isinstance(pattern, str):
        return {kind + digit for kind, digit in SLOT_PATTERN.findall(pattern)}
    if isinstance(pattern, Mapping):
        pattern = list(pattern.values())
    return set().union(*map(slot_names, pattern)) if isinstance(pattern, list) else set()


def fill(wording: str, arguments: Any, rng: random.Random) -> tuple[str, Any]:
    """Draw values for the slots of a wording; fill them into the wording and into the pattern of its arguments."""
    slots = draw_slots(wording, rng)
    return fill_text(wording, slots), fill_arguments(arguments, slots)


def draw_slots(text: str, rng: random.Random) -> dict[str, Slot]:
    """Draw all slots of a text, by kind and digit (``file2``)."""
    slots: dict[str, Slot] = {}
    for match in sorted(SLOT_PATTERN.finditer(text), key=lambda match: list(SLOTS).index(match[1])):
        if match[1] + match[2] not in slots:
            slots[match[1] + match[2]] = _draw_slot(match, slots, rng)
    return slots


def fill_text(text: str, slots: Mapping[str, Slot]) -> str:
    """The text with every slot replaced by the words that the user writes."""
    return SLOT_PATTERN.sub(lambda match: slots[match[1] + match[2]].surface, text)


def ends_open(text: str, slots: Mapping[str, Slot]) -> bool:
    """Whether a text ends in a slot of several bare words: whatever followed would seem to belong to its value."""
    end = SLOT_PATTERN.fullmatch(text, text.rfind("{")) if text.endswith("}") else None
    return end is not None and " " in slots[end[1] + end[2]].surface


def _draw_slot(match: re.Match[str], slots: Mapping[str, Slot], rng: random.Random) -> Slot:
    """Draw until the value fits into its quotes, differs from all other slots, and is no folder that holds one of them.

    A value that follows from other slots alone may equal one of them.
    """
    kind, digit = match.groups()
    before, after = match.string[: match.start()][-1:], match.string[match.end() :][:1]
    quote = before if before == after and before in QUOTES else None
    sampler = Sampler(rng, {name: slots[key] for name in SLOTS for key in (name, name + digit) if key in slots})
    while True:
        slot = SLOTS[kind](sampler)
        below = f"{str(slot.value).rstrip('/')}/"
        distinct = not any(slot.value == other.value or str(other.value).startswith(below) for other in slots.values())
        if (distinct or kind in DETERMINED) and not (quote and quote in slot.surface):
            return slot


def fill_arguments(pattern: Any, slots: Mapping[str, Slot]) -> Any:
    """A pattern of arguments with every slot replaced by its value; ``"{slot}"`` alone keeps the value's type."""
    if isinstance(pattern, str):
        whole = SLOT_PATTERN.fullmatch(pattern)
        if whole:
            return slots[whole[1] + whole[2]].value
        return SLOT_PATTERN.sub(lambda match: str(slots[match[1] + match[2]].value), pattern)
    if isinstance(pattern, Mapping):
        return {key: fill_arguments(value, slots) for key, value in pattern.items()}
    return [fill_arguments(value, slots) for value in pattern] if isinstance(pattern, list) else pattern
