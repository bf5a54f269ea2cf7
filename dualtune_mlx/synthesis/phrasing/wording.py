"""One planned call as a request in words, in one of eight styles."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence

from dualtune_mlx.synthesis.phrasing.clauses import join_clauses, say_rest
from dualtune_mlx.synthesis.phrasing.cores import Core, word_core
from dualtune_mlx.synthesis.phrasing.parts import Part, read_parts
from dualtune_mlx.synthesis.phrasing.shell import word_command
from dualtune_mlx.synthesis.phrasing.slips import add_slips
from dualtune_mlx.synthesis.phrasing.styles import FORMS, dress
from dualtune_mlx.synthesis.phrasing.tool_sense import ToolSense, understand_tool
from dualtune_mlx.synthesis.planned_calls import PlannedCall
from dualtune_mlx.synthesis.worded_requests import WordedRequest
from dualtune_mlx.tools import ToolCall

STYLES = ("imperative", "question", "terse", "polite", "indirect", "chatty", "shell", "slips")
HASTY = ("imperative", "imperative", "question", "terse", "indirect")
"""Styles of the requests that get slips."""
FEWEST, MOST = 3, 45
"""How many words a request has, where that can be."""
TRIES = 8
AVOIDING_SHARE, DRAWS = 0.3, 6
"""In this share, the wording with the fewest words of the tool's name is taken, out of so many."""


def word_call(planned: PlannedCall, style: str, rng: random.Random, sense: ToolSense | None = None) -> WordedRequest:
    """A request for a planned call, which holds the words of all its values.

    Args:
        planned: the call and the words of its values.
        style: one of ``STYLES``. A call with values that a command line cannot hold is worded tersely for ``shell``,
            and what cannot be said without the tool's words is not called ``indirect``.
        rng: draws the wording.
        sense: what is understood of the tool (``understand``); from the tool alone where it is left out.
    """
    sense = sense or understand_tool(planned.tool)
    parts = read_parts(planned, rng)
    draws = DRAWS if style == "indirect" or rng.random() < AVOIDING_SHARE else 1
    wordings = [_word_in_length(planned, parts, style, sense, rng) for _ in range(draws)]
    text, core = min(wordings, key=lambda one: count_name_words(one[0], parts, sense)) if draws > 1 else wordings[0]
    call = ToolCall(planned.tool.name, dict(planned.arguments), planned.tool.server)
    style = _name_style(text, style, core, parts, sense)
    return WordedRequest(text, (call,), "generator", style, core.template, today=planned.today)


def word_alike(
    pair: Sequence[PlannedCall], style: str, rng: random.Random, senses: Mapping[str, ToolSense]
) -> list[WordedRequest]:
    """Requests for planned calls that differ little, worded with the same draws: as alike as they can be."""
    seed = rng.random()
    return [word_call(one, style, random.Random(seed), senses[one.tool.name]) for one in pair]


def _name_style(text: str, style: str, core: Core, parts: Sequence[Part], sense: ToolSense) -> str:
    """The style that the text has: what names the tool is not indirect, what is no command not of a shell."""
    if style == "indirect" and count_name_words(text, parts, sense):
        return "imperative"
    return "terse" if style == "shell" and core.form != "shell" else style


def word_order(planned: PlannedCall, rng: random.Random, sense: ToolSense) -> Core:
    """A planned call as a plain order without a full stop, to be joined with others."""
    parts = read_parts(planned, rng)
    core = word_core(parts, sense, "say", rng)
    text = core.text + (f" {core.front.strip(' ,:')}" if core.front else "")
    return Core(_say_missing(text, parts, rng), core.template, core.form)


def count_name_words(text: str, parts: Sequence[Part], sense: ToolSense) -> int:
    """How many words of the tool's name a text has outside its values."""
    for part in parts:
        text = text.replace(part.words, " ")
    names = {name.rstrip("s") for name in sense.name_words}
    return sum(word.lower().rstrip("s") in names for word in re.findall(r"\w+", text))


def _word_in_length(
    planned: PlannedCall, parts: Sequence[Part], style: str, sense: ToolSense, rng: random.Random
) -> tuple[str, Core]:
    """A wording and its core; drawn again where it is too short or too long."""
    for _ in range(TRIES):
        text, core = _word(planned, parts, style, sense, rng)
        if FEWEST <= len(text.split()) <= MOST:
            break
    return text, core


def _word(
    planned: PlannedCall, parts: Sequence[Part], style: str, sense: ToolSense, rng: random.Random
) -> tuple[str, Core]:
    if style == "shell":
        if command := word_command(planned, parts, sense, rng):
            return command, Core(command, f"shell: {planned.tool.name}", "shell")
        style = "terse"
    if style == "slips":
        text, core = _word(planned, parts, rng.choice(HASTY), sense, rng)
        return add_slips(text, [mark for part in parts for mark in part.marks], rng), core
    core = word_core(parts, sense, rng.choice(FORMS[style]), rng)
    return _say_missing(dress(core, style, rng), parts, rng), core


def _say_missing(text: str, parts: Sequence[Part], rng: random.Random) -> str:
    """The text with clauses, before its last mark, for the parts that it does not say as they are."""
    missing = [part for part in parts if any(mark not in text for mark in part.marks)]
    if not missing:
        return text
    ends_in_value = any(text.endswith(mark) for part in parts for mark in part.marks)
    body = text if ends_in_value else text.rstrip(".?!")
    return body + "," + join_clauses(say_rest(missing, rng), rng).removeprefix(",") + text[len(body) :]
