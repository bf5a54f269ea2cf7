"""What is wrong in a conversation that can be read: each function gives what it finds, as (kind, what, fix)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import groupby, zip_longest
from typing import Any

from dualtune_mlx.data.checking.relative_dates import find_relative_date
from dualtune_mlx.data.secrets import find_home_paths, find_secrets
from dualtune_mlx.tools import Message, ToolCall, Trajectory
from dualtune_mlx.tools.leaves import iter_strings

Found = tuple[str, str, str]
"""The kind of a fault, what is wrong, and what can be done."""
CONTROL = re.compile(
    r"<[|\uff5c][\w\u2581 -]{1,40}[|\uff5c]>|<(?:start|end)_of_turn>|<(?:bos|eos|pad|unk)>"
    r"|\[/?INST\]|<</?SYS>>|^<s>|</s>\s*$|</?(?:tool_call|tool_response|think)>"
)
"""Control tokens of chat templates."""
_DID = r"(?:\w+ed|sent|written|made|set|put|run)\b"
CLAIM = re.compile(
    rf"^(?:ok(?:ay)?[,.!]? |sure[,.!]? )?(?:done\b|i(?:['\u2019]ve| have) (?:just |now |already )?{_DID})"
    rf"|\b(?:has|have) been {_DID}",
    re.IGNORECASE,
)
"""How an answer says that something was done."""
DATE = re.compile(r"\b\d{4}-\d{2}-\d{2}")
TOLD = re.compile(r"\b\d{4}-\d{2}-\d{2}|\btoday is\b|\bcurrent (?:date|time)\b", re.IGNORECASE)
"""How a conversation tells its date."""


def find_bad_requests(trajectory: Trajectory) -> Iterator[Found]:
    """Requests that are empty, or hold a control token of a chat template."""
    for number, message in enumerate(trajectory.messages, 1):
        if message.role != "user":
            continue
        if not message.content.strip():
            yield "empty_request", f"message {number}: the request is empty", "write the request, or leave the line out"
        if found := CONTROL.search(message.content):
            fix = "write the words of the user alone: a template adds its own tokens"
            yield "control_token", f"message {number}: the request holds {found[0].strip()}", fix


def find_bad_results(trajectory: Trajectory) -> Iterator[Found]:
    """Results without a call, two of one call, and calls without a result beside calls that have one."""
    groups = [(is_result, list(group)) for is_result, group in groupby(trajectory.messages, _is_result)]
    calls: tuple[ToolCall, ...] = ()
    has_results, number, open_calls = False, 1, 0
    for is_result, messages in groups:
        if is_result:
            has_results = True
            yield from _compare_results(messages, calls, number)
        else:
            open_calls += sum(bool(message.tool_calls) for message in messages[:-1])
        calls = messages[-1].tool_calls
        number += len(messages)
    if has_results and open_calls:
        what = "a call in the middle has no result, although others have"
        yield "call_without_result", what, "write its result behind it, or leave the line out"


def _is_result(message: Message) -> bool:
    return message.role == "tool"


def _compare_results(results: Sequence[Message], calls: Sequence[ToolCall], number: int) -> Iterator[Found]:
    ids = [message.tool_call_id for message in results if message.tool_call_id]
    if twice := next((one for one in ids if ids.count(one) > 1), None):
        what = f"message {number}: two results are of the call {twice!r}"
        yield "repeated_result", what, "keep the right one"
    elif len(results) > len(calls):
        what = f"message {number}: {len(results)} results follow {len(calls)} calls"
        yield "result_without_call", what, "write the call before its result, or leave the result out"
    elif len(results) < len(calls):
        what = f"message {number}: {len(results)} results follow {len(calls)} calls"
        yield "call_without_result", what, "write a result for each call, in the order of the calls"


def find_missing_today(trajectory: Trajectory) -> Iterator[Found]:
    """A date in a call that the request says relative to a day that nobody told."""
    if trajectory.today:
        return
    said = ""
    for message in trajectory.messages:
        said += f"\n{message.content}"
        if TOLD.search(said):
            return
        dates = [date for call in message.tool_calls for date in DATE.findall(_spell(call.arguments))]
        words = find_relative_date(said) if dates else ""
        if words:
            fix = f'write the date of the conversation into the line, such as "today": "{dates[0]}"'
            yield "missing_today", f'"{words}" is {dates[0]} in the call, and the line says no today', fix
            return


def find_pretended_calls(trajectory: Trajectory) -> Iterator[Found]:
    """Answers in words that write a call of a visible tool among them."""
    pattern = _calls_in_words(tuple(tool.name for tool in trajectory.tools))
    for number, message in enumerate(trajectory.messages, 1):
        is_answer = message.role == "assistant" and message.weight and not message.tool_calls
        if is_answer and (found := pattern.search(message.content)):
            fix = 'write the call into tool_calls, or let the message be context alone: "weight": 0'
            yield "written_call", f"message {number}: the answer writes a call, {found[0]}…", fix


def find_claims(trajectory: Trajectory) -> Iterator[Found]:
    """Answers that say that something was done for a request, although nothing was called for it."""
    has_called = False
    for number, message in enumerate(trajectory.messages, 1):
        has_called = (has_called and message.role != "user") or bool(message.tool_calls)
        if message.role == "assistant" and message.weight and not has_called and CLAIM.search(message.content):
            what = f"message {number}: the answer says that something was done, and nothing was called"
            yield "claimed_call", what, "write the call before it, or an answer that claims nothing"


def find_unanswered(trajectory: Trajectory) -> Iterator[Found]:
    """Requests behind which nothing or another request stands."""
    for number, (message, after) in enumerate(zip_longest(trajectory.messages, trajectory.messages[1:]), 1):
        if message.role == "user" and (after is None or after.role == "user"):
            yield "unanswered", f"message {number}: nothing answers the request", "write what the assistant does"


@lru_cache(maxsize=1024)  # lines repeat their tools
def _calls_in_words(names: tuple[str, ...]) -> re.Pattern[str]:
    named = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return re.compile(rf"(?<![\w.])(?:{named})(?:\(|\s*\{{\s*\"|\s+(?:with|arguments)\W+\{{)")


def find_personal(trajectory: Trajectory) -> Iterator[Found]:
    """Secrets, and paths in somebody's home folder; what they are is never repeated."""
    secrets: dict[str, int] = {}
    homes: set[str] = set()
    for number, message in enumerate(trajectory.messages, 1):
        texts = [message.content, *(text for call in message.tool_calls for text in iter_strings(call.arguments))]
        for text in texts:
            for secret in find_secrets(text):
                secrets.setdefault(secret.kind, number)
            homes.update(find_home_paths(text))
    for kind, number in secrets.items():
        yield "secret", f"message {number} holds what looks like {kind}", "write an invented one, or leave the line out"
    if homes:
        yield "home_path", f"{', '.join(sorted(homes))}", "write a path that is nobody's, such as /home/user"


def _spell(arguments: Mapping[str, Any]) -> str:
    return "\n".join(iter_strings(arguments))
