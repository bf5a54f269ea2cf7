"""AgentFlux's text, written out by hand, and a tokenizer that splits text as its Qwen models do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from dualtune_mlx.tools import Tool

PATH = {"properties": {"path": {"type": "string"}}, "required": ["path"], "type": "object"}
TOOLS = (
    Tool("read_file", "Read a café's file.", PATH, "files"),
    Tool("delete_file", "Delete a file.", PATH, "files"),
    Tool("now", "The time.", {"properties": {}, "type": "object"}, "files"),
)
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Where Qwen2's tokenizer divides text, a fact of its tokenizer.json."""


def functions(tools: Sequence[Tool], indent: int | None = None) -> list[str]:
    """Tools as their training script leaves them: parameters as a text."""
    written = [
        {"description": tool.description, "name": tool.name, "parameters": json.dumps(dict(tool.parameters))}
        for tool in tools
    ]
    return [json.dumps({"function": one, "type": "function"}, ensure_ascii=False, indent=indent) for one in written]


def selector_text(tools: Sequence[Tool], request: str) -> str:
    return (
        "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.\n\n# Tools\n\n"
        "You must choose one of the provided tools to assist with the user query.\n\n"
        "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
        + "\n".join(functions(tools))
        + '\n{"function": {"description": "Summarize the workflow when no other tool is needed", "name": "summarize"}, '
        '"type": "function"}\n</tools>\n\n'
        "For each function call, return a json object with function name within <tool_call></tool_call> XML tags:\n"
        '<tool_call>\n{"name": <function-name>}\n</tool_call><|im_end|>\n'
        f"<|im_start|>user\n{request}<|im_end|>\n<|im_start|>assistant\n"
    )


def chosen_text(name: str) -> str:
    return f'<tool_call>\n{{"name": "{name}"}}\n</tool_call><|im_end|>\n\n'


def arguments_text(tools: Sequence[Tool], request: str) -> str:
    return (
        "<|start_header_id|>system<|end_header_id|>\n\nEnvironment: ipython\nCutting Knowledge Date: December 2023\n"
        "Today Date: 26 Jul 2024\n\n<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
        "Given the following functions, please respond with a JSON for a function call with its proper arguments that "
        'best answers the given prompt.\n\nRespond in the format {"name": function name, "parameters": dictionary of '
        "argument name and its value}.Do not use variables.\n\n"
        + "".join(f"{one}\n\n" for one in functions(tools, indent=4))
        + f"{request}<|eot_id|>\n<|start_header_id|>assistant<|end_header_id|>\n\n"
    )


def written_text(name: str, arguments: dict[str, Any]) -> str:
    return f'{{"name": "{name}", "parameters": {json.dumps(arguments)}}}<|eot_id|>'


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """Byte pairs learned from such texts: Llama's headers are ordinary text to it, as they are to Qwen's."""
    bpe = Tokenizer(models.BPE())
    parts = [pre_tokenizers.Split(Regex(SPLIT), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    bpe.pre_tokenizer = pre_tokenizers.Sequence(parts)
    bpe.decoder = decoders.ByteLevel()
    texts = [selector_text(TOOLS, "Read a.") + chosen_text("read_file")]
    texts += [arguments_text(TOOLS, "Read a.") + written_text("read_file", {"path": "a"}) + "<|start_header_id|>"]
    plain = [part for text in texts for part in text.replace("<|im_start|>", "<|im_end|>").split("<|im_end|>")]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=1000, initial_alphabet=alphabet, show_progress=False, min_frequency=1)
    bpe.train_from_iterator(plain, trainer)
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    bpe.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    bpe.add_tokens([AddedToken(token, normalized=False) for token in ("<tool_call>", "</tool_call>")])
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|im_end|>")
