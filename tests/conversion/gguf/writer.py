"""Writes small GGUF files as llama.cpp's converter does: its fields, its names, and what it stores in another way.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_map

from dualtune_mlx.conversion.gguf.types import tensor_type
from tests import tiny

F32, F16, Q4_0, Q4_1, Q8_0, Q4_K, BF16 = 0, 1, 2, 3, 8, 12, 30
ALIGNMENT = 32
KINDS = ("llama", "qwen2", "qwen3", "gemma3")
BASE = {"gemma3": 1_000_000.0}
PERIOD, THETA_SLIDING = 2, 5000.0

MLX_TO_GGUF = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
GEMMA_TO_GGUF = {
    **MLX_TO_GGUF,
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
Tensors = Mapping[str, tuple[tuple[int, ...], int, bytes]]
"""Name to (row-major shape, type id, data)."""


def write(path: Path, metadata: Mapping[str, Any], tensors: Tensors, version: int = 3) -> Path:
    header = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata))
    for key, value in metadata.items():
        header += string(key) + _typed(value)
    data = b""
    for name, (shape, kind, raw) in tensors.items():
        header += string(name) + struct.pack("<I", len(shape))
        header += struct.pack(f"<{len(shape)}Q", *shape[::-1]) + struct.pack("<IQ", kind, len(data))
        data += raw + b"\0" * (-len(raw) % ALIGNMENT)
    path.write_bytes(header + b"\0" * (-len(header) % ALIGNMENT) + data)
    return path


def write_officially(path: Path, metadata: Mapping[str, Any], tensors: Tensors) -> Path:
    """The same by llama.cpp's own package."""
    from gguf import GGMLQuantizationType, GGUFWriter

    writer = GGUFWriter(path, metadata["general.architecture"])
    add = {str: writer.add_string, bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32}
    for key, value in metadata.items():
        if key != "general.architecture":
            add.get(type(value), writer.add_array)(key, value)
    for name, (shape, kind, raw) in tensors.items():
        known = tensor_type(kind)
        assert known is not None
        row = shape[-1] // known.values * known.size
        rows = np.frombuffer(raw, np.uint8).reshape(*shape[:-1], row)
        writer.add_tensor(name, rows, raw_shape=rows.shape, raw_dtype=GGMLQuantizationType(kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def string(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw)) + raw


def _typed(value: Any) -> bytes:
    if isinstance(value, list):
        items = [_typed(item) for item in value]
        kind = items[0][:4] if items else struct.pack("<I", 4)
        return struct.pack("<I", 9) + kind + struct.pack("<Q", len(items)) + b"".join(item[4:] for item in items)
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value) if 0 <= value < 2**32 else struct.pack("<Iq", 11, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    return struct.pack("<I", 8) + string(value)


def tensor(array: np.ndarray, kind: int = F32) -> tuple[tuple[int, ...], int, bytes]:
    return array.shape, kind, array.astype({F32: "<f4", F16: "<f2"}[kind]).tobytes()


def mlx_kind(kind: str) -> str:
    """mlx-lm's name for llama.cpp's architecture."""
    return "gemma3_text" if kind == "gemma3" else kind


def network(kind: str = "llama", seed: int = 0, **changes: Any) -> nn.Module:
    """The tiny model of an architecture; no two weights are the same, those of its norms neither."""
    own = {"rope_theta": BASE.get(kind, 10000.0)}
    if kind == "gemma3":
        own |= {"sliding_window_pattern": PERIOD, "rope_local_base_freq": THETA_SLIDING}
    model = tiny.unwrapped(kind=mlx_kind(kind), **{**own, **changes})
    mx.random.seed(seed)
    model.update(tree_map(lambda a: a + mx.random.uniform(-0.2, 0.2, a.shape), model.parameters()))
    mx.eval(model.parameters())
    return model


def fields(kind: str = "llama", **changes: Any) -> dict[str, Any]:
    """The tiny model's fields; a change to None takes one away. ``arch_x`` stands for ``<architecture>.x``."""
    config = tiny.config(mlx_kind(kind))
    width = config.get("head_dim", config["hidden_size"] // config["num_attention_heads"])
    values: dict[str, Any] = {
        "general.architecture": kind,
        f"{kind}.embedding_length": config["hidden_size"],
        f"{kind}.block_count": config["num_hidden_layers"],
        f"{kind}.feed_forward_length": config["intermediate_size"],
        f"{kind}.attention.head_count": config["num_attention_heads"],
        f"{kind}.attention.head_count_kv": config["num_key_value_heads"],
        f"{kind}.attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        f"{kind}.context_length": 512,
        f"{kind}.rope.freq_base": BASE.get(kind, 10000.0),
        **tokenizer_fields(),
    }
    if kind in ("qwen3", "gemma3"):
        values |= {f"{kind}.attention.key_length": width, f"{kind}.attention.value_length": width}
    if kind == "gemma3":
        values |= {
            "gemma3.attention.sliding_window": config["sliding_window"],
            "gemma3.attention.sliding_window_pattern": PERIOD,
            "gemma3.rope.freq_base_swa": THETA_SLIDING,
        }
    values |= {key.replace("arch_", f"{kind}.", 1) if key.startswith("arch_") else key: v for key, v in changes.items()}
    return {key: value for key, value in values.items() if value is not None}


def tokenizer_fields() -> dict[str, Any]:
    """The tiny tokenizer's fields: byte-level BPE."""
    tokenizer = tiny.tokenizer()
    tokens = [tokenizer.convert_ids_to_tokens(i) for i in range(268)] + [f"<unused{i}>" for i in range(4)]
    tokens[268:270] = ["Ġt", "he"]  # the merges' own tokens
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if t in tiny.SPECIAL else 4 if t in tiny.PLAIN_ADDED else 1 for t in tokens],
        "tokenizer.ggml.merges": ["Ġ t", "h e"],
        "tokenizer.ggml.eos_token_id": tokens.index("<|im_end|>"),
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": "{{ messages }}",
    }


def weights(kind: str = "llama", model: nn.Module | None = None) -> dict[str, np.ndarray]:
    """A network's weights as llama.cpp stores them: its names, its order of q and k, its norms."""
    config = tiny.config(mlx_kind(kind))
    names = GEMMA_TO_GGUF if kind == "gemma3" else MLX_TO_GGUF
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    named = {}
    for path, array in tree_flatten((model or network(kind)).parameters()):
        module, _, part = path.rpartition(".")
        block = module.split(".")[2] if module.startswith("model.layers.") else None
        stem = names[module.split(".", 3)[3] if block else module]
        value = np.array(array)
        if kind == "llama" and stem in heads:
            value = permuted(value, heads[stem])
        if kind == "gemma3" and stem.endswith("norm"):
            value = value + np.float32(1)
        named[f"blk.{block}.{stem}.{part}" if block else f"{stem}.{part}"] = value
    return named


def tensors(kind: str = "llama", model: nn.Module | None = None) -> dict[str, tuple[tuple[int, ...], int, bytes]]:
    """Those weights in float32."""
    return {name: tensor(value) for name, value in weights(kind, model).items()}


def permuted(rows: np.ndarray, heads: int) -> np.ndarray:
    """``LlamaModel.permute`` of llama.cpp's converter, row by row."""
    width = rows.shape[0] // heads
    order = [h * width + (i % 2) * (width // 2) + i // 2 for h in range(heads) for i in range(width)]
    return rows[order]


def tiny_gguf(path: Path, kind: str = "llama", **changes: Any) -> Path:
    """The tiny model as a GGUF file in float32."""
    return write(path, fields(kind, **changes), tensors(kind))
