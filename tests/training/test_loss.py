"""The loss and every gradient, against a plain computation: full sequence, full logits, a mask."""

import mlx.core as mx
import pytest

from dualtune_mlx.prompts import ACTIVATIONS, Prompt, Template
from dualtune_mlx.tools import Tool, ToolCall, as_messages
from dualtune_mlx.training.batches import make_batch
from dualtune_mlx.training.examples import example
from dualtune_mlx.training.loss import masked_loss
from dualtune_mlx.training.trainer import base_prefix
from tests import tiny

TOOLS = [Tool(n, "", {"type": "object", "properties": {"path": {"type": "string"}}}) for n in ("read", "list", "drop")]
CONVERSATIONS = [
    ("show a.txt", ToolCall("read", {"path": "a.txt"})),
    ("what is in the folder called docs?", ToolCall("list", {"path": "docs"})),
    (
        [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "hello"},
            {"role": "user", "content": "rm x"},
        ],
        ToolCall("drop", {"path": "x"}),
    ),
]


def plain_loss(weights, base, examples, scale):
    """Each example alone, from its first token, with the adapter's updates masked out before activation."""
    total, count = 0.0, 0
    for item in examples:
        tokens = mx.array([item.tokens])
        acts = (mx.arange(len(item.tokens)) >= item.active)[None, :, None]
        hooks = {}
        for name, slot in base.bank.slots.items():

            def update(x, linear=slot.linear, part=weights[name], acts=acts):
                return linear(x) + acts[:, : x.shape[1]] * (scale * (x @ part["a"] @ part["b"]))

            hooks[name] = update
        logits = run_with(base, hooks, tokens)
        for position in range(item.start, len(item.tokens)):
            row = logits[0, position - 1]
            total = total + mx.logsumexp(row) - row[item.tokens[position]]
            count += 1
    return total / count


def run_with(base, hooks, tokens):
    """Full logits with every slot's layer replaced by a function."""
    originals = {name: slot.linear for name, slot in base.bank.slots.items()}
    try:
        for name, slot in base.bank.slots.items():
            object.__setattr__(slot, "linear_hook", hooks[name])
            slot["linear"] = hooks[name]
        return base.model(tokens)
    finally:
        for name, slot in base.bank.slots.items():
            slot["linear"] = originals[name]


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
@pytest.mark.parametrize("stage", ["selector", "arguments"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_loss_and_gradients_equal_the_plain_computation(activation, stage, kind):
    base = tiny.model(kind=kind)
    prompt = Prompt(Template("chatml"), base.tokenizer)
    streams = [prompt.stream(as_messages(messages), TOOLS, call) for messages, call in CONVERSATIONS]
    examples = [example(stream, stage, activation) for stream in streams]
    adapter = base.bank.new_adapter(rank=4, scale=2.0, activation=activation, seed=1)
    weights = {
        name: {"a": u.a, "b": mx.random.normal(u.b.shape, key=mx.random.key(i)) * 0.1}
        for i, (name, u) in enumerate(adapter.layers.items())
    }
    prefix = base_prefix(base, examples)
    assert (prefix is None) == (activation == "all")
    batch = make_batch(examples, len(prefix.tokens) if prefix else 0)

    loss, gradients = mx.value_and_grad(masked_loss)(weights, base, prefix, batch, 2.0)
    expected_loss, expected = mx.value_and_grad(plain_loss)(weights, base, examples, 2.0)

    assert loss.item() == pytest.approx(expected_loss.item(), rel=1e-5)
    for name, parts in expected.items():
        for key, value in parts.items():
            scale = mx.abs(value).max().item() + 1e-6
            assert mx.abs(gradients[name][key] - value).max().item() < 1e-4 * scale, (name, key)
    assert max(mx.abs(parts["a"]).max().item() for parts in expected.values()) > 1e-4
