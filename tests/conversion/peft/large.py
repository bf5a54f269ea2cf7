"""A 7B-sized adapter of random numbers, converted, in seconds and MiB: python -m tests.conversion.peft.large FOLDER."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

import numpy as np

from dualtune_mlx.conversion.peft import from_peft
from tests.conversion.peft.files import PREFIX, write_adapter

LAYERS, WIDTH, KEYS, INNER, RANK = 28, 3584, 512, 18944, 32  # Qwen2.5-7B
SHAPES = {
    "self_attn.q_proj": (WIDTH, WIDTH),
    "self_attn.k_proj": (WIDTH, KEYS),
    "self_attn.v_proj": (WIDTH, KEYS),
    "self_attn.o_proj": (WIDTH, WIDTH),
    "mlp.gate_proj": (WIDTH, INNER),
    "mlp.up_proj": (WIDTH, INNER),
    "mlp.down_proj": (INNER, WIDTH),
}


def write(folder: Path) -> None:
    generator = np.random.default_rng(0)
    tensors = {}
    for layer in range(LAYERS):
        for name, (inputs, outputs) in SHAPES.items():
            place = f"{PREFIX}model.layers.{layer}.{name}"
            tensors[f"{place}.lora_A.weight"] = generator.random((RANK, inputs), np.float32)
            tensors[f"{place}.lora_B.weight"] = generator.random((outputs, RANK), np.float32)
    write_adapter(folder, tensors, r=RANK, lora_alpha=64)


def main(folder: Path) -> None:
    began = time.perf_counter()
    from_peft(str(folder / "peft"), folder / "ours")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)
    print(time.perf_counter() - began, peak)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
