"""Writes small GGUF files, as llama.cpp does: metadata, tensors, and its order of the rows of q and k.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mlx.utils import tree_flatten

from tests import tiny

F32, F16, Q4_0, Q4_1, Q8_0, Q4_K = 0, 1, 2, 3, 8, 12
ALIGNMENT = 32

MLX_TO_GGUF = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
Tensors = Mapping[str, tuple[tuple[int, ...], int, bytes]]
"""Name to (row-major shape, type id, data)."""


def write(path: Path, metadata: Mapping[str, Any], tensors: Tensors, version: int = 3) -> Path:
    header = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata))
    for key, value in metadata.items():
        header += _string(key) + _typed(value)
    data = b""
    for name, (shape, kind, raw) in tensors.items():
        header += _string(name) + struct.pack("<I", len(shape))
        header += struct.pack(f"<{len(shape)}Q", *shape[::-1]) + struct.pack("<IQ", kind, len(data))
        data += raw + b"\0" * (-len(raw) % ALIGNMENT)
    path.write_bytes(header + b"\0" * (-len(header) % ALIGNMENT) + data)
    return path


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _typed(value: Any) -> bytes:
    if isinstance(value, list):
        items = [_typed(item) for item in value]
        kind = items[0][:4] if items else struct.pack("<I", 4)
        return struct.pack("<I", 9) + kind + struct.pack("<Q", len(items)) + b"".join(item[4:] for item in items)
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    return struct.pack("<I", 8) + _string(value)


def tensor(array: np.ndarray, kind: int = F32) -> tuple[tuple[int, ...], int, bytes]:
    return array.shape, kind, array.astype({F32: "<f4", F16: "<f2"}[kind]).tobytes()


def metadata(kind: str = "llama", **changes: Any) -> dict[str, Any]:
    """The tiny model's metadata; a change to None takes a key away. ``arch_x`` stands for ``<architecture>.x``."""
    config = tiny.config(kind)
    tokenizer = tiny.tokenizer()
    tokens = [tokenizer.convert_ids_to_tokens(i) for i in range(268)] + [f"<unused{i}>" for i in range(4)]
    types = [3 if t in tiny.SPECIAL else 4 if t in tiny.PLAIN_ADDED else 1 for t in tokens]
    values = {
        "general.architecture": kind,
        f"{kind}.embedding_length": config["hidden_size"],
        f"{kind}.block_count": config["num_hidden_layers"],
        f"{kind}.feed_forward_length": config["intermediate_size"],
        f"{kind}.attention.head_count": config["num_attention_heads"],
        f"{kind}.attention.head_count_kv": config["num_key_value_heads"],
        f"{kind}.attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        f"{kind}.context_length": 512,
        f"{kind}.rope.freq_base": config["rope_theta"],
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": ["Ġ t", "h e"],
        "tokenizer.ggml.eos_token_id": tokens.index("<|im_end|>"),
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": "{{ messages }}",
    }
    values["tokenizer.ggml.tokens"][268:270] = ["Ġt", "he"]  # the merges' own tokens
    values |= {key.replace("arch_", f"{kind}.", 1) if key.startswith("arch_") else key: v for key, v in changes.items()}
    return {key: value for key, value in values.items() if value is not None}


def weights(kind: str = "llama") -> dict[str, np.ndarray]:
    """The tiny model's weights under llama.cpp's names, q and k of a llama in llama.cpp's order."""
    config = tiny.config(kind)
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    named = {}
    for path, array in tree_flatten(tiny.unwrapped(kind=kind).parameters()):
        module, _, part = path.rpartition(".")
        if module.startswith("model.layers."):
            _, _, layer, inner = module.split(".", 3)
            name = f"blk.{layer}.{MLX_TO_GGUF[inner]}.{part}"
        else:
            name = f"{MLX_TO_GGUF[module]}.{part}"
        value = np.array(array)
        stem = name.split(".")[-2]
        named[name] = permuted(value, heads[stem]) if kind == "llama" and stem in heads else value
    return named


def permuted(rows: np.ndarray, heads: int) -> np.ndarray:
    """``LlamaModel.permute`` of llama.cpp's convert_hf_to_gguf.py, row by row."""
    width = rows.shape[0] // heads
    order = [h * width + (i % 2) * (width // 2) + i // 2 for h in range(heads) for i in range(width)]
    return rows[order]


def tiny_gguf(path: Path, kind: str = "llama", **changes: Any) -> Path:
    """The tiny model as a GGUF file in float32."""
    return write(path, metadata(kind, **changes), {name: tensor(value) for name, value in weights(kind).items()})
