"""Ways to a whole call over warm prefixes: mlx-lm's, the authors', and ours. Not a benchmark; ``calls.py`` is.

All read the same request behind the same tools, and end with the last token of the same call. Ours finds it with
adapters that know it (``taught.py``). mlx-lm's samplers are told the tokens: they draw as they would, and then give the
one that is due. What its models would have said costs what it costs, but decides nothing.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx_lm
from mlx_lm.generate import batch_generate, generate_step
from mlx_lm.models.cache import make_prompt_cache, trim_prompt_cache

from dualtune_mlx.benchmarks.memorized import TEMPLATE, Asked, check
from dualtune_mlx.engine import DualTune
from dualtune_mlx.models import PREFILL_CHUNK, resolve
from dualtune_mlx.prompts import PromptRenderer, Template, TokenStream
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.usage import Usage

Tokens = tuple[int, ...]
Draw = Callable[[mx.array], mx.array]
"""Log-probabilities (rows, vocabulary) to a token of each row."""
SAMPLES = 10
SETTLING = 2
"""Calls of ours before those that are timed: the first computes the prefix, the next may fuse an adapter."""


@dataclass(frozen=True)
class Cost:
    """What a call costs on any machine.

    ``prefilled``: tokens of the prompt that were processed within the call, under whichever weights; ``forwards``:
    forward passes, a batch being one; ``decoded``: tokens that the model chose, in all rows (our selector: forks of
    names it was asked about); ``forced``: tokens that the grammar left no choice of.
    """

    prefilled: int
    forwards: int
    decoded: int
    forced: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(mine + its for mine, its in zip(self.counters, other.counters, strict=True)))

    @property
    def counters(self) -> tuple[int, ...]:
        return self.prefilled, self.forwards, self.decoded, self.forced


@dataclass(frozen=True)
class Timed:
    """A way's calls: for each of them the seconds of every round, and its cost."""

    seconds: tuple[tuple[float, ...], ...]
    costs: tuple[Cost, ...]


@dataclass(frozen=True)
class Work:
    """The calls, the tools they are chosen from, and how these are written, for one model."""

    model: str
    cards: str
    tools: tuple[Tool, ...]
    asked: tuple[Asked, ...]

    def stream(self, tokenizer: Any, one: Asked) -> TokenStream:
        """The call behind all tools."""
        return PromptRenderer(Template(TEMPLATE), tokenizer, self.cards).render(one.messages, self.tools, one.call)

    def alone(self, tokenizer: Any, one: Asked) -> TokenStream:
        """The call behind its own tool, with the whole schema."""
        tools = [tool for tool in self.tools if tool.name == one.call.name]
        return PromptRenderer(Template(TEMPLATE), tokenizer, "schema").render(one.messages, tools, one.call)


def ours(work: Work, bundle: Path, activation: str, rounds: int) -> Timed:
    """``DualTune.call`` with a bundle that knows the calls."""
    with DualTune.load(bundle) as dualtune:
        for one in work.asked * SETTLING:
            check(dualtune.call(one.messages, work.tools), one)
        made = []
        for one in work.asked:
            seconds, call = _timed(lambda: dualtune.call(one.messages, work.tools), rounds)  # noqa: B023
            made.append((seconds, _our_cost(work.stream(dualtune.base.tokenizer, one), activation, call.usage)))
    return _all(made)


def one_stage(work: Work, adapter: Path | None, compact: bool, rounds: int) -> Timed:
    """mlx-lm with a joint adapter (none: it is fused) and its prompt cache: name and arguments in one go.

    ``compact``: in the form that ours has, the name and a line with the arguments; else as a JSON object.
    """
    peer = Peer.load(work.model, adapter)
    streams = [work.stream(peer.tokenizer, one) for one in work.asked]
    cache = peer.warmed(_prefix(streams[0]))
    made = []
    for one, stream in zip(work.asked, streams, strict=True):
        prompt, form = _prompt(stream), stream.tokens[stream.last_span("selector").start :]
        whole = {"name": one.call.name, "arguments": dict(one.call.arguments)}
        told = peer.ended(form) if compact else peer.spelled(whole)
        seconds, written = _timed(partial(peer.written, cache, prompt, told), rounds, _restoring(cache))
        assert tuple(written) == told
        made.append((seconds, Cost(len(prompt), 1 + len(told), len(told))))
    return _all(made)


def ten_samples(work: Work, selector: Path, arguments: Path, batched: bool, rounds: int) -> Timed:
    """The authors' way: samples of the name and a vote, then the arguments behind a prompt of that tool alone.

    It is given all that vLLM gives it, and more: both adapters are in models of their own, so nothing is switched; the
    request is processed once for all samples; each stage finds the KV of its prefix. The samples are drawn in one
    ``batched`` go, or one after the other.
    """
    choosing, writing = Peer.load(work.model, selector), Peer.load(work.model, arguments)
    cache = choosing.warmed(_prefix(work.stream(choosing.tokenizer, work.asked[0])))
    return _all([_authors_call(work, choosing, cache, writing, batched, one, rounds) for one in work.asked])


def _authors_call(
    work: Work, choosing: Peer, cache: list[Any], writing: Peer, batched: bool, one: Asked, rounds: int
) -> tuple[tuple[float, ...], Cost]:
    choice, alone = work.stream(choosing.tokenizer, one), work.alone(writing.tokenizer, one)
    name, text = choosing.spelled({"name": one.call.name}), writing.spelled(dict(one.call.arguments))
    own = writing.warmed(_prefix(alone))
    draw = choosing.sampled_together if batched else choosing.sampled_in_turn

    def call() -> tuple[str, list[int]]:
        votes = Counter(draw(cache, _prompt(choice), name))
        return votes.most_common(1)[0][0], writing.written(own, _prompt(alone), text)

    seconds, (chosen, written) = _timed(call, rounds, _restoring(cache, own))
    assert (json.loads(chosen), tuple(written)) == ({"name": one.call.name}, text)
    drawn = Cost(len(_prompt(choice)), 1 + len(name) * (1 if batched else SAMPLES), len(name) * SAMPLES)
    return seconds, drawn + Cost(len(_prompt(alone)), 1 + len(text), len(text))


def _greedy(log_probabilities: mx.array) -> mx.array:
    return mx.argmax(log_probabilities, axis=-1)


@dataclass(frozen=True)
class Peer:
    """A model as mlx-lm loads and runs it; caches grow by what is processed."""

    model: nn.Module
    tokenizer: Any

    @classmethod
    def load(cls, model: str, adapter: Path | None) -> Peer:
        return cls(*mlx_lm.load(str(resolve(model)), adapter_path=None if adapter is None else str(adapter))[:2])

    def spelled(self, value: dict[str, Any]) -> Tokens:
        """JSON and the end of the turn."""
        return (*self.tokenizer.encode(json.dumps(value), add_special_tokens=False), self.tokenizer.eos_token_id)

    def ended(self, tokens: Tokens) -> Tokens:
        """Tokens up to the end of the turn."""
        return tokens[: tokens.index(self.tokenizer.eos_token_id) + 1]

    def warmed(self, prefix: Tokens) -> list[Any]:
        """A cache that holds a prefix."""
        cache = make_prompt_cache(self.model)
        self._process(cache, prefix)
        return cache

    def written(self, cache: list[Any], prompt: Tokens, told: Tokens, draw: Draw = _greedy) -> list[int]:
        """Tokens behind a prompt."""
        sampler = _told(told, draw)
        steps = generate_step(mx.array(prompt), self.model, max_tokens=len(told), sampler=sampler, prompt_cache=cache)
        return [int(token) for token, _ in steps]

    def sampled_in_turn(self, cache: list[Any], prompt: tuple[int, ...], told: Tokens) -> list[str]:
        """Samples behind a prompt, which is processed once."""
        self._process(cache, prompt[:-1])
        restore, texts = _restoring(cache), []
        for _ in range(SAMPLES):
            texts.append(self.tokenizer.decode(self.written(cache, prompt[-1:], told, mx.random.categorical)[:-1]))
            restore()
        return texts

    def sampled_together(self, cache: list[Any], prompt: tuple[int, ...], told: Tokens) -> list[str]:
        """The same in one batch."""
        self._process(cache, prompt[:-1])
        drawn = batch_generate(
            self.model,
            self.tokenizer,
            [[prompt[-1]]] * SAMPLES,
            prompt_caches=[cache] * SAMPLES,
            max_tokens=len(told),
            sampler=_told(told, mx.random.categorical),
            prefill_batch_size=SAMPLES,
            completion_batch_size=SAMPLES,
        )
        return list(drawn.texts)

    def _process(self, cache: list[Any], tokens: Tokens) -> None:
        for start in range(0, len(tokens), PREFILL_CHUNK):
            self.model(mx.array([tokens[start : start + PREFILL_CHUNK]]), cache=cache)
            mx.eval([layer.state for layer in cache])


def _told(tokens: Tokens, draw: Draw) -> Draw:
    """A sampler that draws, and gives the token that is due; mlx-lm looks one ahead."""
    due: Iterator[int] = chain(tokens, repeat(tokens[-1]))
    return lambda log_probabilities: draw(log_probabilities) * 0 + next(due)


def _restoring(*caches: list[Any]) -> Callable[[], None]:
    """Takes caches back to what they hold now, once all that mlx-lm has begun beyond it is done."""
    lengths = [cache[0].offset for cache in caches]

    def restore() -> None:
        for cache, length in zip(caches, lengths, strict=True):
            mx.eval([layer.state for layer in cache])
            trim_prompt_cache(cache, cache[0].offset - length)

    return restore


def _prefix(stream: TokenStream) -> Tokens:
    return stream.tokens[: stream.last_span("prefix").end]


def _prompt(stream: TokenStream) -> Tokens:
    """What stands between the prefix and what is generated: the request, and the opener of the answer."""
    return stream.tokens[stream.last_span("prefix").end : stream.last_span("selector").start]


def _our_cost(stream: TokenStream, activation: str, usage: Usage) -> Cost:
    prompts = sum(len(stream.active_tokens(stage, activation)) for stage in usage.stages)
    return Cost(usage.prefilled_tokens + prompts, usage.forwards, usage.decoded_tokens, usage.forced_tokens)


def _timed(
    call: Callable[[], Any], rounds: int, restore: Callable[[], None] = lambda: None
) -> tuple[tuple[float, ...], Any]:
    """Seconds of every round, and what the last one gave; things are put back after each, off the clock."""
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        value = call()
        seconds.append(time.perf_counter() - began)
        restore()
    return tuple(seconds), value


def _all(made: Sequence[tuple[tuple[float, ...], Cost]]) -> Timed:
    seconds, costs = zip(*made, strict=True)
    return Timed(seconds, costs)
