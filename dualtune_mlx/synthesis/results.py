"""What tools answer: texts of the real servers, filled with a call's arguments."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from typing import Any

from dualtune_mlx.errors import DataError
from dualtune_mlx.synthesis.values.chain_values import number_text
from dualtune_mlx.synthesis.values.sampling import WORDS, read_toml
from dualtune_mlx.synthesis.values.slots import draw_slots, fill_text
from dualtune_mlx.tools import ToolCall

RESULTS: Mapping[str, Mapping[str, list[str]]] = read_toml("results.toml")
"""By tool, the texts of its answers after ``success`` and after ``failure``."""

ARGUMENT = re.compile(r"\{([=@])(\w+)(?:\|([^}]*))?\}")
"""The place of an argument in such a text."""

TABLE = re.compile(r"\b(?:FROM|INTO|UPDATE|TABLE) (\w+)")
"""The first table in a query."""


def success_text(call: ToolCall, rng: random.Random) -> str:
    """An answer of the tool to a call that worked.

    Raises:
        DataError: when the texts of this tool are not known.
    """
    if call.name not in RESULTS:
        raise DataError(
            "it is not known what a tool answers",
            got=call.name,
            expected=", ".join(RESULTS),
            fix="write some of its answers in dualtune_mlx/synthesis/results.toml; "
            "requests of one call do without: answer_every=0",
        )
    return _fill(rng.choice(RESULTS[call.name]["success"]), call, rng)


def failure_text(call: ToolCall, rng: random.Random) -> str:
    """An answer of the tool to a call that failed; where the tool never fails, the host's refusal of the call."""
    texts = RESULTS[call.name].get("failure", ["Error: the user did not allow this call."])
    return _fill(rng.choice(texts), call, rng)


def _fill(template: str, call: ToolCall, rng: random.Random) -> str:
    return fill_call_arguments(fill_text(template, draw_slots(template, rng)), call, rng)


def fill_call_arguments(text: str, call: ToolCall, rng: random.Random) -> str:
    """The text with the call's arguments in their places; half of the time its paths are absolute."""
    facts = _facts(call.arguments)
    if call.name == "get-sum":
        facts["sum"] = number_text(call.arguments["a"] + call.arguments["b"])
    if table := TABLE.search(facts.get("query", "")):
        facts["table"] = table[1]
    root = f"/{rng.choice(('home', 'Users', 'srv'))}/{rng.choice(WORDS['nouns'])}/" if rng.random() < 0.5 else ""

    def replacement(match: re.Match[str]) -> str:
        mark, name, default = match.groups()
        fact = facts.get(name, default or "")
        return fact if mark == "=" or fact.startswith(("/", "~")) else root + fact.removeprefix("./")

    return ARGUMENT.sub(replacement, text)


def _facts(arguments: Mapping[str, Any]) -> dict[str, str]:
    """The arguments as texts, by name.

    A list adds its items under numbered names (``paths1``), and the entries of its first item under their own names.
    """
    facts: dict[str, str] = {}
    for name, value in arguments.items():
        if isinstance(value, list):
            facts |= {f"{name}{number}": _text(item) for number, item in enumerate(value, 1)}
            facts |= _facts(value[0]) if value and isinstance(value[0], Mapping) else {}
        facts[name] = _text(value)
    return facts


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
