"""Turns at a model: one user at a time, in the order in which they came, from any threads."""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TypeVar

from dualtune_mlx.errors import UsageError

T = TypeVar("T")


class Cancelled(Exception):
    """The work that has its turn was stopped by whoever asked for it."""


class FairLock:
    """Those who want a model: one at a time has its turn, in the order in which they joined."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.places: deque[Ticket] = deque()
        self.current: Ticket | None = None

    def join(self) -> Ticket:
        """The last place; whoever takes it has to wait for its turn and to leave."""
        place = Ticket(self)
        with self.changed:
            self.places.append(place)
        return place

    @contextmanager
    def turn(self, place: Ticket | None = None) -> Iterator[None]:
        """Wait for a place's turn (a new place's, without one), and leave with the end of the block."""
        place = place or self.join()
        try:
            place.wait()
            yield
        finally:
            place.leave()

    def check(self) -> None:
        """Raise ``Cancelled`` where the work that has its turn is to stop."""
        current = self.current
        if current is not None and current.stopped:
            raise Cancelled


class Ticket:
    """A place in a line."""

    def __init__(self, line: FairLock) -> None:
        self.line = line
        self.stopped = False
        self.thread: int | None = None

    def wait(self) -> None:
        """Return when it is this place's turn.

        Raises:
            Stopped: when ``stop`` came first.
            UsageError: when it is the turn of this same thread already, so that it would wait for ever.
        """
        line, thread = self.line, threading.get_ident()
        with line.changed:
            if line.current is not None and line.current.thread == thread and not self.stopped:
                raise UsageError(
                    "the model is in use by a stream of this same thread",
                    fix="take the stream's events to their end, or close() it, before the next call",
                )
            line.changed.wait_for(lambda: self.stopped or line.places[0] is self)
            if self.stopped:
                raise Cancelled
            self.thread, line.current = thread, self

    def stop(self) -> None:
        """From any thread: give the place up, or stop its work before the next forward pass."""
        with self.line.changed:
            self.stopped = True
            waiting = self.thread is None
        if waiting:
            self.leave()

    def leave(self) -> None:
        """Let the next one have its turn."""
        with self.line.changed:
            if self in self.line.places:
                self.line.places.remove(self)
            if self.line.current is self:
                self.line.current = None
            self.line.changed.notify_all()


@dataclass(frozen=True)
class _End:
    error: BaseException | None = None


class EngineThread:
    """A thread that works for event loops; it starts with the first work.

    Args:
        at_end: what the thread does last.
    """

    def __init__(self, at_end: Callable[[], None]) -> None:
        self._at_end = at_end
        self._thread: threading.Thread | None = None
        self._jobs = SimpleQueue[Callable[[], None] | None]()
        self._submitting = threading.Lock()

    async def iterate(self, line: FairLock, work: Callable[[Ticket], Iterable[T]]) -> AsyncGenerator[T, None]:
        """The items of some work that takes its turn in a line; it does not wait for whoever takes them.

        The end of the generator, which may be that of its task, stops the work and waits until it has stopped.
        """
        loop, queue = asyncio.get_running_loop(), asyncio.Queue[T | _End]()

        def put(item: T | _End) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, item)

        def job() -> None:
            end = _End()
            try:
                for item in work(place):
                    put(item)
            except BaseException as error:  # whatever ends the work has to reach who waits for it
                end = _End(error)
            with suppress(RuntimeError):  # the loop is closed, so nobody waits
                put(end)

        with self._submitting:  # the thread's order must be the line's, or it would wait for itself
            place = line.join()
            self._submit(job)
        item: T | _End | None = None
        try:
            while not isinstance(item := await queue.get(), _End):
                yield item
            if item.error is not None:
                raise item.error
        finally:
            place.stop()
            while not isinstance(item, _End):
                item = await queue.get()

    def close(self) -> None:
        """End the thread, after the work it has."""
        with self._submitting:
            if self._thread is not None:
                self._jobs.put(None)
                self._thread.join()
                self._thread = None
                atexit.unregister(self.close)

    def _submit(self, job: Callable[[], None]) -> None:
        if self._thread is None:
            # A daemon, or the process would wait for it before it calls what is registered here.
            self._thread = threading.Thread(target=self._live, name="dualtune", daemon=True)
            self._thread.start()
            atexit.register(self.close)
        self._jobs.put(job)

    def _live(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job  # it knows its engine
        self._at_end()
