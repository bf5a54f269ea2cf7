"""Compare the logits of a PEFT adapter in torch with those of its conversion in MLX, both in float32."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx_lm.models.cache import make_prompt_cache

from dualtune_mlx.adapters import Adapter, AdapterBank, invocation_start
from dualtune_mlx.conversion.peft.base import BaseCheckpoint
from dualtune_mlx.errors import ConversionError

LENGTH = 24
"""Tokens of the prompt, without an invocation."""
TOLERANCE = 1e-4
"""The difference that is allowed, over the largest logit.

Two libraries' float32 differ by a hundredth of this, a wrong conversion by a thousand times as much."""


def compare_logits(adapter: Adapter, peft_folder: Path, base: BaseCheckpoint | None) -> float:
    """Run a random prompt through PEFT's adapter and ours, and give the largest difference of a logit.

    Raises:
        ConversionError: when torch or peft is missing, the model cannot be loaded in both, or the logits differ.
    """
    folder = _to_float32(base, peft_folder)
    assert base is not None
    tokens = _random_prompt(base, adapter.config.tokens)
    theirs, ours = _peft_logits(folder, peft_folder, tokens), mlx_logits(base.model, adapter, tokens)
    difference, largest = float(np.abs(theirs - ours).max()), float(np.abs(theirs).max())
    if not difference <= TOLERANCE * largest:
        raise ConversionError(
            "the converted adapter's logits are not PEFT's",
            where=peft_folder,
            got=f"a difference of {difference:.2g}",
            expected=f"at most {TOLERANCE * largest:.2g}, the largest logit being {largest:.3g}",
            fix="give the adapter's own base model; if it is that, please report this adapter's configuration",
        )
    return difference


def mlx_logits(model: nn.Module, adapter: Adapter, tokens: Sequence[int]) -> np.ndarray:
    """Logits (length, vocabulary) in float32. Before an activated adapter's invocation they are the base's."""
    bank = AdapterBank(model)
    resident = bank.load(adapter)
    start = invocation_start(tokens, adapter.config.tokens) if adapter.config.tokens else 0
    cache, parts = make_prompt_cache(model), []
    for active, ids in ((None, tokens[:start]), (resident, tokens[start:])):
        if ids:
            bank.activate(active)
            parts.append(model(mx.array([list(ids)]), cache)[0].astype(mx.float32))
    logits = np.array(mx.concatenate(parts))
    bank.unload(resident)
    return logits


def _to_float32(base: BaseCheckpoint | None, where: Path) -> str:
    """Convert the model to float32; its folder or hub id."""
    quantized = base is not None and any(hasattr(module, "bits") for module in base.model.modules())
    if base is None or quantized:
        raise ConversionError(
            "logits can only be compared over an unquantised model",
            where=where,
            got="a quantised model" if base else "no model",
            fix="give the adapter's own base model, unquantised: --model",
        )
    base.model.set_dtype(mx.float32)
    mx.eval(base.model.parameters())
    return base.name


def _random_prompt(base: BaseCheckpoint, invocation: tuple[int, ...]) -> tuple[int, ...]:
    """Random tokens with an invocation in the middle."""
    text = base.config.get("text_config") or base.config
    draw = random.Random(0)
    ids = [draw.randrange(int(text["vocab_size"])) for _ in range(LENGTH)]
    return (*ids[: LENGTH // 2], *invocation, *ids[LENGTH // 2 :])


def _peft_logits(folder: str, adapter: Path, tokens: Sequence[int]) -> np.ndarray:
    try:
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM
    except ImportError as error:
        raise ConversionError(
            "torch and peft are needed to compare logits", got=error, fix="pip install 'dualtune-mlx[peft]'"
        ) from error
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
        )
        model = PeftModel.from_pretrained(model, str(adapter)).eval()
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([list(tokens)]), use_cache=False).logits[0]
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ConversionError(
            "PEFT cannot load the adapter or its model",
            where=f"{adapter}, {folder}",
            got=str(error).splitlines()[0],
            fix="check that this PEFT and transformers load the model, or leave --verify out",
        ) from error
    array: np.ndarray = logits.float().numpy()
    return array
