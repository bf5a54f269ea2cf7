"""Asks a user for requests of their own, one tool after the other: the test set that counts.

The session takes the lines that are typed, and has a screen for the next one. It reads and writes nothing, so that a
terminal and a page can both lead it.

session = AskSession(tools, fill, today="2026-11-30")
while session.screen.state != "end":
    session.take(input())
    save(session.lines)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from dualtune_mlx.errors import DualTuneError, UsageError
from dualtune_mlx.grammar import explain_unwritable
from dualtune_mlx.learning.asked_tools import order_tools
from dualtune_mlx.learning.typed_values import check_value, is_correction, read_correction, read_typed
from dualtune_mlx.synthesis.worded_requests import WordedRequest
from dualtune_mlx.tools import Tool, ToolCall
from dualtune_mlx.tools.schemas import check_arguments
from dualtune_mlx.tools.types import is_unicode

SKIP, BACK, QUIT = "/skip", "/back", "/quit"
SOURCE = "user"
State = Literal["request", "value", "confirm", "end"]
Fill = Callable[[Tool, str], Mapping[str, Any]]
"""Returns the arguments of a tool that can be found in a request."""


@dataclass(frozen=True)
class Round:
    """One request on its way."""

    tool: Tool | None
    """The tool that the request is for; None: no tool serves it."""
    request: str = ""
    """What the user says; "" before it is said."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """The arguments as far as they are known."""
    taken: bool = False
    """Whether the user has confirmed all of it."""

    @property
    def missing(self) -> str:
        """The next parameter that the tool needs and that has no value; "" where there is none."""
        required = self.tool.parameters.get("required", ()) if self.tool else ()
        return next((name for name in required if name not in self.arguments), "")


@dataclass(frozen=True)
class Screen:
    """What the user is shown."""

    state: State
    """The next line is the request; the value of ``round.missing``; nothing, or a correction; or there is none."""
    number: int
    """Which request it is, from 1."""
    count: int
    """How many there are to be."""
    round: Round
    """The request as far as it is known."""
    note: str = ""
    """Why the last line was not taken."""


class AskSession:
    """Asks for one request after the other.

    Args:
        tools: the tools.
        fill: returns the arguments of a tool that can be found in a request.
        count: how many requests there are to be, with those of before.
        before: the user's requests of earlier sessions, as lines of a data file.
        draft: what an earlier session left undone: its ``draft``.
        today: the date that the requests are said on.
    """

    def __init__(
        self,
        tools: Sequence[Tool],
        fill: Fill,
        *,
        count: int = 20,
        before: Sequence[Mapping[str, Any]] = (),
        draft: Mapping[str, Any] | None = None,
        today: str = "",
    ) -> None:
        draft = draft or {}
        self._fill, self._today, self._before = fill, today, len(before)
        self._said = {_fold(message["content"]) for line in before for message in line["messages"][:1]}
        self._skipped = [(str(server), str(name)) for server, name in draft.get("skipped", ())]
        self._rounds = [Round(tool) for tool in order_tools(tools, before, self._skipped, count)]
        self._index, self._note = 0, ""
        if self._rounds and draft.get("request"):
            self._resume(draft, tools)

    def _resume(self, draft: Mapping[str, Any], tools: Sequence[Tool]) -> None:
        """Begin with the request that an earlier session left undone, where its tool is still there."""
        for tool in tools:
            if [tool.server, tool.name] == draft.get("tool"):
                known = {name: draft["arguments"][name] for name in draft.get("arguments", {})}
                self._rounds[0] = Round(tool, str(draft["request"]), known)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The requests of this session that the user has confirmed, as lines of a data file."""
        return [self._to_line(one) for one in self._rounds if one.taken]

    @property
    def draft(self) -> dict[str, Any]:
        """What is undone, as JSON: a request without its whole call, and the tools that were skipped."""
        skipped = [list(pair) for pair in self._skipped]
        if self.screen.state in ("request", "end"):
            return {"skipped": skipped} if skipped else {}
        one = self._rounds[self._index]
        assert one.tool is not None
        tool = [one.tool.server, one.tool.name]
        return {"skipped": skipped, "tool": tool, "request": one.request, "arguments": dict(one.arguments)}

    @property
    def screen(self) -> Screen:
        """What the user is shown now."""
        count = self._before + len(self._rounds)
        if self._index >= len(self._rounds):
            return Screen("end", count, count, Round(None), self._note)
        one = self._rounds[self._index]
        state: State = "request" if not one.request else "value" if one.missing else "confirm"
        return Screen(state, self._before + self._index + 1, count, one, self._note)

    def take(self, line: str) -> None:
        """Take the line that the user typed. What cannot be taken changes nothing, and the screen says why."""
        line, self._note = line.strip(), ""
        act = {SKIP: self._skip, BACK: self._back}.get(line)
        if self.screen.state == "end" and act != self._back:
            return
        try:
            if act is not None:
                act()
            elif not is_unicode(line):
                raise UsageError("this line has characters that are no Unicode text", fix="type it again")
            else:
                self._answer(self._rounds[self._index], line)
        except DualTuneError as error:
            self._note = error.what

    def _answer(self, one: Round, line: str) -> None:
        if not one.request:
            self._set_request(one, line)
        elif one.tool is not None and one.missing:
            if not line:
                raise UsageError(f"{one.missing} needs a value", expected="the value alone, or NAME=VALUE")
            if is_correction(one.tool, line):
                self._update(read_correction(one.tool, one.arguments, line))
            else:
                self._update({**one.arguments, one.missing: read_typed(one.tool, one.missing, line)})
        elif one.tool is not None and line:
            self._update(read_correction(one.tool, one.arguments, line))
        else:
            self._confirm(one)

    def _set_request(self, one: Round, line: str) -> None:
        if not line:
            raise UsageError(f"type what you would say, or {SKIP}", expected="a request")
        if _fold(line) in self._said:
            raise UsageError(
                "you have said this before: say it in other words, or something else", expected="a new request"
            )
        self._rounds[self._index] = replace(one, request=line)
        if one.tool is not None and one.tool.takes_arguments:
            self._update(_keep_valid(one.tool, self._fill(one.tool, line)))
        else:
            self._confirm(self._rounds[self._index])

    def _update(self, arguments: Mapping[str, Any]) -> None:
        self._rounds[self._index] = replace(self._rounds[self._index], arguments=arguments)

    def _confirm(self, one: Round) -> None:
        if one.tool is not None:
            check_arguments(one.arguments, one.tool)
            if reason := explain_unwritable(one.tool, one.arguments):
                raise UsageError(f"decoding cannot write this call: {reason}", fix="correct a value")
        self._rounds[self._index] = replace(one, taken=True)
        self._said.add(_fold(one.request))
        self._index += 1

    def _skip(self) -> None:
        tool = self._rounds[self._index].tool
        self._rounds[self._index] = Round(tool)
        self._skipped += [(tool.server, tool.name)] if tool else []
        self._index += 1

    def _back(self) -> None:
        """Back to the request of this round, else to the call of the round before."""
        one = self._rounds[self._index] if self._index < len(self._rounds) else Round(None)
        if one.request:
            self._rounds[self._index] = Round(one.tool)
        elif self._index:
            self._index -= 1
            before = self._rounds[self._index]
            self._said.discard(_fold(before.request))
            again = before.tool is None or not before.tool.takes_arguments
            self._rounds[self._index] = Round(before.tool) if again else replace(before, taken=False)
        else:
            raise UsageError("this is the first request of this session", expected="a request to go back to")

    def _to_line(self, one: Round) -> dict[str, Any]:
        calls = (ToolCall(one.tool.name, one.arguments, one.tool.server),) if one.tool else ()
        family = f"{SOURCE} {hashlib.sha256(_fold(one.request).encode()).hexdigest()[:8]}"
        return WordedRequest(one.request, calls, SOURCE, "", family, today=self._today).to_line()


def _fold(request: str) -> str:
    return " ".join(request.lower().split())


def _keep_valid(tool: Tool, found: Mapping[str, Any]) -> dict[str, Any]:
    """The listed arguments that fit the schema. What was found in a request is only a guess."""
    listed = tool.parameters.get("properties", {})
    return {name: value for name, value in found.items() if name in listed and not check_value(tool, name, value)}
