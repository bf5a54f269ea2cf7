"""Fitting lexical evidence: how much words count beside the choices of a bundle among tools that it never saw."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from dualtune_mlx.bundle import Bundle
from dualtune_mlx.data.decisions import Decision, call_decisions
from dualtune_mlx.decoding import Evidence, KnownChoice, fit_evidence
from dualtune_mlx.decoding.evidence import SHOWN
from dualtune_mlx.engine.dualtune import DualTune
from dualtune_mlx.engine.lexical_match import find_due
from dualtune_mlx.errors import DataError
from dualtune_mlx.models import BaseModel
from dualtune_mlx.tools import RESPOND, Trajectory, find_called_tool
from dualtune_mlx.tools.lexical import lexical_scores


def fit_bundle(
    bundle: Bundle,
    base: BaseModel,
    trajectories: Sequence[Trajectory],
    shown: int = SHOWN,
    report: Callable[[int, int], object] = lambda done, total: None,
) -> tuple[Bundle, int]:
    """Fit a bundle's evidence to requests for tools that it was not trained on, and write it into the manifest.

    Args:
        bundle: the bundle.
        base: its base model.
        trajectories: conversations with the right calls.
        shown: how many tools are shown at most.
        report: called after each choice with the number of choices done and of all.

    Returns:
        the bundle as it then is, and how many choices the fit is made from.

    Raises:
        DataError: when no conversation has a first choice among tools that are new to the bundle.
    """
    decisions = [one for trajectory in trajectories for one in call_decisions(trajectory)]
    choices: list[KnownChoice] = []
    with open_neutral(bundle, base, shown) as dualtune:
        for done, decision in enumerate(decisions, 1):
            choices += known_choice(dualtune, decision)
            report(done, len(decisions))
    if not choices:
        raise DataError(
            "the data has no choice that words could count in",
            got=f"{len(decisions)} decisions",
            expected="first calls for a request, among tools that the bundle was not trained on",
        )
    return bundle.set_evidence(fit_evidence(choices, shown)), len(choices)


def open_neutral(bundle: Bundle, base: BaseModel, shown: int = SHOWN) -> DualTune:
    """An engine of the bundle that shows the best matching tools, and reports the model's own probabilities."""
    neutral = replace(bundle, evidence=Evidence(shown=shown), words=None)
    return DualTune(base, neutral.open_renderer(base.tokenizer, model=base.name), bundle=neutral)


def known_choice(dualtune: DualTune, decision: Decision) -> Iterator[KnownChoice]:
    """The choice of an engine with neutral evidence, with its right outcome.

    There is none where words do not count, or the right tool is not among those that are shown.
    """
    due, is_open = find_due(decision.messages, decision.subtask)
    if not is_open or not dualtune.counts_words(decision.tools):
        return
    ranked = dualtune.select(decision.messages, decision.tools, top_k=len(decision.tools) + 1, subtask=decision.subtask)
    right = RESPOND if decision.call.is_respond else find_called_tool(decision.call, decision.tools)
    shares = {id(tool): share for tool, share in ranked}
    tools = [tool for tool in decision.tools if id(tool) in shares]
    by_score = dict(zip(map(id, decision.tools), lexical_scores(due, decision.tools), strict=True))
    if id(right) in shares:
        yield KnownChoice(
            probabilities=tuple(shares[id(tool)] for tool in (*tools, RESPOND)),
            scores=tuple(by_score[id(tool)] for tool in tools),
            right=[id(tool) for tool in (*tools, RESPOND)].index(id(right)),
        )
