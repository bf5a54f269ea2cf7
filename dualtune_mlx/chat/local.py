"""A chat model on this machine."""

from __future__ import annotations

import secrets
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from typing import Any

import mlx.core as mx
import mlx_lm
from mlx_lm.sample_utils import make_sampler

from dualtune_mlx.chat.pieces import ChatPiece
from dualtune_mlx.engine.answer import repeats_itself
from dualtune_mlx.errors import ModelError
from dualtune_mlx.models import load_network
from dualtune_mlx.prompts import Encoder
from dualtune_mlx.prompts.template import RENDERING_ERRORS


class LocalChat:
    """A model that mlx-lm loads. Its own chat template is used, in which data never becomes a control token.

    Args:
        name: a folder, a hub id, or the embedded model's name.

    Raises:
        ModelError: when it cannot be loaded, or has no chat template.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        network = load_network(name)
        self._model, self._tokenizer = network.model, network.load_tokenizer()
        self._exact_length = network.exact_length
        mx.eval(self._model.parameters())
        if not self._tokenizer.has_chat_template:
            raise ModelError(
                "the chat model has no chat template", where=network.folder, fix="use an instruction-tuned model"
            )

    def stream(
        self, turns: Sequence[Mapping[str, str]], max_tokens: int, temperature: float = 0.0
    ) -> Generator[ChatPiece, None, None]:
        """Write what follows in a conversation. It ends where the model only repeats itself, as small models do.

        Args:
            turns: ``{"role", "content"}`` of each message.
            max_tokens: the most tokens that are written.
            temperature: 0 for the most probable text.

        Raises:
            ModelError: when the conversation is longer than what is computed exactly.
        """
        tokens = encode_chat(self._tokenizer, turns)
        if self._exact_length is not None and len(tokens) + max_tokens > self._exact_length:
            raise ModelError(
                "the conversation is longer than what mlx-lm computes exactly of the chat model",
                where=self.name,
                got=f"{len(tokens)} tokens, and {max_tokens} to write",
                expected=f"at most {self._exact_length} together",
                fix="use another chat model, or lower the limits of the run",
            )
        written: list[int] = []
        sampler = make_sampler(temperature)
        parts = mlx_lm.stream_generate(self._model, self._tokenizer, tokens, max_tokens, sampler=sampler)
        with closing(parts):
            for part in parts:
                written.append(part.token)
                is_stuck = repeats_itself(written)
                finish = "repeats itself" if is_stuck else part.finish_reason or ""
                yield ChatPiece("" if is_stuck else part.text, finish, (len(tokens), len(written)))
                if is_stuck:
                    return


def encode_chat(tokenizer: Any, turns: Sequence[Mapping[str, str]]) -> list[int]:
    """Encode a conversation in the tokenizer's own chat template. Only the template gives it control tokens.

    Raises:
        ModelError: when the template cannot be rendered, or drops a message.
    """
    encoder, nonce = Encoder(tokenizer), secrets.token_hex(8)
    marks = [{**turn, "content": f"{nonce}:{index}:"} for index, turn in enumerate(turns)]
    try:
        rest = tokenizer.apply_chat_template(marks, tokenize=False, add_generation_prompt=True)
    except RENDERING_ERRORS as error:
        raise ModelError(
            "the chat model's template cannot be rendered",
            got=str(error) or type(error).__name__,
            fix="mend its chat_template, or use another chat model",
        ) from error
    tokens: list[int] = []
    for index, turn in enumerate(turns):
        before, mark, rest = rest.partition(f"{nonce}:{index}:")
        if not mark:
            raise ModelError(
                "the chat model's template drops a message", where=turn["role"], fix="use another chat model"
            )
        tokens += [*encoder.encode_text(before), *encoder.encode_data(turn["content"])]
    return [*tokens, *encoder.encode_text(rest)]
