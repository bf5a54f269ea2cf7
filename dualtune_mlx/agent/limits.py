"""Where a run is stopped: at a limit of calls, time or tokens, or when its calls repeat."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields

from dualtune_mlx.errors import UsageError, count_of
from dualtune_mlx.tools import ToolCall


class Stop(Exception):
    """The run ends here: a reason in a word, and a message for the user."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


@dataclass(frozen=True)
class Limits:
    """What a run may take.

    Raises:
        UsageError: when a limit is not above 0, or ``result_characters`` is not above 200.
    """

    steps: int = 20
    """The most calls."""
    seconds: float = 600.0
    """The longest run. The time in which the user is asked does not count."""
    tokens: int = 8_192
    """The most tokens that are written."""
    answer_tokens: int = 512
    """The longest answer or plan, in tokens."""
    result_characters: int = 4_000
    """How much of a result the model is shown, in characters."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value, least = getattr(self, field.name), 200 if field.name == "result_characters" else 0
            if not value > least:
                raise UsageError("a limit is out of range", where=field.name, got=value, expected=f"more than {least}")


class Budget:
    """Counts what a run takes.

    Args:
        clock: returns the seconds of now.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits, self._clock = limits, clock
        self._began = clock()
        self.steps = self.tokens = 0

    @property
    def seconds(self) -> float:
        """How long the run has taken, without the pauses."""
        return self._clock() - self._began

    @property
    def seconds_left(self) -> float:
        return max(0.0, self.limits.seconds - self.seconds)

    @property
    def answer_tokens(self) -> int:
        """How long an answer may be now."""
        return min(self.limits.answer_tokens, self.limits.tokens - self.tokens)

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Do not count the time of the block: the user takes it to answer."""
        began = self._clock()
        try:
            yield
        finally:
            self._began += self._clock() - began

    def check(self) -> None:
        """Check the limits of time and tokens before another step.

        Raises:
            Stop: when one of them is reached.
        """
        self.check_time()
        if self.tokens >= self.limits.tokens:
            raise Stop("tokens", f"the limit of {self.limits.tokens:,} written tokens is reached")

    def check_time(self) -> None:
        if not self.seconds_left:
            raise self.out_of_time()

    def check_steps(self) -> None:
        if self.steps >= self.limits.steps:
            raise Stop("steps", f"the limit of {count_of(self.limits.steps, 'call')} is reached")

    def out_of_time(self, during: str = "") -> Stop:
        return Stop("time", f"the limit of {self.limits.seconds:g} s is reached{during}")


class History:
    """The calls of a run. It shows when they go round in circles."""

    def __init__(self) -> None:
        self._calls: list[ToolCall] = []

    def add(self, call: ToolCall) -> None:
        """Add a call that is about to be made.

        Raises:
            Stop: when it is the last call again, or ends the second round of the same calls.
        """
        calls = [*self._calls, call]
        for length in range(1, len(calls) // 2 + 1):
            if calls[-length:] == calls[-2 * length : -length]:
                names = " → ".join(one.name for one in calls[-length:])
                what = f"the same call of {names!r} came again" if length == 1 else f"the calls go in a circle: {names}"
                raise Stop("repeated", what)
        self._calls = calls
