"""Attempts at the arguments of one tool: the schema that each obeys, and whether another one follows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dualtune_mlx.decoding import (
    ArgumentGrammar,
    DecodeStep,
    Decoding,
    Grounding,
    filter_grounding,
    find_unsaid,
    find_unsure_strings,
    free_strings,
    ground_schema,
    leave_out,
    tool_key,
)
from dualtune_mlx.decoding.confidence import SURE
from dualtune_mlx.engine.events import StageBegins
from dualtune_mlx.engine.stage import Stage
from dualtune_mlx.errors import DecodingError
from dualtune_mlx.prompts import TokenStream
from dualtune_mlx.tools import PLAN, Message, Tool

HARDLY = 0.1
"""Nothing in the conversation gives a string where the model would write words of it with this probability or less."""

Pieces = Sequence[tuple[bytes, float]]
"""The spelling of each step of complete arguments, with its weight: see ``collect_pieces``."""


@dataclass(frozen=True)
class Attempt:
    """What one attempt at a tool's arguments is held to."""

    grounding: Grounding = field(default_factory=dict)
    """The strings that are held to the conversation."""
    left_out: frozenset[str] = frozenset()
    """The paths of optional parameters that are not written."""


@dataclass(frozen=True)
class ArgumentRequest:
    """A request for the arguments of one tool."""

    messages: tuple[Message, ...]
    tool: Tool
    stage: Stage
    stream: TokenStream
    """The tokens up to the arguments, and an empty object in their place."""
    frame: tuple[str, str]
    """The template's text before and after the arguments that is encoded as one text with them."""
    narrowed: Tool | None = None
    """The tool with the schema that the words of the request leave; None for its own."""

    @property
    def begins(self) -> StageBegins:
        """The event that opens the writing."""
        return StageBegins(self.stage.name, None if self.tool is PLAN else self.tool)

    def schema(self, attempt: Attempt) -> Mapping[str, Any]:
        """The JSON Schema that an attempt obeys: the tool's own, or a narrower one."""
        return ground_schema(leave_out(self.narrowed or self.tool, attempt.left_out), self.messages, attempt.grounding)

    def first_attempt(self, decoding: Decoding) -> Attempt:
        """What the first attempt is held to.

        With grounding ``data`` these are the strings that training always saw copied, with ``strict`` all that may be
        anything. A plan is always words of its request, so ``strict`` asks no more of it than ``data``.
        """
        if decoding.grounding == "strict" and self.tool is not PLAN:
            return Attempt({tool_key(self.tool): dict.fromkeys(free_strings(self.tool), ())})
        return Attempt(self.stage.grounding if decoding.grounding in ("data", "strict") else {})

    def next_attempt(
        self, decoding: Decoding, attempt: Attempt, pieces: Pieces, arguments: Mapping[str, Any]
    ) -> Attempt | None:
        """What the next attempt is held to, by what an attempt has written; None where that is to stay.

        Raises:
            DecodingError: with grounding ``strict``, when the conversation gives no value for what the tool needs.
        """
        if decoding.grounding == "auto":
            return self._hold_unsure(attempt, pieces)
        if decoding.grounding == "strict" and self.tool is not PLAN:
            return self._leave_out_unsaid(attempt, pieces, arguments)
        return None

    def _hold_unsure(self, attempt: Attempt, pieces: Pieces) -> Attempt | None:
        """Hold those strings that the model, writing freely, was not sure of."""
        if attempt.grounding:
            return None
        unsure = find_unsure_strings(pieces, len(self.frame[0]), SURE)
        held = Attempt(filter_grounding(self.stage.grounding, unsure))
        return held if self.schema(held) != self.tool.parameters else None

    def _leave_out_unsaid(self, attempt: Attempt, pieces: Pieces, arguments: Mapping[str, Any]) -> Attempt | None:
        """Leave out what the model would hardly have copied, and what it did not copy where it could not be held."""
        hardly = find_unsure_strings(pieces, len(self.frame[0]), HARDLY) & set(attempt.grounding[tool_key(self.tool)])
        unsaid = find_unsaid(arguments, self.tool, self.messages, formed=False)
        missing = (*sorted(hardly), *unsaid)
        places = [self._find_optional(path, attempt.left_out) for path in missing]
        return replace(attempt, left_out=attempt.left_out.union(places)) if missing else None

    def _find_optional(self, path: str, left_out: frozenset[str]) -> str:
        """The innermost optional parameter that a string belongs to and that is not left out yet."""
        before = leave_out(self.tool, left_out)
        for place in _around(path):
            if leave_out(self.tool, left_out | {place}) != before:
                return place
        raise DecodingError(
            "the conversation does not give an argument that the tool needs",
            where=f"tool {self.tool.name!r}: {path}",
            expected="words of the conversation that the model would copy",
            fix="say it in the request, or write freely: grounding data",
        )


def collect_pieces(
    pieces: list[tuple[bytes, float]], grammar: ArgumentGrammar, decoding: Decoding
) -> Callable[[DecodeStep], object]:
    """What is to be done with every step of an attempt: its spelling and its weight are added to ``pieces``.

    With grounding ``auto`` the weight is the probability of the token among the allowed ones. With ``strict`` it is the
    probability that the model, writing freely, takes any of the allowed ones. Else nobody judges, and nothing is added.
    """
    if decoding.grounding == "auto":
        return lambda step: pieces.append((grammar.to_bytes(step.tokens), step.probability))
    if decoding.grounding == "strict":
        return lambda step: pieces.append((grammar.to_bytes(step.tokens), step.allowed_share))
    return lambda step: None


def _around(path: str) -> Iterator[str]:
    """The parameters that a string belongs to, the innermost first: of ``edits[].note`` itself, then ``edits``."""
    while path:
        yield re.sub(r"(\[\])+$", "", path)
        path = path.rpartition(".")[0]
