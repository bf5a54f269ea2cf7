"""Conversations that are too long for the window: they lose whole exchanges, the oldest first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from dualtune_mlx.data.decisions import Decision
from dualtune_mlx.tools import Message


def cut_to_window(decision: Decision, window: int, length: Callable[[Decision], int]) -> Decision | None:
    """Leave out as many of the oldest exchanges as it takes for ``length`` to give at most ``window`` tokens.

    An exchange is a user message, or an assistant message with the tool results that follow it. The system message,
    the user's last request and the last exchange always stay.

    Returns:
        The decision with fewer messages; None when what always stays is too long.
    """
    system = tuple(message for message in decision.messages[:1] if message.role == "system")
    exchanges = _exchanges(decision.messages[len(system) :])
    asked = max(i for i, exchange in enumerate(exchanges) if exchange[0].role == "user")
    droppable = [i for i in range(len(exchanges) - 1) if i != asked]
    for count in range(len(droppable) + 1):
        left_out = set(droppable[:count])
        kept = [message for i, exchange in enumerate(exchanges) if i not in left_out for message in exchange]
        shorter = replace(decision, messages=(*system, *kept))
        if length(shorter) <= window:
            return shorter
    return None


def _exchanges(messages: tuple[Message, ...]) -> list[list[Message]]:
    exchanges: list[list[Message]] = []
    for message in messages:
        if message.role == "tool" and exchanges:
            exchanges[-1].append(message)
        else:
            exchanges.append([message])
    return exchanges
