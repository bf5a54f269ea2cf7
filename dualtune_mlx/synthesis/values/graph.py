"""Slots for a knowledge graph: entities, their kinds, the relations between them, and facts about them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dualtune_mlx.synthesis.values.sampling import PHRASES, Sampler
from dualtune_mlx.synthesis.values.slot import Slot

CATEGORIES = ("person", "person", "company", "project", "place", "event")
RELATED = {
    subject: [key.partition("_to_")[2] for key in PHRASES if key.startswith(f"{subject}_to_")]
    for subject in sorted(set(CATEGORIES))
}
"""The categories that an entity of each category has relations to."""


@dataclass(frozen=True)
class Entity(Slot):
    """The name of an entity. Its category decides which relations, types and facts suit it."""

    category: str


def _new_entity(sampler: Sampler, category: str) -> Entity:
    """An entity with a new name: capitalised, or spelled as in a program (``ledger-cache``)."""
    name = re.sub(r"(?<!\S)[a-z](?![^ ]*[-_])", lambda initial: initial[0].upper(), sampler.phrase(f"{category}_name"))
    if sampler.chance(0.06):
        name = name.replace(" ", "_")
    return Entity(name, name, category)


def _category(sampler: Sampler, kind: str) -> str:
    """The category of the entity in an earlier slot of this kind; a random category where there is none."""
    entity = sampler.slots.get(kind)
    return entity.category if isinstance(entity, Entity) else sampler.rng.choice(CATEGORIES)


def entity(sampler: Sampler) -> Slot:
    """A person, a company, a project, a place or an event, often with an invented name."""
    return _new_entity(sampler, sampler.rng.choice(CATEGORIES))


def related(sampler: Sampler) -> Slot:
    """An entity that ``{subject}`` can have a relation to."""
    return _new_entity(sampler, sampler.rng.choice(RELATED[_category(sampler, "subject")]))


def relation(sampler: Sampler) -> Slot:
    """A relation in active voice, as it stands between ``{subject}`` and ``{object}`` in a sentence."""
    subject = _category(sampler, "subject")
    target = _category(sampler, "object") if "object" in sampler.slots else sampler.rng.choice(RELATED[subject])
    return Slot.verbatim(sampler.phrase(f"{subject}_to_{target}"))


def link(sampler: Sampler) -> Slot:
    """A relation as a label, half of the time in the spelling of a program (``works_for``)."""
    words = str(relation(sampler).value)
    return Slot.verbatim(sampler.rng.choice((words, words, words.replace(" ", "_"), words.replace(" ", "_").upper())))


def _kind(sampler: Sampler) -> str:
    word = sampler.word(f"{_category(sampler, 'entity')}_kinds")
    if sampler.chance(0.06):
        return sampler.invent()
    return f"{sampler.word('nouns', 'tech')} {word}" if sampler.chance(0.2) else word


def kind(sampler: Sampler) -> Slot:
    """The type of ``{entity}``, sometimes in the spelling of a program."""
    words = _kind(sampler)
    return Slot.verbatim(sampler.rng.choice((*(words,) * 8, words.capitalize(), words.replace(" ", "_"))))


def a_kind(sampler: Sampler) -> Slot:
    """The type of ``{entity}`` with an article, which the argument does not have."""
    words = _kind(sampler)
    article = "an" if re.match(r"(?!uni|use|uti|one|eu)[aeiou]|hour|hono", words) else "a"
    return Slot(f"{article} {words}", words)


def trait(sampler: Sampler) -> Slot:
    """A fact about ``{entity}``, as it follows the name in a sentence."""
    return Slot.verbatim(sampler.phrase(f"{_category(sampler, 'entity')}_trait"))


def fact(sampler: Sampler) -> Slot:
    """A fact about ``{entity}`` as a note: a sentence without its subject, or a few words."""
    text = sampler.phrase(sampler.rng.choice((f"{_category(sampler, 'entity')}_trait", "remark")))
    return Slot.verbatim(text[0].upper() + text[1:] if sampler.chance(0.5) else text)


def topic(sampler: Sampler) -> Slot:
    """A search term of a word or two."""
    return Slot.verbatim(sampler.phrase("topic"))
