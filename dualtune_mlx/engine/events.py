"""What happens in a call, event by event, for those who show it while it runs (``DualTune.stream``)."""

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
    """A stage begins: ``planner``, ``router``, ``selector``, or ``arguments``, then with the tool that they are for.

    Where arguments are written a second time (grounding ``auto``), their stage begins a second time: the arguments
    are the text that came since the last beginning.
    """

    stage: str
    tool: Tool | None = None


@dataclass(frozen=True)
class Candidates:
    """The most probable tools, ``respond`` among them, best first, with exact probabilities."""

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
    """The call, as ``DualTune.call`` returns it; nothing comes after it."""

    call: ToolCall


@dataclass(frozen=True)
class Planned:
    """The parts of a request, as ``DualTune.plan`` returns them, and what they cost; nothing comes after it."""

    subtasks: tuple[str, ...]
    usage: Usage


Event = StageBegins | Candidates | ArgumentText | Done | Planned


def texts(
    steps: Generator[DecodeStep, None, T],
    spelled: Callable[[Sequence[int]], bytes],
    watch: Callable[[DecodeStep], object],
    frame: tuple[str, str] = ("", ""),
) -> Generator[Event, None, T]:
    """Steps of writing as text without the ``frame`` around it, and what they return; ``watch`` sees each.

    A token may end inside a character, an event does not.
    """
    decode = getincrementaldecoder("utf-8")().decode
    before, after = map(len, frame)
    text, told = "", before
    with closing(steps):
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                value: T = end.value
                return value
            watch(step)
            text += decode(spelled(step.tokens))
            if told < len(text) - after:
                yield ArgumentText(text[told : len(text) - after])
                told = len(text) - after


def returned(generator: Generator[Any, None, T]) -> T:
    """What a generator returns at its end."""
    while True:
        try:
            next(generator)
        except StopIteration as end:
            value: T = end.value
            return value
