"""The supported architectures: the names of their modules, and what llama.cpp stores differently.

Conventions: https://github.com/ggml-org/llama.cpp/tree/master/conversion (writing), src/models (reading).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dualtune_mlx.conversion.gguf.fields import Fields
from dualtune_mlx.conversion.gguf.file import GGUFFile
from dualtune_mlx.conversion.gguf.rope import read_rope_scaling
from dualtune_mlx.errors import ConversionError

TOP_LEVEL = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
LLAMA_BLOCK = {
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
QWEN3_BLOCK = {**LLAMA_BLOCK, "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
GEMMA3_BLOCK = {
    **QWEN3_BLOCK,
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
GEMMA3_27B_BLOCKS = 62
OFF = {
    "expert_count": 0,
    "expert_used_count": 0,
    "attention.causal": True,
    "attention.max_alibi_bias": 0.0,
    "attention.clamp_kqv": 0.0,
    "attn_logit_softcapping": 0.0,
    "final_logit_softcapping": 0.0,
    "rope.scaling.attn_factor": 1.0,
}
"""Fields of models that are built otherwise, with the value that says that this one is not: no experts is dense."""


def _qwen2_config(fields: Fields, config: Mapping[str, Any]) -> dict[str, Any]:
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    if config["head_dim"] * heads != hidden:  # mlx-lm's Qwen2 would not look at it
        raise fields.refusal(
            "the GGUF model's heads are not their share of its states", "attention.key_length", f"{hidden} / {heads}"
        )
    return {}


def _gemma3_config(fields: Fields, config: Mapping[str, Any]) -> dict[str, Any]:
    layers, head_dim = config["num_hidden_layers"], config["head_dim"]
    period = fields.integer("attention.sliding_window_pattern", 6)
    if period > layers:
        raise fields.refusal(
            "the GGUF model has no layer without a sliding window", "block_count", f"at least {period}, its period"
        )
    if config["rope_scaling"] and config["rope_scaling"]["rope_type"] != "linear":
        raise fields.refusal(
            "the GGUF model scales its positions in a way that is not supported", "rope.scaling.type", "none or linear"
        )
    # 27B alone scales its scores by its states' width over its heads; llama.cpp knows it by its blocks.
    wide = layers == GEMMA3_27B_BLOCKS
    return {
        "head_dim": head_dim,
        "query_pre_attn_scalar": config["hidden_size"] // config["num_attention_heads"] if wide else head_dim,
        "rope_local_base_freq": fields.number("rope.freq_base_swa", 10000.0),
        "sliding_window": fields.integer("attention.sliding_window"),
        "sliding_window_pattern": period,
    }


@dataclass(frozen=True)
class Architecture:
    """A kind of model."""

    model_type: str
    """mlx-lm's name for it."""
    class_name: str
    """The name of its class in transformers."""
    block: Mapping[str, str] = field(default_factory=lambda: LLAMA_BLOCK)
    """The modules of a decoder layer: llama.cpp's name to mlx-lm's."""
    extra_config: Callable[[Fields, Mapping[str, Any]], dict[str, Any]] = lambda fields, config: {}
    """Reads the entries of ``config.json`` that only this kind has; it is given the common ones."""
    interleaves_rotary: bool = False
    """Whether llama.cpp interleaves the two rotary halves of a head in the rows of q and k."""
    norm_offset: float = 0.0
    """What llama.cpp adds to the weights of norms."""

    def tensor_names(self, blocks: int) -> dict[str, str]:
        """Every tensor that a model of ``blocks`` decoder layers may have: llama.cpp's name to mlx-lm's."""
        modules = dict(TOP_LEVEL)
        for block in range(blocks):
            modules |= {f"blk.{block}.{ours}": f"model.layers.{block}.{mlx}" for ours, mlx in self.block.items()}
        return {f"{ours}.{part}": f"{mlx}.{part}" for ours, mlx in modules.items() for part in ("weight", "bias")}


ARCHITECTURES = {
    "llama": Architecture("llama", "LlamaForCausalLM", interleaves_rotary=True),
    "qwen2": Architecture("qwen2", "Qwen2ForCausalLM", extra_config=_qwen2_config),
    "qwen3": Architecture(
        "qwen3", "Qwen3ForCausalLM", QWEN3_BLOCK, lambda fields, config: {"head_dim": config["head_dim"]}
    ),
    "gemma3": Architecture("gemma3_text", "Gemma3ForCausalLM", GEMMA3_BLOCK, _gemma3_config, norm_offset=1.0),
}


def read_architecture(gguf: GGUFFile) -> Architecture:
    """Read a file's architecture.

    Raises:
        ConversionError: when it is not supported, or the file is not a complete model.
    """
    meta = gguf.metadata
    name = meta.get("general.architecture")
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise ConversionError(
            "this GGUF architecture is not supported", where=gguf.path, got=name, expected=", ".join(ARCHITECTURES)
        )
    if meta.get("general.type", "model") != "model":
        raise ConversionError(
            "this GGUF file is not a model", where=gguf.path, got=meta["general.type"], expected="general.type = model"
        )
    if meta.get("split.count", 1) != 1:
        raise ConversionError(
            "this GGUF file is a part of a model",
            where=gguf.path,
            got=f"split.count = {meta['split.count']}",
            fix="join the parts: llama-gguf-split --merge FIRST WHOLE",
        )
    return ARCHITECTURES[name]


def read_model_config(gguf: GGUFFile, architecture: Architecture, tokens: int) -> dict[str, Any]:
    """Read the model's part of ``config.json``.

    Args:
        gguf: the file.
        architecture: its architecture.
        tokens: the size of its tokenizer's vocabulary.

    Raises:
        ConversionError: for a field that is missing, impossible, or unknown.
    """
    fields = Fields(gguf, f"{gguf.metadata['general.architecture']}.")
    hidden, heads = fields.integer("embedding_length"), fields.integer("attention.head_count")
    config: dict[str, Any] = {
        "model_type": architecture.model_type,
        "architectures": [architecture.class_name],
        "hidden_size": hidden,
        "num_hidden_layers": fields.integer("block_count"),
        "intermediate_size": fields.integer("feed_forward_length"),
        "num_attention_heads": heads,
        "num_key_value_heads": fields.integer("attention.head_count_kv", heads),
        "rms_norm_eps": fields.number("attention.layer_norm_rms_epsilon"),
        "vocab_size": fields.integer("vocab_size", tokens),
        "max_position_embeddings": fields.integer("context_length"),
        "rope_theta": fields.number("rope.freq_base", 10000.0),
        "tie_word_embeddings": "output.weight" not in gguf.tensors,
        "attention_bias": "blk.0.attn_q.bias" in gguf.tensors,
    }
    width = _read_head_width(fields, hidden, heads, config["num_key_value_heads"])
    if config["vocab_size"] != tokens:
        raise fields.refusal("the GGUF tokenizer is not the model's", "vocab_size", f"{tokens}, its tokens")
    if config["num_hidden_layers"] > len(gguf.tensors):
        raise fields.refusal(
            "the GGUF file lacks tensors", "block_count", f"at most {len(gguf.tensors)}, which is all there are"
        )
    scaling = read_rope_scaling(gguf, fields, config["rope_theta"], width)
    extra = architecture.extra_config(fields, {**config, "head_dim": width, "rope_scaling": scaling})
    fields.refuse_others(OFF)
    if width * heads != hidden:
        config["head_dim"] = width
    if scaling:
        config["rope_scaling"] = scaling
    return config | extra


def _read_head_width(fields: Fields, hidden: int, heads: int, kv_heads: int) -> int:
    width: int = fields.integer("attention.key_length", hidden // heads)
    for name in ("attention.value_length", "rope.dimension_count"):
        if fields.integer(name, width) != width:
            raise fields.refusal("the GGUF model's heads have parts of unequal width", name, f"{width}, as the keys")
    if heads % kv_heads:
        raise fields.refusal(
            "the GGUF model's heads cannot share their keys", "attention.head_count_kv", f"a divisor of {heads}"
        )
    if width < 2 or width % 2:
        raise fields.refusal("the GGUF model's heads cannot be rotated", "attention.head_count", "heads of even width")
    return width
