"""An answer in words: the base model's, with no adapter, from the requests and the results."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace

import mlx.core as mx

from dualtune_mlx.engine.events import AnswerText
from dualtune_mlx.engine.pipeline import CallPipeline
from dualtune_mlx.engine.stage import Stage
from dualtune_mlx.errors import UsageError
from dualtune_mlx.tools import Message

LONGEST = 512
"""Tokens of an answer, where a call does not say otherwise."""
RESULTS = "Results:"
WANTED = "Answer in one sentence, from these results."
"""What stands before a request's results, and behind the last ones."""
PERIOD, REPEATED = 32, 24
"""Of a text that only repeats itself: its longest period, and the least that is repeated, in tokens."""


def write_answer(
    pipeline: CallPipeline, messages: tuple[Message, ...], max_tokens: int
) -> Generator[AnswerText, None, None]:
    """The most probable answer, token by token, until the turn ends, it only repeats itself, or ``max_tokens`` are
    written.

    An answer is text: of the control tokens only those that end the turn can be chosen.

    Raises:
        UsageError: when ``max_tokens`` is below 1.
    """
    if max_tokens < 1:
        raise UsageError("the length of an answer is out of range", got=max_tokens, expected="at least 1 token")
    opener, closer = pipeline.renderer.answer_frame()
    stream = pipeline.renderer.render_conversation(without_calls(messages), ()) + opener
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


def without_calls(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The conversation as one without tools: results stand behind the request that they are for.

    A small model that is shown tools and calls goes on with a call in place of an answer.
    """
    turns: list[Message] = []
    for message in messages:
        if message.role == "tool":
            before = turns.pop().content if turns[-1].role == "user" else ""
            heading = "" if RESULTS in before.splitlines() else f"\n\n{RESULTS}"
            turns.append(Message("user", f"{before}{heading}\n{message.content}".strip()))
        elif message.content:
            turns.append(replace(message, tool_calls=(), subtask=""))
    if messages[-1].role == "tool":
        turns.append(Message("user", f"{turns.pop().content}\n\n{WANTED}"))
    return tuple(turns)


def repeats_itself(tokens: Sequence[int]) -> bool:
    """Whether the last tokens are the same few again and again: three times, and ``REPEATED`` tokens, at least."""
    lengths = ((period, max(3 * period, REPEATED)) for period in range(1, PERIOD + 1))
    return any(len(tokens) >= n and tokens[-n:-period] == tokens[period - n :] for period, n in lengths)
