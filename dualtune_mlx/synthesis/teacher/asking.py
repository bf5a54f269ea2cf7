"""Asking a teacher: several requests in flight, again after failures, within a budget, and nothing twice."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from dualtune_mlx.chat import CHARACTERS_PER_TOKEN, EndpointError, strip_thoughts
from dualtune_mlx.synthesis.teacher.backends import Backend, Turns, write_text
from dualtune_mlx.synthesis.teacher.budget import Budget, Limits, Spent
from dualtune_mlx.synthesis.teacher.journal import Answer, Journal

TRIES = 6
"""How often a question is sent at most, once the teacher has answered anything."""
FIRST_TRIES = 3
"""How often it is sent while the teacher has answered nothing: then the address or the key may be wrong."""
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
"""Seconds before the second try, doubled before each further one, with a half more or less by chance."""
LONGEST_ASKED_WAIT = 600.0
"""Seconds: an endpoint that asks to wait for longer has failed for now."""
MOST_FAILURES = 5
"""So many questions in a row without an answer end the run."""
OF_THE_REQUEST = frozenset((400, 413, 422))
"""Statuses that say that this one request will never be answered."""


@dataclass(frozen=True)
class Waiting:
    """The teacher failed, and is asked again after a while."""

    seconds: float
    """How long."""
    why: str
    """What it did."""


class Unanswered(Exception):
    """The teacher has not answered a question, though it was asked again."""


@dataclass(frozen=True)
class Asking:
    """How a teacher is asked."""

    in_flight: int = 8
    """Requests at once."""
    seconds: float = 120.0
    """The longest that an answer may take."""
    answer_tokens: int = 512
    """The longest answer, in tokens; thoughts count."""


class Asker:
    """Asks a teacher, inside ``async with``.

    Args:
        backend: where the teacher is.
        journal: what it has answered before.
        limits: what it may cost.
        asking: how it is asked.
        report: called with ``Waiting`` when a failure is waited out.
    """

    def __init__(
        self,
        backend: Backend,
        journal: Journal,
        limits: Limits,
        asking: Asking,
        report: Callable[[Waiting], object] = lambda _: None,
    ) -> None:
        self.budget = Budget(limits, journal.spent)
        self._backend, self._journal, self._asking, self._report = backend, journal, asking, report
        self._stack = AsyncExitStack()
        self._connections: Any = None
        self.in_flight = min(asking.in_flight, backend.most_in_flight)
        """Requests at once."""
        self._places = asyncio.Semaphore(self.in_flight)
        self._asked: dict[str, asyncio.Lock] = {}
        self.unanswered = 0
        """Questions that were not answered."""
        self._not_before, self._failures, self._has_answered = 0.0, 0, False

    async def __aenter__(self) -> Asker:
        opening = self._backend.open(self._asking.in_flight, self._asking.seconds)
        self._connections = await self._stack.enter_async_context(opening)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def ask(self, turns: Turns, temperature: float = 0.0, variant: int = 0) -> Answer:
        """The teacher's answer; what was asked before in the very same words is not asked again.

        Args:
            turns: ``{"role", "content"}`` of each message.
            temperature: 0 for the most probable answer.
            variant: tells questions of the same words apart that each want an answer of their own.

        Raises:
            BudgetSpent: when another request might exceed a limit.
            Unanswered: when it failed again and again, or refuses this one request.
            EndpointError: when it fails at question after question, or refuses all.
        """
        asked = [self._backend.name, list(turns), temperature, variant, self._asking.answer_tokens]
        key = hashlib.sha256(json.dumps(asked, ensure_ascii=True, sort_keys=True).encode()).hexdigest()
        async with self._asked.setdefault(key, asyncio.Lock()):  # two may ask the very same at once
            return self._journal.find(key) or await self._ask(key, turns, temperature)

    async def _ask(self, key: str, turns: Turns, temperature: float) -> Answer:
        async with self._places:
            try:
                answer, spent = await self._try_often(turns, temperature)
            except EndpointError as error:
                self._failures += 1
                if self._failures >= MOST_FAILURES or not (is_passing(error) or error.status in OF_THE_REQUEST):
                    raise
                self.unanswered += 1
                raise Unanswered(str(error.got)) from error
        self._journal.add_answer(key, answer, spent)
        self._failures, self._has_answered = 0, True
        return answer

    async def _try_often(self, turns: Turns, temperature: float) -> tuple[Answer, Spent]:
        number = 0
        while True:
            number += 1
            await asyncio.sleep(self._not_before - time.monotonic())
            try:
                return await self._try_once(turns, temperature)
            except EndpointError as error:
                if number >= (TRIES if self._has_answered else FIRST_TRIES) or not is_passing(error):
                    raise
                wait = error.retry_after or FIRST_WAIT * 2 ** (number - 1)
                if wait > LONGEST_ASKED_WAIT:
                    raise
                if error.retry_after:
                    self._not_before = max(self._not_before, time.monotonic() + wait)
                else:
                    wait = min(LONGEST_WAIT, wait) * random.uniform(0.5, 1.5)
                self._report(Waiting(wait, str(error.got)))
                await asyncio.sleep(wait)

    async def _try_once(self, turns: Turns, temperature: float) -> tuple[Answer, Spent]:
        asking = self._asking
        most = Spent(1, estimate_tokens(turns), asking.answer_tokens)
        self.budget.reserve(most)
        spent = Spent()
        try:
            pieces = self._backend.stream(self._connections, turns, asking.answer_tokens, temperature)
            async with asyncio.timeout(asking.seconds):
                text, finish, tokens = await write_text(pieces, asking.answer_tokens * CHARACTERS_PER_TOKEN)
            spent = Spent(1, *(tokens or (most.read, asking.answer_tokens)))
        except (EndpointError, TimeoutError) as error:
            refused = isinstance(error, EndpointError) and (error.status or "Connect" in str(error.got))
            spent = Spent(1) if refused else most
            self._journal.add_failure(spent)
            if isinstance(error, EndpointError):
                raise
            raise EndpointError(
                "the teacher is too slow",
                where=self._backend.name,
                got=f"no whole answer in {asking.seconds:g} s",
                fix="give it more time, or fewer requests in flight",
            ) from error
        except asyncio.CancelledError:
            spent = most
            self._journal.add_failure(spent)
            raise
        finally:
            self.budget.settle(most, spent)
        return Answer(strip_thoughts(text), finish), spent


def is_passing(error: EndpointError) -> bool:
    """Whether the same request may be answered another time."""
    return error.status in (0, 408, 409, 425, 429) or error.status >= 500


def estimate_tokens(turns: Sequence[Any]) -> int:
    """The tokens of a conversation, from above: one for two bytes, and some for each turn."""
    return sum(len(turn["content"].encode()) // 2 + 8 for turn in turns)
