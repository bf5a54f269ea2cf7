"""Logits of models that transformers 5 has saved, beside transformers' own in torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra peft: make test-peft")

import mlx.core as mx
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForImageTextToText

from dualtune_mlx.models import load_model
from tests import tiny
from tests.models.test_configuration import LENGTHS, LONGROPE
from tests.models.test_models import LINEAR, LLAMA3, TOKENS, YARN

pytestmark = pytest.mark.peft

COMMON = {
    "hidden_size": 64,  # mlx-lm rounds Gemma's root of it to bfloat16
    "num_hidden_layers": 2,
    "intermediate_size": 64,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 272,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "rope_theta": 500.0,
}
HEADS = {"head_dim": 8}
GEMMA = {
    **HEADS,
    "query_pre_attn_scalar": 8,
    "sliding_window": tiny.WINDOW,
    "layer_types": ["sliding_attention", "full_attention"],
    "rope_local_base_freq": 50.0,
}
MISTRAL = {**COMMON, **HEADS, "model_type": "mistral", "sliding_window": None}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama, tied": ("llama", {"tie_word_embeddings": True}),
    "llama, nothing said": ("llama", {"rope_theta": None}),
    "llama, llama3": ("llama", {"rope_scaling": LLAMA3, "max_position_embeddings": 256}),
    "llama, yarn": ("llama", {"rope_scaling": YARN, "max_position_embeddings": 128}),
    "llama, linear": ("llama", {"rope_scaling": LINEAR}),
    "llama, longrope": (
        "llama",
        {"rope_scaling": {**LONGROPE, "original_max_position_embeddings": 64}, "max_position_embeddings": 256},
    ),
    "mistral": ("mistral", {"sliding_window": None}),
    "mistral, window": ("mistral", {"sliding_window": tiny.WINDOW}),
    "qwen2": ("qwen2", {}),
    "qwen2, nothing said": ("qwen2", {"rope_theta": None}),
    "qwen2, yarn with one mscale": ("qwen2", {"rope_scaling": {**YARN, "mscale": 2.0}, "max_position_embeddings": 128}),
    "qwen2, window": ("qwen2", {"sliding_window": tiny.WINDOW, "use_sliding_window": True, "max_window_layers": 1}),
    "qwen3": ("qwen3", HEADS),
    "qwen3, yarn": ("qwen3", {**HEADS, "rope_scaling": YARN, "max_position_embeddings": 128}),
    "gemma3_text": ("gemma3_text", GEMMA),
    "gemma3_text, linear": ("gemma3_text", {**GEMMA, "rope_scaling": LINEAR}),
    "gemma3_text, no windows": ("gemma3_text", {**GEMMA, "layer_types": ["full_attention"] * 2}),
    "gemma3": ("gemma3", {"text_config": {**COMMON, **GEMMA}, "vision_config": VISION}),
    "phi3": ("phi3", {}),
    "phi3, longrope": ("phi3", {"rope_scaling": LONGROPE, **LENGTHS}),
    "phi3, partial": ("phi3", {"partial_rotary_factor": 0.5}),
    "phi": ("phi", {"partial_rotary_factor": 0.25}),
    "phi, nothing said": ("phi", {"rope_theta": None}),
    "ministral3": ("ministral3", HEADS),
    "mistral3": (
        "mistral3",
        {
            "text_config": MISTRAL,
            "vision_config": {**VISION, **HEADS, "model_type": "pixtral"},
            "tie_word_embeddings": False,
        },
    ),
}


def save(kind: str, entries: dict[str, Any], folder: Path) -> Any:
    """A random model as transformers saves it."""
    common = COMMON if "text_config" not in entries else {}
    given = {name: value for name, value in {**common, **entries}.items() if name != "rope_theta" or value is not None}
    torch.manual_seed(0)
    auto = AutoModelForImageTextToText if "text_config" in entries else AutoModelForCausalLM
    model = auto.from_config(CONFIG_MAPPING[kind](**given)).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.2)
    model.save_pretrained(folder)
    tiny.tokenizer()._tokenizer.save_pretrained(str(folder))
    return model


@pytest.mark.parametrize(("kind", "entries"), CASES.values(), ids=CASES)
def test_a_model_computes_here_what_it_does_in_transformers(tmp_path, kind, entries):
    model = save(kind, entries, tmp_path / "model")
    base = load_model(str(tmp_path / "model"))
    tokens = TOKENS[: min(60, base.context_length)]
    more = {"token_type_ids": torch.zeros(1, len(tokens), dtype=torch.long)} if kind == "gemma3" else {}
    with torch.no_grad():
        expected = model(input_ids=torch.tensor([tokens]), use_cache=False, **more).logits[0].numpy()
    ours = np.array(base.model(mx.array([tokens]))[0])
    assert np.abs(ours - expected).max() <= 2e-5 * np.abs(expected).max()
