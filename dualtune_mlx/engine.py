"""DualTune: choose a tool, then write its arguments, over one base model.

with DualTune.load("bundle/") as dt:
    call = dt.call("What time is it in Tokyo?", tools)          # or: await dt.acall(...)
    for event in dt.stream("What time is it in Tokyo?", tools): ...

It may be used from several threads, and several engines may share a ``BaseModel``: calls get their turns at it in the
order in which they come. MLX wants ``mx.clear_streams()`` at the end of every thread that used it; the engine's own
thread, which ``acall`` and ``astream`` work on, does so when the engine is closed.
"""

from __future__ import annotations

import gc
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Unpack

import mlx.core as mx
from mlx.utils import tree_flatten

from dualtune_mlx.adapters import Adapter
from dualtune_mlx.bundle import Bundle
from dualtune_mlx.decoding import (
    ArgumentGrammar,
    Decoding,
    GrammarTokenizer,
    Options,
    Step,
    grounded,
    only,
    unsure_strings,
)
from dualtune_mlx.errors import BundleError, ModelError, UsageError
from dualtune_mlx.events import Candidates, Done, Event, StageBegins, returned, texts
from dualtune_mlx.kv.store import FOLDER as PREFIXES
from dualtune_mlx.models import BaseModel, load_model
from dualtune_mlx.prompts import Prompt, Stream, Template
from dualtune_mlx.prompts.cards import choices
from dualtune_mlx.schemas import check_arguments
from dualtune_mlx.stage import Ran, Stage, StageRunner
from dualtune_mlx.tools import RESPOND, Message, Tool, ToolCall, as_messages, as_tools
from dualtune_mlx.turns import Place, Worker
from dualtune_mlx.usage import Usage

MAX_TOKENS = Decoding.max_tokens
Messages = str | Iterable[Message | Mapping[str, Any]]
Tools = Iterable[Tool | Mapping[str, Any]]


@dataclass(frozen=True)
class _Asked:
    """What a call was asked, checked."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...]
    top_k: int
    abstain: float
    decoding: Decoding


class DualTune:
    """Calls tools with a base model, a template and the adapters of a bundle (or none).

    ``decoding`` is how arguments are written, where a call does not say otherwise.
    """

    def __init__(
        self, base: BaseModel, prompt: Prompt, bundle: Bundle | None = None, decoding: Decoding | None = None
    ) -> None:
        self.prompt = prompt
        self.bundle = bundle
        self.decoding = decoding or Decoding()
        self._open_runner: StageRunner | None = StageRunner(base)
        self._tokenizer: GrammarTokenizer | None = None
        self._stages: dict[tuple[str, str], Stage] = {}
        self._held: list[Adapter] = []
        # A thread whose streams outlive it can abort the process at its end (MLX asks for this call).
        self._worker = Worker(at_end=mx.clear_streams)

    @classmethod
    def load(
        cls,
        bundle: str | Path,
        model: str | BaseModel | None = None,
        memory_budget: int | None = None,
        decoding: Decoding | None = None,
    ) -> DualTune:
        """Load a bundle and its base model.

        Args:
            bundle: the bundle's folder.
            model: the base model, where it lies elsewhere than the bundle says.
            memory_budget: bytes that weights and adapters may take together; fused weights take at most what is left.
            decoding: how arguments are written, where a call does not say otherwise.

        Raises:
            BundleError: when the bundle is damaged, or the model is not the one it was trained on.
            ModelError: when the model cannot be loaded, or exceeds the budget.
        """
        opened = Bundle.open(bundle)
        base = model if isinstance(model, BaseModel) else load_model(model or opened.model)
        if base.fingerprint != opened.fingerprint:
            raise BundleError(
                "the bundle was trained on another base model",
                where=opened.folder,
                got=f"{base.name} ({base.fingerprint[:12]})",
                expected=f"{opened.model} ({opened.fingerprint[:12]})",
                fix="pass the model that the bundle names",
            )
        dualtune = cls(base, Prompt(opened.load_template(), base.tokenizer, opened.cards), opened, decoding)
        try:
            with base.line.turn():
                for stage, scope in opened.stages:
                    dualtune._stage(stage, _tool_of_scope(scope))
                dualtune._check_memory(memory_budget)
                dualtune._runner.prefixes.attach(opened.folder / PREFIXES, base.snapshot)
        except BaseException:  # an interrupt too: what was added to a shared base has to leave it
            dualtune.close()
            raise
        return dualtune

    @classmethod
    def without_adapters(cls, model: str | BaseModel, template: str, cards: str = "signature") -> DualTune:
        """The base model alone, with the same prompts and the same constrained decoding."""
        base = model if isinstance(model, BaseModel) else load_model(model)
        return cls(base, Prompt(Template(template), base.tokenizer, cards))

    def __enter__(self) -> DualTune:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def base(self) -> BaseModel:
        """The base model; after ``close`` there is none."""
        return self._runner.base

    def close(self) -> None:
        """Wait for one's turn, then give back all memory that this engine added; closing twice is fine.

        The engine's adapters leave the base model, unless another engine uses them. A base model that only the
        engine knows goes too. Calls that still wait are refused.

        Raises:
            UsageError: when a stream of this same thread is neither at its end nor closed.
        """
        if self._open_runner is None:
            return
        base = self.base
        with base.line.turn():
            self._open_runner = None
            while self._held:
                base.release(self._held.pop())
            self._stages.clear()
        self._worker.close()
        del base
        gc.collect()
        mx.clear_cache()

    def call(
        self, messages: Messages, tools: Tools, *, top_k: int = 1, abstain: float = 0.0, **options: Unpack[Options]
    ) -> ToolCall:
        """Choose a tool (or ``respond``) and write its arguments.

        Args:
            messages: the conversation, OpenAI-style, or one request as text.
            tools: the visible tools, as objects or dictionaries.
            top_k: how many candidates to rank.
            abstain: below this probability of the best candidate no call is made: ``call.abstained`` is true,
                and ``call.candidates`` is all that there is.
            options: fields of ``Decoding`` that are to be others than the engine's.

        Raises:
            DecodingError: when the arguments are not complete within ``max_tokens``.
            PromptError, ToolError: when the conversation or a tool cannot be used.
            UsageError: when an option is out of range, or the engine is closed.
        """
        *_, done = self.stream(messages, tools, top_k=top_k, abstain=abstain, **options)
        assert isinstance(done, Done)
        return done.call

    def stream(
        self, messages: Messages, tools: Tools, *, top_k: int = 1, abstain: float = 0.0, **options: Unpack[Options]
    ) -> Generator[Event, None, None]:
        """``call``, event by event; the last one is ``Done``.

        The first event waits for the engine's turn, which then lasts until the last event; so one thread takes them
        all, and makes no other call meanwhile. To stop before the next token, close the generator (as the end of a
        ``for`` loop does).
        """
        return self._events(self._asked(messages, tools, top_k, abstain, options))

    async def acall(
        self, messages: Messages, tools: Tools, *, top_k: int = 1, abstain: float = 0.0, **options: Unpack[Options]
    ) -> ToolCall:
        """``call`` on a thread of the engine; cancelling the task stops before the next forward pass."""
        events = self.astream(messages, tools, top_k=top_k, abstain=abstain, **options)
        async with aclosing(events):
            done = [event async for event in events][-1]
        assert isinstance(done, Done)
        return done.call

    async def astream(
        self, messages: Messages, tools: Tools, *, top_k: int = 1, abstain: float = 0.0, **options: Unpack[Options]
    ) -> AsyncGenerator[Event, None]:
        """``stream`` on a thread of the engine, which does not wait for whoever takes the events.

        Cancelling the task, or closing the generator, stops before the next forward pass.
        """
        asked = self._asked(messages, tools, top_k, abstain, options)
        async with aclosing(self._worker.iterate(self.base.line, partial(self._events, asked))) as events:
            async for event in events:
                yield event

    def select(self, messages: Messages, tools: Tools, *, top_k: int = 5) -> list[tuple[Tool, float]]:
        """The ``top_k`` most probable tools, ``respond`` among them, with exact probabilities."""
        messages, tools = as_messages(messages), as_tools(tools)
        with self._turn():
            return self._candidates(self._choose(messages, tools, top_k), tools)

    def arguments(
        self, messages: Messages, tool: Tool | Mapping[str, Any], tools: Tools = (), **options: Unpack[Options]
    ) -> dict[str, Any]:
        """The arguments of one tool; ``tools`` are the visible ones (the tool alone, when left out).

        Raises:
            DecodingError: when they are not complete within ``max_tokens``.
            UsageError: when an option is out of range.
        """
        (tool,) = as_tools([tool])
        decoding = replace(self.decoding, **options)
        if not tool.takes_arguments:
            return {}
        with self._turn():
            return self._write(as_messages(messages), as_tools(tools) or (tool,), tool, decoding).value

    @property
    def _runner(self) -> StageRunner:
        if self._open_runner is None:
            raise UsageError("the engine is closed", fix="load the bundle again")
        return self._open_runner

    @contextmanager
    def _turn(self, place: Place | None = None) -> Iterator[None]:
        """The turn at the base model; before and after it the base acts bare."""
        with self.base.line.turn(place):
            bank = self.base.bank  # once more: the engine may have been closed meanwhile
            try:
                yield
            finally:
                bank.activate(None)

    def _asked(
        self, messages: Messages, tools: Tools, top_k: int, abstain: float, options: Mapping[str, Any]
    ) -> _Asked:
        if not 0 <= abstain <= 1:
            raise UsageError("a probability is out of range", where="abstain", got=abstain, expected="0 to 1")
        decoding = replace(self.decoding, **options)
        return _Asked(as_messages(messages), as_tools(tools), top_k, abstain, decoding)

    def _events(self, asked: _Asked, place: Place | None = None) -> Generator[Event, None, None]:
        """The one implementation of a call."""
        with self._turn(place):
            yield StageBegins("selector")
            chosen = self._choose(asked.messages, asked.tools, asked.top_k)
            candidates = tuple(self._candidates(chosen, asked.tools))
            yield Candidates(candidates)
            tool, confidence = candidates[0]
            usage = Usage({"selector": chosen.usage})
            if confidence < asked.abstain:
                call = ToolCall("", confidence=confidence, candidates=candidates, usage=usage)
            else:
                call = ToolCall(tool.name, {}, tool.server, confidence, candidates, usage)
                if tool is not RESPOND and tool.takes_arguments:
                    if adapter := self._stage("arguments", tool).adapter:
                        self.base.fusion.prepare(adapter)  # while the prompt and the grammar are made
                    written = yield from self._writing(asked.messages, asked.tools, tool, asked.decoding)
                    usage.stages["arguments"] = written.usage
                    call = replace(call, arguments=written.value)
        yield Done(call)

    def _choose(self, messages: tuple[Message, ...], tools: tuple[Tool, ...], top_k: int) -> Ran[Any]:
        if top_k < 1:
            raise UsageError(
                "the number of candidates is out of range", where="top_k", got=top_k, expected="at least 1"
            )
        stream = self.prompt.stream(messages, tools, ToolCall(RESPOND.name))
        return self._runner.choose(self._stage("selector"), stream, self.prompt.names(tools), top_k)

    def _candidates(self, chosen: Ran[Any], tools: tuple[Tool, ...]) -> list[tuple[Tool, float]]:
        by_label = choices(tools)
        return [(by_label[ranked.name], ranked.probability) for ranked in chosen.value]

    def _write(
        self, messages: tuple[Message, ...], tools: tuple[Tool, ...], tool: Tool, decoding: Decoding
    ) -> Ran[dict[str, Any]]:
        return returned(self._writing(messages, tools, tool, decoding))

    def _writing(
        self, messages: tuple[Message, ...], tools: tuple[Tool, ...], tool: Tool, decoding: Decoding
    ) -> Generator[Event, None, Ran[dict[str, Any]]]:
        stage = self._stage("arguments", tool)
        stream = self.prompt.stream(messages, tools, ToolCall(tool.name, {}, tool.server))
        yield StageBegins(stage.name, tool)
        if decoding.grounding == "auto":
            written = yield from self._writing_surely(stage, stream, messages, tool, decoding)
        else:
            schema = grounded(tool, messages, stage.grounding) if decoding.grounding == "data" else tool.parameters
            written = yield from self._texts(stage, stream, self._grammar(tool, schema), decoding)
        check_arguments(written.value, tool)
        return written

    def _writing_surely(
        self, stage: Stage, stream: Stream, messages: tuple[Message, ...], tool: Tool, decoding: Decoding
    ) -> Generator[Event, None, Ran[dict[str, Any]]]:
        """Write freely; where that left the model unsure of strings that are grounded, again with those held."""
        grammar = self._grammar(tool, tool.parameters)
        pieces: list[tuple[bytes, float]] = []

        def watch(step: Step) -> None:
            pieces.append((grammar.spelled(step.tokens), step.probability))

        free = yield from self._texts(stage, stream, grammar, decoding, watch)
        schema = grounded(tool, messages, only(stage.grounding, unsure_strings(pieces)))
        if schema == tool.parameters:
            return free
        yield StageBegins(stage.name, tool)
        held = yield from self._texts(stage, stream, self._grammar(tool, schema), decoding)
        return Ran(held.value, free.usage + held.usage)

    def _texts(
        self,
        stage: Stage,
        stream: Stream,
        grammar: ArgumentGrammar,
        decoding: Decoding,
        watch: Callable[[Step], object] = lambda step: None,
    ) -> Generator[Event, None, Ran[dict[str, Any]]]:
        """Write a stage's span, as text."""
        return (yield from texts(self._runner.writing(stage, stream, grammar, decoding), grammar.spelled, watch))

    def _grammar(self, tool: Tool, schema: Mapping[str, Any]) -> ArgumentGrammar:
        if self._tokenizer is None:
            self._tokenizer = GrammarTokenizer(self.base.tokenizer)
        return ArgumentGrammar(replace(tool, parameters=schema), self._tokenizer)

    def _stage(self, name: str, tool: Tool | None = None) -> Stage:
        """The stage with the adapter that serves it, loaded at most once."""
        key = (name, f"{tool.server}/{tool.name}" if tool else "")
        if key not in self._stages:
            found = self.bundle.adapter_for(name, tool) if self.bundle else None
            stage = Stage(name)
            if found:
                slot, adapter = found
                held = self.base.hold(adapter)
                self._held.append(held)
                stage = Stage(name, held, slot.path, slot.grounding)
            self._stages[key] = stage
        return self._stages[key]

    def _check_memory(self, budget: int | None) -> None:
        weights: dict[str, mx.array] = tree_flatten(self.base.model.parameters(), destination={})  # type: ignore[assignment]
        needed = sum(array.nbytes for array in weights.values())
        needed += sum(adapter.nbytes for adapter in self.base.bank.resident)
        if budget is not None and needed > budget:
            raise ModelError(
                "the model and its adapters exceed the memory budget",
                where=self.base.name,
                got=f"{needed / 2**20:.0f} MiB",
                expected=f"at most {budget / 2**20:.0f} MiB",
                fix="raise the budget, or use a smaller or quantised model",
            )
        if budget is not None:
            self.base.fusion.budget = min(self.base.fusion.budget, budget - needed)


def _tool_of_scope(scope: str) -> Tool | None:
    server, _, name = scope.partition("/")
    return Tool(name or "*", server=server) if scope else None
