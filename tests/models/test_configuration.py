"""What a model's ``config.json`` says, under the names of transformers 4 and 5, and what mlx-lm is told of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from dualtune_mlx.errors import ModelError
from dualtune_mlx.kv import kv_fingerprint
from dualtune_mlx.models import BaseModel, load_model
from dualtune_mlx.models.configuration import read_model_config
from tests import tiny
from tests.models.test_models import LINEAR, LLAMA3, TOKENS, YARN

LONGROPE = {"type": "longrope", "short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [1.0, 2.0, 4.0, 8.0]}
LENGTHS = {"original_max_position_embeddings": 64, "max_position_embeddings": 256}
OLD: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "llama": ("llama", {"rope_theta": 500.0}, {"rope_theta": 500.0}),
    "mistral": ("llama", {"model_type": "mistral", "rope_theta": 500.0}, {"rope_theta": 500.0}),
    "qwen2": ("qwen2", {"rope_theta": 500.0}, {"rope_theta": 500.0, "rope_type": "default"}),
    "qwen3": ("qwen3", {"rope_theta": 500.0}, {"rope_theta": 500.0}),
    "phi3": (
        "phi3",
        {"rope_theta": 500.0, "partial_rotary_factor": 0.5},
        {"rope_theta": 500.0, "partial_rotary_factor": 0.5},
    ),
    "phi": (
        "phi",
        {"rope_theta": 500.0, "partial_rotary_factor": 0.25},
        {"rope_theta": 500.0, "partial_rotary_factor": 0.25},
    ),
    "llama3": ("llama", {"rope_theta": 500.0, "rope_scaling": LLAMA3}, {"rope_theta": 500.0, **LLAMA3}),
    "linear": ("qwen2", {"rope_theta": 500.0, "rope_scaling": LINEAR}, {"rope_theta": 500.0, **LINEAR}),
    "yarn": ("qwen2", {"rope_theta": 500.0, "rope_scaling": YARN}, {"rope_theta": 500.0, **YARN}),
    "gemma3_text": (
        "gemma3_text",
        {"rope_theta": 500.0, "rope_local_base_freq": 50.0, "rope_scaling": LINEAR},
        {
            "full_attention": {"rope_theta": 500.0, **LINEAR},
            "sliding_attention": {"rope_theta": 50.0, "rope_type": "default"},
        },
    ),
    "gemma3": (
        "gemma3",
        {"rope_theta": 500.0, "rope_local_base_freq": 50.0},
        {"full_attention": {"rope_theta": 500.0}, "sliding_attention": {"rope_theta": 50.0}},
    ),
    "mistral3": ("mistral3", {"rope_theta": 500.0}, {"rope_theta": 500.0}),
}
"""A kind, its rotary positions as transformers 4 writes them, and as version 5 writes them."""
OLD_NAMES = ("rope_theta", "rope_scaling", "rope_local_base_freq", "partial_rotary_factor")


def save(folder: Path, kind: str = "llama", remove: tuple[str, ...] = (), **changes: Any) -> Path:
    """The tiny model, with changes to what ``config.json`` says of its language model."""
    tiny.save(folder, kind=kind)
    config = json.loads((folder / "config.json").read_text())
    text = config.get("text_config", config)
    for name in remove:
        text.pop(name, None)
    text |= changes
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def logits(base: BaseModel) -> mx.array:
    return base.model(mx.array([TOKENS[:40]]))


@pytest.mark.parametrize(("kind", "old", "new"), OLD.values(), ids=OLD)
def test_positions_are_read_under_the_names_of_both_generations(tmp_path, kind, old, new):
    older = load_model(str(save(tmp_path / "old", kind, **old)))
    model_type = {"model_type": old["model_type"]} if "model_type" in old else {}
    newer = load_model(str(save(tmp_path / "new", kind, OLD_NAMES, rope_parameters=new, **model_type)))
    both = load_model(str(save(tmp_path / "both", kind, **old, rope_parameters=new)))
    assert mx.array_equal(logits(older), logits(newer)).item()
    assert mx.array_equal(logits(older), logits(both)).item()
    assert older.fingerprint == newer.fingerprint == load_model(str(save(tmp_path / "plain", kind))).fingerprint
    assert not mx.allclose(logits(older), logits(load_model(str(tmp_path / "plain"))), atol=1e-3).item()


def test_keys_and_values_of_other_positions_are_not_taken_for_these(tmp_path):
    """Their weights have one fingerprint: prefixes on disk are told apart by the configuration."""
    bases = [
        load_model(str(save(tmp_path / str(t), "qwen2", rope_parameters={"rope_theta": t}, remove=OLD_NAMES)))
        for t in (500.0, 10000.0)
    ]
    one, other = (kv_fingerprint(base.model, base.fingerprint) for base in bases)
    assert one != other
    assert bases[0].fingerprint == bases[1].fingerprint


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_a_file_that_mlx_lm_reads_as_transformers_does_is_left_alone(tmp_path, kind):
    """What was computed and kept before keeps its key."""
    text = {"max_position_embeddings": 64, "head_dim": 8} if kind == "ministral3" else {}
    window = {"sliding_window": None} if kind in ("phi3", "mistral3") else {}
    assert not read_model_config(save(tmp_path / kind, kind, **text, **window)).entries


@pytest.mark.parametrize(
    ("kind", "remove", "name", "value"),
    [
        ("qwen2", ("rope_theta",), "rope_theta", 10000.0),
        ("llama", ("tie_word_embeddings",), "tie_word_embeddings", False),
        ("phi", ("partial_rotary_factor",), "partial_rotary_factor", 0.5),
        ("gemma3_text", ("num_key_value_heads",), "num_key_value_heads", 4),
    ],
)
def test_an_entry_that_is_not_there_means_transformers_default(tmp_path, kind, remove, name, value):
    assert read_model_config(save(tmp_path / "model", kind, remove)).entries[name] == value


def test_one_mscale_alone_says_nothing(tmp_path):
    """mlx-lm would scale by it, transformers does not."""
    scaling = {**YARN, "mscale": 2.0}
    folder = save(tmp_path / "model", "qwen2", rope_scaling=scaling)
    assert read_model_config(folder).entries == {"rope_scaling": YARN}
    folder = save(tmp_path / "both", "qwen2", rope_scaling={**scaling, "mscale_all_dim": 1.0})
    assert not read_model_config(folder).entries


def test_gemma_s_windows_are_read_from_the_types_of_its_layers(tmp_path):
    types = ["full_attention", "full_attention"]
    folder = save(tmp_path / "model", "gemma3_text", ("sliding_window_pattern",), layer_types=types)
    assert read_model_config(folder).entries["sliding_window_pattern"] == 1


def test_longrope_is_short_up_to_the_length_that_it_is_short_for(tmp_path):
    old = load_model(str(save(tmp_path / "old", "phi3", rope_scaling=LONGROPE, **LENGTHS)))
    new = {"rope_theta": 10000.0, "rope_type": "longrope", **LONGROPE}
    new = load_model(str(save(tmp_path / "new", "phi3", OLD_NAMES, rope_parameters=new, **LENGTHS)))
    short = {**LONGROPE, "long_factor": LONGROPE["short_factor"]}
    short = load_model(str(save(tmp_path / "short", "phi3", rope_scaling=short, **LENGTHS)))
    assert mx.array_equal(logits(old), logits(new)).item()
    assert mx.array_equal(logits(old), logits(short)).item()
    assert (old.context_length, new.context_length, short.context_length) == (64, 64, 256)


@pytest.mark.parametrize(
    ("kind", "changes", "length"),
    [
        ("llama", {"model_type": "mistral", "sliding_window": 16}, 16),
        ("llama", {"model_type": "mistral", "sliding_window": None}, 128),
        ("phi3", {"sliding_window": 16}, 16),
        ("qwen2", {"sliding_window": 16, "use_sliding_window": True, "max_window_layers": 1}, 16),
        ("qwen2", {"sliding_window": 16, "use_sliding_window": True, "max_window_layers": 2}, 128),
        ("qwen2", {"sliding_window": 16, "use_sliding_window": False, "max_window_layers": 1}, 128),
        (
            "qwen3",
            {"sliding_window": 16, "layer_types": ["full_attention", "sliding_attention"], "use_sliding_window": True},
            16,
        ),
        ("ministral3", {"head_dim": 8}, 128),
        ("gemma3_text", {}, 128),
    ],
)
def test_a_window_that_mlx_lm_does_not_keep_bounds_the_context(tmp_path, kind, changes, length):
    """Up to its window, a layer with one computes what a layer without one does."""
    folder = save(tmp_path / "model", kind, max_position_embeddings=128, **changes)
    assert load_model(str(folder)).context_length == length


@pytest.mark.parametrize(
    ("kind", "changes", "got"),
    [
        ("llama", {"rope_parameters": {"rope_theta": 500.0}}, "rope_theta 10000.0, but 500.0 in rope_parameters"),
        (
            "llama",
            {"rope_scaling": LINEAR, "rope_parameters": {"rope_theta": 10000.0, "rope_type": "linear", "factor": 4.0}},
            "rope_scaling.factor 2.0, but 4.0 in rope_parameters",
        ),
        (
            "llama",
            {"rope_scaling": LINEAR, "rope_parameters": {"rope_theta": 10000.0}},
            "rope_scaling.rope_type linear, but default in rope_parameters",
        ),
        (
            "gemma3_text",
            {"rope_local_base_freq": 10.0, "rope_parameters": {"sliding_attention": {"rope_theta": 20.0}}},
            "rope_local_base_freq 10.0, but 20.0 in rope_parameters",
        ),
    ],
)
def test_a_file_that_says_two_things_is_refused(tmp_path, kind, changes, got):
    with pytest.raises(ModelError, match="two things about its rotary positions") as error:
        load_model(str(save(tmp_path / "model", kind, **changes)))
    assert got in error.value.got


@pytest.mark.parametrize(
    ("kind", "rope", "got"),
    [
        ("llama", {"rope_type": "dynamic", "factor": 2.0}, "rope_type dynamic"),
        ("llama", {"rope_type": "new", "factor": 2.0}, "rope_type new"),
        ("phi3", {"rope_type": "llama3", **LLAMA3}, "rope_parameters"),  # transformers itself refuses it
        ("phi", LINEAR, "rope_type linear"),
        ("qwen2", {"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5"),
        ("qwen2", {**YARN, "attention_factor": 2.0}, "attention_factor 2.0"),
        ("qwen2", {**YARN, "truncate": False}, "truncate false"),
        ("phi3", {**LONGROPE, "rope_type": "longrope", "factor": 8.0}, "another factor"),
        ("phi3", {**LONGROPE, "rope_type": "longrope", "short_mscale": 1.2}, "short_mscale 1.2"),
    ],
)
def test_positions_that_mlx_lm_would_compute_otherwise_are_refused(tmp_path, kind, rope, got):
    new = {"rope_theta": 10000.0, **rope}
    lengths = LENGTHS if "short_factor" in rope else {}
    with pytest.raises(ModelError) as error:
        load_model(str(save(tmp_path / "model", kind, OLD_NAMES, rope_parameters=new, **lengths)))
    assert got in error.value.got


@pytest.mark.parametrize(
    ("kind", "changes", "got"),
    [
        ("llama", {"hidden_act": "relu"}, "hidden_act relu"),
        ("gemma3_text", {"hidden_activation": "silu"}, "hidden_activation silu"),
        ("gemma3_text", {"final_logit_softcapping": 30.0}, "final_logit_softcapping 30.0"),
        ("gemma3_text", {"use_bidirectional_attention": True}, "use_bidirectional_attention True"),
        ("gemma3_text", {"layer_types": ["full_attention", "sliding_attention"]}, "layers without a window: 1 of 2"),
    ],
)
def test_what_mlx_lm_would_pass_over_is_refused(tmp_path, kind, changes, got):
    with pytest.raises(ModelError, match="mlx-lm") as error:
        load_model(str(save(tmp_path / "model", kind, **changes)))
    assert got in error.value.got
