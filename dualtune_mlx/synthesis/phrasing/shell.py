"""Requests in the manner of a command line."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from dualtune_mlx.synthesis.phrasing.parts import Part
from dualtune_mlx.synthesis.phrasing.tables import actions
from dualtune_mlx.synthesis.phrasing.tool_sense import ToolSense
from dualtune_mlx.synthesis.planned_calls import PlannedCall

BARE = re.compile(r"[\w./@:%+=,~#*-]+")


def word_command(planned: PlannedCall, parts: Sequence[Part], sense: ToolSense, rng: random.Random) -> str:
    """A command for the call; "" where its arguments are no values of options."""
    if any(part.kind.name == "flag" or len(part.marks) > 1 or "\n" in part.words for part in parts):
        return ""
    options: list[Part] = []
    free: list[Part] = []
    for part in parts:
        bare = part.kind.role in ("id", "in") or part.kind.name in ("query", "code", "source", "destination", "content")
        (free if bare and rng.random() < 0.55 and len(free) < 2 else options).append(part)
    said = [_option(part, rng) for part in options]
    rng.shuffle(said)
    words = [_quote(part.words, rng) for part in free]
    order = [*words, *said] if rng.random() < 0.5 else [*said, *words]
    return " ".join([*_command(planned, sense, rng), *order])


def _command(planned: PlannedCall, sense: ToolSense, rng: random.Random) -> list[str]:
    noun = "-".join(sense.things[0].words).lower()
    verb = rng.choice(actions()[sense.actions[0]].shell)
    plain = re.sub(r"[_\s]+", "-", planned.tool.name)
    server = planned.tool.server.lower()
    plain = plain if plain != planned.tool.name else f"{verb}-{noun}"  # the name itself is too easy
    choices = [[plain], [verb, noun], [noun, verb], [f"{verb}-{noun}"], [verb], [noun]]
    if server:
        choices += [[server, verb, noun], [server, noun], [server, verb]]
    return rng.choice(choices[:4]) if rng.random() < 0.5 else rng.choice(choices)


def _option(part: Part, rng: random.Random) -> str:
    name = part.label.lower().replace(" ", rng.choice("-_") if " " in part.label else "-")
    draw = rng.random()
    value = _quote(part.words, rng)
    if draw < 0.12:
        return f"-{name[0]} {value}"
    if draw < 0.25:
        return f"{name}={value}"
    return f"--{name} {value}" if draw < 0.8 else f"--{name}={value}"


def _quote(text: str, rng: random.Random) -> str:
    if BARE.fullmatch(text):
        return text
    mark = "'" if '"' in text or ("'" not in text and rng.random() < 0.4) else '"'
    return f"{mark}{text}{mark}" if mark not in text else text
