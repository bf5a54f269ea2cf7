"""The tree of tools, the search in it, and calls through it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import product

import pytest

from dualtune_mlx import DualTune, Tool
from dualtune_mlx.engine.events import StageBegins
from dualtune_mlx.engine.stage import Stage, StageRunner
from dualtune_mlx.errors import PromptError, UsageError
from dualtune_mlx.prompts import PromptRenderer, Template
from dualtune_mlx.tools import RESPOND, ToolCall, as_messages
from dualtune_mlx.tools.hierarchy import Node, hierarchy, search_tree
from tests import tiny
from tests.adapters.adapters import adapter_for
from tests.engine.engines import PATH


def tools(server: str, *names: str) -> list[Tool]:
    return [Tool(name, f"{name}.", PATH, server) for name in names]


def outline(node: Node) -> object:
    """Labels and names, nested."""
    return (
        {one.label: outline(one) if isinstance(one, Node) else one.name for one in node.choices}
        if node.routes
        else [tool.name for tool in node.choices]
    )


FILES = tools("files", "read_file", "write_file", "list_dir")


def test_servers_come_first_where_there_are_several():
    tree = hierarchy([*FILES, *tools("clock", "now"), *tools("git", "log", "diff")])
    assert outline(tree) == {"files": ["read_file", "write_file", "list_dir"], "clock": ["now"], "git": ["log", "diff"]}
    assert tree.routes
    assert [card.name for card in tree.cards] == ["files", "clock", "git"]
    assert tree.cards[2].description == "Tools: log, diff."


def test_one_server_is_no_choice():
    assert hierarchy(FILES).choices == tuple(FILES)
    assert hierarchy([]).choices == ()
    assert not hierarchy([]).routes


def test_a_large_server_has_groups_by_the_first_word_in_which_names_differ():
    names = ["browser_click", "browser_type", "browser_tab_new", "browser_tab_close", "browser_pdf"]
    tree = hierarchy([*tools("web", *names), *FILES], group=3)
    assert outline(tree)["web"] == {
        "browser tab tools": ["browser_tab_new", "browser_tab_close"],
        "other tools": ["browser_click", "browser_type", "browser_pdf"],
    }
    camel = hierarchy(tools("s", "createIssue", "createPR", "listIssues", "listPRs", "getURL"), group=3)
    assert set(outline(camel)) == {"create tools", "list tools", "other tools"}


def in_group(group: str, some: Iterable[Tool]) -> list[Tool]:
    return [replace(tool, group=group) for tool in some]


GROUPED = [*in_group("reading", (FILES[0], FILES[2])), FILES[1]]


def test_groups_that_were_given_are_a_server_s_whatever_its_size():
    groups = {"reading": ["read_file", "list_dir"], "other tools": ["write_file"]}
    assert outline(hierarchy(GROUPED)) == groups
    assert outline(hierarchy([*GROUPED, *tools("clock", "now")])) == {"files": groups, "clock": ["now"]}
    assert [card.name for card in hierarchy(GROUPED).cards] == ["reading", "other tools"]
    assert not hierarchy(in_group("all", FILES)).routes, "one group is no choice"


def test_a_large_group_that_was_given_and_many_other_tools_are_divided_again():
    browsing = in_group("browsing", tools("web", "tab_new", "tab_close", "page_open", "page_print"))
    others = tools("web", "get_a", "get_b", "put_a", "put_b")
    assert outline(hierarchy([*browsing, *others], group=3)) == {
        "browsing": {"tab tools": ["tab_new", "tab_close"], "page tools": ["page_open", "page_print"]},
        "other tools": {"get tools": ["get_a", "get_b"], "put tools": ["put_a", "put_b"]},
    }


def test_a_stem_that_is_a_label_of_ours_loses_no_tool():
    names = ["other_a", "other_b", "respond_a", "respond_b", "alone"]
    tree = hierarchy(tools("s", *names), group=3)
    assert outline(tree) == {
        "other tools": ["other_a", "other_b", "alone"],
        "respond tools": ["respond_a", "respond_b"],
    }


def test_names_without_stems_are_cut_by_count():
    words = random.Random(0).sample(["".join(letters) for letters in product("bcdfg", "aeiou", "xyz")], 40)
    tree = hierarchy(tools("s", *words), group=8)
    assert [len(part.tools) for part in tree.choices] == [8] * 5
    assert sorted(tool.name for tool in tree.tools) == sorted(words)


@pytest.mark.parametrize("count", [1, 33, 1000, 5000])
def test_every_tool_is_in_it_once_and_no_choice_is_too_large(count):
    generator = random.Random(count)
    names = {f"{generator.choice('abcde')}{n % 7}_{generator.choice(['get', 'set'])}_{n}" for n in range(count)}
    tree = hierarchy(tools("s", *sorted(names)))
    assert sorted(tool.name for tool in tree.tools) == sorted(names)
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        assert 1 <= len(node.choices) <= 32
        assert len({card.name for card in node.cards}) == len(node.choices)
        waiting += [one for one in node.choices if isinstance(one, Node)]


def random_tree(generator: random.Random, depth: int, label: str = "") -> Node:
    if depth == 0:
        return Node(label, tuple(Tool(f"{label}t{n}") for n in range(generator.randrange(1, 5))))
    return Node(
        label, tuple(random_tree(generator, depth - 1, f"{label}n{n}") for n in range(generator.randrange(2, 4)))
    )


class Oracle:
    """The same random shares of a node's choices whenever it is asked; the first to the last, or the best few."""

    def __init__(self, seed: int, best: int = 10**9) -> None:
        self.seed, self.best, self.asked = seed, best, []

    def shares(self, node: Node) -> list[tuple[Tool | Node, float]]:
        generator = random.Random(f"{self.seed} {node.label}")
        weights = [generator.random() ** 4 for _ in (*node.choices, RESPOND)]
        return [(one, weight / sum(weights)) for one, weight in zip((*node.choices, RESPOND), weights, strict=True)]

    def __call__(self, node: Node) -> list[tuple[Tool | Node, float]]:
        self.asked.append(node)
        return sorted(self.shares(node), key=lambda pair: -pair[1])[: self.best]


def search(root: Node, oracle: Oracle, top_k: int) -> list[tuple[Tool, float]]:
    steps = search_tree(root, top_k)
    node = next(steps)
    while True:
        try:
            node = steps.send(oracle(node))
        except StopIteration as end:
            return end.value


def all_paths(node: Node, oracle: Oracle, probability: float = 1.0) -> dict[str, float]:
    """Every tool's probability, by brute force; ``respond`` at each node by itself."""
    found: dict[str, float] = {}
    for one, share in oracle.shares(node):
        if isinstance(one, Node) and len(one.tools) > 1:
            found |= all_paths(one, oracle, probability * share)
        else:
            name = (
                f"{RESPOND.name} {node.label}"
                if one is RESPOND
                else (one.tools[0] if isinstance(one, Node) else one).name
            )
            found[name] = probability * share
    return found


@pytest.mark.parametrize("seed", range(40))
def test_the_most_probable_tools_are_found_exactly(seed):
    root, oracle = random_tree(random.Random(seed), 1 + seed % 3), Oracle(seed)
    expected = {name: p for name, p in all_paths(root, oracle).items() if not name.startswith(RESPOND.name)}
    found = [(tool, p) for tool, p in search(root, oracle, 4) if tool is not RESPOND]
    best = sorted(expected, key=lambda name: -expected[name])[: len(found)]
    assert [tool.name for tool, _ in found] == best
    assert [p for _, p in found] == pytest.approx([expected[name] for name in best])
    assert all(tool in root.node_of(tool).choices for tool, _ in found)


def scripted(
    shares: dict[str, dict[str, float]], root: Node, top_k: int = 1
) -> tuple[list[tuple[str, float]], list[str]]:
    """What is found, and which nodes were asked, where the model answers by label and name."""
    asked = []

    def answer(node: Node) -> list[tuple[Tool | Node, float]]:
        asked.append(node.label)
        by_name = {one.label if isinstance(one, Node) else one.name: one for one in (*node.choices, RESPOND)}
        return sorted(((by_name[name], p) for name, p in shares[node.label].items()), key=lambda pair: -pair[1])

    return [(tool.name, pytest.approx(p)) for tool, p in search(root, answer, top_k)], asked


TWO = Node("", (Node("a", (Tool("a1"), Tool("a2"))), Node("b", (Tool("b1"), Tool("b2")))))


def test_a_clear_path_asks_no_other_branch():
    found, asked = scripted({"": {"a": 0.9, "b": 0.1}, "a": {"a1": 0.8, "a2": 0.2}}, TWO)
    assert (found, asked) == ([("a1", 0.72)], ["", "a"])


def test_an_early_mistake_is_taken_back():
    shares = {"": {"a": 0.55, "b": 0.45}, "a": {"a1": 0.5, "a2": 0.5}, "b": {"b1": 0.9, "b2": 0.1}}
    found, asked = scripted(shares, TWO)
    assert (found, asked) == ([("b1", 0.405)], ["", "a", "b"])


def test_respond_at_every_node_counts_together():
    shares = {"": {"a": 0.5, "b": 0.1, "respond": 0.4}, "a": {"a1": 0.6, "a2": 0.1, "respond": 0.3}}
    found, asked = scripted(shares, TWO)
    assert (found, asked) == ([("respond", 0.55)], ["", "a"])


def engine(routing: str, adapted: Sequence[str] = (), **changes: object) -> DualTune:
    """An engine; the stages that are ``adapted`` have an adapter each."""
    base = tiny.model(**changes)
    adapters = {(name, ""): adapter_for(base.bank, number, "turn") for number, name in enumerate(adapted, 1)}
    return DualTune(base, PromptRenderer(Template("chatml"), base.tokenizer), adapters, routing=routing)


SERVERS = [*tools("clock", "now"), *tools("git", "log", "diff"), *FILES]


def test_a_call_through_the_hierarchy_never_reads_all_tools():
    dualtune = engine("always")
    call = dualtune.call("show a.txt", SERVERS, top_k=3, max_tokens=60)
    assert len(call.candidates) == 3
    assert "router" in call.usage.stages
    everything = dualtune.renderer.render_conversation(as_messages("-"), SERVERS).span_tokens("prefix")
    _, known = dualtune.prefixes.find_longest(everything)
    assert known < len(everything) / 2, "no prefix of all tools was computed"


def test_probabilities_multiply_along_the_path():
    dualtune = engine("always")
    found = {tool.name: p for tool, p in dualtune.select("show a.txt", SERVERS, top_k=7)}
    root, runner = dualtune.tree(SERVERS), StageRunner(dualtune.base)

    def at(node: Node) -> dict[str, float]:
        stream = dualtune.renderer.render(as_messages("show a.txt"), SERVERS, ToolCall("respond"), node.cards)
        result = runner.choose(Stage("selector"), stream, dualtune.renderer.name_tokens(node.cards), 9)
        return {one.name: one.probability for one in result.value}

    top, git = at(root), at(root.choices[1])
    assert len(top) == 4
    for name in ("log", "diff"):
        if name in found:
            assert found[name] == pytest.approx(top["git"] * git[name], rel=1e-4)
    assert found["now"] == pytest.approx(top["clock"], rel=1e-4), "a server with one tool is that tool"
    assert sum(found.values()) == pytest.approx(1.0, rel=1e-4)


def test_stages_are_told_and_each_has_its_adapter():
    dualtune = engine("always", ("router", "selector"))
    events = list(dualtune.stream("show a.txt", SERVERS, max_tokens=60))
    begun = [event.stage for event in events if isinstance(event, StageBegins)]
    assert begun[:1] == ["router"]
    usage = events[-1].call.usage
    assert usage.stages["router"].adapter == "router"
    assert all(stage.adapter == name for name, stage in usage.stages.items() if name in ("router", "selector"))


def test_another_server_s_call_in_the_conversation_is_no_obstacle():
    called = {"id": "1", "type": "function", "function": {"name": "log", "arguments": '{"path": "a"}'}}
    conversation = [
        {"role": "user", "content": "log, then show a.txt"},
        {"role": "assistant", "content": "", "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "1", "content": "one commit"},
    ]
    assert engine("always").call(conversation, SERVERS, max_tokens=60).name


def test_a_call_goes_through_a_group_that_was_given():
    dualtune = engine("always")
    call = dualtune.call("show a.txt", GROUPED, top_k=3, max_tokens=60)
    assert "router" in call.usage.stages
    assert sum(p for _, p in dualtune.select("show a.txt", GROUPED, top_k=4)) == pytest.approx(1.0, rel=1e-4)
    everything = dualtune.renderer.render_conversation(as_messages("-"), GROUPED).span_tokens("prefix")
    _, known = dualtune.prefixes.find_longest(everything)
    assert known < len(everything), "no prefix of all tools was computed"


@pytest.mark.parametrize("offered", [SERVERS, GROUPED], ids=["servers", "groups"])
def test_many_calls_go_through_the_hierarchy_too(offered):
    dualtune = engine("always")
    requests = ["show a.txt", "what time is it?"]
    together = dualtune.call_many(requests, offered, max_tokens=60)
    alone = [dualtune.call(request, offered, max_tokens=60) for request in requests]
    assert [(call.name, call.arguments) for call in together] == [(call.name, call.arguments) for call in alone]


def test_only_the_hierarchy_fits_where_all_tools_do_not():
    many = [tool for number in range(6) for tool in tools(f"s{number}", *(f"t{number}_{n}" for n in range(8)))]
    with pytest.raises(PromptError, match="longer than the model's context"):
        engine("never", max_position_embeddings=900).select("show", many)
    assert engine("always", max_position_embeddings=900).select("show", many)


def test_an_unknown_kind_of_routing_is_refused():
    with pytest.raises(UsageError, match="routing is unknown(?s:.*)auto, always, never"):
        engine("sometimes")
