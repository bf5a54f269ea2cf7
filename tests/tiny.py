"""A model of a few thousand parameters and a byte-level tokenizer, for tests that need no real one."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm.tokenizer_utils import TokenizerWrapper
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from dualtune_mlx.models import BaseModel
from dualtune_mlx.prompts import PromptRenderer, Template

SPECIAL = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<bos>",
    "<start_of_turn>",
    "<end_of_turn>",
]
PLAIN_ADDED = ["<tool_call>", "</tool_call>"]
WINDOW = 16
"""How many tokens a sliding-window layer looks at, itself included."""
TEXT_MODELS = {"gemma3": "gemma3_text", "mistral3": "llama"}
"""The multimodal wrappers, and the kind of language model inside."""
KINDS = ("llama", "qwen2", "qwen3", "gemma3_text", "gemma3", "phi3", "phi", "ministral3", "mistral3")
TEMPLATE = str(Path(__file__).with_suffix(".jinja"))
"""The file of a template that adds few tokens: the work of attention grows with their square."""
QUANTIZATION = {"group_size": 32, "bits": 4}


def tokenizer() -> TokenizerWrapper:
    """Bytes, plus the control tokens of every template; ``<tool_call>`` is added but not special, as in Qwen."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    bpe.add_tokens([AddedToken(token, normalized=False) for token in PLAIN_ADDED])
    fast = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|im_end|>", bos_token="<bos>")
    return TokenizerWrapper(fast)


def renderer(base: BaseModel, argument_card: str = "none") -> PromptRenderer:
    """Prompts of few tokens, for tests that need no template in use."""
    return PromptRenderer(Template(TEMPLATE), base.tokenizer, "name", argument_card)


def config(kind: str = "llama", layers: int = 2, **changes: Any) -> dict[str, Any]:
    """The tiny model's ``config.json``; changes are of the language model's own entries."""
    if kind in TEXT_MODELS:
        text = config(TEXT_MODELS[kind], layers, **changes)
        return {"model_type": kind, "vocab_size": text["vocab_size"], "text_config": text}
    common = {
        "model_type": kind,
        "hidden_size": 32,
        "num_hidden_layers": layers,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5,
        "vocab_size": 272,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
    }
    return {**common, **_own(kind, layers), **changes}


def _own(kind: str, layers: int) -> dict[str, Any]:
    """What a kind of model has beside the common entries; the last layer of those with windows has none."""
    sliding = ["sliding_attention"] * (layers - 1) + ["full_attention"]
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "rope_theta": 10000.0}
    return {
        "qwen3": {"head_dim": 8, "max_position_embeddings": 32768},
        "gemma3_text": {
            "head_dim": 8,
            "query_pre_attn_scalar": 8,
            "sliding_window": WINDOW,
            "sliding_window_pattern": layers,
        },
        "phi": {"partial_rotary_factor": 0.5},
        "ministral3": {
            "layer_types": sliding,
            "sliding_window": WINDOW,
            "rope_parameters": {**yarn, "llama_4_scaling_beta": 0.1},
        },
    }.get(kind, {})


def unwrapped(
    seed: int = 0, kind: str = "llama", layers: int = 2, quantized: bool = False, **changes: Any
) -> nn.Module:
    """A randomly initialised network, as mlx-lm makes it; the same one for the same seed."""
    mx.random.seed(seed)
    module = importlib.import_module(f"mlx_lm.models.{kind}")
    entries = config(kind, layers, **changes)
    network = module.Model(module.ModelArgs.from_dict(entries))
    text = getattr(network, "language_model", network)
    if entries.get("text_config", entries)["tie_word_embeddings"] and hasattr(text, "tie_word_embeddings"):
        text.sanitize({})  # Gemma 3 ties its head when the checkpoint has none
    if quantized:
        nn.quantize(network, **QUANTIZATION)
    mx.eval(network.parameters())
    return network


def model(seed: int = 0, kind: str = "llama", layers: int = 2, quantized: bool = False, **changes: Any) -> BaseModel:
    """A randomly initialised model over that tokenizer."""
    return BaseModel(f"tiny-{kind}", unwrapped(seed, kind, layers, quantized, **changes), tokenizer())


def save(
    folder: Path, seed: int = 0, kind: str = "llama", layers: int = 2, quantized: bool = False, **changes: Any
) -> Path:
    """The tiny model as a folder that ``load_model`` takes."""
    folder.mkdir(parents=True)
    weights = tree_flatten(unwrapped(seed, kind, layers, quantized, **changes).parameters(), destination={})
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    entries = {**config(kind, layers, **changes), "eos_token_id": 258}
    if quantized:
        entries["quantization"] = QUANTIZATION
    (folder / "config.json").write_text(json.dumps(entries))
    tokenizer()._tokenizer.save_pretrained(str(folder))
    return folder
