"""What is kept of a line to compare it with others: numbers that stand for its parts, and its folded requests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from dualtune_mlx.data.wordings import digest, fold, fold_wording
from dualtune_mlx.tools import Message, Trajectory


@dataclass(frozen=True)
class Print:
    """The print of a line. A number is 64 bits of a hash."""

    line: int
    """The line's number."""
    whole: int
    """Conversation, tools and date."""
    calls: int
    """Calls, tools and date; where nothing is called, the folded requests stand for the calls."""
    wording: int
    """The wording of its requests; 0 for none."""
    family: int
    """The family that its metadata names; 0 for none."""
    words: str
    """Its requests, folded."""
    decisions: tuple[tuple[int, int], ...]
    """For each message of the assistant that is learned: what was known before it, and what it does."""


def print_line(number: int, trajectory: Trajectory, family: str) -> Print:
    """The print of a line that can be read."""
    given = "\0".join([trajectory.today, *sorted(tool.full_name for tool in trajectory.tools)])
    requests = [message.content for message in trajectory.messages if message.role == "user"]
    wording, words = fold_wording(trajectory), " ".join(map(fold, requests))
    calls = [text for message in trajectory.messages for text in _spell_calls(message)]
    return Print(
        number,
        digest(given, *map(_spell, trajectory.messages)),
        digest(given, *(calls or [words])),
        digest(wording) if wording else 0,
        digest(family) if family else 0,
        words,
        tuple(_list_decisions(trajectory, given)),
    )


def _list_decisions(trajectory: Trajectory, given: str) -> Iterator[tuple[int, int]]:
    """The decisions of a line. The order of the calls of a message does not count.

    Case, spaces and a full stop make no other request. Nor does case make another call: it may be that of the request.
    """
    known = digest(given)
    for message in trajectory.messages:
        calls = sorted(text.casefold() for text in _spell_calls(message))
        if message.role == "assistant" and message.weight:
            yield known, digest(message.subtask.casefold(), *calls)
        text = " ".join(message.content.casefold().split()).rstrip(" .!?")
        known = digest(str(known), message.role, "" if calls else text, *calls)


def _spell(message: Message) -> str:
    return "\0".join((message.role, message.content, str(message.weight), message.subtask, *_spell_calls(message)))


def _spell_calls(message: Message) -> list[str]:
    return [f"{call.name} {json.dumps(dict(call.arguments), sort_keys=True)}" for call in message.tool_calls]
