"""Which layers an adapter changes."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import pytest

from dualtune_mlx.adapters import LAYERS, LAYERS_FORM, AdapterBank, layer_range, matching_keys
from dualtune_mlx.errors import UsageError
from tests import tiny

KEYS = ("mlp.down_proj", "mlp.up_proj", "self_attn.k_proj", "self_attn.q_proj")
OPTIONS = {"rank": 4, "scale": 2.0, "activation": "turn", "seed": 7}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("all", range(30)),
        ("last:1", range(29, 30)),
        ("last:16", range(14, 30)),
        ("last:30", range(30)),
        ("last:31", range(30)),
        ("first:1", range(1)),
        ("first:16", range(16)),
        ("first:99", range(30)),
    ],
)
def test_a_range_of_layers(spec, expected):
    assert LAYERS.fullmatch(spec)
    assert layer_range(spec, 30) == expected


@pytest.mark.parametrize(
    "spec", ["", "16", "last", "last:", "last:0", "last:-1", "last:01", "last: 2", "Last:2", "all:2", "last:٣", "all\n"]
)
def test_a_range_of_another_form_is_refused(spec):
    assert not LAYERS.fullmatch(spec)
    with pytest.raises(UsageError) as caught:
        layer_range(spec, 30)
    error = caught.value
    assert (error.where, error.got, error.expected) == ("layers", repr(spec), LAYERS_FORM)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["*"], KEYS),
        (["self_attn.*"], KEYS[2:]),
        (["self_attn.q_proj", "mlp.*"], (KEYS[0], KEYS[1], KEYS[3])),
        (["q_proj"], KEYS[3:]),
        (["[kq]_proj"], KEYS[2:]),
        (["up_*", "*.up_proj"], KEYS[1:2]),
    ],
)
def test_patterns_choose_names_in_the_names_order(patterns, expected):
    assert matching_keys(KEYS, patterns) == expected
    assert matching_keys(KEYS, iter(patterns)) == expected


@pytest.mark.parametrize(
    ("patterns", "got"),
    [
        (["v_proj"], "'v_proj'"),
        (["q_proj", "Q_PROJ", "attn.q_proj"], "'Q_PROJ', 'attn.q_proj'"),
        (["mlp"], "'mlp'"),
        (["MLP.*"], "'MLP.*'"),
    ],
)
def test_patterns_that_match_nothing_are_all_named_with_all_names(patterns, got):
    with pytest.raises(UsageError, match="matches none of the model's linear layers") as caught:
        matching_keys(KEYS, patterns)
    assert (caught.value.where, caught.value.got) == ("targets", got)
    assert ", ".join(KEYS) in str(caught.value)


def test_no_patterns_are_refused():
    with pytest.raises(UsageError, match="there is no pattern(?s:.*)mlp.down_proj"):
        matching_keys(KEYS, [])


@pytest.fixture(scope="module")
def bank() -> AdapterBank:
    return AdapterBank(tiny.unwrapped(layers=3))


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("layers", ["all", "last:2", "last:16"])
def test_a_fresh_adapter_draws_what_measured_recipes_drew(bank, layers, dora):
    first = 1 if layers == "last:2" else 0
    names = sorted(name for name in bank.layers if int(name.split(".")[2]) >= first)
    adapter = bank.new_adapter(**OPTIONS, layers=layers, dora=dora)
    assert list(adapter.layers) == names
    assert adapter.config.layers == (first - 3, None)
    for name, key in zip(names, mx.random.split(mx.random.key(7), len(names)), strict=True):
        outputs, inputs = bank.layers[name].linear.weight.shape
        update = adapter.layers[name]
        drawn = mx.random.uniform(-(inputs**-0.5), inputs**-0.5, (inputs, 4), key=key)
        assert mx.array_equal(update.a, drawn).item()
        assert update.b.shape == (4, outputs) and not update.b.any().item()


def test_a_fresh_adapter_is_where_it_was_asked_for(bank):
    adapter = bank.new_adapter(
        rank=4,
        scale=2.0,
        activation="turn",
        seed=7,
        layers="first:2",
        targets=("mlp.*", "q_proj"),
        dora=True,
        dropout=0.3,
    )
    keys = ("mlp.down_proj", "mlp.gate_proj", "mlp.up_proj", "self_attn.q_proj")
    assert adapter.layers.keys() == {f"model.layers.{layer}.{key}" for layer in (0, 1) for key in keys}
    config = adapter.config
    assert (config.rank, config.scale, config.activation) == (4, 2.0, "turn")
    assert (config.layers, config.keys, config.kind, config.dropout) == ((0, 2), keys, "dora", 0.3)
    assert bank.load(adapter).content_hash == adapter.content_hash


def test_a_target_that_only_other_layers_have_is_refused():
    model = tiny.unwrapped()
    model.layers[0].mlp.up_proj = nn.Identity()
    bank = AdapterBank(model)
    assert list(bank.new_adapter(**OPTIONS, targets=("up_proj",)).layers) == ["model.layers.1.mlp.up_proj"]
    with pytest.raises(UsageError, match="got: 'up_proj'"):
        bank.new_adapter(**OPTIONS, layers="first:1", targets=("up_proj",))


def test_a_fresh_adapter_has_the_layers_and_targets_checked(bank):
    with pytest.raises(UsageError, match="lm_head(?s:.*)self_attn.v_proj"):
        bank.new_adapter(**OPTIONS, targets=("lm_head",))
    with pytest.raises(UsageError, match="last:0"):
        bank.new_adapter(**OPTIONS, layers="last:0")
