"""Training data of several steps: requests that need one call or more, the tools' answers, and a final answer."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources.abc import Traversable
from itertools import islice

from dualtune_mlx.synthesis import results
from dualtune_mlx.synthesis.chain_templates import chain_dialogues, undivided_chain_dialogues, usable_chains
from dualtune_mlx.synthesis.conjunctions import (
    ORDER_CONJUNCTIONS,
    SENTENCE_CONJUNCTIONS,
    drop_full_stop,
    is_order,
    is_sentence,
    join,
    place_numbers,
)
from dualtune_mlx.synthesis.dialogue import Dialogue
from dualtune_mlx.synthesis.request_templates import WORDINGS, RequestTemplate, visible_templates
from dualtune_mlx.synthesis.requests import add_noise, apportion, check_split, check_tools, make_call, shuffle_forever
from dualtune_mlx.synthesis.subtask_markup import parse_markup
from dualtune_mlx.synthesis.values.slots import draw_slots, ends_open, fill_arguments, fill_text
from dualtune_mlx.tools import RESPOND, Tool, Trajectory

SHARES = {"single": 0.1, "joined": 0.3, "chained": 0.55, "failed": 0.05}
"""The share of each kind among the trajectories."""
SAME_SERVER_SHARE = 0.5
"""The share of joined messages that ask one server alone: what people ask for together mostly belongs together."""
UNDIVIDED_CHAIN_SHARE = 0.25
"""The share of joined messages of two or three subtasks in which one subtask needs several calls."""


def generate_chains(
    split: str, count: int, *, seed: int, tools: Sequence[Tool], folder: Traversable = WORDINGS
) -> list[Trajectory]:
    """Generate ``count`` requests with all calls they need, the calls' results, and an answer in words at the end.

    There are four kinds, in the proportions of ``SHARES``: one call; independent requests in one message; chains of
    calls that belong together (``chains.toml``, where the tools are visible and the split has wordings); a call that
    fails.

    Args:
        split: ``train``, ``valid`` or ``test``: which wordings are used. Only ``train`` adds surface noise.
        count: how many trajectories.
        seed: the same seed gives the same data.
        tools: the visible tools; their schemas must not ask for arguments that the host pins.
        folder: the folder of the TOML files with the templates of single requests.

    Raises:
        DataError: when a tool is missing, its answers are not known, or a call does not fit its tool's schema.
    """
    check_split(split)
    rng = random.Random(f"{seed} {split} chains")
    visible = {tool.name: tool for tool in tools}
    templates = visible_templates(visible, folder)
    check_tools(templates, visible, split)
    templates.pop(RESPOND.name, None)
    kinds = {
        "single": _single_dialogues(templates, split, visible, rng),
        "joined": _joined_dialogues(templates, split, visible, rng),
    }
    if usable_chains(split, visible):
        kinds["chained"] = chain_dialogues(split, visible, rng)
    kinds["failed"] = (next(kind).with_failure(rng) for kind in shuffle_forever(list(kinds.values()), rng))
    shares = apportion([SHARES[kind] for kind in kinds], count, rng)
    dialogues = [one for kind, share in zip(kinds.values(), shares, strict=True) for one in islice(kind, share)]
    rng.shuffle(dialogues)
    return [dialogue.to_trajectory(tuple(tools), rng) for dialogue in dialogues]


def _single_dialogues(
    templates: Mapping[str, list[RequestTemplate]], split: str, visible: Mapping[str, Tool], rng: random.Random
) -> Iterator[Dialogue]:
    """Endless requests that need one call."""
    change = (lambda wording: add_noise(wording, rng)) if split == "train" else str
    yield from _one_call_dialogues(
        templates, split, visible=visible, rng=rng, accepts=lambda wording: True, change=change
    )


def _joined_dialogues(
    templates: Mapping[str, list[RequestTemplate]], split: str, visible: Mapping[str, Tool], rng: random.Random
) -> Iterator[Dialogue]:
    """Endless messages of independent requests, orders or sentences; one that ends in free text stands last."""
    servers = [visible[tool].server for tool in templates if any(_can_continue(one, split) for one in templates[tool])]

    @cache
    def sources(server: str | None, accepts: Callable[[str], bool]) -> _JoinedSources:
        near = {name: tool for name, tool in visible.items() if server in (None, tool.server)}
        return _JoinedSources(
            {tool: found for tool, found in templates.items() if tool in near}, split, near, rng, accepts
        )

    kinds = [(conjunction, is_order) for conjunction in ORDER_CONJUNCTIONS[split]]
    kinds += [(conjunction, is_sentence) for conjunction in SENTENCE_CONJUNCTIONS[split]]
    for conjunction, accepts in shuffle_forever(kinds, rng):
        same_server = bool(servers) and rng.random() < SAME_SERVER_SHARE
        source = sources(rng.choice(servers) if same_server else None, accepts)
        numbers = place_numbers(conjunction)
        end = numbers[-1] if conjunction.endswith("}") else None
        dialogues = {number: next(source.last if number == end else source.inner) for number in numbers}
        if len(dialogues) < 4 and rng.random() < UNDIVIDED_CHAIN_SHARE:
            place = rng.choice(sorted(dialogues))
            fitting = (one for one in source.chains if place == end or not one.open_ended)
            dialogues[place] = next(fitting, dialogues[place])
        yield _join_dialogues(conjunction, [dialogues[number] for number in sorted(dialogues)])


def _join_dialogues(conjunction: str, dialogues: Sequence[Dialogue]) -> Dialogue:
    """One message with all requests in the places of the conjunction, each a subtask."""
    marked = join(conjunction, [one.request for one in dialogues], [len(one.calls) for one in dialogues])
    request, subtasks = parse_markup(marked)
    calls = tuple(call for one in dialogues for call in one.calls)
    answers = tuple(result for one in dialogues for result in one.results)
    return Dialogue(request, calls, answers, subtasks)


def _can_continue(template: RequestTemplate, split: str) -> bool:
    """Whether words may follow one of the template's orders in a message, whatever its slots hold."""
    return any(is_order(wording) and not wording.endswith("}") for wording in template.wordings[split])


class _JoinedSources:
    """Endless requests for the places of a conjunction.

    ``inner`` can stand anywhere in a message, ``last`` only at its end. ``chains`` need several calls; there may be
    none.
    """

    def __init__(
        self,
        templates: Mapping[str, list[RequestTemplate]],
        split: str,
        visible: Mapping[str, Tool],
        rng: random.Random,
        accepts: Callable[[str], bool],
    ) -> None:
        self.last = _one_call_dialogues(templates, split, visible=visible, rng=rng, accepts=accepts)
        inner = _one_call_dialogues(templates, split, visible=visible, rng=rng, accepts=accepts, change=drop_full_stop)
        self.inner = (dialogue for dialogue in inner if not dialogue.open_ended)
        self.chains = undivided_chain_dialogues(split, visible, rng, accepts)


def _one_call_dialogues(
    templates: Mapping[str, list[RequestTemplate]],
    split: str,
    *,
    visible: Mapping[str, Tool],
    rng: random.Random,
    accepts: Callable[[str], bool],
    change: Callable[[str], str] = str,
) -> Iterator[Dialogue]:
    """Endless requests of one call: every tool equally often, every accepted wording before any is repeated.

    ``change`` is applied to each wording before its slots are filled.
    """
    wordings = {
        tool: [(template, wording) for template in found for wording in template.wordings[split] if accepts(wording)]
        for tool, found in templates.items()
    }
    endless = {tool: shuffle_forever(found, rng) for tool, found in wordings.items() if found}
    for tool in shuffle_forever(list(endless), rng):
        template, wording = next(endless[tool])
        wording = change(wording)
        slots = draw_slots(wording, rng)
        call = make_call(visible[tool], fill_arguments(template.arguments, slots), wording)
        answers = (results.success_text(call, rng),)
        yield Dialogue(fill_text(wording, slots), (call,), answers, open_ended=ends_open(wording, slots))
