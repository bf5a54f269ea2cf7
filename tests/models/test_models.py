"""Base models of every supported kind: their own logits, caches that forget nothing, and refusals."""

from __future__ import annotations

import importlib
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx_lm.models.cache import KVCache, RotatingKVCache, make_prompt_cache
from mlx_lm.models.rope_utils import Llama3RoPE, SuScaledRoPE, YarnRoPE
from mlx_lm.tuner.utils import load_adapters

from dualtune_mlx.errors import ModelError
from dualtune_mlx.models import BaseModel, base_model, fingerprint, load_model
from tests import tiny
from tests.adapters.adapters import adapter_for

TOKENS = [(37 * i + i * i) % 250 for i in range(7 * tiny.WINDOW)]
"""Long enough that a window of the first layer has passed most of it."""
DECODED = 2 * tiny.WINDOW

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
LONGROPE = {"type": "longrope", "short_factor": [1.0] * 4, "long_factor": [1.0, 2.0, 4.0, 8.0]}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
LINEAR = {"rope_type": "linear", "factor": 2.0}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{kind: (kind, {}) for kind in tiny.KINDS},
    "llama with windows": (
        "llama",
        {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": tiny.WINDOW},
    ),
    "llama3 positions": ("llama", {"rope_scaling": LLAMA3}),
    "linear positions": ("llama", {"rope_scaling": LINEAR}),
    "traditional positions": ("llama", {"rope_traditional": True}),
    "yarn positions": ("qwen3", {"rope_scaling": YARN}),
    "longrope positions": ("phi3", {"rope_scaling": LONGROPE, "original_max_position_embeddings": 32}),
    "part of the width rotated": ("phi3", {"partial_rotary_factor": 0.5}),
    "gemma3 with linear positions": ("gemma3_text", {"rope_scaling": LINEAR}),
}
WINDOWED = ("gemma3_text", "gemma3", "ministral3", "llama with windows")

each_variant = pytest.mark.parametrize("variant", VARIANTS)
full_or_quantised = pytest.mark.parametrize("quantized", [False, True], ids=["full", "quantised"])


def make_model(variant: str, **changes: Any) -> BaseModel:
    kind, own = VARIANTS[variant]
    return tiny.model(kind=kind, **{**own, **changes})


def close(left: mx.array, right: mx.array) -> bool:
    return bool(mx.allclose(left, right, rtol=1e-4, atol=1e-5 * mx.abs(right).max().item()).item())


def through(base: BaseModel, caches: list[Any], step: int = 24) -> mx.array:
    """The model's own logits of all tokens: a prefill in steps, then one token at a time."""
    prompt = len(TOKENS) - DECODED
    ends = [*range(step, prompt, step), prompt, *range(prompt + 1, len(TOKENS) + 1)]
    parts = []
    for start, end in zip([0, *ends], ends, strict=False):
        parts.append(base.model(mx.array([TOKENS[start:end]]), cache=caches))
    return mx.concatenate(parts, axis=1)


def head_of_hidden(base: BaseModel, tokens: list[int], caches: list[Any]) -> mx.array:
    return base.head(base.hidden(mx.array([tokens]), caches))


@full_or_quantised
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@each_variant
def test_the_head_of_the_hidden_states_gives_the_model_s_own_logits(variant, tied, quantized):
    base = make_model(variant, tie_word_embeddings=tied, quantized=quantized)
    assert ("lm_head" in base.language_model) == (not tied or variant == "phi")
    logits = head_of_hidden(base, TOKENS, base.new_caches())
    assert mx.array_equal(logits, base.model(mx.array([TOKENS]), cache=base.new_caches())).item()
    assert close(logits, base.model(mx.array([TOKENS]), cache=make_prompt_cache(base.model)))
    assert close(logits, base.model(mx.array([TOKENS])))


@full_or_quantised
@each_variant
def test_caches_that_forget_nothing_give_what_the_model_s_own_give(variant, quantized):
    base = make_model(variant, quantized=quantized)
    caches = base.new_caches()
    assert [type(cache) for cache in caches] == [KVCache] * base.bank.num_layers
    logits = through(base, caches)
    its_own = make_prompt_cache(base.model)
    assert variant not in WINDOWED or RotatingKVCache in map(type, its_own)
    if RotatingKVCache in map(type, its_own):  # otherwise they are the very same caches
        assert close(logits, through(base, its_own))
    assert close(logits, base.model(mx.array([TOKENS])))
    assert {cache.offset for cache in caches} == {len(TOKENS)}


@pytest.mark.parametrize("variant", WINDOWED)
def test_a_window_is_kept_by_the_mask(variant):
    base, wide = make_model(variant), make_model(variant, sliding_window=10 * len(TOKENS))
    assert RotatingKVCache in map(type, make_prompt_cache(base.model))
    narrow, open_to_all = through(base, base.new_caches()), through(wide, wide.new_caches())
    assert close(narrow[:, : tiny.WINDOW], open_to_all[:, : tiny.WINDOW])
    apart = mx.abs(narrow - open_to_all)[:, tiny.WINDOW :].max(axis=-1)
    assert mx.all(apart > 1e-4).item()


@each_variant
def test_a_snapshot_may_be_cut_and_caches_taken_back(variant, monkeypatch):
    monkeypatch.setattr(base_model, "PREFILL_CHUNK", 24)
    base = make_model(variant)
    expected = base.model(mx.array([TOKENS]))
    snapshot = base.snapshot(TOKENS)
    for known in (5, 3 * tiny.WINDOW + 1, len(TOKENS) - 1):
        caches = snapshot.to_caches(known)
        head_of_hidden(base, [3, 1, 4], caches)
        for cache in caches:
            assert cache.trim(3) == 3
        assert close(head_of_hidden(base, TOKENS[known:], caches), expected[:, known:])


@each_variant
def test_every_row_may_have_a_position_of_its_own(variant):
    """What training relies on: values and gradients, for each layer's own rotary positions."""
    base = make_model(variant)
    offsets = [0, 3, 41, 90]
    for number, layer in enumerate(base.model.layers):
        rope = layer.self_attn.rope
        x, weight = (mx.random.normal((len(offsets), 4, 5, 8), key=mx.random.key(10 * number + i)) for i in (1, 2))

        def together(x, rope=rope, weight=weight):
            return (weight * rope(x, offset=mx.array(offsets))).sum()

        def apart(x, rope=rope, weight=weight):
            rows = [rope(x[i : i + 1], offset=offset) for i, offset in enumerate(offsets)]
            return (weight * mx.concatenate(rows)).sum()

        for left, right in zip(mx.value_and_grad(together)(x), mx.value_and_grad(apart)(x), strict=True):
            assert close(left, right)


@pytest.mark.parametrize(
    ("variant", "rope"),
    [
        ("llama3 positions", Llama3RoPE),
        ("yarn positions", YarnRoPE),
        ("longrope positions", SuScaledRoPE),
        ("ministral3", YarnRoPE),
    ],
)
def test_the_variants_have_the_positions_they_are_named_after(variant, rope):
    assert type(make_model(variant).model.layers[0].self_attn.rope) is rope


@full_or_quantised
@pytest.mark.parametrize("kind", tiny.KINDS)
def test_a_model_is_loaded_as_mlx_lm_saves_it(tmp_path, kind, quantized):
    base = load_model(str(tiny.save(tmp_path / kind, kind=kind, quantized=quantized)))
    made_here = tiny.model(kind=kind, quantized=quantized)
    assert base.fingerprint == made_here.fingerprint
    assert any(isinstance(module, nn.QuantizedLinear) for module in base.model.modules()) == quantized
    tokens = TOKENS[:20]
    logits = head_of_hidden(base, tokens, base.new_caches())
    assert mx.array_equal(logits, head_of_hidden(made_here, tokens, made_here.new_caches())).item()


def test_mistral_is_a_llama(tmp_path):
    base = load_model(str(tiny.save(tmp_path / "mistral", model_type="mistral")))
    assert base.model.model_type == "mistral"
    assert base.fingerprint == tiny.model().fingerprint


def test_a_fingerprint_tells_weights_apart_and_stays_while_they_are_used():
    kinds = [kind for kind in tiny.KINDS if kind != "ministral3"]  # its weights are a llama's
    bases = [tiny.model(seed, kind, quantized=q) for seed in (0, 1) for kind in kinds for q in (False, True)]
    assert len({base.fingerprint for base in bases}) == len(bases)
    assert [fingerprint(base.model) for base in bases] == [base.fingerprint for base in bases]


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_a_saved_adapter_acts_in_mlx_lm_as_it_does_here(kind, tmp_path):
    base, plain, tokens = tiny.model(kind=kind), tiny.unwrapped(kind=kind), mx.array([TOKENS])
    adapter = base.bank.load(adapter_for(base.bank, seed=1))
    adapter.save(tmp_path / "adapter")
    before = plain(tokens)
    base.bank.activate(adapter)
    after = load_adapters(plain, str(tmp_path / "adapter"))(tokens)
    assert close(base.model(tokens), after)
    assert not close(before, after)


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_the_context_length_is_the_language_model_s(kind):
    assert tiny.model(kind=kind, max_position_embeddings=1234).context_length == 1234


def test_a_context_length_that_is_not_written_down_is_not_known():
    assert tiny.model(kind="llama").context_length is None
    assert tiny.model(kind="gemma3").context_length is None


def network(kind: str, **entries: Any) -> nn.Module:
    module = importlib.import_module(f"mlx_lm.models.{kind}")
    return module.Model(module.ModelArgs.from_dict({**tiny.config(), "model_type": kind, **entries}))


MAMBA = {
    "state_size": 4,
    "conv_kernel": 4,
    "use_bias": False,
    "use_conv_bias": True,
    "time_step_rank": 2,
}
EXPERTS = {
    "num_experts": 2,
    "num_experts_per_tok": 1,
    "moe_intermediate_size": 32,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "norm_topk_prob": True,
    "head_dim": 8,
    "max_position_embeddings": 64,
}


@pytest.mark.parametrize(
    ("kind", "entries"),
    [
        ("mamba", MAMBA),  # no attention
        ("cohere", {}),  # ordinary caches, scaled logits
        ("gemma2", {"head_dim": 8}),  # capped logits
        ("qwen3_moe", EXPERTS),  # layers that no adapter fits
    ],
)
def test_other_kinds_are_refused_by_name(kind, entries):
    with pytest.raises(ModelError, match="this kind of model is not supported") as error:
        BaseModel("other/model", network(kind, **entries), tiny.tokenizer())
    for part in (
        "where: other/model",
        f"got: {kind}, which is mlx_lm.models.{kind}\n",
        "qwen3",
        "use a Llama, Mistral",
    ):
        assert part in str(error.value)


class Model(nn.Module):
    """Not mlx-lm's, whatever it looks like."""

    def __init__(self, language_model: nn.Module | None = None) -> None:
        super().__init__()
        self.model_type = "llama"
        self.model = nn.Linear(4, 4)
        if language_model is not None:
            self.language_model = language_model


def test_a_look_alike_is_refused():
    with pytest.raises(ModelError, match=f"got: llama, which is {__name__}\n"):
        BaseModel("x", Model(), tiny.tokenizer())


def test_an_unknown_wrapper_is_refused():
    with pytest.raises(ModelError, match=f"which is {__name__} around mlx_lm.models.llama\n"):
        BaseModel("x", Model(tiny.unwrapped()), tiny.tokenizer())


def test_a_known_wrapper_around_an_unknown_kind_is_refused():
    outer = tiny.unwrapped(kind="gemma3")
    outer.language_model = network("cohere")
    with pytest.raises(ModelError, match="got: gemma3, which is mlx_lm.models.gemma3 around mlx_lm.models.cohere\n"):
        BaseModel("x", outer, tiny.tokenizer())


@pytest.mark.parametrize("kind", ["llama", "qwen2", "mistral3"])
def test_positions_that_depend_on_the_length_are_refused(kind):
    dynamic = {"rope_scaling": {"type": "dynamic", "factor": 2.0}, "max_position_embeddings": 64}
    with pytest.raises(ModelError, match="rope_scaling of type dynamic"):
        tiny.model(kind=kind, **dynamic)


def test_a_refused_model_is_refused_when_loaded(tmp_path):
    folder = tiny.save(
        tmp_path / "dynamic", rope_scaling={"type": "dynamic", "factor": 2.0}, max_position_embeddings=64
    )
    with pytest.raises(ModelError, match="rotary positions is not supported"):
        load_model(str(folder))


@pytest.mark.parametrize("quantized", [False, True])
def test_a_text_is_embedded_as_the_mean_of_its_first_tokens(quantized):
    base = tiny.model(quantized=quantized)
    tokens = base.tokenizer.encode(" show a.txt", add_special_tokens=False)
    rows = [np.array(base.language_model.model.embed_tokens(mx.array([token]))[0]) for token in tokens]
    assert base.embed("Show A.txt") == pytest.approx(np.mean(rows, axis=0), abs=1e-5)
    assert base.embed("").shape == base.embed("b" * 10**6).shape == rows[0].shape
