"""Made-up tools: as many as asked, always the same, and such as real ones are."""

from __future__ import annotations

from collections import Counter
from itertools import islice

from dualtune_mlx.benchmarks import catalogue
from dualtune_mlx.decoding import ArgumentGrammar, GrammarTokenizer
from dualtune_mlx.tools.labels import label_tools
from tests import tiny


def test_a_thousand_tools_are_all_different_and_every_time_the_same():
    tools = catalogue.make_tools(1000)
    assert len(label_tools(tools)) == 1000
    assert tools == catalogue.make_tools(1000)
    assert tools[:10] == catalogue.make_tools(10)
    assert len(catalogue.make_tools(catalogue.MAX_TOOLS + 1)) == catalogue.MAX_TOOLS


def test_their_schemas_are_of_many_kinds():
    tools = catalogue.make_tools(1000)
    used = Counter(name for tool in tools for name in tool.parameters["properties"])
    assert set(used) == set(catalogue.PARAMETERS)
    assert {len(tool.parameters["properties"]) for tool in tools} == set(range(1, catalogue.MAX_PARAMETERS + 1))
    assert {len(tool.parameters["required"]) for tool in tools} == set(range(catalogue.MAX_PARAMETERS + 1))
    assert len({tuple(tool.parameters["properties"]) for tool in tools}) > 500


def test_arguments_can_be_written_for_each():
    tokenizer = GrammarTokenizer(tiny.tokenizer())
    for tool in catalogue.make_tools(100):
        assert not ArgumentGrammar(tool, tokenizer).complete


def test_a_server_has_the_tools_for_one_thing():
    servers = Counter(tool.server for tool in catalogue.make_tools(catalogue.MAX_TOOLS))
    assert set(servers) == set(catalogue.THINGS)
    assert set(servers.values()) == {len(catalogue.ACTIONS)}


def test_the_talk_goes_on_and_is_every_time_the_same():
    first, again = (list(islice(catalogue.exchanges(), 200)) for _ in range(2))
    assert first == again
    assert {(question.role, answer.role) for question, answer in first} == {("user", "assistant")}
    assert len(set(first)) > 150
