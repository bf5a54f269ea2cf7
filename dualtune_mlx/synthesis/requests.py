"""Training data of one call: requests in many wordings, each with the call that it asks for."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources.abc import Traversable
from itertools import islice
from typing import Any, TypeVar

from jsonschema.validators import validator_for

from dualtune_mlx.data import SPLITS
from dualtune_mlx.errors import DataError, count_of
from dualtune_mlx.synthesis.answers import ANSWER_EVERY, answer_calls
from dualtune_mlx.synthesis.request_templates import WORDINGS, RequestTemplate, load_templates, visible_templates
from dualtune_mlx.synthesis.values.slots import fill
from dualtune_mlx.tools import RESPOND, Message, Tool, ToolCall, Trajectory

Item = TypeVar("Item")

RESPOND_SHARE = 1.5 / 28
"""How often ``respond`` is the right choice, as a multiple of once for every tool: it must be told from all of them."""

PREFIXES = ("please ", "hey, ", "ok, ", "now ", "hi, ", "so, ")
SUFFIXES = (" please", " thanks", ", thanks", ", please", " pls")
ALREADY_POLITE = re.compile(r"\b(please|pls|plz|thanks?|thx|hi|hey|hello|ok|so|now)\b", re.IGNORECASE)


def wordings(split: str, folder: Traversable = WORDINGS) -> dict[str, list[str]]:
    """All wordings of a split, by tool."""
    check_split(split)
    return {
        tool: [wording for template in templates for wording in template.wordings[split]]
        for tool, templates in load_templates(folder).items()
    }


def generate_requests(
    split: str,
    count: int,
    *,
    seed: int,
    tools: Sequence[Tool],
    folder: Traversable = WORDINGS,
    max_wordings: int | None = None,
    answer_every: int = ANSWER_EVERY,
) -> list[Trajectory]:
    """Generate ``count`` requests with the calls they ask for, each tool equally often, in random order.

    Some go on behind the call: with the tool's answer or failure, and an answer in words.

    Args:
        split: ``train``, ``valid`` or ``test``: which wordings are used. Only ``train`` adds surface noise.
        count: how many trajectories.
        seed: the same seed gives the same data.
        tools: the visible tools; their schemas must not ask for arguments that the host pins.
        folder: the folder of the TOML files with the templates.
        max_wordings: how many wordings of each template are used; the first ones are the plainest.
        answer_every: of so many calls, one goes on; 0: none does. The requests and their calls stay the same.

    Raises:
        DataError: when a tool is missing, its answers are not known, or a call does not fit its tool's schema.
    """
    check_split(split)
    rng = random.Random(f"{seed} {split}")
    visible = {tool.name: tool for tool in tools}
    templates = visible_templates(visible, folder)
    check_tools(templates, visible, split)
    respond = RESPOND_SHARE * max(len(templates) - 1, 1)
    shares = apportion([respond if name == RESPOND.name else 1 for name in templates], count, rng)
    result = []
    for tool, share in zip(templates, shares, strict=True):
        for template, wording in _choose_wordings(templates[tool], split, share, rng, max_wordings):
            result.append(Trajectory(_messages(template, wording, split, visible, rng), tuple(tools)))
    rng.shuffle(result)
    if not answer_every:
        return result
    return list(answer_calls(result, answer_every, random.Random(f"{seed} {split} answers")))


def check_split(split: str) -> None:
    """Check the name of a split.

    Raises:
        DataError: when there is no such split.
    """
    if split not in SPLITS:
        raise DataError("there is no such split of the wordings", got=split, expected=", ".join(SPLITS))


def check_tools(templates: Mapping[str, list[RequestTemplate]], visible: Mapping[str, Tool], split: str) -> None:
    """Check that every tool of the templates is visible and has wordings in the split.

    Raises:
        DataError: naming the tools for which this is not so.
    """
    if missing := set(templates) - set(visible) - {RESPOND.name}:
        raise DataError(
            "the wordings need tools that are not visible",
            where=", ".join(sorted(missing)),
            got=f"{count_of(len(visible), 'tool')}: {', '.join(visible)}",
            expected="every tool that has wordings",
            fix="start the servers that offer these tools, or take their wordings away",
        )
    if silent := [tool for tool in templates if not any(one.wordings[split] for one in templates[tool])]:
        raise DataError(
            "tools have no wordings in this split",
            where=f"{', '.join(silent)}, split {split!r}",
            expected="at least one",
            fix=f'write some: {split} = ["…"]',
        )


def apportion(weights: Sequence[float], count: int, rng: random.Random) -> list[int]:
    """Divide ``count`` in proportion to the weights (largest remainder method); ties are broken at random."""
    exact = [weight * count / sum(weights) for weight in weights]
    shares = [int(share) for share in exact]
    order = sorted(range(len(weights)), key=lambda i: (shares[i] - exact[i], rng.random()))
    for i in order[: count - sum(shares)]:
        shares[i] += 1
    return shares


def _choose_wordings(
    templates: Sequence[RequestTemplate], split: str, count: int, rng: random.Random, max_wordings: int | None
) -> Iterator[tuple[RequestTemplate, str]]:
    """``count`` wordings of one tool: every usable wording of a template occurs before any is repeated."""
    usable = [template for template in templates if template.wordings[split]]
    shares = apportion([template.weight for template in usable], count, rng)
    for template, share in zip(usable, shares, strict=True):
        for wording in islice(shuffle_forever(template.wordings[split][:max_wordings], rng), share):
            yield template, wording


def shuffle_forever(items: Sequence[Item], rng: random.Random) -> Iterator[Item]:
    """All items in random order, again and again."""
    while True:
        yield from rng.sample(items, len(items))


def _messages(
    template: RequestTemplate, wording: str, split: str, visible: Mapping[str, Tool], rng: random.Random
) -> tuple[Message, Message]:
    """The request and the assistant's message for it."""
    text, arguments = fill(add_noise(wording, rng) if split == "train" else wording, template.arguments, rng)
    if template.tool == RESPOND.name:
        return Message("user", text), Message("assistant", template.answer)
    call = make_call(visible[template.tool], arguments, wording)
    return Message("user", text), Message("assistant", "", (call,))


def make_call(tool: Tool, arguments: Mapping[str, Any], wording: str) -> ToolCall:
    """A call of the tool, with its arguments in the order of the schema.

    Raises:
        DataError: when the arguments do not fit the tool's schema.
    """
    properties = tool.parameters.get("properties", {})
    unknown = set(arguments) - set(properties)
    error = next(validator_for(tool.parameters)(tool.parameters).iter_errors(arguments), None)
    if unknown or error:
        raise DataError(
            "a generated call does not fit its tool's schema",
            where=f"tool {tool.name!r}, wording {wording!r}",
            got=arguments,
            expected=error.message if error else f"only the arguments {', '.join(properties)}",
            fix="correct the arguments of these wordings, or pin what the user never says",
        )
    ordered = {name: arguments[name] for name in properties if name in arguments}
    return ToolCall(tool.name, ordered, tool.server)


def add_noise(wording: str, rng: random.Random) -> str:
    """The wording as a hasty or a polite person types it; slots stay as they are."""
    if rng.random() < 0.15 and re.search(r"[^}\s][.?!]$", wording):
        wording = wording[:-1]
    if rng.random() < 0.2:
        wording = _lower_first_letter(wording)
    if ALREADY_POLITE.search(wording):
        return wording
    if rng.random() < 0.06:
        return rng.choice(PREFIXES) + _lower_first_letter(wording)
    if rng.random() < 0.1 and re.search(r"[a-z]»?$", wording):
        return wording + rng.choice(SUFFIXES)
    return wording


def _lower_first_letter(wording: str) -> str:
    """The wording with a small first letter, also where a marked subtask begins it (``subtask_markup``)."""
    return re.sub(r"^(«[\d*]*:?)?.", lambda begin: begin[0].lower(), wording)
