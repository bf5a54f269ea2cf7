"""Training examples from trajectories: each decision of a conversation is a target of its stage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from dualtune_mlx.data.decisions import Decision, call_decisions, plan_decisions
from dualtune_mlx.errors import DataError, count_of, inside
from dualtune_mlx.prompts import PromptRenderer, TokenStream, span_name
from dualtune_mlx.tools import Trajectory, find_called_tool
from dualtune_mlx.training.routing import ShownDecision, shown_decisions
from dualtune_mlx.training.window import cut_to_window
from dualtune_mlx.training.writable import check_writable

EXPECTED = {
    "planner": 'requests with "parts"',
    "router": "tools of at least two servers, or of one that is large enough for groups",
}


@dataclass(frozen=True)
class Target:
    """Tokens that are learned: a stage's output at one decision."""

    start: int
    """The first token, counted from the start of the example."""
    end: int
    """Behind the last token."""
    name: str
    """Which decision this is, for messages: the trajectory and the decision's number."""
    tool: str
    """The tool that is called: ``server/tool``, ``respond`` or ``plan``."""


@dataclass(frozen=True)
class Example:
    """A token stream up to the end of what is learned."""

    tokens: tuple[int, ...]
    """Token ids."""
    active: int
    """The activation point: the index of the first token that the adapter acts on."""
    targets: tuple[Target, ...]
    """What is learned, in the order of the stream."""
    conversation: int = 0
    """The number of the trajectory that the example is from."""
    described: int = 0
    """How many tokens at the start are the system message and the tools."""

    @property
    def learned(self) -> int:
        """How many tokens are learned."""
        return sum(target.end - target.start for target in self.targets)

    @property
    def name(self) -> str:
        """The names of the targets, for messages."""
        return " and ".join(target.name for target in self.targets)


@dataclass(frozen=True)
class StageExamples:
    """A stage's examples."""

    examples: tuple[Example, ...]
    cut: int
    """How many examples lost their oldest exchanges."""
    dropped: tuple[str, ...]
    """For each decision that is in no example: which, and why."""

    @property
    def counts(self) -> Counter[str]:
        """How many decisions there are for each tool."""
        return Counter(target.tool for example in self.examples for target in example.targets)


def stage_examples(
    trajectories: Sequence[Trajectory],
    renderer: PromptRenderer,
    stage: str,
    activation: str,
    *,
    scope: str = "",
    window: int = 0,
    hierarchical: bool = False,
) -> StageExamples:
    """All examples of a stage.

    Args:
        trajectories: the conversations.
        renderer: makes their token streams.
        stage: one of ``STAGES``.
        activation: where the adapter begins to act.
        scope: only calls of this server, or of this tool (``server/tool``).
        window: the longest stream in tokens; 0 is no limit. A longer one loses its oldest exchanges
            (``cut_to_window``), and is dropped when its last request alone is longer.
        hierarchical: show the tools of one node of their hierarchy instead of all tools.

    Raises:
        DataError: when there is no example, or arguments could never be written.
        ToolError: when the schema of a tool that is called cannot be enforced while decoding.
    """
    examples: list[Example] = []
    dropped: list[str] = []
    cut = 0
    # Where no request is divided, nothing is to be learned of whole ones.
    usable = () if stage == "planner" and not any(map(is_divided, trajectories)) else trajectories
    if stage == "arguments":
        check_arguments_writable(trajectories, scope)
    for number, trajectory in enumerate(usable):
        found = []
        for count, decision in decisions_of_stage(trajectory, stage, scope):
            name = decision_name(trajectory, number, count)
            with inside(name):
                streams = [
                    _fit(view, stage, renderer, window)
                    for view in shown_decisions(decision, stage, hierarchical, number)
                ]
            for stream, length in streams:
                if stream is None:
                    dropped.append(f"{name}: {count_of(length, 'token')}, its last request alone exceeds {window}")
                    continue
                cut += len(stream) < length
                made = example(stream, stage, activation, name, _tool_name(stage, decision))
                found.append(replace(made, conversation=number))
        examples += _merge(found)
    if not examples:
        raise DataError(
            f"the data holds no example for the stage {stage!r}",
            where=scope or next((one.name.rpartition(":")[0] for one in trajectories if one.name), None),
            got=count_of(len(trajectories), "conversation") + (f"; {dropped[0]}" if dropped else ""),
            expected=EXPECTED.get(stage, "assistant messages with tool_calls, and not of weight 0"),
            fix="add some, or leave this stage to the base model",
        )
    return StageExamples(tuple(examples), cut, tuple(dropped))


def example(stream: TokenStream, stage: str, activation: str, name: str = "", tool: str = "") -> Example:
    """A stream as an example of one stage; ``name`` and ``tool`` are those of its target."""
    span = stream.last_span(span_name(stage))
    return Example(
        stream.tokens[: span.end],
        stream.activation_start(activation),
        (Target(span.start, span.end, name, tool),),
        described=stream.last_span("prefix").end,
    )


def decisions_of_stage(trajectory: Trajectory, stage: str, scope: str = "") -> Iterator[tuple[int, Decision]]:
    """A trajectory's decisions for a stage and scope, each with its number among all decisions, from 1.

    The planner's decisions are numbered among themselves.
    """
    if stage == "planner":
        yield from enumerate(plan_decisions(trajectory), 1)
        return
    for number, decision in enumerate(call_decisions(trajectory), 1):
        called = None if decision.call.is_respond else find_called_tool(decision.call, decision.tools)
        if scope and (called is None or scope not in (called.server, f"{called.server}/{called.name}")):
            continue
        if stage != "arguments" or (called is not None and called.takes_arguments):
            yield number, decision


def check_arguments_writable(trajectories: Sequence[Trajectory], scope: str = "") -> None:
    """Check that the arguments of all calls that are learned can be written.

    Raises:
        DataError, ToolError: as ``check_writable`` does.
    """
    check_writable(
        (decision_name(trajectory, number, count), decision)
        for number, trajectory in enumerate(trajectories)
        for count, decision in decisions_of_stage(trajectory, "selector", scope)
    )


def decision_name(trajectory: Trajectory, number: int, count: int) -> str:
    """The name of a trajectory's decision in messages; ``number`` counts trajectories from 0, ``count`` from 1."""
    return f"{trajectory.name or f'trajectory {number + 1}'}, decision {count}"


def is_divided(trajectory: Trajectory) -> bool:
    """Whether a plan that is learned from the trajectory divides a request into subtasks."""
    return any(decision.call.arguments["parts"] for decision in plan_decisions(trajectory))


def _tool_name(stage: str, decision: Decision) -> str:
    if stage == "planner" or decision.call.is_respond:
        return decision.call.name
    return find_called_tool(decision.call, decision.tools).full_name


def _stream(view: ShownDecision, stage: str, renderer: PromptRenderer) -> TokenStream:
    decision = view.decision
    render = renderer.render_arguments if stage == "arguments" else renderer.render
    return render(decision.messages, decision.tools, decision.call, view.shown, decision.subtask, decision.today)


def _fit(view: ShownDecision, stage: str, renderer: PromptRenderer, window: int) -> tuple[TokenStream | None, int]:
    """The stream, without as many of its oldest exchanges as it takes to have at most ``window`` tokens.

    Returns:
        The stream, or None where it cannot be that short; and the length of the whole one.
    """
    stream = _stream(view, stage, renderer)
    if not 0 < window < len(stream):
        return stream, len(stream)
    decision = cut_to_window(
        view.decision, window, lambda shorter: len(_stream(replace(view, decision=shorter), stage, renderer))
    )
    return None if decision is None else _stream(replace(view, decision=decision), stage, renderer), len(stream)


def _merge(examples: Sequence[Example]) -> list[Example]:
    """Examples of one conversation, merged where a stream continues another one from the same activation point."""
    rows: list[Example] = []
    for later in sorted(examples, key=lambda item: len(item.tokens)):
        found = next((row for row in rows if row.active == later.active and _continues(later, row)), None)
        if found is None:
            rows.append(later)
        else:
            rows[rows.index(found)] = replace(later, targets=found.targets + later.targets)
    return rows


def _continues(later: Example, earlier: Example) -> bool:
    return later.tokens[: len(earlier.tokens)] == earlier.tokens
