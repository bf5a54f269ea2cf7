"""Training data for the embedded example: requests in many wordings, and the calls they ask for."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources.abc import Traversable
from itertools import islice
from typing import Any, TypeVar

from jsonschema.validators import validator_for

from dualtune_mlx.errors import DataError
from dualtune_mlx.synthesis.request_templates import FOLDER, SPLITS, Form, load_forms, visible_forms
from dualtune_mlx.synthesis.values.slots import fill
from dualtune_mlx.tools import RESPOND, Message, Tool, ToolCall, Trajectory

Item = TypeVar("Item")

RESPOND_SHARE = 1.5 / 28
"""How often ``respond`` is the answer, to once for every tool: its border is with all of them."""

PREFIXES = ("please ", "hey, ", "ok, ", "now ", "hi, ", "so, ")
SUFFIXES = (" please", " thanks", ", thanks", ", please", " pls")
ALREADY_POLITE = re.compile(r"\b(please|pls|plz|thanks?|thx|hi|hey|hello|ok|so|now)\b", re.IGNORECASE)


def wordings(split: str, folder: Traversable = FOLDER) -> dict[str, list[str]]:
    """All wordings of a split, by tool."""
    check_split(split)
    return {
        tool: [wording for form in forms for wording in form.wordings[split]]
        for tool, forms in load_forms(folder).items()
    }


def generate(
    split: str,
    count: int,
    seed: int,
    tools: Sequence[Tool],
    folder: Traversable = FOLDER,
    most: int | None = None,
) -> list[Trajectory]:
    """Generate ``count`` requests with the calls they ask for, each tool equally often, in random order.

    Args:
        split: ``train``, ``valid`` or ``test``: which wordings are used. Only ``train`` adds surface noise.
        count: how many trajectories.
        seed: the same seed gives the same data.
        tools: the visible tools; their schemas must not ask for arguments that the host pins.
        folder: where the TOML files with the wordings are.
        most: how many wordings of each form are used; the first ones are the plainest.

    Raises:
        DataError: when a tool is missing, or a call does not fit its tool's schema.
    """
    check_split(split)
    rng = random.Random(f"{seed} {split}")
    visible = {tool.name: tool for tool in tools}
    forms = visible_forms(visible, folder)
    check_tools(forms, visible, split)
    respond = RESPOND_SHARE * max(len(forms) - 1, 1)
    shares = spread([respond if name == RESPOND.name else 1 for name in forms], count, rng)
    result = []
    for tool, share in zip(forms, shares, strict=True):
        for form, wording in _wordings(forms[tool], split, share, rng, most):
            result.append(Trajectory(_messages(form, wording, split, visible, rng), tuple(tools)))
    rng.shuffle(result)
    return result


def check_split(split: str) -> None:
    if split not in SPLITS:
        raise DataError("there is no such split of the wordings", got=split, expected=", ".join(SPLITS))


def check_tools(forms: Mapping[str, list[Form]], visible: Mapping[str, Tool], split: str) -> None:
    if missing := set(forms) - set(visible) - {RESPOND.name}:
        raise DataError(
            "the wordings need tools that are not visible",
            where=", ".join(sorted(missing)),
            got=f"{len(visible)} tools: {', '.join(visible)}",
            expected="every tool that has wordings",
            fix="start the servers that offer these tools, or take their wordings away",
        )
    if silent := [tool for tool in forms if not any(form.wordings[split] for form in forms[tool])]:
        raise DataError(
            "tools have no wordings in this split",
            where=f"{', '.join(silent)}, split {split!r}",
            expected="at least one",
            fix=f'write some: {split} = ["…"]',
        )


def spread(weights: Sequence[float], count: int, rng: random.Random) -> list[int]:
    """``count`` shared out in proportion to the weights; the largest remainders are rounded up, ties at random."""
    exact = [weight * count / sum(weights) for weight in weights]
    shares = [int(share) for share in exact]
    order = sorted(range(len(weights)), key=lambda i: (shares[i] - exact[i], rng.random()))
    for i in order[: count - sum(shares)]:
        shares[i] += 1
    return shares


def _wordings(
    forms: Sequence[Form], split: str, count: int, rng: random.Random, most: int | None
) -> Iterator[tuple[Form, str]]:
    """``count`` wordings of one tool: every wording of a form, of the first ``most``, is used before any repeats."""
    usable = [form for form in forms if form.wordings[split]]
    for form, share in zip(usable, spread([form.weight for form in usable], count, rng), strict=True):
        for wording in islice(shuffled_forever(form.wordings[split][:most], rng), share):
            yield form, wording


def shuffled_forever(items: Sequence[Item], rng: random.Random) -> Iterator[Item]:
    """All items in random order, again and again."""
    while True:
        yield from rng.sample(items, len(items))


def _messages(
    form: Form, wording: str, split: str, visible: Mapping[str, Tool], rng: random.Random
) -> tuple[Message, Message]:
    text, arguments = fill(noisy(wording, rng) if split == "train" else wording, form.arguments, rng)
    if form.tool == RESPOND.name:
        return Message("user", text), Message("assistant", form.answer)
    call = checked_call(visible[form.tool], arguments, wording)
    return Message("user", text), Message("assistant", "", (call,))


def checked_call(tool: Tool, arguments: Mapping[str, Any], wording: str) -> ToolCall:
    """The call, checked, with its arguments in the order of the schema."""
    properties = tool.parameters.get("properties", {})
    unknown = set(arguments) - set(properties)
    error = next(validator_for(tool.parameters)(tool.parameters).iter_errors(arguments), None)
    if unknown or error:
        raise DataError(
            "a generated call does not fit its tool's schema",
            where=f"tool {tool.name!r}, wording {wording!r}",
            got=arguments,
            expected=error.message if error else f"only the arguments {', '.join(properties)}",
            fix="mend the form's arguments, or pin what the user never says",
        )
    ordered = {name: arguments[name] for name in properties if name in arguments}
    return ToolCall(tool.name, ordered, tool.server)


def noisy(wording: str, rng: random.Random) -> str:
    """The wording as a hasty or a polite person types it; slots stay as they are."""
    if rng.random() < 0.15 and re.search(r"[^}\s][.?!]$", wording):
        wording = wording[:-1]
    if rng.random() < 0.2:
        wording = _small(wording)
    if ALREADY_POLITE.search(wording):
        return wording
    if rng.random() < 0.06:
        return rng.choice(PREFIXES) + _small(wording)
    if rng.random() < 0.1 and re.search(r"[a-z]»?$", wording):
        return wording + rng.choice(SUFFIXES)
    return wording


def _small(wording: str) -> str:
    """The wording with a small first letter, also within the mark of a part (``marks``)."""
    return re.sub(r"^(«[\d*]*:?)?.", lambda begin: begin[0].lower(), wording)
