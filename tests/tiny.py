"""A model of a few thousand parameters and a byte-level tokenizer, for tests that need no real one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm.models import llama, qwen2
from mlx_lm.tokenizer_utils import TokenizerWrapper
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from dualtune_mlx.models import BaseModel

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


def config(kind: str = "llama", layers: int = 2) -> dict[str, Any]:
    """The tiny model's ``config.json``."""
    return {
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


def unwrapped(seed: int = 0, kind: str = "llama", layers: int = 2) -> nn.Module:
    """A randomly initialised network, as mlx-lm makes it; the same one for the same seed."""
    mx.random.seed(seed)
    module = {"llama": llama, "qwen2": qwen2}[kind]
    network = module.Model(module.ModelArgs(**config(kind, layers)))
    mx.eval(network.parameters())
    return network


def model(seed: int = 0, kind: str = "llama", layers: int = 2) -> BaseModel:
    """A randomly initialised model over that tokenizer."""
    return BaseModel(f"tiny-{kind}", unwrapped(seed, kind, layers), tokenizer())


def save(folder: Path, seed: int = 0, kind: str = "llama", layers: int = 2) -> Path:
    """The tiny model as a folder that ``load_model`` takes."""
    folder.mkdir(parents=True)
    weights = tree_flatten(unwrapped(seed, kind, layers).parameters(), destination={})
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    (folder / "config.json").write_text(json.dumps({**config(kind, layers), "eos_token_id": 258}))
    tokenizer()._tokenizer.save_pretrained(str(folder))
    return folder
