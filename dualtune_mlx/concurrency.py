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
    """The work was cancelled by whoever asked for it."""


class FairLock:
    """A lock that one ticket holds at a time, in the order in which the tickets were taken."""

    def __init__(self) -> None:
        self.condition = threading.Condition()
        self.tickets: deque[Ticket] = deque()
        """The tickets that hold the lock or wait for it, in order."""
        self.holder: Ticket | None = None
        """The ticket that holds the lock."""

    def take_ticket(self) -> Ticket:
        """A new ticket, behind all others. Whoever takes it has to acquire and to release it."""
        ticket = Ticket(self)
        with self.condition:
            self.tickets.append(ticket)
        return ticket

    @contextmanager
    def turn(self, ticket: Ticket | None = None) -> Iterator[None]:
        """Hold the lock for the block, with a ticket that was taken before, or with a new one.

        Raises:
            Cancelled: when the ticket was cancelled.
            UsageError: when this same thread holds the lock.
        """
        ticket = ticket or self.take_ticket()
        try:
            ticket.acquire()
            yield
        finally:
            ticket.release()

    def check_cancelled(self) -> None:
        """Stop work that was cancelled while it holds the lock.

        Raises:
            Cancelled: when the holder's ticket was cancelled.
        """
        holder = self.holder
        if holder is not None and holder.cancelled:
            raise Cancelled


class Ticket:
    """A place in the order of a ``FairLock``."""

    def __init__(self, lock: FairLock) -> None:
        self.lock = lock
        self.cancelled = False
        self.thread: int | None = None
        """The thread that holds the lock with this ticket, or did."""

    def acquire(self) -> None:
        """Wait until the lock is this ticket's.

        Raises:
            Cancelled: when ``cancel`` came first.
            UsageError: when this same thread holds the lock, so that it would wait for ever.
        """
        lock, thread = self.lock, threading.get_ident()
        with lock.condition:
            if lock.holder is not None and lock.holder.thread == thread and not self.cancelled:
                raise UsageError(
                    "the model is in use by a stream of this same thread",
                    fix="take the stream's events to their end, or close() it, before the next call",
                )
            lock.condition.wait_for(lambda: self.cancelled or lock.tickets[0] is self)
            if self.cancelled:
                raise Cancelled
            self.thread, lock.holder = thread, self

    def cancel(self) -> None:
        """From any thread: stop waiting, or stop the work that holds the lock before its next forward pass."""
        with self.lock.condition:
            self.cancelled = True
            waiting = self.thread is None
        if waiting:
            self.release()

    def release(self) -> None:
        """Give the lock, or the place in its order, to the next ticket."""
        with self.lock.condition:
            if self in self.lock.tickets:
                self.lock.tickets.remove(self)
            if self.lock.holder is self:
                self.lock.holder = None
            self.lock.condition.notify_all()


@dataclass(frozen=True)
class _End:
    """The end of some work, and the error that ended it."""

    error: BaseException | None = None


class EngineThread:
    """A thread that works for event loops. It starts with the first work.

    Args:
        at_end: what the thread does last.
    """

    def __init__(self, at_end: Callable[[], None]) -> None:
        self._at_end = at_end
        self._thread: threading.Thread | None = None
        self._jobs = SimpleQueue[Callable[[], None] | None]()
        self._submitting = threading.Lock()

    async def iterate(self, lock: FairLock, work: Callable[[Ticket], Iterable[T]]) -> AsyncGenerator[T, None]:
        """The items of some work, which the thread does without waiting for whoever takes the items.

        When the generator ends, or its task is cancelled, the work is cancelled too; the generator waits for that.

        Args:
            lock: the lock that the work needs.
            work: takes a ticket of the lock, acquires and releases it, and gives the items.

        Raises:
            BaseException: the error that ended the work.
        """
        loop, queue = asyncio.get_running_loop(), asyncio.Queue[T | _End]()

        def put(item: T | _End) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, item)

        def job() -> None:
            end = _End()
            try:
                for item in work(ticket):
                    put(item)
            except BaseException as error:  # whatever ends the work has to reach who waits for it
                end = _End(error)
            with suppress(RuntimeError):  # the loop is closed, so nobody waits
                put(end)

        with self._submitting:  # jobs must be in the order of their tickets, or the thread would wait for itself
            ticket = lock.take_ticket()
            self._submit(job)
        item: T | _End | None = None
        try:
            while not isinstance(item := await queue.get(), _End):
                yield item
            if item.error is not None:
                raise item.error
        finally:
            ticket.cancel()
            while not isinstance(item, _End):
                item = await queue.get()

    def close(self) -> None:
        """End the thread after the work that it has."""
        with self._submitting:
            if self._thread is not None:
                self._jobs.put(None)
                self._thread.join()
                self._thread = None
                atexit.unregister(self.close)

    def _submit(self, job: Callable[[], None]) -> None:
        if self._thread is None:
            # A daemon thread, or the process would wait for it before it calls what is registered here.
            self._thread = threading.Thread(target=self._run, name="dualtune", daemon=True)
            self._thread.start()
            atexit.register(self.close)
        self._jobs.put(job)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job  # it refers to its engine
        self._at_end()
