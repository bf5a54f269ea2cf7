"""PEFT adapters made by hand, for tests that need neither torch nor peft."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
SHAPES = {"q_proj": (32, 32), "k_proj": (32, 16), "v_proj": (32, 16), "o_proj": (32, 32), "up_proj": (32, 64)}
"""(inputs, outputs) of layers of ``tests.tiny``."""


def write_adapter(folder: Path, tensors: Mapping[str, np.ndarray], metadata: Any = None, **fields: Any) -> Path:
    """A PEFT adapter's folder with these tensors and fields of its configuration; ``...`` leaves a field out."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, **fields}
    config = {key: value for key, value in config.items() if value is not ...}
    (folder / CONFIG).write_text(json.dumps(config))
    save_file(dict(tensors), folder / WEIGHTS, metadata=metadata or {"format": "pt"})
    return folder


def linear_tensors(
    names: tuple[str, ...] = ("q_proj", "v_proj"), layers: int = 2, rank: int = 4, prefix: str = PREFIX, seed: int = 0
) -> dict[str, np.ndarray]:
    """A and B of attention projections of every layer."""
    generator = np.random.default_rng(seed)
    tensors = {}
    for layer in range(layers):
        for name in names:
            inputs, outputs = SHAPES[name]
            place = f"{prefix}model.layers.{layer}.{'mlp' if name == 'up_proj' else 'self_attn'}.{name}"
            tensors[f"{place}.lora_A.weight"] = generator.normal(0, 0.2, (rank, inputs)).astype(np.float32)
            tensors[f"{place}.lora_B.weight"] = generator.normal(0, 0.2, (outputs, rank)).astype(np.float32)
    return tensors
