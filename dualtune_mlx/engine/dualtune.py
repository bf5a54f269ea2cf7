"""DualTune: choose a tool, then write its arguments, over one base model.

with DualTune.load("bundle/") as dt:
    call = dt.call("What time is it in Tokyo?", tools)          # or: await dt.acall(...)
    for event in dt.stream("What time is it in Tokyo?", tools): ...

An engine may be used from several threads, and several engines may share a ``BaseModel``. Calls get their turns at the
model in the order in which they come. ``acall`` and ``astream`` work on a thread of the engine. MLX wants
``mx.clear_streams()`` at the end of every thread that used it; the engine's thread does so when the engine is closed.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Iterable, Mapping
from contextlib import aclosing
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Unpack

from dualtune_mlx.adapters import Adapter
from dualtune_mlx.bundle import Bundle, StageKey
from dualtune_mlx.decoding import Decoding, DecodingOptions, Evidence, Grounding
from dualtune_mlx.engine.answer import MAX_ANSWER_TOKENS
from dualtune_mlx.engine.batch import call_many
from dualtune_mlx.engine.events import AnswerText, Done, Event, Planned, run_to_end
from dualtune_mlx.engine.lexical_match import ToolMatcher, open_words
from dualtune_mlx.engine.loading import load_base, load_on_thread
from dualtune_mlx.engine.open_engine import OpenEngine
from dualtune_mlx.engine.pipeline import CallPipeline
from dualtune_mlx.engine.registry import StageRegistry
from dualtune_mlx.engine.requests import (
    CallOptions,
    CallRequest,
    Messages,
    Tools,
    change_decoding,
    check_places,
    check_requests,
    check_settings,
    read_request,
)
from dualtune_mlx.engine.stage import Stage
from dualtune_mlx.engine.trained_tools import TrainedTools
from dualtune_mlx.errors import UsageError
from dualtune_mlx.kv import PREFIX_FOLDER, PrefixCache
from dualtune_mlx.models import BaseModel, load_model
from dualtune_mlx.prompts import PromptRenderer, template_for
from dualtune_mlx.tools import Tool, ToolCall, as_messages, as_tools
from dualtune_mlx.tools.changes import ToolChanges
from dualtune_mlx.tools.hierarchy import Node

MAX_TOKENS = Decoding.max_tokens
"""Tokens of a call's arguments, where a call does not say otherwise."""


class DualTune:
    """Calls tools with a base model, a renderer of its prompts, and adapters.

    The adapters are given by their stage and scope, or they are a bundle's (see ``load``):

        DualTune(base, renderer, {("selector", ""): adapter, ("arguments", "files/read_file"): other})

    A stage is ``planner``, ``router``, ``selector`` or ``arguments``. A scope is ``""`` (every tool), ``"server"`` or
    ``"server/tool"``; the narrowest one serves. A stage without an adapter is the base model's.

    Args:
        base: the base model. The engine's adapters stay resident in it until the engine is closed.
        renderer: renders the prompts; an adapter of a bundle may have a template of its own.
        adapters: adapters by (stage, scope).
        grounding: the arguments that are copied from the conversation: for each tool ("server/tool") its parameters
            and their other values. The adapters of a bundle have their own.
        bundle: the bundle that the adapters are from, in place of ``adapters`` and ``grounding``.
        decoding: how arguments are written, where a call does not say otherwise.
        routing: as in ``load``.
        evidence: how much the words of tools and request count beside the model's probabilities, for tools that were
            not trained on: all tools, where there is no bundle. By default the bundle's.

    Raises:
        UsageError: when ``routing`` or a key of ``adapters`` is unknown, or adapters are given beside a bundle.
        AdapterError: when an adapter does not fit the model.
        BundleError: when an adapter of the bundle is damaged.
    """

    def __init__(
        self,
        base: BaseModel,
        renderer: PromptRenderer,
        adapters: Mapping[StageKey, Adapter] | None = None,
        *,
        grounding: Grounding | None = None,
        bundle: Bundle | None = None,
        decoding: Decoding | None = None,
        routing: str = "auto",
        evidence: Evidence | None = None,
    ) -> None:
        check_settings(decoding, routing)
        if bundle is not None and (adapters or grounding):
            raise UsageError("adapters are given beside a bundle", fix="give either of them")
        self.renderer = renderer
        self.bundle = bundle
        self.decoding = decoding or Decoding()
        self._trained_tools = TrainedTools(bundle)
        registry = StageRegistry.open(base, adapters or {}, grounding, bundle)
        untrained = evidence or (bundle.evidence if bundle else None)
        matcher = ToolMatcher(untrained, self._trained_tools, open_words(bundle, base))
        self._open = OpenEngine(CallPipeline(base, renderer, registry, bundle, routing, matcher))

    @classmethod
    def load(
        cls,
        bundle: str | Path,
        model: str | BaseModel | None = None,
        memory_budget: int | None = None,
        decoding: Decoding | None = None,
        routing: str = "auto",
        fuse_to: str | None = None,
    ) -> DualTune:
        """Load a bundle and its base model.

        Args:
            bundle: the bundle's folder.
            model: the base model, where it lies elsewhere than the bundle says.
            memory_budget: bytes that weights, adapters, kept prefixes and fused weights may take together. Prefixes
                take at most half of what weights and adapters leave; fused weights take the rest. What a call
                computes comes on top.
            decoding: how arguments are written, where a call does not say otherwise.
            routing: whether servers, and groups of a server's tools, are chosen before tools: ``auto``, where the
                bundle has a router; ``always``, if need be with the base model; ``never``.
            fuse_to: "bfloat16", "float16" or "float32", so that adapters of a quantised model are fused too, where
                that is faster. Fused weights of that type are several times larger than the quantised ones.

        Raises:
            UsageError: when ``routing`` or ``fuse_to`` is unknown, or ``fuse_to`` is given beside a loaded model.
            BundleError: when the bundle is damaged, or the model is not the one it was trained on.
            ModelError: when the model cannot be loaded, or exceeds the budget.
        """
        check_places(bundle, model)
        check_settings(decoding, routing, memory_budget)
        opened = Bundle.open(bundle)
        base = load_base(opened, model, fuse_to)
        renderer = opened.open_renderer(base.tokenizer, model=base.name)
        dualtune = cls(base, renderer, bundle=opened, decoding=decoding, routing=routing)
        try:
            with base.lock.turn():
                if memory_budget is not None:
                    dualtune._open.limit_memory(memory_budget)
                dualtune.prefixes.attach(opened.folder / PREFIX_FOLDER, base.snapshot, opened.prefixes)
        except BaseException:  # an interrupt too: what was added to a shared base has to leave it
            dualtune.close()
            raise
        return dualtune

    @classmethod
    async def aload(
        cls,
        bundle: str | Path,
        model: str | BaseModel | None = None,
        memory_budget: int | None = None,
        decoding: Decoding | None = None,
        routing: str = "auto",
        fuse_to: str | None = None,
    ) -> DualTune:
        """``load`` without blocking the event loop. Cancelling the task waits for the engine, and closes it."""
        return await load_on_thread(partial(cls.load, bundle, model, memory_budget, decoding, routing, fuse_to))

    @classmethod
    def without_adapters(
        cls,
        model: str | BaseModel,
        template: str,
        cards: str = "signature",
        routing: str = "auto",
        argument_card: str = "none",
        evidence: Evidence | None = None,
    ) -> DualTune:
        """The base model alone, with the same prompts and the same constrained decoding."""
        base = model if isinstance(model, BaseModel) else load_model(model)
        chosen = template_for(template, base.tokenizer, base.vocabulary)
        renderer = PromptRenderer(chosen, base.tokenizer, cards, argument_card)
        return cls(base, renderer, routing=routing, evidence=evidence)

    def __enter__(self) -> DualTune:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def tree(self, tools: Tools) -> Node:
        """The hierarchy in which these tools are chosen; one node, where they are chosen among all at once."""
        return self._open.pipeline.tree(as_tools(tools))

    def counts_words(self, tools: Tools) -> bool:
        """Whether a request's words count among these tools: the bundle learned words for all, or some are new."""
        return self._open.pipeline.matcher.counts(as_tools(tools))

    def compare_tools(self, tools: Tools) -> ToolChanges | None:
        """Which of these tools the bundle was never trained on, which have another schema now, and which are gone.

        None where nothing is known: without a bundle, or where it was assembled without a list of tools. A call with
        new or changed tools gives a ``ToolsWarning``, once for each tool set that was not compared here before.
        """
        return self._trained_tools.compare(as_tools(tools))

    def stage(self, name: str, tool: Tool | None = None) -> Stage:
        """The stage that serves a tool: with the adapter of the narrowest scope, or as the base model alone."""
        return self._open.pipeline.registry.find(name, tool)

    @property
    def stages(self) -> Mapping[StageKey, Stage]:
        """The stages that have adapters, by (stage, scope)."""
        return self._open.pipeline.registry.stages

    @property
    def prefixes(self) -> PrefixCache:
        """The keys and values that the engine keeps of the prefixes of its prompts."""
        return self._open.pipeline.runner.prefixes

    @property
    def routing(self) -> str:
        """``auto``, ``always`` or ``never``, as in ``load``."""
        return self._open.pipeline.routing

    @property
    def base(self) -> BaseModel:
        """The base model.

        Raises:
            UsageError: when the engine is closed.
        """
        return self._open.pipeline.base

    def close(self) -> None:
        """Wait for the engine's turn, then free the memory that it added. Closing twice is fine.

        The engine's adapters leave the base model, unless another engine uses them. A base model that nobody else
        refers to is freed too. Calls that still wait are refused.

        Raises:
            UsageError: when a stream of this same thread is neither at its end nor closed.
        """
        self._open.close()

    def call(self, messages: Messages, tools: Tools, **options: Unpack[CallOptions]) -> ToolCall:
        """Choose a tool (or ``respond``) and write its arguments.

        Args:
            messages: the conversation in OpenAI's form, or one request as text.
            tools: the visible tools, as objects or dictionaries.
            top_k: how many candidates to rank (1).
            abstain: below this probability of the best candidate (0) no call is made. Then ``call.abstained`` is true,
                and the call has its candidates alone.
            subtask: the words of the last request that the call is to be for, as ``plan`` gives them; "" is all of it.
            today: the date (2026-11-30) that is told with the parameters of a tool that takes a date; "" tells none.
                By default it is the machine's. It is for bundles with argument cards (``tells_date``).
            options: fields of ``Decoding``, for this call in place of the engine's.

        Raises:
            DecodingError: when the arguments are not complete within ``max_tokens``.
            PromptError, ToolError: when the conversation or a tool cannot be used.
            UsageError: when an option is out of range or does nothing here, or the engine is closed.
        """
        *_, done = self.stream(messages, tools, **options)
        assert isinstance(done, Done)
        return done.call

    def stream(self, messages: Messages, tools: Tools, **options: Unpack[CallOptions]) -> Generator[Event, None, None]:
        """``call``, event by event. The last event is ``Done``.

        The first event waits for the engine's turn, which lasts until the last event. So one thread takes all events,
        and makes no other call meanwhile. Closing the generator, as leaving a ``for`` loop does, stops before the next
        token.
        """
        return self._open.stream(self._request(messages, tools, options))

    async def acall(self, messages: Messages, tools: Tools, **options: Unpack[CallOptions]) -> ToolCall:
        """``call`` on a thread of the engine. Cancelling the task stops before the next forward pass."""
        events = self.astream(messages, tools, **options)
        async with aclosing(events):
            done = [event async for event in events][-1]
        assert isinstance(done, Done)
        return done.call

    def astream(self, messages: Messages, tools: Tools, **options: Unpack[CallOptions]) -> AsyncGenerator[Event, None]:
        """``stream`` on a thread of the engine, which works on without waiting for whoever takes the events.

        Cancelling the task, or closing the generator, stops before the next forward pass.
        """
        return self._open.on_thread(partial(self._open.stream, self._request(messages, tools, options)))

    def call_many(self, requests: Iterable[Messages], tools: Tools, **options: Unpack[CallOptions]) -> list[ToolCall]:
        """``call`` for many requests over the same tools, up to 16 of them in the same forward passes.

        Requests are called one by one through a hierarchy of tools and where lexical evidence counts, for there the
        choices depend on the request; and with adapters that change more than linear layers.

        The calls are those that ``call`` gives one by one. A pass that several share is counted in the usage of each.
        All of them have one turn, so other calls wait until the last one is done.

        Raises:
            DualTuneError: as ``call``, for the first request that cannot be answered; then there are no calls.
        """
        tools = as_tools(tools)
        listed = [self._request(messages, tools, options) for messages in check_requests(requests)]
        with self._open.turn():
            return call_many(self._open.pipeline, listed)

    def select(
        self, messages: Messages, tools: Tools, *, top_k: int = 5, subtask: str = ""
    ) -> list[tuple[Tool, float]]:
        """The ``top_k`` most probable tools with their exact probabilities, best first; ``respond`` is one of them.

        Of tools that the bundle was not trained on, those alone are ranked that match the request best, where it has
        lexical evidence.

        Raises:
            PromptError, ToolError, UsageError: as ``call``.
        """
        request = self._request(messages, tools, {"top_k": top_k, "subtask": subtask})
        with self._open.turn():
            choosing = self._open.pipeline.choose(request.messages, request.tools, top_k, subtask)
            return list(run_to_end(choosing).candidates)

    def arguments(
        self,
        messages: Messages,
        tool: Tool | Mapping[str, Any],
        tools: Tools = (),
        *,
        subtask: str = "",
        today: str | None = None,
        **options: Unpack[DecodingOptions],
    ) -> dict[str, Any]:
        """The arguments of one tool.

        Args:
            messages: the conversation, as in ``call``.
            tool: the tool.
            tools: the visible tools; the tool alone, where left out.
            subtask: as in ``call``.
            today: as in ``call``.
            options: as in ``call``.

        Raises:
            DecodingError, PromptError, ToolError, UsageError: as ``call``.
        """
        (tool,) = as_tools([tool])
        decoding = change_decoding(self.decoding, options)
        own = {"subtask": subtask, **({} if today is None else {"today": today})}
        request = self._request(messages, as_tools(tools) or (tool,), own, decoding)
        if not tool.takes_arguments:
            return {}
        with self._open.turn():
            prepared = self._open.pipeline.prepare_arguments(request, tool)
            return run_to_end(self._open.pipeline.write(prepared, request.decoding)).value

    @property
    def tells_date(self) -> bool:
        """Whether the arguments of a tool that takes a date are written with today's date in view."""
        return self.renderer.argument_card != "none"

    @property
    def divides(self) -> bool:
        """Whether there is a planner, which divides requests into subtasks."""
        return self._open.pipeline.divides

    def plan(self, messages: Messages, tools: Tools = (), **options: Unpack[DecodingOptions]) -> tuple[str, ...]:
        """The subtasks of the last request, in the order in which they are to be done. Each of them is words of it.

        The plan is empty where the request is one as a whole, or where there is no planner.

        Args:
            messages: the conversation, as in ``call``.
            tools: the tools that earlier calls of the conversation were made to.
            options: as in ``call``.

        Raises:
            DecodingError: when the plan is not complete within ``max_tokens``.
            PromptError, UsageError: as ``call``.
        """
        if not self.divides:
            return ()
        *_, planned = self.planning(messages, tools, **options)
        assert isinstance(planned, Planned)
        return planned.subtasks

    def planning(
        self, messages: Messages, tools: Tools = (), **options: Unpack[DecodingOptions]
    ) -> Generator[Event, None, None]:
        """``plan``, event by event. The last event is ``Planned``. It takes its turn as ``stream`` does.

        Without a planner the base model divides the request.
        """
        return self._open.planning(as_messages(messages), as_tools(tools), change_decoding(self.decoding, options))

    def aplanning(
        self, messages: Messages, tools: Tools = (), **options: Unpack[DecodingOptions]
    ) -> AsyncGenerator[Event, None]:
        """``planning`` on a thread of the engine. Cancelling the task stops before the next forward pass."""
        decoding = change_decoding(self.decoding, options)
        return self._open.on_thread(partial(self._open.planning, as_messages(messages), as_tools(tools), decoding))

    def answer(self, messages: Messages, *, max_tokens: int = MAX_ANSWER_TOKENS) -> Generator[AnswerText, None, None]:
        """An answer in words, piece by piece: the base model's most probable one, of ``max_tokens`` at most.

        The model has no adapter. It is shown the requests and the results, but neither tools nor calls. The answer
        takes its turn as ``stream`` does.

        Raises:
            PromptError: when the conversation cannot be used.
            UsageError: when ``max_tokens`` is below 1, or the engine is closed.
        """
        return self._open.answer(as_messages(messages), max_tokens)

    def aanswer(self, messages: Messages, *, max_tokens: int = MAX_ANSWER_TOKENS) -> AsyncGenerator[AnswerText, None]:
        """``answer`` on a thread of the engine. Cancelling the task stops before the next forward pass."""
        return self._open.on_thread(partial(self._open.answer, as_messages(messages), max_tokens))

    def _request(
        self, messages: Messages, tools: Tools, options: Mapping[str, Any], decoding: Decoding | None = None
    ) -> CallRequest:
        request = read_request(messages, tools, options, decoding or self.decoding, self.tells_date)
        self._trained_tools.warn_once(request.tools)
        return request
