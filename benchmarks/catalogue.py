"""Made-up tools and conversations of any size, the same ones every time. Not a benchmark itself; for ``scaling.py``."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import product
from typing import Any

from dualtune_mlx.tools import Message, Tool

ACTIONS = (
    *(
        "add",
        "approve",
        "archive",
        "assign",
        "cancel",
        "close",
        "compare",
        "copy",
        "count",
        "create",
        "delete",
        "export",
    ),
    *("find", "import", "label", "list", "lock", "merge", "move", "open", "print", "publish", "rename", "renew"),
    *("restore", "review", "schedule", "send", "share", "sort", "split", "start", "stop", "sync", "update", "watch"),
)
THINGS = (
    *("alert", "album", "booking", "budget", "calendar", "camera", "channel", "contact", "contract", "course"),
    *("device", "draft", "expense", "folder", "garden", "grant", "invoice", "journal", "lamp", "lease"),
    *("meeting", "order", "parcel", "playlist", "poll", "recipe", "report", "route", "survey", "ticket"),
)
PARAMETERS: dict[str, dict[str, Any]] = {
    "id": {"type": "string", "description": "Identifier, as a search gives it."},
    "title": {"type": "string", "minLength": 1, "maxLength": 120},
    "limit": {"type": "integer", "minimum": 1, "maximum": 100, "description": "The most that come back."},
    "since": {"type": "string", "description": "First day, such as 2026-05-01."},
    "order": {"type": "string", "enum": ["newest", "oldest", "largest"]},
    "owner": {"type": ["string", "null"], "description": "Whose it is; nobody's when null."},
    "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 8},
    "amount": {"type": "number", "minimum": 0},
    "dry_run": {"type": "boolean", "description": "Only say what would be done."},
    "place": {
        "type": "object",
        "properties": {"street": {"type": "string"}, "city": {"type": "string"}, "floor": {"type": "integer"}},
        "required": ["city"],
    },
    "notes": {"type": "array", "items": {"type": "object", "properties": {"text": {"type": "string"}}}},
    "format": {"type": "string", "enum": ["text", "table", "json"], "description": "How the answer is written."},
}
MAX_PARAMETERS = 4
"""The most parameters that a tool has."""
MAX_TOOLS = len(ACTIONS) * len(THINGS)
QUESTIONS = ("What became of", "Who looks after", "Is anything left to do about", "When did we last change")
ANSWERS = ("Nothing new since Monday about", "Two people asked me yesterday about", "It is settled, apart from")


def make_tools(count: int) -> tuple[Tool, ...]:
    """Make ``count`` tools, at most ``MAX_TOOLS``, with schemas of many kinds; a server has all tools for one thing."""
    names = [(action, thing) for thing, action in product(THINGS, ACTIONS)][:count]
    return tuple(_make_tool(action, thing) for action, thing in names)


def _make_tool(action: str, thing: str) -> Tool:
    rng = random.Random(f"{action} {thing}")
    properties = {name: PARAMETERS[name] for name in rng.sample(list(PARAMETERS), rng.randint(1, MAX_PARAMETERS))}
    required = [name for name in properties if rng.random() < 0.5]
    schema = {"type": "object", "properties": properties, "required": required}
    description = f"{action.capitalize()} one {thing} or several of them. Changes are kept for thirty days."
    return Tool(f"{action}_{thing}", description, schema, thing)


def exchanges() -> Iterator[tuple[Message, Message]]:
    """An endless conversation about these things: questions, each with its answer in words."""
    rng = random.Random("talk")
    while True:
        one, other = rng.sample(THINGS, 2)
        question = f"{rng.choice(QUESTIONS)} the {one} that goes with the {other}?"
        yield Message("user", question), Message("assistant", f"{rng.choice(ANSWERS)} the {one} and its {other}.")
