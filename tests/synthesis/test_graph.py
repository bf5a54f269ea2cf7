"""Slots of the knowledge graph: they suit each other, and names are open vocabulary."""

from __future__ import annotations

import random
import re

import pytest

from dualtune_mlx.synthesis.values.graph import CATEGORIES, RELATED, Entity, a_kind, entity, link, related, relation
from dualtune_mlx.synthesis.values.sampling import PHRASES, WORDS, Sampler
from dualtune_mlx.synthesis.values.slot import SLOT_PATTERN, Slot
from dualtune_mlx.synthesis.values.slots import fill

RNG = random.Random(3)


def frames(kind: str) -> re.Pattern[str]:
    """What the phrases of a kind look like, with anything in their gaps."""
    return re.compile("|".join(".+".join(map(re.escape, SLOT_PATTERN.split(frame)[::3])) for frame in PHRASES[kind]))


def test_every_category_has_names_kinds_traits_and_relations() -> None:
    for category in CATEGORIES:
        assert {f"{category}_name", f"{category}_trait"} <= set(PHRASES)
        assert f"{category}_kinds" in WORDS
        assert RELATED[category]
        assert set(RELATED[category]) <= set(CATEGORIES)


def test_a_relation_suits_both_its_ends() -> None:
    for _ in range(300):
        subject = entity(Sampler(RNG, {}))
        assert isinstance(subject, Entity)
        target = related(Sampler(RNG, {"subject": subject}))
        assert isinstance(target, Entity)
        slots: dict[str, Slot] = {"subject": subject, "object": target}
        between = frames(f"{subject.category}_to_{target.category}")
        assert between.fullmatch(str(relation(Sampler(RNG, slots)).value))
        label = str(link(Sampler(RNG, slots)).value)
        assert between.fullmatch(label.lower().replace("_", " ")) or between.fullmatch(label)


def test_a_sentence_of_a_relation_names_its_parts_in_order() -> None:
    pattern = {"from": "{subject}", "to": "{object}", "relationType": "{relation}"}
    for _ in range(100):
        text, call = fill("{subject} {relation} {object}", pattern, RNG)
        assert text == f"{call['from']} {call['relationType']} {call['to']}"


def test_the_article_is_not_part_of_the_kind() -> None:
    drawn = [a_kind(Sampler(RNG, {})) for _ in range(500)]
    assert all(slot.surface in (f"a {slot.value}", f"an {slot.value}") for slot in drawn)
    articles = {str(slot.value): slot.surface.split()[0] for slot in drawn}
    for word, article in {"engineer": "an", "person": "a", "user": "a", "university": "a"}.items():
        assert articles.get(word, article) == article


def test_names_are_open_vocabulary_and_mostly_capitalised() -> None:
    names = [entity(Sampler(RNG, {})).surface for _ in range(1000)]
    assert len(set(names)) > 850
    assert sum(name[0].isupper() for name in names) > 900


@pytest.mark.parametrize("name", ["{entity}", "{subject}", "{object}"])
def test_a_name_has_one_to_four_words_and_no_mark_at_its_end(name: str) -> None:
    for _ in range(300):
        text, _ = fill(name, {}, RNG)
        assert 1 <= len(text.split()) <= 4
        assert text[-1].isalnum()
