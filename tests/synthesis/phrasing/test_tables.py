"""The tables of words."""

import re

import pytest

from dualtune_mlx.synthesis.phrasing.tables import actions, idioms, kinds, read_table, synonyms, value_ways

GAPS = {"o", "n", "ns", "in"}


@pytest.mark.parametrize("family", actions())
def test_a_familys_templates_have_known_gaps_and_no_marks_at_the_end(family: str) -> None:
    action = actions()[family]
    assert action.object in ("one", "new", "many")
    assert action.verbs and action.shell
    for form in ("say", "ask", "need", "note"):
        for template in getattr(action, form):
            assert set(re.findall(r"\{(\w*)\}", template)) <= GAPS, template
            assert template[-1] not in ".!" and (form == "note" or template[-1] != "?"), template


@pytest.mark.parametrize("kind", kinds())
def test_every_way_says_the_value(kind: str) -> None:
    for way in (*kinds()[kind].say, *kinds()[kind].short, *kinds()[kind].before):
        assert "{v}" in way or "{q}" in way, way


def test_no_word_is_its_own_synonym() -> None:
    assert [word for word, others in synonyms().items() if word in others or not others] == []


@pytest.mark.parametrize("key", ["polite_orders", "question_orders", "indirect_orders", "my_orders"])
def test_frames_have_room_for_an_order(key: str) -> None:
    assert [frame for frame in read_table("frames")[key] if frame.count("{x}") != 1] == []


def test_the_tables_speak_of_families_that_there_are() -> None:
    named = {family for family, _ in value_ways()} | {family for one in idioms() for family in one.actions}
    assert named - set(actions()) == set()


def test_ways_with_a_value_have_it() -> None:
    assert [way for ways in value_ways().values() for way in ways if way.count("{v}") != 1] == []
