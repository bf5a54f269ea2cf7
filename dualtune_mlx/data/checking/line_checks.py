"""The check of a line by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dualtune_mlx.data.checking import conversations
from dualtune_mlx.data.checking.conversations import Found
from dualtune_mlx.data.checking.double_encoding import WRITE_IT, explain_double_encoding, find_double_encoding
from dualtune_mlx.data.checking.kinds import Finding
from dualtune_mlx.data.lines import DataLine
from dualtune_mlx.data.secrets import hide_secrets
from dualtune_mlx.errors import DualTuneError
from dualtune_mlx.grammar import explain_unwritable
from dualtune_mlx.tools import Tool, Trajectory, find_called_tool

LONGEST = 300
"""Characters of what is wrong."""
CONTEXT_ALONE = 'mend the value or the schema, or let the message be context alone: "weight": 0'


def find_in_line(line: DataLine, tools: tuple[Tool, ...], file: str) -> Iterator[Finding]:
    """Find what is wrong with a line by itself.

    Args:
        line: the line.
        tools: the visible tools of lines that have none of their own.
        file: the name of its file.
    """
    if line.error is not None:
        found = [_explain(line.error, line.text, tools)]
    else:
        assert line.trajectory is not None
        found = [one for check in CHECKS for one in check(line.trajectory)]
    for kind, what, fix in found:
        yield Finding(file, line.number, kind, hide_secrets(what)[:LONGEST], fix)


def find_unwritable(trajectory: Trajectory) -> Iterator[Found]:
    """Calls that could never be written under the grammars of their tools."""
    for message in trajectory.messages:
        for call in message.tool_calls if message.weight else ():
            tool = find_called_tool(call, trajectory.tools)
            try:
                reason = explain_unwritable(tool, call.arguments)
            except DualTuneError as error:  # the schema itself
                yield "tools", _describe(error), error.fix or ""
                continue
            if reason:
                yield "unwritable", f"{tool.name} at {reason}", CONTEXT_ALONE


CHECKS: tuple[Callable[[Trajectory], Iterator[Found]], ...] = (
    conversations.find_bad_requests,
    conversations.find_bad_results,
    conversations.find_missing_today,
    conversations.find_pretended_calls,
    conversations.find_claims,
    conversations.find_unanswered,
    find_double_encoding,
    conversations.find_personal,
    find_unwritable,
)


def _explain(error: DualTuneError, text: str, tools: tuple[Tool, ...]) -> Found:
    """The kind, the words and the fix of what is wrong with a line that cannot be read."""
    if words := explain_double_encoding(error, text, tools):
        return "double_encoded", words, WRITE_IT
    return error.kind, _describe(error), error.fix or ""


def _describe(error: DualTuneError) -> str:
    place = f" ({error.where})" if error.where is not None else ""
    got = f": {error.got}" if error.got is not None else ""
    expected = f"; expected {error.expected}" if error.expected is not None else ""
    return f"{error.what}{place}{got}{expected}"
