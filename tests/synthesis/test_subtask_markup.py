"""Marks around the subtasks of a request."""

from __future__ import annotations

import pytest

from dualtune_mlx.synthesis.chain_templates import CHAINS, ChainTemplate
from dualtune_mlx.synthesis.subtask_markup import SUBTASK, distinct_subtasks, mark_subtask, parse_markup


@pytest.mark.parametrize(
    ("text", "plain", "subtasks"),
    [
        ("«Make {a}» and «move {b} into it».", "Make {a} and move {b} into it.", ("Make {a}", "move {b} into it")),
        ("«2:Move it» once «1:{a} is there»", "Move it once {a} is there", ("{a} is there", "Move it")),
        ("«Make {a}», «*2:move {b} and {c}»", "Make {a}, move {b} and {c}", ("Make {a}", *["move {b} and {c}"] * 2)),
        ("«2*2:move both» after «1:making it»", "move both after making it", ("making it", *["move both"] * 2)),
        ("«1:2:45 in Rome»", "2:45 in Rome", ("2:45 in Rome",)),
        ("nothing: it is 2:45", "nothing: it is 2:45", ()),
    ],
)
def test_marks_go_and_leave_a_subtask_for_each_call(text: str, plain: str, subtasks: tuple[str, ...]) -> None:
    assert parse_markup(text) == (plain, subtasks)


def test_what_is_marked_is_found_again() -> None:
    assert parse_markup(f"First {mark_subtask('9:00 sharp', 2)} and {mark_subtask('go', 1)}")[1] == ("go", "9:00 sharp")


def test_a_request_that_is_one_as_a_whole_has_no_subtasks() -> None:
    assert distinct_subtasks(("a", "a", "b", "a")) == ("a", "b", "a")
    assert distinct_subtasks(("a", "a")) == distinct_subtasks(()) == ()


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: "-".join(chain.tools))
def test_a_marked_sentence_has_a_subtask_for_each_call(chain: ChainTemplate) -> None:
    for wording in (*chain.wordings["train"], *chain.wordings["valid"]):
        plain, subtasks = parse_markup(wording)
        assert not set("«»") & set(plain), wording
        assert len(subtasks) in (0, len(chain.calls)), wording
        numbers = [mark["number"] for mark in SUBTASK.finditer(wording)]
        assert all(numbers) or not any(numbers), wording
