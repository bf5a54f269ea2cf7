"""Tiny models of transformers and the same ones in mlx-lm, and PEFT's adapters: what ours is held to."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import peft
import torch
from mlx_lm.models.cache import make_prompt_cache
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from dualtune_mlx.adapters import AdapterBank, invocation_start
from dualtune_mlx.conversion.peft.base import BaseCheckpoint
from dualtune_mlx.models import load_network

COMMON = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 96,
    "tie_word_embeddings": False,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "decoder_sparse_step": 1}
KINDS: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama"},
    "tied": {"model_type": "llama", "tie_word_embeddings": True},
    "qwen2": {"model_type": "qwen2"},
    "gemma3": {
        "model_type": "gemma3_text",
        "hidden_size": 64,  # mlx-lm rounds its square root to bfloat16
        "head_dim": 8,
        "query_pre_attn_scalar": 8,
        "sliding_window": 16,
        "sliding_window_pattern": 3,
        "tie_word_embeddings": True,
    },
    "mixtral": {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen2_moe": {
        "model_type": "qwen2_moe",
        **EXPERTS,
        "shared_expert_intermediate_size": 40,
        "decoder_sparse_step": 1,
    },
    "qwen3_moe": {
        "model_type": "qwen3_moe",
        **EXPERTS,
        "head_dim": 8,
        "norm_topk_prob": True,
        "decoder_sparse_step": 1,
    },
}
PEFT = Path(peft.__file__).parent
PROMPT = (5, 17, 30, 8, 61, 17, 30, 44, 12, 90, 3)


@cache
def model_folder(kind: str, root: Path) -> Path:
    """A tiny random model of a kind as transformers saves it."""
    entries = {**COMMON, **KINDS[kind]}
    torch.manual_seed(0)
    config = AutoConfig.for_model(**entries)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Norms and biases that matter, and weights large enough for an update to show.
            noise = torch.randn_like(parameter)
            parameter.copy_(1 + 0.1 * noise if "norm" in name and "gemma" not in kind else 0.08 * noise)
    model.save_pretrained(root / kind)
    return root / kind


def torch_model(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def mlx_base(folder: Path) -> BaseCheckpoint:
    network = load_network(str(folder))
    return BaseCheckpoint(str(folder), network.model, network.config, lambda: "weights")


def save_adapter(model: Any, config: LoraConfig, folder: Path, seed: int = 1) -> Any:
    """Give a model an adapter of random weights, and save it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = get_peft_model(model, config).eval()
        torch.manual_seed(seed)
        with torch.no_grad():
            for name, parameter in adapted.named_parameters():
                if "magnitude" in name:
                    parameter.mul_(1 + 0.3 * torch.rand_like(parameter))
                elif parameter.requires_grad:
                    parameter.copy_(parameter * 0.5 + 0.1 * torch.randn_like(parameter))
        adapted.save_pretrained(folder)
    return adapted


def torch_logits(model: Any, tokens: Sequence[int] = PROMPT) -> np.ndarray:
    with torch.no_grad():
        return model(input_ids=torch.tensor([list(tokens)]), use_cache=False).logits[0].float().numpy()


def loaded(folder: Path, adapter: Path) -> tuple[Any, list[str]]:
    """A model with an adapter as PEFT loads it, and what it warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = PeftModel.from_pretrained(torch_model(folder), str(adapter)).eval()
    return model, [str(one.message) for one in caught if Path(one.filename).is_relative_to(PEFT)]


def mlx_logits(base: BaseCheckpoint, adapter: Path | None, tokens: Sequence[int] = PROMPT) -> np.ndarray:
    """The logits of every position; under an activated adapter, those before its invocation are the base's."""
    bank = AdapterBank(base.model)
    resident = None if adapter is None else bank.load(adapter)
    start = 0
    if resident is not None and resident.config.tokens:
        start = invocation_start(tokens, resident.config.tokens)
    cache = make_prompt_cache(base.model)
    parts = []
    for adapter_then, ids in ((None, tokens[:start]), (resident, tokens[start:])):
        bank.activate(adapter_then)
        if ids:
            parts.append(base.model(mx.array([list(ids)]), cache)[0])
    bank.activate(None)
    return np.array(mx.concatenate(parts).astype(mx.float32))
