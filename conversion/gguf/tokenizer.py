"""The tokenizer inside a GGUF file, as a Hugging Face tokenizer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, processors

from dualtune_mlx.conversion.gguf.byte_level import make_byte_level
from dualtune_mlx.conversion.gguf.fields import Fields
from dualtune_mlx.conversion.gguf.file import GGUFFile
from dualtune_mlx.conversion.gguf.sentencepiece import SPACE, make_sentencepiece

UNKNOWN, CONTROL, USER_DEFINED = 2, 3, 4
EOS_FIELDS = ("ggml.eos_token_id", "ggml.eot_token_id", "ggml.eom_token_id")
"""The fields of tokens that end an answer: the end of a text, of a turn, of a message."""


@dataclass(frozen=True)
class ConvertedTokenizer:
    """A Hugging Face tokenizer, made of a GGUF file's."""

    kind: str
    """GGUF's name of its kind: "gpt2" or "llama"."""
    tokenizer: Tokenizer
    """``tokenizer.json``."""
    config: dict[str, Any]
    """``tokenizer_config.json``."""
    eos_token_ids: list[int]
    """The tokens that end an answer."""
    size: int
    """The number of tokens."""

    def write(self, folder: Path) -> None:
        """Write the tokenizer's files into a folder."""
        text = self.tokenizer.to_str(pretty=True)  # Python's file says why it cannot be written
        (folder / "tokenizer.json").write_text(text, encoding="utf-8")
        (folder / "tokenizer_config.json").write_text(json.dumps(self.config, indent=2) + "\n")


def read_tokenizer(gguf: GGUFFile) -> ConvertedTokenizer:
    """Read a file's tokenizer: byte-level BPE or SentencePiece.

    Raises:
        ConversionError: when it is of another kind, inconsistent, or has unknown fields.
    """
    fields = Fields(gguf, "tokenizer.")
    kind = fields.text("ggml.model")
    tokens, types = _read_tokens(fields, kind)
    vocabulary = {token: index for index, token in enumerate(tokens)}
    kinds = dict(zip(tokens, types, strict=True))
    if len(vocabulary) != len(tokens):
        twice = next(token for index, token in enumerate(tokens) if vocabulary[token] != index)
        raise fields.refusal("the GGUF tokenizer has a token twice", "ggml.tokens", f"{twice!r} once")
    if kind == "gpt2":
        tokenizer, adds_bos = make_byte_level(fields, vocabulary)
    elif kind == "llama":
        unknown = _read_token(fields, tokens, "unknown")
        tokenizer, adds_bos = make_sentencepiece(fields, vocabulary, kinds, unknown), True
    else:
        raise fields.refusal("this GGUF tokenizer is not supported", "ggml.model", "gpt2 or llama")
    special = [AddedToken(t, special=True, normalized=False) for t in tokens if kinds[t] in (CONTROL, UNKNOWN)]
    tokenizer.add_special_tokens(special)
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in tokens if kinds[t] == USER_DEFINED])
    config = _make_config(fields, tokens, adds_bos)
    _set_post_processor(tokenizer, config)
    eos_token_ids = list(
        dict.fromkeys(_read_token_id(fields, name, len(tokens)) for name in EOS_FIELDS if fields.names(name))
    )
    for name in fields.names(r"ggml\.\w+_token_id"):
        _read_token_id(fields, name, len(tokens))
    for name in ("ggml.add_sep_token", "ggml.remove_extra_whitespaces"):
        if fields.flag(name, False):
            raise fields.refusal("this GGUF tokenizer is not supported", name, "False")
    fields.refuse_others()
    return ConvertedTokenizer(kind, tokenizer, config, eos_token_ids, len(tokens))


def _read_tokens(fields: Fields, kind: str) -> tuple[list[str], list[int]]:
    tokens = fields.texts("ggml.tokens")
    types = fields.integers("ggml.token_type")
    if len(types) != len(tokens):
        raise fields.refusal(
            "the GGUF tokenizer's lists are not equally long", "ggml.token_type", f"{len(tokens)} types"
        )
    if kind == "llama":
        # These are looked up in the text itself, where spaces are spaces.
        tokens = [t.replace(SPACE, " ") if k == USER_DEFINED else t for t, k in zip(tokens, types, strict=True)]
    return tokens, types


def _read_token_id(fields: Fields, name: str, size: int) -> int:
    index: int = fields.integer(name, least=0)
    if index >= size:
        raise fields.refusal("the GGUF tokenizer lacks a token", name, f"< {size}")
    return index


def _read_token(fields: Fields, tokens: list[str], role: str) -> str | None:
    name = f"ggml.{role}_token_id"
    return tokens[_read_token_id(fields, name, len(tokens))] if fields.names(name) else None


def _make_config(fields: Fields, tokens: list[str], adds_bos: bool) -> dict[str, Any]:
    """Make ``tokenizer_config.json``; ``adds_bos``: whether a text begins with BOS, where the file does not say."""
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": _read_token(fields, tokens, "bos"),
        "eos_token": _read_token(fields, tokens, "eos"),
        "unk_token": _read_token(fields, tokens, "unknown"),
        "pad_token": _read_token(fields, tokens, "padding"),
        "add_bos_token": fields.flag("ggml.add_bos_token", adds_bos),
        "clean_up_tokenization_spaces": False,
        "chat_template": _read_chat_template(fields),
    }
    if fields.flag("ggml.add_eos_token", False):
        config["add_eos_token"] = True
    for role in ("eos", "bos") if config["add_bos_token"] else ("eos",):
        fields.integer(f"ggml.{role}_token_id", least=0)
    return config


def _read_chat_template(fields: Fields) -> str | list[dict[str, str]] | None:
    """The template. Where there are several, all of them with their names, as transformers writes them."""
    default: str | None = fields.text("chat_template", None)
    templates = {name: fields.text(f"chat_template.{name}") for name in fields.texts("chat_templates", [])}
    if not templates:
        return default
    if default is not None:
        templates = {"default": default, **templates}
    return [{"name": name, "template": template} for name, template in templates.items()]


def _set_post_processor(tokenizer: Tokenizer, config: dict[str, Any]) -> None:
    """Put BOS before and EOS behind texts, as the configuration says. transformers reads it only here."""
    before = ["BOS"] if config["add_bos_token"] else []
    behind = ["EOS"] if config.get("add_eos_token") else []
    names = {name: config[f"{name.lower()}_token"] for name in before + behind}
    if names:  # and not the tokens themselves: a template's signs may stand in them
        second = [f"{name}:1" for name in before] + ["$B:1"] + [f"{name}:1" for name in behind]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=[*before, "$A", *behind],
            pair=[*before, "$A", *behind, *second],
            special_tokens=[
                {"id": name, "ids": [tokenizer.token_to_id(token)], "tokens": [token]} for name, token in names.items()
            ],
        )
