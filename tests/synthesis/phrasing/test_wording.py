"""Planned calls as requests in words."""

import random
import re

import pytest

from dualtune_mlx.synthesis.phrasing import STYLES, understand, word_call
from dualtune_mlx.synthesis.phrasing.slips import add_slips
from dualtune_mlx.synthesis.planned_calls import PlannedCall, SaidValue
from dualtune_mlx.synthesis.planning import plan_calls
from dualtune_mlx.tools import ToolCall

from .servers import TRACKER

SENSES = understand(TRACKER)


def _plan(name: str, **words: str) -> PlannedCall:
    tool = next(one for one in TRACKER if one.name == name)
    return PlannedCall(tool, words, tuple(SaidValue(path, value, value, "verbatim") for path, value in words.items()))


@pytest.mark.parametrize("style", STYLES)
def test_a_request_holds_the_words_of_all_values(style: str) -> None:
    rng = random.Random(style)
    for planned in plan_calls(TRACKER, [40] * len(TRACKER), rng, today="2026-11-30"):
        worded = word_call(planned, style, rng, SENSES[planned.tool.name])
        assert [said.words for said in planned.said if said.words not in worded.text] == []
        assert worded.calls == (ToolCall(planned.tool.name, planned.arguments, "tracker"),)
        assert worded.today == "2026-11-30"


def test_a_request_is_neither_bare_nor_endless() -> None:
    rng = random.Random(0)
    planned = _plan("create_issue", project="acme", title="The header overlaps")
    lengths = [
        len(word_call(planned, rng.choice(STYLES), rng, SENSES["create_issue"]).text.split()) for _ in range(400)
    ]
    assert min(lengths) >= 3
    assert max(lengths) <= 45


def test_wordings_differ_and_the_seed_decides() -> None:
    planned = _plan("getIssue", issue_id="ACME-7")
    texts = [word_call(planned, "imperative", random.Random(seed)).text for seed in range(200)]
    assert len(set(texts)) > 100
    assert texts[3] == word_call(planned, "imperative", random.Random(3)).text


def test_some_requests_have_no_word_of_the_tools_name() -> None:
    planned = _plan("delete_issue", issue_id="ACME-7")
    texts = [word_call(planned, "imperative", random.Random(seed)).text.lower() for seed in range(200)]
    assert sum("delete" not in text and "issue" not in text for text in texts) > 40
    assert sum("delete" in text for text in texts) > 10


def test_two_values_of_one_kind_are_told_apart() -> None:
    planned = _plan("move-issue", source="backlog", target="sprint")
    for seed in range(100):
        text = word_call(planned, "imperative", random.Random(seed)).text
        assert text.index("backlog") < text.index("sprint") or re.search("source|target|from|out of", text)


def test_what_no_command_line_holds_is_worded_tersely() -> None:
    two = PlannedCall(
        TRACKER[4],
        {"issue_id": "A-1", "labels": ["red", "big"]},
        (
            SaidValue("issue_id", "A-1", "A-1", "verbatim"),
            SaidValue("labels[0]", "red", "red", "verbatim"),
            SaidValue("labels[1]", "big", "big", "verbatim"),
        ),
    )
    assert word_call(two, "shell", random.Random(1)).style == "terse"
    one = word_call(_plan("getIssue", issue_id="ACME-7"), "shell", random.Random(1))
    assert one.style == "shell"
    assert one.family == "shell: getIssue"


def test_slips_spare_the_values() -> None:
    for seed in range(50):
        text = add_slips(
            "Please move the folder Annual Report to Archive.", ("Annual Report", "Archive"), random.Random(seed)
        )
        assert "Annual Report" in text
        assert "Archive" in text
    assert text != "Please move the folder Annual Report to Archive."


def test_a_family_is_the_template() -> None:
    planned = _plan("delete_issue", issue_id="ACME-7")
    families = {word_call(planned, "imperative", random.Random(seed)).family for seed in range(300)}
    assert "delete: get rid of {o}" in families
    assert not any("ACME" in family for family in families)


def test_no_gap_and_no_value_is_left_out_or_changed() -> None:
    planned = _plan("create_issue", title="an used car, a egg", body="a {o} of {n}")
    for seed in range(200):
        text = word_call(planned, "polite", random.Random(seed)).text
        assert text.count("an used car, a egg") == text.count("a {o} of {n}") == 1, text
        assert "  " not in text


def test_a_value_keeps_its_mark_at_the_end() -> None:
    planned = _plan("create_issue", title="Why so slow?", body="It is late.")
    for seed in range(100):
        for style in ("slips", "polite", "question"):
            text = word_call(planned, style, random.Random(seed)).text
            assert "Why so slow?" in text
            assert "It is late." in text
            assert not re.search(r"late\.\.|slow\?[.?]", text), text
