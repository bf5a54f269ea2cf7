"""The loss and every gradient, against a plain computation: each decision alone, full sequence, full logits, a mask."""

import mlx.core as mx
import pytest

from dualtune_mlx.data.decisions import call_decisions
from dualtune_mlx.prompts import ACTIVATIONS
from dualtune_mlx.tools import Message, Tool, ToolCall, Trajectory
from dualtune_mlx.training import TrainOptions
from dualtune_mlx.training.batches import make_batch
from dualtune_mlx.training.examples import example, stage_examples
from dualtune_mlx.training.loss import masked_loss
from tests import tiny
from tests.training.data import base_prefix

PATH = {"type": "object", "properties": {"path": {"type": "string"}}}
TOOLS = tuple(Tool(name, "", PATH, "fs") for name in ("read", "list", "drop"))


def calls(*named):
    return Message("assistant", "", tuple(ToolCall(name, {"path": path}) for name, path in named))


TRAJECTORIES = [
    Trajectory((Message("user", "show a.txt"), calls(("read", "a.txt"))), TOOLS),
    Trajectory(
        (
            Message("user", "what is in the folder called docs, and in src?"),
            calls(("list", "docs"), ("list", "src")),
            Message("tool", "one, two"),
            Message("tool", "three"),
            calls(("read", "docs/one")),
            Message("tool", "1"),
            Message("assistant", "the first one is 1"),
        ),
        TOOLS,
    ),
    Trajectory(
        (Message("user", "hi"), Message("assistant", "hello"), Message("user", "rm x"), calls(("drop", "x"))), TOOLS
    ),
]


def options(activation, **given):
    return TrainOptions(rank=4, alpha=8.0, layers="all", activation=activation, **given)


def examples_of(renderer, stage, activation):
    """Every decision as an example of its own."""
    found = [decision for trajectory in TRAJECTORIES for decision in call_decisions(trajectory)]
    streams = [renderer.render(d.messages, d.tools, d.call) for d in found if stage != "arguments" or d.call.arguments]
    return [example(stream, stage, activation) for stream in streams]


def plain_loss(weights, base, examples, given):
    """Each example alone, from its first token, with the adapter's updates masked out before activation."""
    total = 0.0
    for item in examples:
        acts = (mx.arange(len(item.tokens)) >= item.active)[None, :, None]
        hooks = {
            name: add_update(layer.linear, weights.get(name), given, acts) for name, layer in base.bank.layers.items()
        }
        logits = run_with(base, hooks, mx.array([item.tokens]))
        (target,) = item.targets
        rows = logits[0, target.start - 1 : target.end - 1].astype(mx.float32)
        chosen = mx.take_along_axis(rows, mx.array(item.tokens[target.start : target.end])[:, None], axis=1)
        total = total + (mx.logsumexp(rows, axis=1, keepdims=True) - chosen).sum()
    return total


def add_update(linear, parts, given, acts):
    """A layer with its update, by the papers' formulas."""
    if parts is None:
        return linear
    product = given.scale * (parts["a"] @ parts["b"])

    def layer(x):
        base = linear(x)
        if "m" not in parts:
            return base + acts[:, : x.shape[1]] * (x @ product)
        weight = linear.weight + product.T
        factor = parts["m"] / mx.stop_gradient(mx.linalg.norm(weight, axis=1))
        bias = linear.bias if "bias" in linear else 0.0
        return mx.where(acts[:, : x.shape[1]], factor * (x @ weight.T) + bias, base)

    return layer


def run_with(base, hooks, tokens):
    """Full logits with every layer replaced by a function."""
    originals = {name: layer.linear for name, layer in base.bank.layers.items()}
    try:
        for name, layer in base.bank.layers.items():
            layer["linear"] = hooks[name]
        return base.model(tokens)
    finally:
        for name, layer in base.bank.layers.items():
            layer["linear"] = originals[name]


def start_weights(base, given):
    """A new adapter's arrays, with a B that is not zero."""
    adapter = base.bank.new_adapter(
        rank=given.rank,
        scale=given.scale,
        activation=given.activation,
        seed=1,
        layers=given.layers,
        targets=given.targets,
        dora=given.dora,
        dropout=given.dropout,
    )
    weights = {name: update.parts for name, update in adapter.layers.items()}
    for i, parts in enumerate(weights.values()):
        parts["b"] = mx.random.normal(parts["b"].shape, key=mx.random.key(i)) * 0.1
    return weights


def compute_both(base, stage, given):
    """The loss and the gradients of both computations."""
    renderer = tiny.renderer(base)
    prepared = stage_examples(TRAJECTORIES, renderer, stage, given.activation)
    weights = start_weights(base, given)
    prefix = base_prefix(base, prepared.examples)
    assert (prefix is None) == (given.activation == "all")
    batch = make_batch(prepared.examples, len(prefix.tokens) if prefix else 0)
    ours = mx.value_and_grad(masked_loss)(weights, base, prefix=prefix, batch=batch, options=given)
    plain = mx.value_and_grad(plain_loss)(weights, base, examples_of(renderer, stage, given.activation), given)
    mx.eval(ours, plain)
    return ours, plain


def assert_equal(ours, plain, tolerance=1e-4):
    (loss, gradients), (expected_loss, expected) = ours, plain
    assert loss.item() == pytest.approx(expected_loss.item(), rel=1e-5)
    for name, parts in expected.items():
        for key, value in parts.items():
            scale = mx.abs(value).max().item() + 1e-6
            assert mx.abs(gradients[name][key] - value).max().item() < tolerance * scale, (name, key)
    assert max(mx.abs(parts["a"]).max().item() for parts in expected.values()) > 1e-4


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
@pytest.mark.parametrize("stage", ["selector", "arguments"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_loss_and_gradients_equal_the_plain_computation(activation, stage, kind):
    assert_equal(*compute_both(tiny.model(kind=kind), stage, options(activation)))


@pytest.mark.parametrize("kind", [kind for kind in tiny.KINDS if kind not in ("llama", "qwen2")])
@pytest.mark.parametrize("given", [{"activation": "turn", "grad_checkpoint": True}, {"activation": "all"}])
def test_other_architectures_are_trained_as_right(kind, given):
    assert_equal(*compute_both(tiny.model(kind=kind), "selector", options(**given)))


@pytest.mark.parametrize("given", [{"dora": True}, {"rslora": True}, {"grad_checkpoint": True}])
@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_other_kinds_of_updates_are_trained_as_right(kind, given):
    assert_equal(*compute_both(tiny.model(kind=kind), "arguments", options("turn", **given)))


def test_a_quantised_base_is_trained_as_right():
    assert_equal(*compute_both(tiny.model(quantized=True), "arguments", options("turn")), tolerance=1e-3)


def test_all_decisions_of_a_conversation_come_from_one_pass():
    base = tiny.model()
    renderer = tiny.renderer(base)
    (single, several, last) = (
        stage_examples([trajectory], renderer, "selector", "turn").examples for trajectory in TRAJECTORIES
    )
    assert [len(item.targets) for item in (*single, *several, *last)] == [1, 2, 1, 1, 1, 1]
    prefix = base_prefix(base, several)
    batch = make_batch(several, len(prefix.tokens))
    assert len(batch.contexts) == 1
    assert batch.lengths.tolist() == [item.active - len(prefix.tokens) for item in several]
    # Without a fork nothing is computed twice: with "all", one row holds all decisions in sequence.
    rows = stage_examples(TRAJECTORIES[1:2], renderer, "arguments", "all").examples
    assert [len(item.targets) for item in rows] == [3]


def test_dropout_follows_its_key_and_survives_recomputation():
    base = tiny.model()
    renderer = tiny.renderer(base)
    examples = stage_examples(TRAJECTORIES, renderer, "selector", "turn").examples
    prefix = base_prefix(base, examples)
    batch = make_batch(examples, len(prefix.tokens))

    def gradients(key, **given):
        chosen = options("turn", **given)
        loss_and_gradients = mx.value_and_grad(masked_loss)
        return loss_and_gradients(
            start_weights(base, chosen), base, prefix=prefix, batch=batch, options=chosen, key=key
        )

    key = mx.random.key(3)
    dropped = gradients(key, dropout=0.3)
    assert_equal(gradients(key, dropout=0.3, grad_checkpoint=True), dropped)
    assert gradients(mx.random.key(4), dropout=0.3)[0].item() != dropped[0].item()
    assert gradients(None, dropout=0.3)[0].item() == gradients(key)[0].item() != dropped[0].item()
