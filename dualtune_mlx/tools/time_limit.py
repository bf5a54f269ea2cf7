"""Limits on the time and the depth of work that another program's data asks for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import inf
from time import thread_time

_end: ContextVar[float] = ContextVar("end", default=inf)
_depth: ContextVar[int] = ContextVar("depth", default=0)


@contextmanager
def limited_time(seconds: float) -> Iterator[None]:
    """Let the body take so many seconds of its thread's computing. It asks ``seconds_left`` on its way."""
    end, depth = _end.set(min(_end.get(), thread_time() + seconds)), _depth.set(0)
    try:
        yield
    finally:
        _end.reset(end)
        _depth.reset(depth)


def seconds_left(most: float = inf) -> float:
    """The seconds that are left, and ``most`` of them.

    Raises:
        TimeoutError: when none are left.
    """
    left = min(most, _end.get() - thread_time())
    if left <= 0:
        raise TimeoutError
    return left


@contextmanager
def deeper(deepest: int) -> Iterator[None]:
    """Go into the body, which may go deeper itself.

    Raises:
        RecursionError: when it is the one too many inside each other.
    """
    depth = _depth.get()
    if depth >= deepest:
        raise RecursionError
    _depth.set(depth + 1)
    try:
        yield
    finally:
        _depth.set(depth)
