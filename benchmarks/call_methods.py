"""Methods to make a whole call over warm prefixes: mlx-lm's, the authors', and ours. Not a benchmark itself.

For ``calls.py``. All methods read the same request behind the same tools, and end with the last token of one and the
same call. Ours uses adapters that memorized the call (``memorized.py``). mlx-lm's samplers have a script: they draw
a token as they would, and then return the next one of the script. So mlx-lm's time is measured, not its answers.
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
from typing import Any, TypeVar

import mlx.core as mx
import mlx.nn as nn
import mlx_lm
from mlx_lm.generate import batch_generate, generate_step
from mlx_lm.models.cache import make_prompt_cache, trim_prompt_cache

from dualtune_mlx.benchmarks.memorized import TEMPLATE, KnownCall, check_call
from dualtune_mlx.engine import DualTune
from dualtune_mlx.models import PREFILL_CHUNK, resolve
from dualtune_mlx.models.loading import NO_CODE
from dualtune_mlx.prompts import PromptRenderer, Template, TokenStream
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.usage import Usage

T = TypeVar("T")
Tokens = tuple[int, ...]
Sampler = Callable[[mx.array], mx.array]
"""From log-probabilities (rows, vocabulary) to a token of each row."""
SAMPLES = 10
SETTLING_ROUNDS = 2
"""Rounds of our calls before the timed ones: the first computes the prefix, the second may fuse an adapter."""


@dataclass(frozen=True)
class Cost:
    """What a call costs on any machine."""

    prefilled: int
    """Tokens of the prompt that are processed within the call, with or without an adapter."""
    forwards: int
    """Forward passes; a batch is one pass."""
    decoded: int
    """Tokens that the model chooses, in all rows; for our selector, the forks of names where it is asked."""
    forced: int = 0
    """Tokens that the grammar leaves no choice of."""

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(mine + its for mine, its in zip(self.counters, other.counters, strict=True)))

    @property
    def counters(self) -> tuple[int, ...]:
        """All four numbers, in the order of the fields."""
        return self.prefilled, self.forwards, self.decoded, self.forced


@dataclass(frozen=True)
class TimedCalls:
    """All calls of one method."""

    seconds: tuple[tuple[float, ...], ...]
    """For each call the seconds of every round."""
    costs: tuple[Cost, ...]
    """For each call its cost."""


@dataclass(frozen=True)
class Workload:
    """The calls to make with one model, and the tools they are chosen from."""

    model: str
    cards: str
    """The kind of tool card."""
    tools: tuple[Tool, ...]
    calls: tuple[KnownCall, ...]

    def render(self, tokenizer: Any, known: KnownCall) -> TokenStream:
        """The stream of the call behind all tools."""
        renderer = PromptRenderer(Template(TEMPLATE), tokenizer, self.cards)
        return renderer.render(known.messages, self.tools, known.call)

    def render_own_tool(self, tokenizer: Any, known: KnownCall) -> TokenStream:
        """The stream of the call behind its own tool alone, with the whole schema."""
        tools = [tool for tool in self.tools if tool.name == known.call.name]
        return PromptRenderer(Template(TEMPLATE), tokenizer, "schema").render(known.messages, tools, known.call)


TimedCall = Callable[[], tuple[float, Cost]]
"""Makes a call; its seconds and its cost."""


def join_rounds(rounds: Sequence[TimedCalls]) -> TimedCalls:
    """All rounds of one method as one."""
    seconds = zip(*(one.seconds for one in rounds), strict=True)
    return TimedCalls(tuple(tuple(chain(*of)) for of in seconds), rounds[-1].costs)


def time_ours(work: Workload, bundle: Path, activation: str) -> Iterator[TimedCalls]:
    """Time ``DualTune.call`` with a bundle that memorized the calls: a round with each of them, again and again.

    Raises:
        TrainingError: when the bundle makes another call.
    """
    with DualTune.load(bundle) as dualtune:
        for known in work.calls * SETTLING_ROUNDS:
            check_call(dualtune.call(known.messages, work.tools), known)

        def call(known: KnownCall) -> tuple[float, Cost]:
            seconds, made = _time(partial(dualtune.call, known.messages, work.tools))
            assert made.usage, "an engine counts its calls"
            stream = work.render(dualtune.base.tokenizer, known)
            return seconds, _our_cost(stream, activation, made.usage)

        yield from _rounds([partial(call, known) for known in work.calls])


def time_one_stage(work: Workload, adapter: Path | None, compact: bool) -> Iterator[TimedCalls]:
    """Time mlx-lm with a joint adapter and its prompt cache: name and arguments in one go.

    Args:
        work: the calls.
        adapter: the joint adapter's folder; None where it is fused into the model.
        compact: write the call in our form, the name and a line with the arguments; otherwise as a JSON object.
    """
    peer = Peer.load(work.model, adapter)
    streams = [work.render(peer.tokenizer, known) for known in work.calls]
    cache = peer.prefill(_prefix_tokens(streams[0]))

    def call(known: KnownCall, stream: TokenStream) -> tuple[float, Cost]:
        prompt, our_form = _request_tokens(stream), stream.tokens[stream.last_span("selector").start :]
        json_form = {"name": known.call.name, "arguments": dict(known.call.arguments)}
        script = peer.cut_at_end(our_form) if compact else peer.encode_json(json_form)
        seconds, written = _time(partial(peer.write, cache, prompt, script), _make_restore(cache))
        assert tuple(written) == script
        return seconds, Cost(len(prompt), 1 + len(script), len(script))

    return _rounds([partial(call, *one) for one in zip(work.calls, streams, strict=True)])


def time_ten_samples(work: Workload, selector: Path, arguments: Path, batched: bool) -> Iterator[TimedCalls]:
    """Time the authors' method: samples of the name and a vote, then the arguments behind a prompt of that tool alone.

    It has all that vLLM gives it, and more. Both adapters are in models of their own, so nothing is switched. The
    request is processed once for all samples. Each stage finds the KV of its prefix.

    Args:
        work: the calls.
        selector: the selector adapter's folder.
        arguments: the argument adapter's folder.
        batched: draw all samples in one batch; otherwise one after the other.
    """
    selecting, writing = Peer.load(work.model, selector), Peer.load(work.model, arguments)
    cache = selecting.prefill(_prefix_tokens(work.render(selecting.tokenizer, work.calls[0])))
    return _rounds([_sampled_call(work, selecting, cache, writing, known, batched=batched) for known in work.calls])


def _sampled_call(
    work: Workload, selecting: Peer, cache: list[Any], writing: Peer, known: KnownCall, *, batched: bool
) -> TimedCall:
    choice, own = work.render(selecting.tokenizer, known), work.render_own_tool(writing.tokenizer, known)
    choice_prompt, own_prompt = _request_tokens(choice), _request_tokens(own)
    name, text = selecting.encode_json({"name": known.call.name}), writing.encode_json(dict(known.call.arguments))
    own_cache = writing.prefill(_prefix_tokens(own))
    sample = selecting.sample_together if batched else selecting.sample_in_turn
    sampling = Cost(len(choice_prompt), 1 + len(name) * (1 if batched else SAMPLES), len(name) * SAMPLES)

    def write() -> tuple[str, list[int]]:
        votes = Counter(sample(cache, choice_prompt, name))
        return votes.most_common(1)[0][0], writing.write(own_cache, own_prompt, text)

    def call() -> tuple[float, Cost]:
        seconds, (chosen, written) = _time(write, _make_restore(cache, own_cache))
        assert (json.loads(chosen), tuple(written)) == ({"name": known.call.name}, text)
        return seconds, sampling + Cost(len(own_prompt), 1 + len(text), len(text))

    return call


def _greedy(log_probabilities: mx.array) -> mx.array:
    return mx.argmax(log_probabilities, axis=-1)


@dataclass(frozen=True)
class Peer:
    """A model as mlx-lm loads and runs it. Its methods extend the cache by the tokens that they process."""

    model: nn.Module
    tokenizer: Any

    @classmethod
    def load(cls, model: str, adapter: Path | None) -> Peer:
        """Load a model with an adapter, or without one."""
        path = None if adapter is None else str(adapter)
        return cls(*mlx_lm.load(str(resolve(model)), NO_CODE, adapter_path=path)[:2])

    def encode_json(self, value: dict[str, Any]) -> Tokens:
        """The tokens of a JSON object and of the end of the turn."""
        return (*self.tokenizer.encode(json.dumps(value), add_special_tokens=False), self.tokenizer.eos_token_id)

    def cut_at_end(self, tokens: Tokens) -> Tokens:
        """The tokens up to the end of the turn, that included."""
        return tokens[: tokens.index(self.tokenizer.eos_token_id) + 1]

    def prefill(self, prefix: Tokens) -> list[Any]:
        """A new cache that holds a prefix."""
        cache = make_prompt_cache(self.model)
        self._process(cache, prefix)
        return cache

    def write(self, cache: list[Any], prompt: Tokens, script: Tokens, sampler: Sampler = _greedy) -> list[int]:
        """Generate the tokens of the script behind a prompt."""
        scripted = _make_scripted_sampler(sampler, script)
        steps = generate_step(
            mx.array(prompt), self.model, max_tokens=len(script), sampler=scripted, prompt_cache=cache
        )
        return [int(token) for token, _ in steps]

    def sample_in_turn(self, cache: list[Any], prompt: Tokens, script: Tokens) -> list[str]:
        """Sample texts behind a prompt, one after the other; the prompt is processed once."""
        self._process(cache, prompt[:-1])
        restore, texts = _make_restore(cache), []
        for _ in range(SAMPLES):
            texts.append(self.tokenizer.decode(self.write(cache, prompt[-1:], script, mx.random.categorical)[:-1]))
            restore()
        return texts

    def sample_together(self, cache: list[Any], prompt: Tokens, script: Tokens) -> list[str]:
        """Sample texts behind a prompt in one batch; the prompt is processed once."""
        self._process(cache, prompt[:-1])
        generated = batch_generate(
            self.model,
            self.tokenizer,
            [[prompt[-1]]] * SAMPLES,
            prompt_caches=[cache] * SAMPLES,
            max_tokens=len(script),
            sampler=_make_scripted_sampler(mx.random.categorical, script),
            prefill_batch_size=SAMPLES,
            completion_batch_size=SAMPLES,
        )
        return list(generated.texts)

    def _process(self, cache: list[Any], tokens: Tokens) -> None:
        for start in range(0, len(tokens), PREFILL_CHUNK):
            self.model(mx.array([tokens[start : start + PREFILL_CHUNK]]), cache=cache)
            mx.eval([layer.state for layer in cache])


def _make_scripted_sampler(sampler: Sampler, script: Tokens) -> Sampler:
    """A sampler that draws, and then returns the next token of the script; mlx-lm asks for one token more."""
    due: Iterator[int] = chain(script, repeat(script[-1]))
    return lambda log_probabilities: sampler(log_probabilities) * 0 + next(due)


def _make_restore(*caches: list[Any]) -> Callable[[], None]:
    """A function that cuts the caches back to what they hold now, after mlx-lm's pending work is done."""
    lengths = [cache[0].offset for cache in caches]

    def restore() -> None:
        for cache, length in zip(caches, lengths, strict=True):
            mx.eval([layer.state for layer in cache])
            trim_prompt_cache(cache, cache[0].offset - length)

    return restore


def _prefix_tokens(stream: TokenStream) -> Tokens:
    return stream.tokens[: stream.last_span("prefix").end]


def _request_tokens(stream: TokenStream) -> Tokens:
    """The tokens between the prefix and the call: the request, and the opener of the answer."""
    return stream.tokens[stream.last_span("prefix").end : stream.last_span("selector").start]


def _our_cost(stream: TokenStream, activation: str, usage: Usage) -> Cost:
    prompts = sum(len(stream.active_tokens(stage, activation)) for stage in usage.stages)
    return Cost(usage.prefilled_tokens + prompts, usage.forwards, usage.decoded_tokens, usage.forced_tokens)


def _rounds(calls: Sequence[TimedCall]) -> Iterator[TimedCalls]:
    while True:
        seconds, costs = zip(*(call() for call in calls), strict=True)
        yield TimedCalls(tuple((taken,) for taken in seconds), costs)


def _time(call: Callable[[], T], restore: Callable[[], None] = lambda: None) -> tuple[float, T]:
    """The seconds of a call, and its value; ``restore`` runs after it, outside the time."""
    began = time.perf_counter()
    value = call()
    seconds = time.perf_counter() - began
    restore()
    return seconds, value
