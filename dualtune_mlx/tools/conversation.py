"""A conversation as a caller has it: a text, dictionaries, objects. Results are put in the order of their calls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from dualtune_mlx.errors import DataError, UsageError
from dualtune_mlx.tools.messages import ClientMessage, Message


def as_messages(messages: str | Iterable[Message | Mapping[str, Any] | ClientMessage]) -> tuple[Message, ...]:
    """Messages that may be given as dictionaries or as objects of a client library, or as the text of one request.

    Raises:
        UsageError: when they are not a list, there are none, or the last request is empty.
        DataError: when one of them is not a message, or a result is of no call.
    """
    if isinstance(messages, str):
        messages = (Message("user", messages),)
    is_one = isinstance(messages, Mapping) or hasattr(messages, "role")
    if is_one or isinstance(messages, bytes) or not isinstance(messages, Iterable):
        raise UsageError(
            "a conversation is not a list of messages",
            got=repr(messages),
            expected="a request as text, or a list of messages",
            fix="put the message into a list: [message]" if is_one else "give the request as text",
        )
    read = sort_results([one if isinstance(one, Message) else Message.from_dict(one) for one in messages])
    if not read:
        raise UsageError("a conversation has no messages", fix="give the user's request")
    request = next((message.content for message in reversed(read) if message.role == "user"), None)
    if request is not None and not request.strip():
        raise UsageError("the request is empty", got=repr(request), fix="say in words what is to be done")
    return read


def sort_results(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Put results in the order of their calls, by ``tool_call_id``; those without one keep their order.

    Raises:
        DataError: when an id is of no call of the message before the results.
    """
    ids: list[str] = []
    found: list[Message] = []
    for is_result, group in groupby(enumerate(messages, 1), lambda item: item[1].role == "tool"):
        numbered = list(group)
        run = [message for _, message in numbered]
        if is_result:
            for number, message in numbered:
                _check_id(message, ids, number)
            if all(message.tool_call_id for message in run):
                run.sort(key=lambda message: ids.index(message.tool_call_id))
        else:
            ids = [call.id for call in run[-1].tool_calls if call.id]
        found += run
    return tuple(found)


def _check_id(result: Message, ids: Sequence[str], number: int) -> None:
    if result.tool_call_id and result.tool_call_id not in ids:
        raise DataError(
            "a result is of a call that the message before it does not have",
            where=f"message {number}",
            got=f"tool_call_id {result.tool_call_id!r}",
            expected=" or ".join(map(repr, ids)) or "calls with an id",
            fix="give the call this id, or leave tool_call_id out: then results come in the order of their calls",
        )
