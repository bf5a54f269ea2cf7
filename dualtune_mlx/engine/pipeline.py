"""What a call is made of: a tool is chosen, then its arguments are written; one call at a time, or several together."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from dualtune_mlx.adapters import Adapter
from dualtune_mlx.bundle import AdapterEntry, Bundle
from dualtune_mlx.decoding import (
    ArgumentGrammar,
    DecodeStep,
    Decoding,
    DecodingOptions,
    GrammarTokenizer,
    RankedName,
    filter_grounding,
    find_unsure_strings,
    ground_schema,
)
from dualtune_mlx.engine.events import Candidates, Done, Event, Planned, StageBegins, texts
from dualtune_mlx.engine.stage import Stage, StageResult, StageRunner
from dualtune_mlx.errors import BundleError, DualTuneWarning, UsageError
from dualtune_mlx.models import BaseModel
from dualtune_mlx.prompts import PromptRenderer, TokenStream, span_name
from dualtune_mlx.prompts.cards import label_tools
from dualtune_mlx.tools import PLAN, RESPOND, Message, Tool, ToolCall
from dualtune_mlx.tools.hierarchy import Node, hierarchy, search_tree
from dualtune_mlx.tools.schemas import check_arguments
from dualtune_mlx.tools.usage import StageUsage, Usage

BRANCHES = 3
"""How many branches of a node are kept in view."""
LIKELY = 0.5
"""From this probability on, a tool's adapter is prepared before the choice is done."""


class GroupWarning(DualTuneWarning):
    """Tools are in other groups of their server than those that the bundle learned to choose in."""


class CallOptions(DecodingOptions, total=False):
    """What may be said of a call: how it is chosen, what of the request it is for, how its arguments are written."""

    top_k: int
    abstain: float
    subtask: str


OF_CALLS = ("top_k", "abstain", "subtask")
"""Those of a call's options that are not how its arguments are written."""


@dataclass(frozen=True)
class CallRequest:
    """What a call was asked, checked.

    Raises:
        UsageError: when ``abstain`` is out of range.
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...]
    decoding: Decoding
    top_k: int = 1
    abstain: float = 0.0
    subtask: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.abstain <= 1:
            raise UsageError("a probability is out of range", where="abstain", got=self.abstain, expected="0 to 1")


@dataclass(frozen=True)
class Selection:
    """The most probable tools, best first, with their probabilities, and what each stage cost that chose."""

    candidates: tuple[tuple[Tool, float], ...]
    usage: Mapping[str, StageUsage]


@dataclass(frozen=True)
class ArgumentTask:
    """Arguments that are to be written: whose, for what, by which stage, and where in which stream.

    ``frame`` is the text around them that their prompt encodes with them.
    """

    messages: tuple[Message, ...]
    tool: Tool
    stage: Stage
    stream: TokenStream
    frame: tuple[str, str]

    def schema(self, decoding: Decoding) -> Mapping[str, Any]:
        """What they have to obey: with grounding ``data``, strings that training always saw copied are held."""
        if decoding.grounding != "data":
            return self.tool.parameters
        return ground_schema(self.tool, self.messages, self.stage.grounding)

    def sure_schema(self, pieces: Sequence[tuple[bytes, float]]) -> Mapping[str, Any]:
        """What they have to obey where they were written freely, piece by piece with these probabilities: strings
        that the model was not sure of are held too; the tool's own schema where there are none."""
        unsure = find_unsure_strings(pieces, len(self.frame[0]))
        return ground_schema(self.tool, self.messages, filter_grounding(self.stage.grounding, unsure))


class CallPipeline:
    """Makes calls over one base model. Whoever uses it has the turn at that model."""

    def __init__(self, base: BaseModel, prompt: PromptRenderer, bundle: Bundle | None, routing: str = "auto") -> None:
        self.base, self.prompt, self.bundle, self.routing = base, prompt, bundle, routing
        self.runner = StageRunner(base)
        self.stages: dict[tuple[str, str], Stage] = {}
        self._prompts: dict[str, PromptRenderer] = {}
        self._held: list[Adapter] = []
        self._tokenizer: GrammarTokenizer | None = None

    def close(self) -> None:
        """Give the stages' adapters back."""
        while self._held:
            self.base.release(self._held.pop())
        self.stages.clear()

    def stage(self, name: str, tool: Tool | None = None) -> Stage:
        """The stage with the adapter that serves it, loaded at most once."""
        key = (name, f"{tool.server}/{tool.name}" if tool else "")
        if key not in self.stages:
            found = self.bundle.adapter_for(name, tool) if self.bundle else None
            span = span_name(name)
            stage = Stage(span)
            if found:
                slot, adapter = found
                held = self.base.acquire(adapter)
                self._held.append(held)
                stage = Stage(span, held, slot.path, slot.grounding, self.own_prompt(slot))
            self.stages[key] = stage
        return self.stages[key]

    def own_prompt(self, slot: AdapterEntry) -> PromptRenderer | None:
        """The prompt of an adapter that knows another template than the bundle's."""
        if slot.template is None:
            return None
        if slot.template.hash not in self._prompts:
            assert self.bundle is not None, "its slot is the bundle's"
            template = self.bundle.load_template(slot.template)
            self._prompts[slot.template.hash] = PromptRenderer(template, self.base.tokenizer, self.prompt.cards)
        return self._prompts[slot.template.hash]

    def prompt_of(self, stage: Stage) -> PromptRenderer:
        """What makes a stage's stream: its own prompt, else that of all stages."""
        return stage.renderer or self.prompt

    def events(self, asked: CallRequest) -> Generator[Event, None, None]:
        """A call, event by event."""
        chosen = yield from self.choosing(asked.messages, asked.tools, asked.top_k, asked.subtask)
        call = begun(asked, chosen)
        yield Candidates(call.candidates)
        if tool := to_be_written(call):
            ran = yield from self.writing(self.task(asked.messages, asked.tools, tool, asked.subtask), asked.decoding)
            call = with_arguments(call, ran)
        yield Done(call)

    def choosing(
        self, messages: tuple[Message, ...], tools: tuple[Tool, ...], top_k: int, subtask: str = ""
    ) -> Generator[Event, None, Selection]:
        """The most probable tools, event by event.

        Raises:
            UsageError: when ``top_k`` is out of range.
        """
        searching = search_tree(self.tree(tools), checked_top_k(top_k))
        usage: dict[str, StageUsage] = {}
        node = next(searching)
        while True:
            name = "router" if node.routes else "selector"
            yield StageBegins(name)
            shown = node.cards
            # Among nodes some more than asked for: another branch may lead to the best tool.
            wanted = max(top_k, BRANCHES) if node.routes else top_k
            stage = self.stage(name)
            names = self.prompt_of(stage).name_tokens(shown)
            stream = self.stream(stage, messages, tools, RESPOND, shown, subtask)
            by_label: dict[str, Tool | Node] = dict(zip(label_tools(shown), node.choices, strict=True))
            by_label[RESPOND.name] = RESPOND
            ran = self.runner.choose(stage, stream, names, wanted, partial(self._expect, by_label))
            usage[name] = usage[name] + ran.usage if name in usage else ran.usage
            try:
                node = searching.send([(by_label[one.name], one.probability) for one in ran.value])
            except StopIteration as end:
                return Selection(tuple(end.value), usage)

    def tree(self, tools: tuple[Tool, ...]) -> Node:
        """How the tools are chosen among: in a hierarchy, or all at once.

        A ``GroupWarning`` tells of tools that are in other groups than the bundle learned.
        """
        if not self.hierarchical:
            return Node("", tools)
        if self.bundle is not None and self.bundle.hierarchical:
            warn_of_groups(self.bundle, tools)
        return hierarchy(tools)

    @property
    def batches(self) -> bool:
        """Whether calls may share forward passes: they choose among all tools, and adapters change linear layers."""
        adapters = [stage.adapter for stage in self.stages.values() if stage.adapter]
        return not self.hierarchical and all(map(self.base.bank.only_linear, adapters))

    @property
    def hierarchical(self) -> bool:
        """Whether servers and groups are chosen before tools: with ``auto``, where the bundle learned that."""
        if self.routing == "auto":
            return self.bundle is not None and self.bundle.hierarchical
        return self.routing == "always"

    @property
    def divides(self) -> bool:
        """Whether requests are divided into parts: where the bundle has a planner."""
        return self.bundle is not None and ("planner", "") in self.bundle.stages

    def planning(
        self, messages: tuple[Message, ...], tools: tuple[Tool, ...], decoding: Decoding
    ) -> Generator[Event, None, None]:
        """The parts of the last request, event by event; none where it is one as a whole."""
        stage = self.stage("planner")
        yield StageBegins("planner")
        stream = self.stream(stage, messages, tools, PLAN, (PLAN,))
        task = ArgumentTask(messages, PLAN, stage, stream, self.prompt_of(stage).argument_frame(PLAN))
        ran = yield from self._written(task, decoding)
        subtasks = dict.fromkeys(ran.value["parts"])  # a small model may write one again and again
        yield Planned(tuple(subtasks), Usage({"planner": ran.usage}))

    def writing(self, task: ArgumentTask, decoding: Decoding) -> Generator[Event, None, StageResult[dict[str, Any]]]:
        """One tool's arguments, event by event."""
        yield StageBegins(task.stage.span, task.tool)
        written = yield from self._written(task, decoding)
        check_arguments(written.value, task.tool)
        return written

    def _written(self, task: ArgumentTask, decoding: Decoding) -> Generator[Event, None, StageResult[dict[str, Any]]]:
        """What is written for a task, grounded as ``decoding`` says."""
        if decoding.grounding == "auto":
            return (yield from self._writing_surely(task, decoding))
        return (yield from self._texts(task, self.grammar(task, task.schema(decoding)), decoding))

    def task(
        self, messages: tuple[Message, ...], tools: tuple[Tool, ...], tool: Tool, subtask: str = ""
    ) -> ArgumentTask:
        """What is to be written for one tool, among those that it was chosen among."""
        stage = self.stage("arguments", tool)
        stream = self.stream(stage, messages, tools, tool, self.tree(tools).holding(tool).cards, subtask)
        return ArgumentTask(messages, tool, stage, stream, self.prompt_of(stage).argument_frame(tool))

    def stream(
        self,
        stage: Stage,
        messages: tuple[Message, ...],
        tools: tuple[Tool, ...],
        tool: Tool,
        shown: tuple[Tool, ...],
        subtask: str = "",
    ) -> TokenStream:
        """The tokens up to and with the choice of one of the tools ``shown``, or of ``respond``; ``tools`` are all
        there are, ``subtask`` is what of the request is due."""
        return self.prompt_of(stage).render(messages, tools, ToolCall(tool.name, {}, tool.server), shown, subtask)

    def grammar(self, task: ArgumentTask, schema: Mapping[str, Any]) -> ArgumentGrammar:
        """What a task's arguments may be, by its tool's own schema or another one."""
        if self._tokenizer is None:
            self._tokenizer = GrammarTokenizer(self.base.tokenizer)
        return ArgumentGrammar(replace(task.tool, parameters=schema), self._tokenizer, task.frame)

    def _expect(self, by_label: Mapping[str, Tool | Node], best: RankedName) -> None:
        """Begin to fuse the adapter that will most likely write, while the other candidates are ranked."""
        tool = by_label[best.name]
        if best.probability < LIKELY or isinstance(tool, Node) or tool is RESPOND or not tool.takes_arguments:
            return
        if adapter := self.stage("arguments", tool).adapter:
            self.base.fusion.prepare(adapter)

    def _writing_surely(
        self, task: ArgumentTask, decoding: Decoding
    ) -> Generator[Event, None, StageResult[dict[str, Any]]]:
        """Write freely; where that left the model unsure of strings that are grounded, again with those held."""
        tool = task.tool
        grammar = self.grammar(task, tool.parameters)
        pieces: list[tuple[bytes, float]] = []

        def watch(step: DecodeStep) -> None:
            pieces.append((grammar.to_bytes(step.tokens), step.probability))

        free = yield from self._texts(task, grammar, decoding, watch)
        schema = task.sure_schema(pieces)
        if schema == tool.parameters:
            return free
        yield StageBegins(task.stage.span, tool)
        held = yield from self._texts(task, self.grammar(task, schema), decoding)
        return StageResult(held.value, free.usage + held.usage)

    def _texts(
        self,
        task: ArgumentTask,
        grammar: ArgumentGrammar,
        decoding: Decoding,
        watch: Callable[[DecodeStep], object] = lambda step: None,
    ) -> Generator[Event, None, StageResult[dict[str, Any]]]:
        """Write under a grammar, as text."""
        steps = self.runner.writing(task.stage, task.stream, grammar, decoding)
        return (yield from texts(steps, grammar.to_bytes, watch, task.frame))


def warn_of_groups(bundle: Bundle, tools: Sequence[Tool]) -> None:
    """Warn where tools are in other groups than a bundle learned: its router was never asked about these."""
    if not (pairs := list(bundle.regrouped(tools))):
        return
    now, then = pairs[0]
    told = BundleError(
        f"{len(pairs)} of {len(tools)} tools are in other groups than those that the bundle learned",
        where=bundle.folder,
        got=f"{now.name!r} of {now.server or 'no server'} in {_group_of(now)}",
        expected=_group_of(then),
        fix="configure the groups as in training, or train router and selector again",
    )
    warnings.warn(str(told), GroupWarning, stacklevel=2)


def _group_of(tool: Tool) -> str:
    return f"group {tool.group!r}" if tool.group else "no group"


def checked_top_k(top_k: int) -> int:
    """The number of candidates.

    Raises:
        UsageError: when it is below 1.
    """
    if top_k < 1:
        raise UsageError("the number of candidates is out of range", where="top_k", got=top_k, expected="at least 1")
    return top_k


def begun(asked: CallRequest, chosen: Selection) -> ToolCall:
    """The call without its arguments."""
    tool, confidence = chosen.candidates[0]
    usage = Usage(dict(chosen.usage))
    if confidence < asked.abstain:
        return ToolCall("", confidence=confidence, candidates=chosen.candidates, usage=usage)
    return ToolCall(tool.name, {}, tool.server, confidence, chosen.candidates, usage)


def to_be_written(call: ToolCall) -> Tool | None:
    """The tool of a call whose arguments are still to be written."""
    tool, _ = call.candidates[0]
    return None if call.abstained or tool is RESPOND or not tool.takes_arguments else tool


def with_arguments(call: ToolCall, ran: StageResult[dict[str, Any]]) -> ToolCall:
    """The call with what was written, and what that cost."""
    return replace(call, arguments=ran.value, usage=Usage({**call.usage.stages, "arguments": ran.usage}))
