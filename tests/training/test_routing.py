"""What the stages of a hierarchy learn: the choice at each node, and the same loss as without shared prefixes."""

from __future__ import annotations

from dataclasses import replace

import mlx.core as mx
import pytest

from dualtune_mlx.data.decisions import call_decisions
from dualtune_mlx.errors import DataError
from dualtune_mlx.tools import RESPOND, Message, Tool, ToolCall, Trajectory
from dualtune_mlx.tools.hierarchy import GROUP_SIZE
from dualtune_mlx.training import Trainer, TrainOptions, all_jobs
from dualtune_mlx.training.examples import stage_examples
from dualtune_mlx.training.prefixes import Prefixes
from dualtune_mlx.training.routing import shown_decisions
from tests import tiny
from tests.training.data import PATH
from tests.training.test_loss import assert_equal, plain_loss, start_weights

FILES = (Tool("read", "", PATH, "fs"), Tool("list", "", PATH, "fs"))
CLOCK = (Tool("now", "", {"type": "object"}, "clock"), Tool("alarm", "", PATH, "clock"))
MANY = tuple(Tool(f"{verb}_{noun}", "", PATH, "many") for verb in ("get", "put") for noun in range(GROUP_SIZE))
ALONE = (Tool("sing", "", PATH, "alone"),)
TOOLS = (*FILES, *CLOCK, *MANY, *ALONE)


def make_trajectory(*calls: ToolCall, tools: tuple[Tool, ...] = TOOLS, request: str = "do it") -> Trajectory:
    """A conversation of these calls, each with its result, and an answer."""
    made = [part for call in calls for part in (Message("assistant", "", (call,)), Message("tool", "done"))]
    return Trajectory((Message("user", request), *made, Message("assistant", "There you are.")), tools)


def seen(trajectory: Trajectory, stage: str, number: int = 0) -> list[list[tuple[set[str], str]]]:
    """Of every decision, the choices that are shown and the right one."""
    return [
        [
            ({tool.name for tool in view.shown}, view.decision.call.name)
            for view in shown_decisions(decision, stage, True, number)
        ]
        for decision in call_decisions(trajectory)
    ]


def names(tools: tuple[Tool, ...]) -> set[str]:
    return {tool.name for tool in tools}


SERVERS = {"fs", "clock", "many", "alone"}


def test_a_router_learns_every_node_above_the_tool_and_to_respond_at_the_first():
    found = seen(make_trajectory(ToolCall("put_3", {}, "many"), ToolCall("sing", {}, "alone")), "router")
    groups = {"get tools", "put tools"}
    assert found == [[(SERVERS, "many"), (groups, "put tools")], [(SERVERS, "alone")], [(SERVERS, RESPOND.name)]]


@pytest.mark.parametrize("stage", ["selector", "arguments"])
def test_selector_and_arguments_see_the_tools_of_the_node(stage):
    first, second, _ = seen(make_trajectory(ToolCall("put_3", {}, "many"), ToolCall("read", {}, "fs")), stage)
    assert first == [(names(MANY[GROUP_SIZE:]), "put_3")]
    assert second == [(names(FILES), "read")]


def test_a_selector_learns_to_respond_where_the_last_call_was_or_at_all_nodes_in_turn():
    *_, last = seen(make_trajectory(ToolCall("alarm", {}, "clock")), "selector")
    assert last == [(names(CLOCK), RESPOND.name)]
    shown = [seen(make_trajectory(), "selector", number)[0][0][0] for number in range(4)]
    assert shown == [names(FILES), names(CLOCK), names(MANY[:GROUP_SIZE]), names(MANY[GROUP_SIZE:])]


def test_one_server_without_groups_is_no_hierarchy():
    trajectory = make_trajectory(ToolCall("read", {}, "fs"), tools=FILES)
    assert seen(trajectory, "router") == [[], []]
    assert seen(trajectory, "selector") == [[(names(FILES), "read")], [(names(FILES), RESPOND.name)]]
    nameless = make_trajectory(ToolCall("read", {}, "fs"), tools=(*FILES, Tool("hum", "", PATH)))
    with pytest.raises(DataError, match="server without a name"):
        seen(nameless, "router")


GROUPED = (replace(FILES[0], group="looking"), FILES[1])


def test_groups_that_were_given_are_learned_in_a_small_server_too():
    trajectory = make_trajectory(ToolCall("read", {}, "fs"), tools=(*GROUPED, *CLOCK))
    first, last = seen(trajectory, "router")
    assert first == [({"fs", "clock"}, "fs"), ({"looking", "other tools"}, "looking")]
    assert last == [({"fs", "clock"}, RESPOND.name)]
    assert seen(trajectory, "selector")[0] == [({"read"}, "read")]


def test_all_trains_a_router_where_there_are_many_tools_or_groups_or_it_is_told_to():
    few = [make_trajectory(ToolCall("read", {}, "fs"), tools=(*FILES, *CLOCK))]
    one_server = [make_trajectory(ToolCall("read", {}, "fs"), tools=FILES)]
    many = [make_trajectory(ToolCall("read", {}, "fs"))]
    groups = [make_trajectory(ToolCall("read", {}, "fs"), tools=GROUPED)]
    with_router = {
        (name, routing)
        for name, data in {"few": few, "one": one_server, "many": many, "groups": groups}.items()
        for routing in ("auto", "always", "never")
        if all_jobs(data, 50, routing)[0].stage == "router"
    }
    by_itself = {(name, routing) for name in ("many", "groups") for routing in ("auto", "always")}
    assert with_router == {("few", "always"), *by_itself}


REQUESTS = [
    make_trajectory(ToolCall("read", {"path": "a"}, "fs"), request="read a"),
    make_trajectory(
        ToolCall("alarm", {"path": "seven"}, "clock"), ToolCall("list", {"path": "b"}, "fs"), request="alarm"
    ),
    make_trajectory(request="hello"),
    make_trajectory(ToolCall("sing", {"path": "song"}, "alone"), request="sing the song"),
    make_trajectory(ToolCall("now", {}, "clock"), request="what time is it"),
]


@pytest.mark.parametrize("stage", ["router", "selector", "arguments"])
@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_loss_and_gradients_over_several_prefixes_equal_the_plain_computation(stage, batch_size):
    base = tiny.model()
    renderer = tiny.renderer(base)
    options = TrainOptions(batch_size=batch_size, accumulate=12, rank=4, layers="all", keep_contexts=0.1)
    examples = stage_examples(REQUESTS, renderer, stage, "turn", hierarchical=True).examples
    trainer = Trainer(base, examples, examples, options)
    assert len(trainer.prefixes.all) > 1 or batch_size == 8 or stage == "router"
    weights = start_weights(base, options)
    gradients, totals = trainer.gradients(weights, examples, 1)
    rows = [
        replace(example, targets=(target,), tokens=example.tokens[: target.end])
        for example in examples
        for target in example.targets
    ]
    assert_equal((mx.array(totals.loss), gradients), mx.value_and_grad(plain_loss)(weights, base, rows, options))


def test_many_prefixes_are_used_by_turns(monkeypatch):
    monkeypatch.setattr("dualtune_mlx.training.trainer.MOST", 1)
    monkeypatch.setattr("dualtune_mlx.training.prefixes.MOST", 1)
    base = tiny.model()
    options = TrainOptions(steps=0, epochs=2.0, batch_size=2, accumulate=2, rank=4, layers="all", validate_every=0)
    examples = stage_examples(REQUESTS, tiny.renderer(base), "selector", "turn", hierarchical=True).examples
    trainer = Trainer(base, examples, examples, options)
    computed = []
    snapshot = base.snapshot
    monkeypatch.setattr(base, "snapshot", lambda tokens: computed.append(tokens) or snapshot(tokens))
    asked = []
    monkeypatch.setattr(trainer, "gradients", lambda *of: asked.append(of[1]) or Trainer.gradients(trainer, *of))
    trainer.run(trainer.initial_state())
    learned = [example.name for examples in asked for example in examples]
    assert sorted(learned) == sorted([example.name for example in examples] * 2)
    assert all(len({trainer.prefixes.of(example) for example in step}) == 1 for step in asked)
    prefixes = len(trainer.prefixes.all)
    assert prefixes > 1 and len(computed) <= 3 * prefixes  # once an epoch, and once for the validation


def test_what_many_examples_begin_with_is_a_prefix_of_their_own():
    base = tiny.model()
    renderer = tiny.renderer(base)
    examples = stage_examples(REQUESTS, renderer, "selector", "turn", hierarchical=True).examples
    prefixes = Prefixes(examples, 2)
    for tokens, found in prefixes.split(examples):
        assert all(example.tokens[: len(tokens)] == tokens for example in found)
        assert all(len(tokens) <= example.active for example in found)
    assert sorted(example.name for _, found in prefixes.split(examples) for example in found) == sorted(
        example.name for example in examples
    )
    (one,) = Prefixes(examples, len(examples) + 1).all
    assert len(one) <= min(map(len, prefixes.all)) < max(map(len, prefixes.all))
