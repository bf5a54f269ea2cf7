"""Training data of several steps: calls that follow from what was said, and an answer at the end."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import cycle, islice, product
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from dualtune_mlx.data import SPLITS
from dualtune_mlx.decoding.spans import is_span
from dualtune_mlx.errors import DataError
from dualtune_mlx.synthesis import chains, generate_chains, requests
from dualtune_mlx.synthesis.chain_templates import CHAINS, ChainTemplate, undivided_chain_dialogues, usable_chains
from dualtune_mlx.synthesis.chains import SHARES, UNDIVIDED_CHAIN_SHARE
from dualtune_mlx.synthesis.conjunctions import (
    ORDER_CONJUNCTIONS,
    PLACE,
    SENTENCE_CONJUNCTIONS,
    drop_full_stop,
    is_order,
    is_sentence,
    join,
    place_numbers,
)
from dualtune_mlx.synthesis.dialogue import Dialogue
from dualtune_mlx.synthesis.requests import add_noise
from dualtune_mlx.synthesis.results import ARGUMENT, RESULTS
from dualtune_mlx.synthesis.subtask_markup import parse_markup
from dualtune_mlx.synthesis.values.clock import CITIES
from dualtune_mlx.synthesis.values.sampling import read_toml
from dualtune_mlx.synthesis.values.slot import SLOT_PATTERN
from dualtune_mlx.synthesis.values.slots import draw_slots, slot_names
from dualtune_mlx.tools import Tool, ToolCall, Trajectory
from tests.synthesis.test_requests import hide_pinned, normalise, server_tools, strings

SERVERS = ("filesystem", "git", "time", "memory", "sqlite", "everything")
VISIBLE = {tool.name: hide_pinned(tool) for server in SERVERS for tool in server_tools(server)}
DERIVED = {"inside": {"file", "folder"}, "total": {"augend", "addend"}, "hour": {"moment"}}
SQL = re.compile(
    r"\b(SELECT|FROM|WHERE|INSERT|INTO|VALUES|UPDATE|SET|DELETE|CREATE|TABLE|COUNT|SUM|INTEGER|PRIMARY|KEY|TEXT|REAL|UNIQUE|NOT|NULL|id)\b"
)


@cache
def data(split: str) -> list[Trajectory]:
    return generate_chains(split, 600, seed=7, tools=list(VISIBLE.values()))


def calls(trajectory: Trajectory) -> list[ToolCall]:
    return [call for message in trajectory.messages for call in message.tool_calls]


def chain_name(chain: ChainTemplate) -> str:
    return "-".join(chain.tools)


@pytest.mark.parametrize("split", SPLITS)
def test_calls_and_results_take_turns_until_an_answer_in_words(split: str) -> None:
    for trajectory in data(split):
        user, *between, answer = trajectory.messages
        assert (user.role, answer.role, answer.tool_calls) == ("user", "assistant", ())
        assert answer.content
        assert [message.role for message in between] == ["assistant", "tool"] * (len(between) // 2)
        assert all(message.content for message in between if message.role == "tool")
        assert 1 <= len(calls(trajectory)) <= 5


@pytest.mark.parametrize("split", SPLITS)
def test_every_call_fits_its_schema(split: str) -> None:
    for trajectory in data(split):
        for call in calls(trajectory):
            tool = VISIBLE[call.name]
            assert not list(Draft202012Validator(tool.parameters).iter_errors(dict(call.arguments)))
            assert call.server == tool.server


@pytest.mark.parametrize("split", SPLITS)
def test_no_placeholder_is_left_over(split: str) -> None:
    for trajectory in data(split):
        texts = [message.content for message in trajectory.messages]
        texts += [text for call in calls(trajectory) for text in strings(dict(call.arguments))]
        for text in texts:
            assert not any(pattern.search(text) for pattern in (SLOT_PATTERN, ARGUMENT, PLACE)), text


def test_the_kinds_have_their_shares() -> None:
    trajectories = data("train")
    failures = set(read_toml("answers.toml")["failed"])
    failed = [one for one in trajectories if one.messages[-1].content in failures]
    assert len(failed) == round(SHARES["failed"] * len(trajectories))
    lengths = Counter(min(len(calls(one)), 2) for one in trajectories if one not in failed)
    assert lengths == {1: round(SHARES["single"] * 600), 2: round((SHARES["joined"] + SHARES["chained"]) * 600)}


def test_every_chain_is_used() -> None:
    assert {tuple(chain.tools) for chain in CHAINS} <= {
        tuple(call.name for call in calls(one)) for one in data("train")
    }


def test_the_same_seed_gives_the_same_data_and_another_seed_does_not() -> None:
    first, again, other = (generate_chains("train", 60, seed=seed, tools=list(VISIBLE.values())) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_no_wording_and_no_conjunction_is_in_two_splits() -> None:
    for chain in CHAINS:
        splits = [{normalise(wording) for wording in chain.wordings[split]} for split in SPLITS]
        assert len(set.union(*splits)) == sum(map(len, splits)), chain.tools
    conjunctions = [{*ORDER_CONJUNCTIONS[split], *SENTENCE_CONJUNCTIONS[split]} for split in SPLITS]
    assert len(set.union(*conjunctions)) == sum(map(len, conjunctions))


def test_no_wording_stands_for_one_call_and_for_a_chain() -> None:
    single = {normalise(text) for split in SPLITS for texts in requests.wordings(split).values() for text in texts}
    assert [text for chain in CHAINS for text in wordings(chain) if normalise(text) in single] == []


def test_there_are_many_chains_with_many_wordings_over_all_servers() -> None:
    servers = Counter(server for chain in CHAINS for server in {VISIBLE[tool].server for tool in chain.tools})
    assert len(CHAINS) >= 25
    assert set(servers) == set(SERVERS)
    assert all(servers[server] >= 12 for server in ("git", "filesystem", "sqlite", "memory"))
    for chain in CHAINS:
        assert len(chain.wordings["valid"]) >= 3
        assert len(list(wordings(chain))) >= 20, chain.tools


def wordings(chain: ChainTemplate) -> Iterator[str]:
    """Everything that may be asked, with one conjunction."""
    for split in SPLITS:
        yield from chain.wordings[split]
    yield from (", then ".join(orders) for orders in product(*chain.orders))


@pytest.mark.parametrize("chain", CHAINS, ids=chain_name)
def test_what_an_argument_needs_is_asked_or_told_before(chain: ChainTemplate) -> None:
    for wording in wordings(chain):
        known = slot_names(wording)
        for call in chain.calls:
            known |= {name for name, from_these in DERIVED.items() if from_these <= known}
            known |= {f"{name}2" for name in ("inside",) if {"file2", "folder"} <= known}
            assert slot_names(call["arguments"]) <= known, (wording, call)
            known |= slot_names(call.get("result", ""))


@pytest.mark.parametrize("chain", CHAINS, ids=chain_name)
def test_every_value_of_a_chain_stands_in_the_request_or_in_an_earlier_result(chain: ChainTemplate) -> None:
    rng = random.Random(5)
    for _ in range(12):
        dialogue = chain.draw_dialogue("train", VISIBLE, rng)
        assert [call.name for call in dialogue.calls] == chain.tools
        for number, call in enumerate(dialogue.calls):
            read = "\n".join([dialogue.request, *dialogue.results[:number]])
            for text in strings(dict(call.arguments)):
                assert follows(text, read), (text, read)


def follows(text: str, read: str) -> bool:
    """Whether a value is copied, a path put together, a place's time zone, a time, or SQL whose words are all there."""
    folder, _, name = text.rpartition("/")
    zones = {zone for city, zone in CITIES.items() if city in read}
    words = re.findall(r"\w+", SQL.sub("", text)) if SQL.match(text) else [text]
    made_up = all(word in read for word in words) or (folder in read and name in read)
    return text in read or text in {*zones, "local"} or made_up or is_clock_time(text, read)


def is_clock_time(text: str, read: str) -> bool:
    """Whether a time of day was said, on the 12-hour clock or in a word."""
    word = {"00:00": "midnight", "12:00": "noon"}.get(text, text)
    hour = re.fullmatch(r"(\d\d):\d\d", text)
    return hour is not None and (str(int(hour[1]) % 12 or 12) in read or word in read)


def test_what_all_tools_answer_is_known() -> None:
    assert set(RESULTS) == set(VISIBLE)
    assert all(found["success"] for found in RESULTS.values())


def test_a_chain_without_its_tools_is_left_out() -> None:
    without = [name for name in VISIBLE if name != "git_add"]
    assert all("git_add" not in chain.tools for chain in usable_chains("train", without))
    assert len(usable_chains("train", without)) > 25
    assert usable_chains("test", VISIBLE) == []


@pytest.mark.parametrize(
    ("wording", "whether"),
    [
        ("Show {file}", True),
        ("What is in {file}?", False),
        ("Please show {file}", False),
        ("I lost it. Show {file}", False),
        ("{file}, show it", False),
    ],
)
def test_only_plain_orders_are_joined(wording: str, whether: bool) -> None:
    assert is_order(wording) is whether


@pytest.mark.parametrize(
    ("wording", "whether"),
    [
        ("What is in {file}?", True),
        ("{file}, show it", True),
        ("I lost it. Show {file}", False),
        ("Here it is:\n{content}", False),
    ],
)
def test_sentences_of_any_form_are_joined(wording: str, whether: bool) -> None:
    assert is_sentence(wording) is whether


def test_questions_and_statements_are_among_the_joined(own: Path) -> None:
    tools = [VISIBLE["read_file"], VISIBLE["append_insight"]]
    asked = [
        one.messages[0].content
        for one in generate_chains("train", 300, seed=1, tools=tools, folder=own)
        if len(calls(one)) > 1
    ]
    assert any("What is in" in request for request in asked)
    assert not any("?." in request or "?," in request for request in asked)


def test_what_is_asked_together_mostly_belongs_to_one_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chains, "SHARES", {"single": 0, "joined": 1, "chained": 0, "failed": 0})
    asked = [
        {call.server for call in calls(one)}
        for one in generate_chains("train", 400, seed=1, tools=list(VISIBLE.values()))
    ]
    assert 0.5 < sum(len(servers) == 1 for servers in asked) / len(asked) < 0.75
    assert set.union(*asked) == set(SERVERS)


def test_what_others_decide_may_be_what_another_slot_says() -> None:
    class Early(random.Random):
        def randint(self, low: int, high: int) -> int:
            return low

    slots = draw_slots("{time} {moment} {hour}", Early(1))
    assert slots["hour"].value == slots["moment"].value[11:16] == "00:00"


def join_orders(conjunction: str, *orders: str) -> str:
    return parse_markup(join(conjunction, orders))[0]


def test_an_order_in_a_conjunction_may_ask_for_several_calls() -> None:
    request, subtasks = parse_markup(join("{1}, then {2}", ["Look", "Commit it"], [1, 2]))
    assert (request, subtasks) == ("Look, then commit it", ("Look", "commit it", "commit it"))


@pytest.mark.parametrize("split", ["train", "valid"])
def test_some_joined_messages_have_a_subtask_that_needs_several_calls(split: str) -> None:
    alone = {tuple(chain.tools) for chain in CHAINS}
    found = 0
    for one in data(split):
        subtasks = Counter(message.subtask for message in one.messages if message.tool_calls)
        joined = len(one.messages[0].subtasks) > 1 and tuple(call.name for call in calls(one)) not in alone
        found += joined and max(subtasks.values()) > 1
    assert found >= 600 * SHARES["joined"] * UNDIVIDED_CHAIN_SHARE / 2


def test_what_ends_in_free_text_stands_last_also_if_it_needs_several_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chains, "SHARES", {"single": 0, "joined": 1, "chained": 0, "failed": 0})
    monkeypatch.setattr(chains, "UNDIVIDED_CHAIN_SHARE", 1)
    two = (ToolCall("list_tables", {}, "sqlite"),) * 2
    dialogues = [
        Dialogue(text, two, ("a", "b"), open_ended=text == "write on and on") for text in ("write", "write on and on")
    ]
    monkeypatch.setattr(chains, "undivided_chain_dialogues", lambda *_: cycle(dialogues))
    texts = [
        one.messages[0].content.lower() for one in generate_chains("train", 300, seed=1, tools=list(VISIBLE.values()))
    ]
    open_ended = [text for text in texts if "write on and on" in text]
    assert open_ended and all(text.endswith("write on and on") for text in open_ended)
    assert any("write" in text and text not in open_ended for text in texts)


def test_what_needs_several_calls_is_put_into_a_conjunction_without_its_full_stop() -> None:
    for accepts in (is_order, is_sentence):
        dialogues = islice(undivided_chain_dialogues("train", VISIBLE, random.Random(3), accepts), 300)
        assert [dialogue.request for dialogue in dialogues if dialogue.request.endswith(".")] == []


def test_orders_are_marked_with_what_is_to_be_done_first() -> None:
    assert parse_markup(join("{2}, but first {1}", ["Look", "See it"])) == (
        "See it, but first look",
        ("look", "See it"),
    )


@pytest.mark.parametrize("split", SPLITS)
def test_the_subtasks_of_a_request_are_words_of_it_and_each_call_is_for_one(split: str) -> None:
    divided = [trajectory for trajectory in data(split) if trajectory.messages[0].subtasks]
    assert divided
    for trajectory in divided:
        request, *others = trajectory.messages
        assert len(request.subtasks) > 1
        assert all(is_span(subtask, [request]) for subtask in request.subtasks), request
        due = [message.subtask for message in others if message.tool_calls]
        assert list(dict.fromkeys(due)) == list(request.subtasks)[: len(dict.fromkeys(due))]


def test_a_question_keeps_its_mark_in_place_of_the_conjunctions() -> None:
    assert join_orders("{1}. {2}. {3}", "What is it?", "Is it on?", "Go") == "What is it? Is it on? Go"


@pytest.mark.parametrize(("wording", "left"), [("Stage it.", "Stage it"), ("git add .", "git add .")])
def test_a_dot_that_is_a_value_is_no_full_stop(wording: str, left: str) -> None:
    assert drop_full_stop(wording) == left
    assert {add_noise(wording, random.Random(seed)).lower().endswith("add ") for seed in range(200)} == {False}


def test_orders_begin_with_a_capital_letter_only_where_a_sentence_begins() -> None:
    assert join_orders("{1}, then {2}. {3}", "Look", "See it", "Go") == "Look, then see it. Go"
    assert join_orders("{2}, but first {1}\n{3}", "SQL runs", "See it", "Go") == "See it, but first SQL runs\nGo"
    assert place_numbers("{2}, but first {1}") == [2, 1]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "own.toml").write_text(
        "[[read_file]]\narguments = { path = '{file}' }\ntrain = ['Read {file}.', 'What is in {file}?']\n"
        "[[append_insight]]\narguments = { insight = '{note}' }\ntrain = ['Note: {note}', 'Note {note}']\n"
    )
    return tmp_path


def test_free_text_stands_last_and_calls_keep_the_order_of_the_request(own: Path) -> None:
    tools = [VISIBLE["read_file"], VISIBLE["append_insight"]]
    joined = [one for one in generate_chains("train", 300, seed=1, tools=tools, folder=own) if len(calls(one)) > 1]
    assert {call.name for one in joined for call in calls(one)} == {"read_file", "append_insight"}
    for trajectory in joined:
        request = trajectory.messages[0].content
        values = [next(iter(call.arguments.values())) for call in calls(trajectory)]
        for call, value in zip(calls(trajectory), values, strict=True):
            assert value in request
            if " " in value and call.name == "append_insight":
                assert request.endswith((value, value + " please", value + " thanks")), request
        places_in_request = [request.index(value) for value in values]
        assert places_in_request == sorted(places_in_request) or re.search(
            "[Bb]efore|first|in between|start with", request
        )


def test_a_tool_whose_answers_are_not_known_is_named(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text("[[look]]\narguments = {}\ntrain = ['look']\n")
    with pytest.raises(DataError, match="look"):
        generate_chains("train", 5, seed=1, tools=[Tool("look", parameters={"type": "object"})], folder=tmp_path)


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(DataError, match="tset"):
        generate_chains("tset", 10, seed=1, tools=list(VISIBLE.values()))
