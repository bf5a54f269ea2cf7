"""Slots for a knowledge graph: entities, their kinds, the relations between them, and facts about them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dualtune_mlx.synthesis.values.sampling import PHRASES, Draw, Slot, copied

CATEGORIES = ("person", "person", "company", "project", "place", "event")
RELATED = {
    subject: [key.partition("_to_")[2] for key in PHRASES if key.startswith(f"{subject}_to_")]
    for subject in sorted(set(CATEGORIES))
}
"""The categories that an entity of each category has relations to."""


@dataclass(frozen=True)
class Entity(Slot):
    """An entity's name; its category decides what can be said about it."""

    category: str


def _named(draw: Draw, category: str) -> Entity:
    """A name in capitals, unless it is spelled as in a program: ``ledger-cache``."""
    name = re.sub(r"(?<!\S)[a-z](?![^ ]*[-_])", lambda initial: initial[0].upper(), draw.phrase(f"{category}_name"))
    if draw.chance(0.06):
        name = name.replace(" ", "_")
    return Entity(name, name, category)


def _category(draw: Draw, kind: str) -> str:
    """The category of an entity drawn before, or any."""
    entity = draw.slots.get(kind)
    return entity.category if isinstance(entity, Entity) else draw.rng.choice(CATEGORIES)


def entity(draw: Draw) -> Slot:
    """A person, a company, a project, a place or an event, often of an invented name."""
    return _named(draw, draw.rng.choice(CATEGORIES))


def related(draw: Draw) -> Slot:
    """An entity that ``{subject}`` can have a relation to."""
    return _named(draw, draw.rng.choice(RELATED[_category(draw, "subject")]))


def relation(draw: Draw) -> Slot:
    """A relation in active voice, as it stands in a sentence between ``{subject}`` and ``{object}``."""
    subject = _category(draw, "subject")
    target = _category(draw, "object") if "object" in draw.slots else draw.rng.choice(RELATED[subject])
    return copied(draw.phrase(f"{subject}_to_{target}"))


def link(draw: Draw) -> Slot:
    """A relation as a label: half of them in the spelling of a program."""
    words = str(relation(draw).value)
    return copied(draw.rng.choice((words, words, words.replace(" ", "_"), words.replace(" ", "_").upper())))


def _kind(draw: Draw) -> str:
    word = draw.word(f"{_category(draw, 'entity')}_kinds")
    if draw.chance(0.06):
        return draw.invented()
    return f"{draw.word('nouns', 'tech')} {word}" if draw.chance(0.2) else word


def kind(draw: Draw) -> Slot:
    """The type of ``{entity}``; now and then in the spelling of a program."""
    words = _kind(draw)
    return copied(draw.rng.choice((*(words,) * 8, words.capitalize(), words.replace(" ", "_"))))


def a_kind(draw: Draw) -> Slot:
    """The type of ``{entity}`` behind its article, which the argument leaves out."""
    words = _kind(draw)
    article = "an" if re.match(r"(?!uni|use|uti|one|eu)[aeiou]|hour|hono", words) else "a"
    return Slot(f"{article} {words}", words)


def trait(draw: Draw) -> Slot:
    """What can be said about ``{entity}``, as it stands behind its name in a sentence."""
    return copied(draw.phrase(f"{_category(draw, 'entity')}_trait"))


def fact(draw: Draw) -> Slot:
    """A fact about ``{entity}`` as someone would write it down: a sentence without its subject, a few words."""
    text = draw.phrase(draw.rng.choice((f"{_category(draw, 'entity')}_trait", "remark")))
    return copied(text[0].upper() + text[1:] if draw.chance(0.5) else text)


def topic(draw: Draw) -> Slot:
    """What someone searches for: a word or two."""
    return copied(draw.phrase("topic"))
