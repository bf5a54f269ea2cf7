"""A call, stage by stage: a tool is chosen, then its arguments are written. A plan is made as arguments are."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from dualtune_mlx.bundle import Bundle
from dualtune_mlx.decoding import (
    ArgumentGrammar,
    DecodeStep,
    Decoding,
    GrammarTokenizer,
    RankedName,
    find_unsaid,
)
from dualtune_mlx.engine.attempts import ArgumentRequest, collect_pieces
from dualtune_mlx.engine.events import Candidates, Done, Event, Planned, StageBegins, stream_text
from dualtune_mlx.engine.lexical_match import ToolMatcher
from dualtune_mlx.engine.registry import StageRegistry
from dualtune_mlx.engine.requests import CallRequest
from dualtune_mlx.engine.stage import Stage, StageResult, StageRunner
from dualtune_mlx.engine.trained_tools import TrainedTools
from dualtune_mlx.errors import BundleError, DualTuneWarning, count_of
from dualtune_mlx.models import BaseModel
from dualtune_mlx.prompts import PromptRenderer, TokenStream
from dualtune_mlx.tools import PLAN, RESPOND, Message, Tool, ToolCall
from dualtune_mlx.tools.hierarchy import Node, hierarchy, search_tree
from dualtune_mlx.tools.labels import label_tools
from dualtune_mlx.tools.schemas import check_arguments
from dualtune_mlx.tools.usage import StageUsage, Usage

BRANCHES = 3
"""How many branches of a node the search keeps in view, at least."""
FUSE_AHEAD_FROM = 0.5
"""From this probability on, a tool's adapter is fused before the choice is done."""


class GroupWarning(DualTuneWarning):
    """Tools are in other groups of their server than those that the bundle learned to choose in."""


@dataclass(frozen=True)
class Selection:
    """The outcome of a choice among tools."""

    candidates: tuple[tuple[Tool, float], ...]
    """The most probable tools with their probabilities, best first."""
    node: Node
    """The node of the hierarchy that the best tool was chosen at."""
    usage: Mapping[str, StageUsage]
    """What each stage cost that chose."""

    def to_call(self, abstain: float) -> ToolCall:
        """The call of the best tool, still without arguments; none where its probability is below ``abstain``."""
        tool, confidence = self.candidates[0]
        usage = Usage(dict(self.usage))
        if confidence < abstain:
            return ToolCall("", confidence=confidence, candidates=self.candidates, usage=usage)
        return ToolCall(tool.name, {}, tool.server, confidence, self.candidates, usage)


class CallPipeline:
    """Makes calls over one base model. Its user holds the model's lock.

    Args:
        base: the base model.
        renderer: renders the prompts of every stage that has no template of its own.
        registry: the stages.
        bundle: the bundle that the stages are from; it knows whether they learned a hierarchy of tools, and which.
        routing: ``auto``, ``always`` or ``never`` (see ``DualTune.load``).
        matcher: matches requests with tools that were not trained on; by default their words do not count.
    """

    def __init__(
        self,
        base: BaseModel,
        renderer: PromptRenderer,
        registry: StageRegistry,
        bundle: Bundle | None = None,
        routing: str = "auto",
        matcher: ToolMatcher | None = None,
    ) -> None:
        self.base, self.renderer, self.registry, self.bundle, self.routing = base, renderer, registry, bundle, routing
        self.matcher = matcher or ToolMatcher(None, TrainedTools(bundle))
        self.runner = StageRunner(base)
        self._tokenizer: GrammarTokenizer | None = None

    @property
    def hierarchical(self) -> bool:
        """Whether servers and groups are chosen before tools: with ``auto``, where the stages learned that."""
        if self.routing == "auto":
            return self.bundle.hierarchical if self.bundle else ("router", "") in self.registry.stages
        return self.routing == "always"

    @property
    def divides(self) -> bool:
        """Whether requests are divided into subtasks: where there is a planner."""
        return ("planner", "") in self.registry.stages

    def can_batch(self, tools: tuple[Tool, ...]) -> bool:
        """Whether calls may share forward passes: they choose among all tools, and adapters change linear layers."""
        adapters = [stage.adapter for stage in self.registry.stages.values() if stage.adapter]
        among_all = not self.hierarchical and not self.matcher.counts(tools)
        return among_all and all(map(self.base.bank.changes_only_linears, adapters))

    def tree(self, tools: tuple[Tool, ...]) -> Node:
        """How the tools are chosen among: in a hierarchy, or all at once.

        A ``GroupWarning`` tells of tools that are in other groups than the bundle learned.
        """
        if not self.hierarchical:
            return Node("", tools)
        if self.bundle is not None and self.bundle.hierarchical:
            warn_about_regrouped_tools(self.bundle, tools)
        return hierarchy(tools)

    def renderer_of(self, stage: Stage) -> PromptRenderer:
        """The renderer of a stage: its own, else that of all stages."""
        return stage.renderer or self.renderer

    def call(self, request: CallRequest) -> Generator[Event, None, None]:
        """A call, event by event."""
        selection = yield from self.choose(request.messages, request.tools, request.top_k, request.subtask)
        call = selection.to_call(request.abstain)
        yield Candidates(call.candidates)
        if tool := argument_tool(call):
            prepared = self.prepare_arguments(request, tool, selection.node)
            call = add_arguments(call, (yield from self.write(prepared, request.decoding)), prepared)
        yield Done(call)

    def choose(
        self, messages: tuple[Message, ...], tools: tuple[Tool, ...], top_k: int, subtask: str = ""
    ) -> Generator[Event, None, Selection]:
        """The most probable tools, event by event."""
        root, match = self.tree(tools), self.matcher.match(messages, tools, subtask)
        search = search_tree(root, top_k)
        usage: dict[str, StageUsage] = {}
        node = match.shown(next(search))
        while True:
            stage = self.registry.find("router" if node.routes else "selector")
            yield StageBegins(stage.name)
            # Among nodes some more than asked for: another branch may lead to the best tool.
            wanted = max(top_k, BRANCHES) if node.routes else top_k
            names = self.renderer_of(stage).name_tokens(node.cards)
            stream = self.render(stage, messages, tools, RESPOND, node.cards, subtask)
            by_label: dict[str, Tool | Node] = dict(zip(label_tools(node.cards), node.choices, strict=True))
            by_label[RESPOND.name] = RESPOND
            asked = match.asked(wanted, len(names))
            result = self.runner.choose(stage, stream, names, asked, partial(self._fuse_likely, by_label))
            usage[stage.name] = usage[stage.name] + result.usage if stage.name in usage else result.usage
            shares = match.weigh([(by_label[one.name], one.probability) for one in result.value], wanted)
            try:
                node = match.shown(search.send(shares))
            except StopIteration as end:
                candidates = tuple(end.value)
                return Selection(candidates, match.shown(root.node_of(candidates[0][0])), usage)

    def plan(
        self, messages: tuple[Message, ...], tools: tuple[Tool, ...], decoding: Decoding
    ) -> Generator[Event, None, None]:
        """The subtasks of the last request, event by event; there are none where it is one as a whole."""
        stage = self.registry.find("planner")
        yield StageBegins(stage.name)
        stream = self.render(stage, messages, tools, PLAN, (PLAN,))
        request = ArgumentRequest(messages, PLAN, stage, stream, self.renderer_of(stage).argument_frame(PLAN))
        result = yield from self._write(request, decoding)
        subtasks = dict.fromkeys(result.value["parts"])  # a small model may write one again and again
        yield Planned(tuple(subtasks), Usage({stage.name: result.usage}))

    def prepare_arguments(self, request: CallRequest, tool: Tool, node: Node | None = None) -> ArgumentRequest:
        """The request for the arguments of one tool, which was chosen at a node of the tools' hierarchy.

        Without a node, the tool's node is looked up.
        """
        match = self.matcher.match(request.messages, request.tools, request.subtask)
        if node is None:
            node = match.shown(self.tree(request.tools).node_of(tool), keep=tool)
        stage = self.registry.find("arguments", tool)
        renderer, call = self.renderer_of(stage), ToolCall(tool.name, {}, tool.server)
        stream = renderer.render_arguments(
            request.messages, request.tools, call, node.cards, request.subtask, request.today
        )
        visible = next((one for one in request.tools if one == tool), tool)
        frame, narrowed = renderer.argument_frame(tool), match.narrow(visible, request.messages)
        return ArgumentRequest(request.messages, tool, stage, stream, frame, narrowed)

    def write(
        self, request: ArgumentRequest, decoding: Decoding
    ) -> Generator[Event, None, StageResult[dict[str, Any]]]:
        """The arguments that a request asks for, event by event.

        Raises:
            DecodingError: when they are not complete within the token budget.
            ToolError: when they do not fit the tool's schema.
        """
        yield request.begins
        result = yield from self._write(request, decoding)
        check_arguments(result.value, request.tool)
        return result

    def render(
        self,
        stage: Stage,
        messages: tuple[Message, ...],
        tools: tuple[Tool, ...],
        tool: Tool,
        shown: tuple[Tool, ...],
        subtask: str = "",
    ) -> TokenStream:
        """The stream of a stage, up to the call of one of the tools ``shown`` (or of ``respond``) without arguments.

        ``tools`` are all there are; the conversation's earlier calls are made to them.
        """
        call = ToolCall(tool.name, {}, tool.server)
        return self.renderer_of(stage).render(messages, tools, call, shown, subtask)

    def grammar(self, request: ArgumentRequest, schema: Mapping[str, Any]) -> ArgumentGrammar:
        """The grammar of a request's arguments under a schema: the tool's own, or a narrower one."""
        if self._tokenizer is None:
            self._tokenizer = GrammarTokenizer(self.base.tokenizer)
        return ArgumentGrammar(replace(request.tool, parameters=schema), self._tokenizer, request.frame)

    def _fuse_likely(self, by_label: Mapping[str, Tool | Node], best: RankedName) -> None:
        """Begin to fuse the adapter that will most likely write, while the other candidates are ranked."""
        tool = by_label[best.name]
        if best.probability < FUSE_AHEAD_FROM or isinstance(tool, Node) or tool is RESPOND or not tool.takes_arguments:
            return
        if adapter := self.registry.find("arguments", tool).adapter:
            self.base.fusion.prepare(adapter)

    def _write(
        self, request: ArgumentRequest, decoding: Decoding
    ) -> Generator[Event, None, StageResult[dict[str, Any]]]:
        """Write the arguments that a request asks for, in one attempt or several; the caller sends the first event."""
        attempt, usage = request.first_attempt(decoding), StageUsage(adapter=request.stage.adapter_name)
        while True:
            grammar = self.grammar(request, request.schema(attempt))
            pieces: list[tuple[bytes, float]] = []
            keep = collect_pieces(pieces, grammar, decoding)
            result = yield from self._write_text(request, grammar, decoding, keep)
            usage += result.usage
            following = request.next_attempt(decoding, attempt, pieces, result.value)
            if following is None:
                return StageResult(result.value, usage)
            attempt = following
            yield request.begins

    def _write_text(
        self,
        request: ArgumentRequest,
        grammar: ArgumentGrammar,
        decoding: Decoding,
        on_step: Callable[[DecodeStep], object],
    ) -> Generator[Event, None, StageResult[dict[str, Any]]]:
        """Write under a grammar, as text; ``on_step`` is called with every step."""
        steps = self.runner.write(request.stage, request.stream, grammar, decoding)
        return (yield from stream_text(steps, grammar.to_bytes, on_step, request.frame))


def warn_about_regrouped_tools(bundle: Bundle, tools: Sequence[Tool]) -> None:
    """Warn about tools that are in other groups than a bundle learned. Its router does not know these groups."""
    if not (pairs := list(bundle.find_regrouped(tools))):
        return
    now, then = pairs[0]
    share = f"{len(pairs)} of {count_of(len(tools), 'tool')}"
    message = BundleError(
        "tools are in other groups than those that the bundle learned",
        where=bundle.folder,
        got=f"{share}: {now.name!r} of {now.server or 'no server'} in {_group_of(now)}",
        expected=_group_of(then),
        fix="configure the groups as in training, or train router and selector again",
    )
    warnings.warn(str(message), GroupWarning, stacklevel=2)


def _group_of(tool: Tool) -> str:
    return f"group {tool.group!r}" if tool.group else "no group"


def argument_tool(call: ToolCall) -> Tool | None:
    """The tool whose arguments a call still needs; none where it needs none."""
    tool, _ = call.candidates[0]
    return None if call.abstained or tool is RESPOND or not tool.takes_arguments else tool


def add_arguments(call: ToolCall, result: StageResult[dict[str, Any]], request: ArgumentRequest) -> ToolCall:
    """The call with its arguments, with what they cost, and with those that nobody said."""
    usage = Usage({**call.usage.stages, "arguments": result.usage})
    unsaid = find_unsaid(result.value, request.tool, request.messages)
    return replace(call, arguments=result.value, usage=usage, unsaid=unsaid)
