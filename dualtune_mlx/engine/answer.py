"""Answers in words: the base model's, without an adapter, from the requests and the results."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace

import mlx.core as mx

from dualtune_mlx.decoding.options import is_whole_number
from dualtune_mlx.engine.events import AnswerText
from dualtune_mlx.engine.pipeline import CallPipeline
from dualtune_mlx.engine.stage import Stage
from dualtune_mlx.errors import UsageError
from dualtune_mlx.tools import Message

MAX_ANSWER_TOKENS = 512
"""Tokens of an answer, where a call does not say otherwise."""
RESULTS_HEADING = "Results:"
"""Stands between a request and its results."""
ANSWER_REQUEST = "Answer in one sentence, from these results."
"""Stands behind the last results."""
MAX_PERIOD = 32
"""The longest period, in tokens, of a text that counts as repeating itself."""
MIN_REPEATED = 24
"""The least number of tokens that repeat."""


def write_answer(
    pipeline: CallPipeline, messages: tuple[Message, ...], max_tokens: int
) -> Generator[AnswerText, None, None]:
    """The most probable answer, piece by piece.

    It ends with the turn, where it only repeats itself, or with ``max_tokens`` tokens. An answer is text: of the
    control tokens only those that end the turn can be chosen.

    Raises:
        UsageError: when ``max_tokens`` is below 1.
    """
    if not (is_whole_number(max_tokens) and max_tokens >= 1):
        raise UsageError(
            "the length of an answer is out of range",
            where="max_tokens",
            got=repr(max_tokens),
            expected="a whole number, at least 1",
        )
    opener, closer = pipeline.renderer.answer_frame()
    stream = pipeline.renderer.render_conversation(fold_results(messages), ()) + opener
    control, tokenizer = pipeline.renderer.encoder.control_ids, pipeline.base.tokenizer
    ends = {*tokenizer.eos_token_ids, *[token for token in closer[:1] if token in control]}
    never = mx.array(sorted(control - ends), dtype=mx.int32)
    text = tokenizer.detokenizer
    text.reset()
    stage = Stage("answer")
    with pipeline.runner.start(stage, stream) as forward:
        tokens = stream.active_tokens(stage.span, stage.cache_boundary)
        written: list[int] = []
        for _ in range(max_tokens):
            logits = forward.extend(tokens)[-1]
            if never.size:
                logits[never] = -mx.inf
            token = int(mx.argmax(logits))
            written.append(token)
            if token in ends or repeats_itself(written):
                break
            text.add_token(token)
            if piece := text.last_segment:
                yield AnswerText(piece)
            tokens = (token,)
    text.finalize()
    if piece := text.last_segment:
        yield AnswerText(piece)


def fold_results(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The conversation without calls; results stand in the request that they are for.

    A small model that is shown calls goes on with a call in place of an answer.
    """
    turns: list[Message] = []
    for message in messages:
        if message.role == "tool":
            before = turns.pop().content if turns[-1].role == "user" else ""
            heading = "" if RESULTS_HEADING in before.splitlines() else f"\n\n{RESULTS_HEADING}"
            turns.append(Message("user", f"{before}{heading}\n{message.content}".strip()))
        elif message.content:
            turns.append(replace(message, tool_calls=(), subtask=""))
    if messages[-1].role == "tool":
        turns.append(Message("user", f"{turns.pop().content}\n\n{ANSWER_REQUEST}"))
    return tuple(turns)


def repeats_itself(tokens: Sequence[int]) -> bool:
    """Whether a text ends in the same few tokens again and again: three times and ``MIN_REPEATED`` tokens at least."""
    lengths = ((period, max(3 * period, MIN_REPEATED)) for period in range(1, MAX_PERIOD + 1))
    return any(len(tokens) >= n and tokens[-n:-period] == tokens[period - n :] for period, n in lengths)
