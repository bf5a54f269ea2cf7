"""GGUF to an MLX model folder: weights, tokenizer, chat template and configuration.

    dualtune convert from-gguf MODEL.gguf FOLDER

The folder loads with ``mlx_lm.load`` like any other model.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from dualtune_mlx.conversion.gguf_file import GGUFFile
from dualtune_mlx.conversion.gguf_tokenizer import write_tokenizer
from dualtune_mlx.errors import ConversionError
from dualtune_mlx.files import new_folder

ARCHITECTURES = ("llama", "qwen2")
DTYPES = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}

TOP_LEVEL = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
IN_BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def from_gguf(source: str | Path, destination: str | Path, dtype: str = "float32") -> Path:
    """Convert a GGUF file of a llama or qwen2 model; the destination must not exist yet.

    Nothing is written unless everything converts.

    Raises:
        ConversionError: for another architecture, tensor type, tokenizer or option, by name.
    """
    gguf = GGUFFile(Path(source))
    config = _config(gguf)
    gguf.check_types()
    names = {name: _mlx_name(name, gguf.path) for name in gguf.tensors}
    _check_complete(gguf, config["num_hidden_layers"])
    with new_folder(Path(destination)) as folder:
        write_tokenizer(gguf, folder)
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        weights = dict(_weights(gguf, names, config, DTYPES[dtype]))
        mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    return Path(destination)


def _config(gguf: GGUFFile) -> dict[str, Any]:
    meta = gguf.metadata
    arch = meta.get("general.architecture")
    if arch not in ARCHITECTURES:
        raise ConversionError(
            "this GGUF architecture is not supported", where=gguf.path, got=arch, expected=", ".join(ARCHITECTURES)
        )

    def field(name: str, default: Any = None) -> Any:
        value = meta.get(f"{arch}.{name}", default)
        if value is None:
            raise ConversionError("the GGUF file lacks a field", where=gguf.path, expected=f"{arch}.{name}")
        return value

    _refuse_rope_scaling(gguf, arch)
    heads = field("attention.head_count")
    _refuse_other_head_widths(gguf, arch, heads, field("embedding_length"))
    return {
        "model_type": arch,
        "architectures": [{"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}[arch]],
        "hidden_size": field("embedding_length"),
        "num_hidden_layers": field("block_count"),
        "intermediate_size": field("feed_forward_length"),
        "num_attention_heads": heads,
        "num_key_value_heads": field("attention.head_count_kv", heads),
        "rms_norm_eps": field("attention.layer_norm_rms_epsilon"),
        "vocab_size": len(meta.get("tokenizer.ggml.tokens", [])),
        "max_position_embeddings": field("context_length"),
        "rope_theta": field("rope.freq_base", 10000.0),
        "tie_word_embeddings": "output.weight" not in gguf.tensors,
        "attention_bias": "blk.0.attn_q.bias" in gguf.tensors,
        "eos_token_id": meta.get("tokenizer.ggml.eos_token_id"),
        "torch_dtype": "float32",
    }


def _refuse_rope_scaling(gguf: GGUFFile, arch: str) -> None:
    scaling = gguf.metadata.get(f"{arch}.rope.scaling.type", "none")
    if scaling != "none" or "rope_freqs.weight" in gguf.tensors:
        raise ConversionError(
            "this GGUF model scales its rotary positions, which is not supported",
            where=gguf.path,
            got=f"{arch}.rope.scaling.type = {scaling}" if scaling != "none" else "rope_freqs.weight",
            fix="load the model's original folder instead",
        )


def _refuse_other_head_widths(gguf: GGUFFile, arch: str, heads: int, hidden: int) -> None:
    for name in ("attention.key_length", "attention.value_length", "rope.dimension_count"):
        width = gguf.metadata.get(f"{arch}.{name}")
        if width is not None and width * heads != hidden:
            raise ConversionError(
                "this GGUF model's heads are not as wide as its states divided by their number",
                where=gguf.path,
                got=f"{arch}.{name} = {width}",
                expected=f"{hidden} / {heads}",
                fix="load the model's original folder instead",
            )


def _mlx_name(name: str, path: Path) -> str:
    top, _, kind = name.rpartition(".")
    if top in TOP_LEVEL:
        return f"{TOP_LEVEL[top]}.{kind}"
    match = re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", name)
    if match and match[2] in IN_BLOCK:
        return f"model.layers.{match[1]}.{IN_BLOCK[match[2]]}.{match[3]}"
    raise ConversionError("the GGUF file holds a tensor that has no place in the model", where=f"{path}: {name}")


def _check_complete(gguf: GGUFFile, blocks: int) -> None:
    wanted = itertools.chain(
        ("token_embd.weight", "output_norm.weight"),
        (f"blk.{block}.{part}.weight" for block in range(blocks) for part in IN_BLOCK),
    )
    missing = next((name for name in wanted if name not in gguf.tensors), None)
    if missing:
        raise ConversionError("the GGUF file lacks a tensor", where=gguf.path, expected=missing)


def _weights(
    gguf: GGUFFile, names: dict[str, str], config: dict[str, Any], dtype: mx.Dtype
) -> Iterator[tuple[str, mx.array]]:
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    for name, target in names.items():
        tensor = gguf.tensor(name)
        projection = target.split(".")[-2]
        if config["model_type"] == "llama" and projection in heads:
            if tensor.shape[0] % (2 * heads[projection]):
                raise ConversionError(
                    "a GGUF tensor does not fit the number of heads",
                    where=f"{gguf.path}: {name}",
                    got=f"{tensor.shape[0]} rows, {heads[projection]} heads",
                )
            tensor = _half_split_rows(tensor, heads[projection])
        yield target, mx.array(tensor).astype(dtype)


def _half_split_rows(tensor: np.ndarray, heads: int) -> np.ndarray:
    """Undo llama.cpp's interleaving of a head's two rotary halves in the rows of q and k."""
    interleaved = tensor.reshape(heads, -1, 2, *tensor.shape[1:])
    return interleaved.swapaxes(1, 2).reshape(tensor.shape)
