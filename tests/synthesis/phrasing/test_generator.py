"""Whole sets of requests."""

import random
import re
from collections import Counter

import pytest

from dualtune_mlx.synthesis.phrasing import generate, understand
from dualtune_mlx.synthesis.phrasing.unserved import Unserved
from dualtune_mlx.tools.schemas import check_arguments

from .servers import CALENDAR, TRACKER

TOOLS = (*TRACKER, *CALENDAR)
REQUESTS = list(generate(TOOLS, 1000, seed=1))


def test_the_set_is_as_large_as_asked_and_balanced() -> None:
    assert len(REQUESTS) == 1000
    calls = Counter(request.calls[0].name for request in REQUESTS if len(request.calls) == 1)
    assert set(calls) == {tool.name for tool in TOOLS}
    assert min(calls.values()) > 50
    assert max(calls.values()) < 2.5 * min(calls.values())
    assert calls["delete_issue"] > calls["search_comments"]


def test_the_shares() -> None:
    assert 0.12 <= sum(not request.calls for request in REQUESTS) / 1000 <= 0.15
    assert 0.06 <= sum(len(request.calls) > 1 for request in REQUESTS) / 1000 <= 0.09
    assert 0.03 <= sum(bool(request.results) for request in REQUESTS) / 1000 <= 0.09


def test_calls_are_valid_and_subtasks_stand_in_the_text() -> None:
    tools = {tool.name: tool for tool in TOOLS}
    for request in REQUESTS:
        for call in request.calls:
            check_arguments(call.arguments, tools[call.name])
        if len(request.calls) > 1:
            assert len(request.subtasks) == len(request.calls)
            assert all(subtask in request.text for subtask in request.subtasks)


def test_the_seed_decides() -> None:
    assert list(generate(TOOLS, 100, seed=3)) == list(generate(TOOLS, 100, seed=3))
    assert list(generate(TOOLS, 100, seed=3)) != list(generate(TOOLS, 100, seed=4))


def test_what_goes_on_ends_with_an_answer() -> None:
    longer = [request.to_trajectory(TOOLS) for request in REQUESTS if request.results]
    assert all(one.messages[-1].role == "assistant" and not one.messages[-1].tool_calls for one in longer)
    assert any(one.messages[-2].role == "tool" for one in longer)


def test_one_tool_is_enough() -> None:
    assert len(list(generate(TRACKER[:1], 50, seed=0))) == 50


@pytest.mark.parametrize(("tools", "there"), [(CALENDAR, False), (TRACKER, True)])
def test_what_a_server_serves_is_not_asked_in_vain(tools: tuple, there: bool) -> None:
    unserved, rng = Unserved(tools, understand(tools)), random.Random(0)
    texts = {unserved.draw(rng).text for _ in range(800)}
    assert any(re.search("dentist|stand-up|planning meeting", text) for text in texts) is there
    assert not any(text.startswith("Delete the issue") for text in texts)
