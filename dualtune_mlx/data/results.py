"""Which result belongs to which call, where the messages say it by ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from dualtune_mlx.errors import DataError
from dualtune_mlx.tools import Message


def sort_results(messages: Sequence[Message], raw: Sequence[Mapping[str, Any]]) -> list[Message]:
    """Put results in the order of their calls, by ``tool_call_id``; those without one keep the order of the file.

    Args:
        messages: a conversation.
        raw: the same messages as the file has them.

    Raises:
        DataError: when an id is of no call of the message before the results.
    """
    calls: list[Any] = []
    found: list[Message] = []
    numbered = list(zip(range(1, len(messages) + 1), messages, raw, strict=True))
    for is_result, group in groupby(numbered, lambda item: item[1].role == "tool"):
        run = list(group)
        if is_result:
            named = [_check_id(value, calls, number) for number, _, value in run]
            run = sorted(run, key=lambda item: calls.index(item[2]["tool_call_id"])) if all(named) else run
        else:
            calls = [call.get("id") for call in run[-1][2].get("tool_calls") or ()]
        found += [message for _, message, _ in run]
    return found


def _check_id(result: Mapping[str, Any], calls: Sequence[Any], number: int) -> bool:
    """Whether a result says which of the calls, given by their ids, it is of."""
    identity = result.get("tool_call_id")
    if identity is not None and identity not in calls:
        raise DataError(
            "a result is of a call that the message before it does not have",
            where=f"message {number}",
            got=f"tool_call_id {identity!r}",
            expected=" or ".join(repr(known) for known in calls if known is not None) or "calls with an id",
            fix="give the call this id, or leave tool_call_id out: then results come in the order of their calls",
        )
    return identity is not None
