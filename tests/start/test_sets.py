"""Sets of tools: every call fits its set, under new names too, and what no tool serves is left alone."""

import json
import random
from dataclasses import replace

import pytest

from dualtune_mlx.data.reading import read_trajectories
from dualtune_mlx.start.domain import Domain, LabelledRequest, keep_usable
from dualtune_mlx.start.renaming import draw_renaming, split_name
from dualtune_mlx.start.sets import SetOptions, SetSampler, draw_lines
from dualtune_mlx.start.sources.corpus import read_corpus
from dualtune_mlx.start.swapping import ValuePool
from dualtune_mlx.tools import Tool, ToolCall

CORPUS = [keep_usable(domain) for domain in read_corpus()]
NOTHING = Domain("clinc", "out of scope", (), (LabelledRequest("tell me a joke"), LabelledRequest("sing")))


def find_tool(name: str) -> Tool:
    return next(tool for domain in CORPUS for tool in domain.tools if tool.name == name)


@pytest.mark.parametrize(
    "options", [SetOptions(), SetOptions(requests=6, sizes=(1, 1), respond=0.0, with_arguments=True)]
)
def test_drawn_lines_are_data_that_can_be_read(options, tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text(draw_lines(SetSampler([*CORPUS, NOTHING], options, seed=1), 40))
    read = read_trajectories(path)  # checks each call against its tool
    assert 0.8 * 40 * options.requests < len(read) <= 40 * options.requests
    assert {len(one.tools) for one in read} <= set(range(options.sizes[0], options.sizes[1] + 1))
    silent = sum(not one.messages[1].tool_calls for one in read) / len(read)
    assert silent == pytest.approx(options.respond, abs=0.05)
    assert len({one.messages[0].content for one in read}) > len(read) / 2


def test_the_same_seed_draws_the_same_sets():
    drawn = [draw_lines(SetSampler([*CORPUS, NOTHING], SetOptions(), seed), 3) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_every_request_of_a_tool_comes_before_any_comes_again():
    tool = Tool("add", "Add.")
    domain = Domain(
        "corpus", "one", (tool, Tool("other", "Other.")), tuple(LabelledRequest(str(n), "add") for n in range(8))
    )
    sampler = SetSampler([domain], SetOptions(requests=8, respond=0.0, sizes=(2, 2)), seed=1)
    assert sorted(one.messages[0].content for one in sampler.draw()) == [str(n) for n in range(8)]


def test_a_request_whose_call_does_not_fit_is_left_out():
    tool = Tool("add", "", {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})
    requests = (
        LabelledRequest("a", "add", {"n": 1}),
        LabelledRequest("b", "add", {"n": "x"}),
        LabelledRequest("c", "add", {"n": 1, "m": 2}),
        LabelledRequest("d", "gone", {}),
        LabelledRequest("e", "add"),
        LabelledRequest("f"),
    )
    kept = keep_usable(Domain("corpus", "one", (tool,), requests)).requests
    assert [one.text for one in kept] == ["a", "e", "f"]


@pytest.mark.parametrize("name", ["getUserInfo", "get_user_info", "get-user-info", "GetUserInfo"])
def test_a_name_is_split_into_its_words(name):
    assert split_name(name) == ["get", "user", "info"]


def test_names_are_kept_restyled_or_masked_and_calls_go_with_them():
    domain = CORPUS[0]
    rng = random.Random(1)
    seen = set()
    for _ in range(60):
        renaming = draw_renaming(domain.tools, rng, 0.3)
        seen.add(tuple(tool.name for tool in renaming.tools))
        for old, new in zip(domain.tools, renaming.tools, strict=True):
            assert new.description == old.description
            call = renaming.rename_call(ToolCall(old.name, dict.fromkeys(old.parameters["properties"], 1)))
            assert call.name == new.name
            assert list(call.arguments) == list(new.parameters["properties"])
    assert len(seen) > 10
    assert tuple(tool.name for tool in domain.tools) in seen


def test_said_values_are_swapped_in_the_request_and_in_the_call():
    tool = find_tool("append")
    request = LabelledRequest('add "eggs" to note 14', "append", {"note_id": 14, "text": "eggs"})
    pool = ValuePool([replace(domain, requests=domain.requests) for domain in CORPUS])
    rng = random.Random(3)
    swapped = [pool.swap(request, tool, rng) for _ in range(50)]
    for one in swapped:
        assert one.text == f'add "{one.arguments["text"]}" to note {one.arguments["note_id"]}'
    assert len({one.arguments["text"] for one in swapped}) > 10
    assert len({one.arguments["note_id"] for one in swapped}) > 10
    assert request.arguments == {"note_id": 14, "text": "eggs"}


def test_what_the_tool_does_not_take_is_not_swapped():
    tool = Tool("pick", "", {"type": "object", "properties": {"n": {"type": "integer", "maximum": 3}}})
    request = LabelledRequest("pick 2 of them", "pick", {"n": 2})
    rng = random.Random(0)
    assert all(
        json.dumps(ValuePool([]).swap(request, tool, rng).arguments) in ('{"n": 1}', '{"n": 2}', '{"n": 3}')
        for _ in range(40)
    )
