"""What a teacher may cost: requests, tokens and money."""

from __future__ import annotations

from dataclasses import dataclass

MILLION = 1_000_000


class BudgetSpent(Exception):
    """The next request might cost more than is left."""


@dataclass(frozen=True)
class Spent:
    """What was asked of a teacher, and what it cost."""

    requests: int = 0
    """Requests that were sent, those that failed included."""
    read: int = 0
    """Tokens that the teacher read, as it counts them. Where it does not, they are estimated from above."""
    written: int = 0
    """Tokens that it wrote."""

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.requests + other.requests, self.read + other.read, self.written + other.written)

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.requests - other.requests, self.read - other.read, self.written - other.written)

    @property
    def tokens(self) -> int:
        """All tokens."""
        return self.read + self.written


@dataclass(frozen=True)
class Limits:
    """What a teacher may cost, over all runs of a data folder; None for no limit."""

    requests: int | None = None
    """Requests."""
    tokens: int | None = None
    """Tokens, read and written together."""
    money: float | None = None
    """Money, in the currency of the prices."""
    price_read: float = 0.0
    """The price of a million tokens that the teacher reads."""
    price_written: float = 0.0
    """The price of a million tokens that it writes."""

    def price(self, spent: Spent) -> float:
        """What it costs, in the currency of the prices."""
        return (spent.read * self.price_read + spent.written * self.price_written) / MILLION

    def describe(self) -> str:
        """The limits in words."""
        limits = {"requests": self.requests, "tokens": self.tokens, "of money": self.money}
        named = [f"{number:,} {what}" for what, number in limits.items() if number is not None]
        return f"at most {', '.join(named)}" if named else "without a limit"

    def find_exceeded(self, spent: Spent) -> str:
        """The first limit that this would exceed, in words; "" for none."""
        if self.requests is not None and spent.requests > self.requests:
            return f"{self.requests:,} requests"
        if self.tokens is not None and spent.tokens > self.tokens:
            return f"{self.tokens:,} tokens"
        if self.money is not None and self.price(spent) > self.money:
            return f"{self.money:g} of money"
        return ""


class Budget:
    """Keeps to limits while several requests are on their way: each reserves the most that it can cost.

    Args:
        limits: the limits.
        spent: what was spent before.
    """

    def __init__(self, limits: Limits, spent: Spent) -> None:
        self.limits, self.spent = limits, spent
        self.exceeded = ""
        """The limit that a request was not sent for, in words; "" for none."""
        self._reserved = Spent()

    def reserve(self, most: Spent) -> None:
        """Set aside what a request can cost.

        Raises:
            BudgetSpent: when that might exceed a limit.
        """
        if exceeded := self.limits.find_exceeded(self.spent + self._reserved + most):
            self.exceeded = exceeded
            raise BudgetSpent(exceeded)
        self._reserved += most

    def settle(self, most: Spent, spent: Spent) -> None:
        """Put what was spent in the place of what was set aside for it."""
        self._reserved -= most
        self.spent += spent
