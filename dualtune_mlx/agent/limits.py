"""Where a run ends that does not end by itself: steps, time, tokens, and calls that go round in circles."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields

from dualtune_mlx.errors import UsageError
from dualtune_mlx.tools import ToolCall


class Stop(Exception):
    """The run ends here: a reason in a word, and a message for the user."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


@dataclass(frozen=True)
class Limits:
    """What a run may take: calls, seconds (without those in which the user is asked), tokens that are written.

    ``answer_tokens`` is the longest answer or plan, ``result_characters`` what the model is shown of a result.

    Raises:
        UsageError: when one of them is not above 0.
    """

    steps: int = 20
    seconds: float = 600.0
    tokens: int = 8_192
    answer_tokens: int = 512
    result_characters: int = 4_000

    def __post_init__(self) -> None:
        for field in fields(self):
            value, least = getattr(self, field.name), 200 if field.name == "result_characters" else 0
            if not value > least:
                raise UsageError("a limit is out of range", where=field.name, got=value, expected=f"more than {least}")


class Budget:
    """Counts what a run takes.

    Args:
        clock: the seconds of now.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits, self._clock = limits, clock
        self._began = clock()
        self.steps = self.tokens = 0

    @property
    def seconds(self) -> float:
        return self._clock() - self._began

    @property
    def seconds_left(self) -> float:
        return max(0.0, self.limits.seconds - self.seconds)

    @property
    def answer_tokens(self) -> int:
        """How long an answer may be now."""
        return min(self.limits.answer_tokens, self.limits.tokens - self.tokens)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What the user takes to answer is not the run's time."""
        began = self._clock()
        try:
            yield
        finally:
            self._began += self._clock() - began

    def check(self) -> None:
        """Whether another step may begin.

        Raises:
            Stop: when a limit is reached.
        """
        self.check_time()
        if self.tokens >= self.limits.tokens:
            raise Stop("tokens", f"the limit of {self.limits.tokens:,} written tokens is reached")

    def check_time(self) -> None:
        if not self.seconds_left:
            raise self.out_of_time()

    def check_steps(self) -> None:
        if self.steps >= self.limits.steps:
            raise Stop("steps", f"the limit of {self.limits.steps} calls is reached")

    def out_of_time(self, during: str = "") -> Stop:
        return Stop("time", f"the limit of {self.limits.seconds:g} s is reached{during}")


class History:
    """The calls of a run, to see when they go round in circles."""

    def __init__(self) -> None:
        self._calls: list[ToolCall] = []

    def add(self, call: ToolCall) -> None:
        """Take note of a call that is about to be made.

        Raises:
            Stop: when it is the last one again, or ends the second round of the same calls.
        """
        calls = [*self._calls, call]
        for length in range(1, len(calls) // 2 + 1):
            if calls[-length:] == calls[-2 * length : -length]:
                names = " → ".join(one.name for one in calls[-length:])
                what = f"the same call of {names!r} came again" if length == 1 else f"the calls go in a circle: {names}"
                raise Stop("repeated", what)
        self._calls = calls
