"""Trajectories to training examples: every decision of a conversation is a target of its stage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from dualtune_mlx.data.decisions import Decision, call_decisions, plan_decisions
from dualtune_mlx.errors import DataError
from dualtune_mlx.prompts import PromptRenderer, TokenStream, span_name
from dualtune_mlx.tools import Trajectory, tool_called
from dualtune_mlx.training.routing import View, views
from dualtune_mlx.training.window import cut_to_window

STAGES = ("planner", "router", "selector", "arguments")
EXPECTED = {
    "planner": 'requests with "parts"',
    "router": "tools of at least two servers, or of one that is large enough for groups",
}


@dataclass(frozen=True)
class Target:
    """The tokens from ``start`` to ``end`` are learned: the decision for ``tool`` in the step called ``name``."""

    start: int
    end: int
    name: str
    tool: str


@dataclass(frozen=True)
class Example:
    """A stream up to the end of what is learned, as token ids.

    The first ``described`` of them are the system message and the tools; the adapter acts from ``active`` on.
    """

    tokens: tuple[int, ...]
    active: int
    targets: tuple[Target, ...]
    conversation: int = 0
    described: int = 0

    @property
    def learned(self) -> int:
        """How many tokens are learned."""
        return sum(target.end - target.start for target in self.targets)

    @property
    def name(self) -> str:
        return " and ".join(target.name for target in self.targets)


@dataclass(frozen=True)
class StageExamples:
    """A stage's examples, how many lost their oldest exchanges, and why others were dropped."""

    examples: tuple[Example, ...]
    cut: int
    dropped: tuple[str, ...]

    @property
    def counts(self) -> Counter[str]:
        """Decisions by tool."""
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
    """All examples of a stage; of one tool (``"server/tool"``) or one server, where ``scope`` says so.

    ``hierarchical``: among the tools of a node of their hierarchy, not among all.

    A stream longer than ``window`` tokens loses its oldest exchanges (``window.cut_to``); one whose last request
    alone is longer is dropped. 0: no limit.

    Raises:
        DataError: when there is none.
    """
    examples: list[Example] = []
    dropped: list[str] = []
    cut = 0
    # Where no request is divided, nothing is to be learned of whole ones.
    usable = () if stage == "planner" and not any(map(is_divided, trajectories)) else trajectories
    for number, trajectory in enumerate(usable):
        found = []
        for count, decision in decisions_of_stage(trajectory, stage, scope):
            name = f"{trajectory.name or f'trajectory {number + 1}'}, decision {count}"
            for view in views(decision, stage, hierarchical, number):
                stream = _stream(view, renderer)
                fitted = _cut(view, renderer, window) if 0 < window < len(stream) else stream
                if fitted is None:
                    dropped.append(f"{name}: {len(stream)} tokens, its last request alone exceeds {window}")
                    continue
                cut += fitted is not stream
                made = example(fitted, stage, activation, name, _tool_name(stage, decision))
                found.append(replace(made, conversation=number))
        examples += _merge(found)
    if not examples:
        raise DataError(
            f"the data holds no example for the stage {stage!r}",
            where=scope or None,
            got=f"{len(trajectories)} trajectories" + (f"; {dropped[0]}" if dropped else ""),
            expected=EXPECTED.get(stage, "assistant messages with tool_calls"),
        )
    return StageExamples(tuple(examples), cut, tuple(dropped))


def example(stream: TokenStream, stage: str, activation: str, name: str = "", tool: str = "") -> Example:
    """A stream as an example of one stage."""
    span = stream.last_span(span_name(stage))
    return Example(
        stream.tokens[: span.end],
        stream.activation_start(activation),
        (Target(span.start, span.end, name, tool),),
        described=stream.last_span("prefix").end,
    )


def decisions_of_stage(trajectory: Trajectory, stage: str, scope: str = "") -> Iterator[tuple[int, Decision]]:
    """The decisions of a stage and scope in a trajectory, numbered from 1 among all its decisions (or plans)."""
    if stage == "planner":
        yield from enumerate(plan_decisions(trajectory), 1)
        return
    for number, decision in enumerate(call_decisions(trajectory), 1):
        called = None if decision.call.is_respond else tool_called(decision.call, decision.tools)
        if scope and (called is None or scope not in (called.server, f"{called.server}/{called.name}")):
            continue
        if stage != "arguments" or (called is not None and called.takes_arguments):
            yield number, decision


def is_divided(trajectory: Trajectory) -> bool:
    """Whether a request of the trajectory has parts."""
    return any(message.subtasks for message in trajectory.messages)


def _tool_name(stage: str, decision: Decision) -> str:
    if stage == "planner" or decision.call.is_respond:
        return decision.call.name
    tool = tool_called(decision.call, decision.tools)
    return f"{tool.server}/{tool.name}" if tool.server else tool.name


def _stream(view: View, renderer: PromptRenderer) -> TokenStream:
    decision = view.decision
    return renderer.render(decision.messages, decision.tools, decision.call, view.shown, decision.subtask)


def _cut(view: View, renderer: PromptRenderer, window: int) -> TokenStream | None:
    """The stream of at most ``window`` tokens, without as many of the oldest exchanges as it takes."""
    decision = cut_to_window(
        view.decision, window, lambda shorter: len(_stream(replace(view, decision=shorter), renderer))
    )
    return None if decision is None else _stream(replace(view, decision=decision), renderer)


def _merge(examples: Sequence[Example]) -> list[Example]:
    """Examples of one conversation, one row where a stream continues another from the same activation point."""
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
