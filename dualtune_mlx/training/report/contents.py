"""What the report of a run says."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

from dualtune_mlx.bundle.summary import describe_grounding
from dualtune_mlx.training.examples import Example
from dualtune_mlx.training.left_out import describe_left_out
from dualtune_mlx.training.prefixes import Prefixes
from dualtune_mlx.training.report.page import Report
from dualtune_mlx.training.trainer import Progress, TrainResult

if TYPE_CHECKING:
    from dualtune_mlx.prompts import Encoder
    from dualtune_mlx.training.run import TrainingRun

SHOWN = 3
"""Examples in a report."""


def make_report(
    run: TrainingRun, trained: TrainResult, accuracy: tuple[int, int] | None, history: Sequence[Progress]
) -> Report:
    """The report of a finished run; ``history`` has all its steps, those before it was resumed included."""
    training, validation = run.training, run.validation
    last = history[-1]
    facts = {
        "examples": f"{len(training.examples):,} for training, {len(validation.examples):,} for validation",
        "learned tokens": f"{sum(example.learned for example in training.examples):,}",
        "ended": f"step {last.step} of {last.steps}: {trained.stop_reason}",
        "padding": f"{last.padding:.1%} of the computed tokens",
        "processes": str(run.setup.group.size),
        "mlx": version("mlx"),
        **describe_grounding(run.copies.grounding, run.copies.ungrounded),
    }
    prefixes = Prefixes([*training.examples, *validation.examples], run.options.batch_size)
    tools = sorted({*training.counts, *validation.counts})
    return Report(
        title=run.job.title,
        model=run.setup.base.name,
        facts=facts,
        options=run.options.to_dict(),
        steps=history,
        best_step=trained.best_step,
        best_loss=trained.validation_loss,
        accuracy=accuracy,
        counts={tool: (training.counts[tool], validation.counts[tool]) for tool in tools},
        notes=[*run.notes, *filter(None, [describe_left_out(run.left_out)])],
        examples=[
            tokens_with_kinds(example, len(prefixes.of(example)), run.setup.renderer.encoder)
            for example in training.examples[:SHOWN]
        ],
    )


def tokens_with_kinds(example: Example, prefix: int, encoder: Encoder) -> list[tuple[str, str]]:
    """The text and the kind of each token of an example that begins with a prefix of so many tokens."""
    return [
        (encoder.decode([token]), kind)
        for token, kind in zip(example.tokens, token_kinds(example, prefix), strict=True)
    ]


def token_kinds(example: Example, prefix: int) -> list[str]:
    """The kind of each token: what training does with it.

    * ``prefix``: computed once for many examples.
    * ``context``: computed under the base weights.
    * ``active``: the adapter acts.
    * ``learned``: the adapter acts, and the loss counts the token.
    """
    found = ["prefix"] * min(prefix, example.active) + ["context"] * (example.active - prefix)
    found += ["active"] * (len(example.tokens) - example.active)
    for target in example.targets:
        found[target.start : target.end] = ["learned"] * (target.end - target.start)
    return found
