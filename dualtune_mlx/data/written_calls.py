"""Calls that are written into an answer's text, as some models write theirs: such a line would teach not to call."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from dualtune_mlx.errors import DataError
from dualtune_mlx.tools import Message, Tool

MARKS = re.compile(
    r"<tool_call>|<function_?call>|<function=|<start_function_call>|<\|python_tag\|>|<\|tool_call\|?>|\[TOOL_CALLS\]"
)
"""What models write before a call."""
FENCED = re.compile(r"```\w*\n(.*)\n```", re.DOTALL)
AS_PYTHON = re.compile(r"\[?([\w.-]+)\(.*\)\]?", re.DOTALL)
ARGUMENTS = ("arguments", "parameters", "args", "input")


def check_no_written_call(message: Message, tools: Sequence[Tool]) -> None:
    """Check that an answer that is learned is no call of a visible tool.

    Raises:
        DataError: when it is one.
    """
    if message.role != "assistant" or message.tool_calls or not message.weight:
        return
    text = message.content.strip()
    fenced = FENCED.fullmatch(text)
    mark, names = MARKS.search(text), {tool.name for tool in tools}
    if mark or names.intersection(_list_called(fenced[1] if fenced else text)):
        raise DataError(
            "a call stands in an answer's text, and would be learned as an answer in words",
            got=mark[0] if mark else text[:80],
            expected='{"role": "assistant", "tool_calls": [{"function": {"name": …, "arguments": …}}]}',
            fix='write it into tool_calls; or, if it is an answer, let it be context alone: "weight": 0',
        )


def _list_called(text: str) -> Iterator[str]:
    """The names of what a text calls, where it is nothing but calls."""
    if found := AS_PYTHON.fullmatch(text):
        yield found[1]
    elif text[:1] in ("{", "["):
        try:
            yield from _list_named(json.loads(text))
        except (ValueError, RecursionError):
            return


def _list_named(value: Any) -> Iterator[str]:
    for one in value if isinstance(value, list) else [value]:
        if not isinstance(one, dict):
            continue
        if isinstance(one.get("name"), str) and any(key in one for key in ARGUMENTS):
            yield one["name"]
        for key in ("tool_calls", "function", "function_call"):
            yield from _list_named(one.get(key))
