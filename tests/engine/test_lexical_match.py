"""Lexical evidence in a call: the probabilities beside a plain computation, and what is shown of many tools."""

from __future__ import annotations

from math import exp

import pytest

from dualtune_mlx import DualTune, Tool
from dualtune_mlx.decoding import Evidence
from dualtune_mlx.engine.lexical_match import find_due
from dualtune_mlx.models import load_model
from dualtune_mlx.prompts import PromptRenderer, Template
from dualtune_mlx.tools import RESPOND, Message, ToolCall, as_messages
from dualtune_mlx.tools.lexical import lexical_scores
from tests import tiny
from tests.engine.engines import PATH
from tests.engine.test_embedding import TOOLS, make_bundle

SERVERS = tuple(
    Tool(f"{action}_{thing}", f"{action.capitalize()} one {thing}.", PATH, server)
    for server, things in (("calendar", ("event", "reminder", "invitation")), ("music", ("song", "album")))
    for thing in things
    for action in ("create", "delete", "rename")
)
REQUEST = "please delete that reminder"
EVIDENCE = Evidence(weight=6.0, respond=1.0, sharpness=0.5, shown=4)
pytestmark = pytest.mark.filterwarnings("ignore::dualtune_mlx.engine.trained_tools.ToolsWarning")


@pytest.fixture(scope="module")
def base():
    return tiny.model()


def engine(base, evidence=None, **options):
    renderer = PromptRenderer(Template("chatml"), base.tokenizer)
    return DualTune(base, renderer, evidence=evidence, **options)


def plain(raw, request, evidence, tools=SERVERS):
    """The probabilities with evidence, of the model's alone."""
    scores = {tool.name: score for tool, score in zip(tools, lexical_scores(request, tools), strict=True)}
    gains = {**{name: evidence.weight * score for name, score in scores.items()}, RESPOND.name: evidence.respond}
    weights = {tool.name: p**evidence.sharpness * exp(gains[tool.name]) for tool, p in raw}
    return {name: weight / sum(weights.values()) for name, weight in weights.items()}


def named(ranked):
    return {tool.name: p for tool, p in ranked}


def best_matching(request, count, tools=SERVERS):
    scores = lexical_scores(request, tools)
    best = sorted(range(len(tools)), key=lambda place: -scores[place])[:count]
    return tuple(tools[place] for place in sorted(best))


def test_the_best_matching_tools_are_shown_and_their_words_join_the_model_s_probability(base):
    shown = best_matching(REQUEST, EVIDENCE.shown)
    expected = plain(engine(base).select(REQUEST, shown, top_k=9), REQUEST, EVIDENCE)
    found = engine(base, EVIDENCE).select(REQUEST, SERVERS, top_k=9)
    assert named(found) == pytest.approx(expected, rel=1e-4)
    assert [p for _, p in found] == sorted((p for _, p in found), reverse=True)
    assert found[0][0].name == "delete_reminder"
    call = engine(base, EVIDENCE).call(REQUEST, SERVERS, top_k=2, max_tokens=64)
    assert (call.name, call.confidence) == (found[0][0].name, pytest.approx(found[0][1]))
    assert call.candidates == tuple((tool, pytest.approx(p)) for tool, p in found[:2])
    assert call.arguments.keys() == {"path"}


def test_few_tools_are_all_shown(base):
    evidence = Evidence(weight=3.0, shown=99)
    expected = plain(engine(base).select(REQUEST, SERVERS, top_k=99), REQUEST, evidence)
    assert named(engine(base, evidence).select(REQUEST, SERVERS, top_k=99)) == pytest.approx(expected, rel=1e-4)


def test_neutral_evidence_leaves_the_probabilities(base):
    expected = named(engine(base).select(REQUEST, SERVERS, top_k=99))
    assert named(engine(base, Evidence(shown=99)).select(REQUEST, SERVERS, top_k=99)) == pytest.approx(expected)


def test_a_node_of_the_hierarchy_gains_what_its_tools_gain_together(base):
    evidence = Evidence(weight=2.0, respond=0.5, shown=99)
    routed, raw = (engine(base, one, routing="always") for one in (evidence, None))
    root = raw.tree(SERVERS)
    gain = {tool: 2.0 * s for tool, s in zip(map(id, SERVERS), lexical_scores(REQUEST, SERVERS), strict=True)}

    def at(node, gains):
        with engine(base) as flat:
            found = named(flat.select(REQUEST, node.cards, top_k=99))
        weights = {name: found[name] * gain for name, gain in {**gains, RESPOND.name: exp(0.5)}.items()}
        return {name: weight / sum(weights.values()) for name, weight in weights.items()}

    top = at(root, {one.label: sum(exp(gain[id(tool)]) for tool in one.tools) for one in root.choices})
    expected = {RESPOND.name: top[RESPOND.name]}
    for node in root.choices:
        below = at(node, {tool.name: exp(gain[id(tool)]) for tool in node.tools})
        expected |= {tool.name: top[node.label] * below[tool.name] for tool in node.tools}
        expected[RESPOND.name] += top[node.label] * below[RESPOND.name]
    assert named(routed.select(REQUEST, SERVERS, top_k=99)) == pytest.approx(expected, rel=1e-3)


def test_of_a_large_node_the_best_matching_tools_are_shown(base):
    routed = engine(base, Evidence(weight=6.0, shown=2), routing="always")
    found = named(routed.select(REQUEST, SERVERS, top_k=99))
    assert {"delete_reminder", RESPOND.name} <= found.keys() and len(found) == 5


def test_words_count_until_a_call_was_made(base):
    tools = SERVERS[:4]
    called = ToolCall(tools[0].name, {"path": "a"}, tools[0].server)
    conversation = [Message("user", REQUEST), Message("assistant", tool_calls=(called,)), Message("tool", "done")]
    expected = engine(base).select(conversation, tools, top_k=9)
    assert engine(base, EVIDENCE).select(conversation, tools, top_k=9) == expected


def test_earlier_calls_of_tools_that_are_not_shown_are_rendered(base):
    hidden = next(tool for tool in SERVERS if tool not in best_matching(REQUEST, EVIDENCE.shown))
    called = ToolCall(hidden.name, {"path": "a"}, hidden.server)
    conversation = [Message("user", "?"), Message("assistant", tool_calls=(called,)), Message("tool", "done")]
    dualtune = engine(base, EVIDENCE)
    assert dualtune.call([*conversation, Message("user", REQUEST)], SERVERS, max_tokens=64).name == "delete_reminder"


def test_the_arguments_of_a_tool_that_does_not_match_are_written(base):
    hidden = next(tool for tool in SERVERS if tool not in best_matching(REQUEST, EVIDENCE.shown))
    assert engine(base, EVIDENCE).arguments(REQUEST, hidden.to_dict(), SERVERS, max_tokens=64).keys() == {"path"}


def test_many_requests_are_called_as_one_by_one(base):
    dualtune = engine(base, EVIDENCE)
    requests = [REQUEST, "rename the album", "hello"]
    one_by_one = [dualtune.call(request, SERVERS, max_tokens=64).to_record() for request in requests]
    together = [call.to_record() for call in dualtune.call_many(requests, SERVERS, max_tokens=64)]
    for one in (*one_by_one, *together):
        del one["usage"]
    assert together == one_by_one
    assert dualtune.call_many([], SERVERS) == []


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("evidence"))


def test_among_trained_tools_a_bundle_with_evidence_chooses_as_one_without(bundle):
    model = load_model(bundle.model)
    with DualTune.load(bundle.folder, model) as without:
        expected = without.select("read that", TOOLS, top_k=9)
    bundle.set_evidence(Evidence(weight=6.0, shown=1))
    with DualTune.load(bundle.folder, model) as dualtune:
        assert dualtune.select("read that", TOOLS, top_k=9) == expected
        found = dualtune.select("delete a reminder", (*TOOLS, *SERVERS), top_k=99)
    untrained = best_matching("delete a reminder", 1, (*TOOLS, *SERVERS))
    assert named(found).keys() == {"read_file", "read_dir", untrained[0].name, RESPOND.name}, "trained tools stay"


def test_what_is_due_is_the_last_request_or_its_subtask():
    call = ToolCall("a")
    talk = as_messages([{"role": "user", "content": "one"}, {"role": "user", "content": "two"}])
    assert find_due(talk) == ("two", True)
    first = (*talk, Message("assistant", tool_calls=(call,), subtask="tw"), Message("tool", "done"))
    assert find_due(first, "tw") == ("tw", False)
    assert find_due(first, "o") == ("o", True)
    assert find_due((*first, Message("user", "three"))) == ("three", True)
