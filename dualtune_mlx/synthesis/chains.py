"""Training data of several steps: requests that need one call or more, what the tools said, and then an answer."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources.abc import Traversable
from itertools import islice

from dualtune_mlx.synthesis import results
from dualtune_mlx.synthesis.chain_templates import linked, usable, whole
from dualtune_mlx.synthesis.conjunctions import JOINTS, SENTENCES, is_order, is_sentence, join, places, without_stop
from dualtune_mlx.synthesis.dialogue import Dialogue
from dualtune_mlx.synthesis.request_templates import FOLDER, Form, visible_forms
from dualtune_mlx.synthesis.requests import check_split, check_tools, checked_call, noisy, shuffled_forever, spread
from dualtune_mlx.synthesis.subtask_markup import unmarked
from dualtune_mlx.synthesis.values.slots import draw_slots, ends_open, surface, values
from dualtune_mlx.tools import RESPOND, Tool, Trajectory

SHARES = {"single": 0.1, "joined": 0.3, "linked": 0.55, "failed": 0.05}
"""How the trajectories are shared out over the kinds."""
RELATED = 0.5
"""How many of the joined messages ask one server alone: what people ask for together mostly belongs together."""
WHOLE = 0.25
"""How many of the joined messages of two or three parts have a part that needs several calls."""


def generate_chains(
    split: str, count: int, seed: int, tools: Sequence[Tool], folder: Traversable = FOLDER
) -> list[Trajectory]:
    """Generate ``count`` requests with all calls they need, the calls' results, and an answer in words at the end.

    The kinds, by ``SHARES``: one call; independent requests in one message; calls that belong together
    (``chains.toml``, as far as the tools are visible and there are wordings in this split); a call that fails.

    Args:
        split: ``train``, ``valid`` or ``test``: which wordings are used. Only ``train`` adds surface noise.
        count: how many trajectories.
        seed: the same seed gives the same data.
        tools: the visible tools; their schemas must not ask for arguments that the host pins.
        folder: where the TOML files with the wordings of single requests are.

    Raises:
        DataError: when a tool is missing, its answers are not known, or a call does not fit its tool's schema.
    """
    check_split(split)
    rng = random.Random(f"{seed} {split} chains")
    visible = {tool.name: tool for tool in tools}
    forms = visible_forms(visible, folder)
    check_tools(forms, visible, split)
    forms.pop(RESPOND.name, None)
    kinds = {"single": _singles(forms, split, visible, rng), "joined": _joined(forms, split, visible, rng)}
    if usable(split, visible):
        kinds["linked"] = linked(split, visible, rng)
    kinds["failed"] = (next(kind).failing(rng) for kind in shuffled_forever(list(kinds.values()), rng))
    shares = spread([SHARES[kind] for kind in kinds], count, rng)
    plans = [plan for kind, share in zip(kinds.values(), shares, strict=True) for plan in islice(kind, share)]
    rng.shuffle(plans)
    return [plan.trajectory(tuple(tools), rng) for plan in plans]


def _singles(
    forms: Mapping[str, list[Form]], split: str, visible: Mapping[str, Tool], rng: random.Random
) -> Iterator[Dialogue]:
    """Requests that one call answers."""
    rough = (lambda wording: noisy(wording, rng)) if split == "train" else str
    yield from _requests(forms, split, visible, rng, lambda wording: True, rough)


def _joined(
    forms: Mapping[str, list[Form]], split: str, visible: Mapping[str, Tool], rng: random.Random
) -> Iterator[Dialogue]:
    """Independent orders, or sentences of any form, in one message; one that ends in free text stands last."""
    servers = [visible[tool].server for tool in forms if any(_can_go_on(form, split) for form in forms[tool])]

    @cache
    def parts_of(server: str | None, wanted: Callable[[str], bool]) -> _Parts:
        near = {name: tool for name, tool in visible.items() if server in (None, tool.server)}
        asked = {tool: listed for tool, listed in forms.items() if tool in near}
        return _Parts(asked, split, near, rng, wanted)

    kinds = [(joint, is_order) for joint in JOINTS[split]] + [(joint, is_sentence) for joint in SENTENCES[split]]
    for joint, wanted in shuffled_forever(kinds, rng):
        related = bool(servers) and rng.random() < RELATED
        parts = parts_of(rng.choice(servers) if related else None, wanted)
        numbers = places(joint)
        end = numbers[-1] if joint.endswith("}") else None
        asked = {number: next(parts.last if number == end else parts.inner) for number in numbers}
        if len(asked) < 4 and rng.random() < WHOLE:
            place = rng.choice(sorted(asked))
            fitting = (one for one in parts.whole if place == end or not one.open_ended)
            asked[place] = next(fitting, asked[place])
        yield _together(joint, [asked[number] for number in sorted(asked)])


def _together(joint: str, asked: Sequence[Dialogue]) -> Dialogue:
    """Requests in the places of a joint, each a part."""
    request, for_calls = unmarked(join(joint, [one.request for one in asked], [len(one.calls) for one in asked]))
    calls = tuple(call for one in asked for call in one.calls)
    said = tuple(result for one in asked for result in one.results)
    return Dialogue(request, calls, said, for_calls)


def _can_go_on(form: Form, split: str) -> bool:
    """Whether something may follow one of the form's wordings in a message, whatever stands in its slots."""
    return any(is_order(wording) and not wording.endswith("}") for wording in form.wordings[split])


class _Parts:
    """Endless requests that can stand anywhere (``inner``) or only at the end (``last``) of a message.

    ``whole`` need several calls; there may be none.
    """

    def __init__(
        self,
        forms: Mapping[str, list[Form]],
        split: str,
        visible: Mapping[str, Tool],
        rng: random.Random,
        wanted: Callable[[str], bool],
    ) -> None:
        self.last = _requests(forms, split, visible, rng, wanted)
        inner = _requests(forms, split, visible, rng, wanted, without_stop)
        self.inner = (asked for asked in inner if not asked.open_ended)
        self.whole = whole(split, visible, rng, wanted)


def _requests(
    forms: Mapping[str, list[Form]],
    split: str,
    visible: Mapping[str, Tool],
    rng: random.Random,
    wanted: Callable[[str], bool],
    changed: Callable[[str], str] = str,
) -> Iterator[Dialogue]:
    """Endless requests of one call in the wanted wordings: every tool equally often, every wording before any twice."""
    wordings = {
        tool: [(form, wording) for form in listed for wording in form.wordings[split] if wanted(wording)]
        for tool, listed in forms.items()
    }
    endless = {tool: shuffled_forever(found, rng) for tool, found in wordings.items() if found}
    for tool in shuffled_forever(list(endless), rng):
        form, wording = next(endless[tool])
        wording = changed(wording)
        slots = draw_slots(wording, rng)
        call = checked_call(visible[tool], values(form.arguments, slots), wording)
        said = (results.said(call, rng),)
        yield Dialogue(surface(wording, slots), (call,), said, open_ended=ends_open(wording, slots))
