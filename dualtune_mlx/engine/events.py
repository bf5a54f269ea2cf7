"""The events of a call, for programs that show it while it runs (``DualTune.stream``)."""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar

from dualtune_mlx.decoding import DecodeStep
from dualtune_mlx.tools import Tool, ToolCall
from dualtune_mlx.tools.usage import Usage

T = TypeVar("T")


@dataclass(frozen=True)
class StageBegins:
    """A stage begins.

    With grounding ``auto`` arguments may be written twice. Then their stage begins twice, and the arguments are the
    text since the second beginning.
    """

    stage: str
    """``planner``, ``router``, ``selector`` or ``arguments``."""
    tool: Tool | None = None
    """The tool whose arguments are written; no other stage has one."""


@dataclass(frozen=True)
class Candidates:
    """The most probable tools with their exact probabilities, best first; ``respond`` is one of them."""

    ranked: tuple[tuple[Tool, float], ...]


@dataclass(frozen=True)
class ArgumentText:
    """The next piece of the arguments' JSON text, in whole characters."""

    text: str


@dataclass(frozen=True)
class AnswerText:
    """The next piece of an answer in words, in whole characters."""

    text: str


@dataclass(frozen=True)
class Done:
    """The call, as ``DualTune.call`` returns it. It is the last event."""

    call: ToolCall


@dataclass(frozen=True)
class Planned:
    """The plan of a request, as ``DualTune.plan`` returns it. It is the last event."""

    subtasks: tuple[str, ...]
    usage: Usage
    """What the plan cost."""


Event = StageBegins | Candidates | ArgumentText | Done | Planned


def stream_text(
    steps: Generator[DecodeStep, None, T],
    to_bytes: Callable[[Sequence[int]], bytes],
    on_step: Callable[[DecodeStep], object],
    frame: tuple[str, str] = ("", ""),
) -> Generator[Event, None, T]:
    """The text of decoding steps, in whole characters and without the ``frame`` around it.

    A token may end inside a character; an event does not. The generator returns what ``steps`` returns.

    Args:
        steps: the steps; they are closed with this generator.
        to_bytes: the bytes of some tokens.
        on_step: called with every step.
        frame: the text before and after that is not part of the arguments.
    """
    decode = getincrementaldecoder("utf-8")().decode
    before, after = map(len, frame)
    text, sent = "", before
    with closing(steps):
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                value: T = end.value
                return value
            on_step(step)
            text += decode(to_bytes(step.tokens))
            if sent < len(text) - after:
                yield ArgumentText(text[sent : len(text) - after])
                sent = len(text) - after


def run_to_end(generator: Generator[Any, None, T]) -> T:
    """Take all items of a generator; what it returns at its end."""
    while True:
        try:
            next(generator)
        except StopIteration as end:
            value: T = end.value
            return value
