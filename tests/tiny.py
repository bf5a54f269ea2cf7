"""A model of a few thousand parameters and a byte-level tokenizer, for tests that need no real one."""

from __future__ import annotations

import mlx.core as mx
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


def model(seed: int = 0, kind: str = "llama", layers: int = 2) -> BaseModel:
    """A randomly initialised model over that tokenizer."""
    mx.random.seed(seed)
    module = {"llama": llama, "qwen2": qwen2}[kind]
    args = module.ModelArgs(
        model_type=kind,
        hidden_size=32,
        num_hidden_layers=layers,
        intermediate_size=48,
        num_attention_heads=4,
        num_key_value_heads=2,
        rms_norm_eps=1e-5,
        vocab_size=272,
        rope_theta=10000.0,
        tie_word_embeddings=True,
    )
    network = module.Model(args)
    mx.eval(network.parameters())
    return BaseModel(f"tiny-{kind}", network, tokenizer())
