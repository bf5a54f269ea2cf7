"""Made-up tools: as many as asked, always the same, and such as real ones are."""

from __future__ import annotations

from collections import Counter
from itertools import islice

from dualtune_mlx.benchmarks import catalogue
from dualtune_mlx.decoding import ArgumentGrammar, GrammarTokenizer
from dualtune_mlx.prompts.cards import label_tools
from tests import tiny


def test_a_thousand_tools_are_all_different_and_every_time_the_same():
    tools = catalogue.made_up(1000)
    assert len(label_tools(tools)) == 1000
    assert tools == catalogue.made_up(1000)
    assert tools[:10] == catalogue.made_up(10)
    assert len(catalogue.made_up(catalogue.LARGEST + 1)) == catalogue.LARGEST


def test_their_schemas_are_of_many_kinds():
    tools = catalogue.made_up(1000)
    used = Counter(name for tool in tools for name in tool.parameters["properties"])
    assert set(used) == set(catalogue.PARAMETERS)
    assert {len(tool.parameters["properties"]) for tool in tools} == set(range(1, catalogue.MOST + 1))
    assert {len(tool.parameters["required"]) for tool in tools} == set(range(catalogue.MOST + 1))
    assert len({tuple(tool.parameters["properties"]) for tool in tools}) > 500


def test_arguments_can_be_written_for_each():
    tokenizer = GrammarTokenizer(tiny.tokenizer())
    for tool in catalogue.made_up(100):
        assert not ArgumentGrammar(tool, tokenizer).complete


def test_a_server_has_the_tools_for_one_thing():
    servers = Counter(tool.server for tool in catalogue.made_up(catalogue.LARGEST))
    assert set(servers) == set(catalogue.THINGS)
    assert set(servers.values()) == {len(catalogue.ACTIONS)}


def test_the_talk_goes_on_and_is_every_time_the_same():
    first, again = (list(islice(catalogue.talk(), 200)) for _ in range(2))
    assert first == again
    assert {(question.role, answer.role) for question, answer in first} == {("user", "assistant")}
    assert len(set(first)) > 150
