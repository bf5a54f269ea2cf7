"""What tools answer: the texts of the real servers, filled from a call's arguments."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from typing import Any

from dualtune_mlx.errors import DataError
from dualtune_mlx.synthesis.values.chain_values import plain
from dualtune_mlx.synthesis.values.sampling import WORDS, read_toml
from dualtune_mlx.synthesis.values.slots import draw_slots, surface
from dualtune_mlx.tools import ToolCall

RESULTS: Mapping[str, Mapping[str, list[str]]] = read_toml("results.toml")
"""For each tool what it says, and what it says where it failed."""

ARGUMENT = re.compile(r"\{([=@])(\w+)(?:\|([^}]*))?\}")

TABLE = re.compile(r"\b(?:FROM|INTO|UPDATE|TABLE) (\w+)")
"""The table that a query is about."""


def said(call: ToolCall, rng: random.Random) -> str:
    """What the tool says of a call that worked.

    Raises:
        DataError: when the texts of this tool are not known.
    """
    if call.name not in RESULTS:
        raise DataError(
            "it is not known what a tool answers",
            got=call.name,
            expected=", ".join(RESULTS),
            fix="write some of its answers in dualtune_mlx/synthesis/results.toml",
        )
    return _filled(rng.choice(RESULTS[call.name]["said"]), call, rng)


def failed(call: ToolCall, rng: random.Random) -> str:
    """What the tool says of a call that failed; what the host says of it where the tool never fails."""
    texts = RESULTS[call.name].get("failed", ["Error: the user did not allow this call."])
    return _filled(rng.choice(texts), call, rng)


def _filled(template: str, call: ToolCall, rng: random.Random) -> str:
    return with_arguments(surface(template, draw_slots(template, rng)), call, rng)


def with_arguments(text: str, call: ToolCall, rng: random.Random) -> str:
    """A text with the call's arguments in their places; half of the time its paths are absolute."""
    facts = _facts(call.arguments)
    if call.name == "get-sum":
        facts["sum"] = plain(call.arguments["a"] + call.arguments["b"])
    if table := TABLE.search(facts.get("query", "")):
        facts["table"] = table[1]
    start = f"/{rng.choice(('home', 'Users', 'srv'))}/{rng.choice(WORDS['nouns'])}/" if rng.random() < 0.5 else ""

    def shown(match: re.Match[str]) -> str:
        mark, name, otherwise = match.groups()
        fact = facts.get(name, otherwise or "")
        return fact if mark == "=" or fact.startswith(("/", "~")) else start + fact.removeprefix("./")

    return ARGUMENT.sub(shown, text)


def _facts(arguments: Mapping[str, Any]) -> dict[str, str]:
    """The arguments as texts, by name; of a list also its items, numbered, and what its first item holds."""
    facts: dict[str, str] = {}
    for name, value in arguments.items():
        if isinstance(value, list):
            facts |= {f"{name}{number}": _text(item) for number, item in enumerate(value, 1)}
            facts |= _facts(value[0]) if value and isinstance(value[0], Mapping) else {}
        facts[name] = _text(value)
    return facts


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
