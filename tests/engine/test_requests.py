"""What a caller gets wrong is refused by name, before anything is computed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dualtune_mlx import DualTune, Tool
from dualtune_mlx.errors import ModelError, UsageError
from tests import tiny
from tests.engine.engines import PATH
from tests.engine.test_embedding import make_bundle

TOOLS = [Tool("read_file", "Read.", PATH), Tool("read_dir", "List.", PATH)]
REQUEST = "show a.txt"


@pytest.fixture(scope="module")
def dualtune():
    base = tiny.model()
    return DualTune(base, tiny.renderer(base))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("requests"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"topk": 3}, r"unknown\n  got: topk\n  expected: top_k, abstain, subtask, today, max_tokens, temperature"),
        ({"top_k": 0}, "where: top_k\n  got: 0\n  expected: a whole number, at least 1"),
        ({"top_k": "3"}, "where: top_k\n  got: '3'"),
        ({"top_k": True}, "where: top_k\n  got: True"),
        ({"abstain": "0.5"}, "where: abstain\n  got: '0.5'\n  expected: 0 to 1"),
        ({"abstain": 2}, "where: abstain"),
        ({"subtask": None}, "where: subtask\n  got: None\n  expected: words of the request"),
        ({"max_tokens": 0}, "where: max_tokens\n  got: 0\n  expected: a whole number, at least 1"),
        ({"max_tokens": "64"}, "where: max_tokens\n  got: '64'"),
        ({"temperature": "hot"}, "where: temperature\n  got: 'hot'"),
        ({"seed": 1.5}, "where: seed\n  got: 1.5"),
        ({"draft": "no"}, "where: draft\n  got: 'no'\n  expected: True or False"),
        ({"grounding": ["data"]}, r"where: grounding\n  got: \['data'\]"),
    ],
)
def test_an_option_of_a_call_is_known_and_in_its_range_or_refused(dualtune, options: Any, says: str):
    calls = [
        lambda: dualtune.call(REQUEST, TOOLS, **options),
        lambda: dualtune.stream(REQUEST, TOOLS, **options),
        lambda: asyncio.run(dualtune.acall(REQUEST, TOOLS, **options)),
        lambda: dualtune.call_many([REQUEST], TOOLS, **options),
    ]
    for call in calls:
        with pytest.raises(UsageError, match=says):
            call()


def test_where_only_arguments_are_written_the_options_of_the_choice_are_unknown(dualtune):
    for write in (dualtune.arguments, dualtune.planning, dualtune.aplanning):
        with pytest.raises(UsageError, match="unknown\n  got: abstain\n  expected: max_tokens, temperature"):
            write(REQUEST, TOOLS[0] if write == dualtune.arguments else TOOLS, abstain=0.5)


@pytest.mark.parametrize(
    ("messages", "tools", "says"),
    [
        (3, TOOLS, "not a list of messages"),
        ({"role": "user", "content": REQUEST}, TOOLS, "put the message into a list"),
        ("", TOOLS, "request is empty"),
        ([], TOOLS, "no messages"),
        (REQUEST, [], r"no tools to choose from(?s:.*)fix: .*DualTune.answer"),
        (REQUEST, None, "not a list of tools"),
        (REQUEST, TOOLS[0], "put the tool into a list"),
    ],
)
def test_what_there_is_nothing_to_choose_from_or_for_is_refused(dualtune, messages: Any, tools: Any, says: str):
    for call in (dualtune.call, dualtune.select, dualtune.stream):
        with pytest.raises(UsageError, match=says):
            call(messages, tools)


def test_requests_that_are_one_text_are_not_taken_letter_by_letter(dualtune):
    with pytest.raises(UsageError, match="not a list of requests(?s:.*)put the request into a list"):
        dualtune.call_many(REQUEST, TOOLS)


@pytest.mark.parametrize("budget", ["2GB", 1.5 * 2**30, 0, True])
def test_a_memory_budget_that_is_no_number_of_bytes_is_refused_before_the_model_is_loaded(bundle, budget: Any):
    with pytest.raises(UsageError, match=r"where: memory_budget\n  got: .*\n  expected: bytes(?s:.*)2 \* 2\*\*30"):
        DualTune.load(bundle.folder, model="nowhere", memory_budget=budget)


def test_a_memory_budget_that_is_too_small_is_told_in_numbers_that_differ(bundle):
    with pytest.raises(ModelError, match=r"got: [1-9][0-9,]+ bytes\n  expected: at most 1 byte\n"):
        DualTune.load(bundle.folder, memory_budget=1)


def test_decoding_is_no_dictionary(bundle):
    with pytest.raises(UsageError, match=r"where: decoding\n  got: \{'seed': 1\}(?s:.*)Decoding\(max_tokens=…\)"):
        DualTune.load(bundle.folder, decoding={"seed": 1})
