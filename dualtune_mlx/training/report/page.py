"""The page ``report.html``: one file that needs no script and no network.

Names of tools, tokens, options and notes are untrusted (``dualtune_mlx.pages``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any

from dualtune_mlx.files import write_text
from dualtune_mlx.pages import mark_unseen, open_template
from dualtune_mlx.pages.charts import (
    Mark,
    Pair,
    Series,
    draw_chart,
    fitting_axis,
    linear_axis,
    number,
    smooth,
    steps_axis,
)
from dualtune_mlx.training.trainer import Progress

TEMPLATE = "report.html.jinja"
LONG = 20  # rows; a longer list is folded
SMOOTHED_FROM = 10  # steps; fewer are read one by one
# For each kind of token: how many are shown at each end of a block, and what the kind means.
TOKEN_KINDS = {
    "prefix": (60, "what all examples begin with, computed once"),
    "context": (60, "earlier messages, under the base weights"),
    "active": (60, "the adapter acts"),
    "learned": (300, "the adapter acts, and the loss counts them"),
}
SPACES = re.compile(r" {2,}| +(?=\n|$)")


@dataclass(frozen=True)
class Report:
    """What the page says about one run."""

    title: str
    """The job in words. It begins with the stage, which gives the page its colour."""
    model: str
    """The model's name."""
    facts: Mapping[str, str]
    """What else is to be known about the run, by name."""
    options: Mapping[str, Any]
    """The run's options."""
    steps: Sequence[Progress]
    """The steps in their order; at least one."""
    best_step: int
    """The step with the lowest validation loss."""
    best_loss: float
    """The lowest validation loss, in nats a target token."""
    accuracy: tuple[int, int] | None
    """(right, asked) choices on the validation set."""
    counts: Mapping[str, tuple[int, int]]
    """(training, validation) examples of each tool."""
    notes: Sequence[str]
    """Sentences about the data and the run."""
    examples: Sequence[Sequence[tuple[str, str]]]
    """Some examples: each token's text and its kind, one of ``TOKEN_KINDS``."""

    @property
    def validation(self) -> list[Pair]:
        """(step, loss) of the steps after which the validation loss was measured."""
        return [(step.step, step.validation_loss) for step in self.steps if step.validation_loss is not None]


@dataclass(frozen=True)
class Figure:
    """A number with its title, or a chart with its title and a number that sums it up."""

    title: str
    value: str = ""
    note: str = ""
    picture: str = ""


@dataclass(frozen=True)
class Piece:
    """Some characters of a token, or a mark that stands for an invisible one."""

    text: str
    mark: bool


@dataclass(frozen=True)
class TokenBlock:
    """Neighbouring tokens of one kind. A long block shows only its two ends."""

    kind: str
    head: list[list[Piece]]
    """The first tokens."""
    hidden: int
    """How many tokens are not shown."""
    tail: list[list[Piece]]
    """The last tokens, where some are hidden."""
    above: bool = False
    """Whether the example before has the same block, so that none of it is shown again."""


def write_report(path: Path, report: Report) -> None:
    """Write the page, atomically; the same report gives the same bytes."""
    write_text(path, render(report))


def render(report: Report) -> str:
    """The page as HTML."""
    return open_template("dualtune_mlx.training.report", TEMPLATE).render(
        report=report,
        long=LONG,
        colour="arguments" if report.title.startswith("arguments") else "selector",
        figures=list(_figures(report)),
        loss=_loss_chart(report),
        smoothed=len(report.steps) >= SMOOTHED_FROM,
        small=list(_small_charts(report)),
        tools=sorted(report.counts.items(), key=lambda item: (-item[1][0], -item[1][1], item[0])),
        examples=list(_example_blocks(report.examples)),
        kinds={kind: meaning for kind, (_, meaning) in TOKEN_KINDS.items()},
        options=list(_flatten(report.options)),
    )


def _figures(report: Report) -> Iterator[Figure]:
    last = report.steps[-1].step
    if report.validation:
        yield Figure("Best validation loss", number(report.best_loss), f"at step {report.best_step:,} of {last:,}")
    if report.accuracy and report.accuracy[1]:
        right, asked = report.accuracy
        yield Figure("Right tool chosen", _share(right, asked), f"{right:,} of {asked:,} validation choices")
    losses, note = [step.loss for step in report.steps], "the last step"
    if len(losses) >= SMOOTHED_FROM:
        losses, note = smooth(losses), "smoothed"
    unvalidated = "" if report.validation else "; validation was not measured"
    yield Figure("Training loss at the end", number(losses[-1]), f"from {number(losses[0])}, {note}{unvalidated}")
    size, unit = _memory_unit(report.steps)
    highest = max(step.peak_memory for step in report.steps)
    yield Figure("Peak memory", f"{number(highest / size)} {unit}", "the most that MLX held at once")


def _share(right: int, asked: int) -> str:
    """The share in percent. Only all is 100%, and only none is 0%: rounding stays between."""
    tenths = round(1000 * right / asked)
    if 0 < right < asked:
        tenths = min(999, max(1, tenths))
    return f"{tenths / 10:g}%"


def _loss_chart(report: Report) -> Figure:
    """The chart of losses, with a mark at the lowest validation loss."""
    losses = [step.loss for step in report.steps]
    lines, best = _each_and_mean(report, losses), None
    about = f"Training loss from {number(losses[0])} to {number(losses[-1])}."
    if report.validation:
        lines.append(Series("validation", report.validation, dots=True))
        best = Mark((report.best_step, report.best_loss), f"best {number(report.best_loss)}, step {report.best_step:,}")
        about += f" Lowest validation loss {number(report.best_loss)} at step {report.best_step:,}."
        losses += [report.best_loss, *(loss for _, loss in report.validation)]
    steps = steps_axis(report.steps[0].step, report.steps[-1].step, count=6)
    scale = fitting_axis(losses, count=6)
    note = "In nats a target token, by step; lower is better." + scale.logarithmic * " The scale is logarithmic."
    return Figure(
        "Loss",
        note=note,
        picture=draw_chart("loss", "Loss by step", about=about, x=steps, y=scale, series=lines, mark=best),
    )


def _small_charts(report: Report) -> Iterator[Figure]:
    """The four charts below the loss."""
    size, unit = _memory_unit(report.steps)
    rates = [step.learning_rate for step in report.steps]
    norms = [step.gradient_norm for step in report.steps]
    speeds = [step.tokens_per_second for step in report.steps]
    memory = [step.peak_memory / size for step in report.steps]
    steps = steps_axis(report.steps[0].step, report.steps[-1].step, count=3)
    for name, title, values, scale, value in (
        ("rate", "Learning rate", rates, linear_axis(0, max(rates), 3), f"up to {number(max(rates))}"),
        ("norm", "Gradient norm", norms, fitting_axis(norms, 4), f"median {number(median(norms))}"),
        ("speed", "Tokens a second", speeds, linear_axis(0, max(speeds), 3), f"median {number(median(speeds))}"),
        ("memory", f"Peak memory, {unit}", memory, linear_axis(0, max(memory), 3), f"up to {number(max(memory))}"),
    ):
        about = f"From {number(min(values))} to {number(max(values))}."
        lines = _each_and_mean(report, values) if name == "norm" else [Series("mean", _by_step(report, values))]
        yield Figure(
            title, value, picture=draw_chart(name, f"{title} by step", about=about, x=steps, y=scale, series=lines)
        )


def _each_and_mean(report: Report, values: Sequence[float]) -> list[Series]:
    """A line of the values and, unless they are few, a smoothed line."""
    lines = [Series("each", _by_step(report, values))]
    if len(values) >= SMOOTHED_FROM:
        lines.append(Series("mean", _by_step(report, smooth(values))))
    return lines


def _by_step(report: Report, values: Sequence[float]) -> list[Pair]:
    return list(zip((step.step for step in report.steps), values, strict=True))


def _memory_unit(steps: Sequence[Progress]) -> tuple[int, str]:
    """(bytes, name) of the unit in which the run's memory is a number of few digits."""
    return (2**30, "GiB") if max(step.peak_memory for step in steps) >= 2**30 else (2**20, "MiB")


def _flatten(options: Mapping[str, Any], outer: str = "") -> Iterator[tuple[str, str]]:
    """(dotted name, value as it would be written) of every option."""
    for name, value in options.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{outer}{name}.")
        else:
            yield outer + name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _example_blocks(
    examples: Sequence[Sequence[tuple[str, str]]],
) -> Iterator[tuple[list[tuple[str, int]], list[TokenBlock]]]:
    """For each example its (kind, number of tokens), in the order of ``TOKEN_KINDS``, and its blocks.

    A long prefix that the example before began with as well is not shown again.
    """
    before: list[str] = []
    for tokens in examples:
        kinds = [kind for _, kind in tokens]
        prefix = [text for text, kind in tokens if kind == "prefix"]
        blocks = [
            _block(kind, [text for text, _ in group]) for kind, group in groupby(tokens, key=lambda token: token[1])
        ]
        if prefix and prefix == before and blocks[0].hidden:
            blocks[0] = TokenBlock("prefix", [], len(prefix), [], above=True)
        yield [(kind, kinds.count(kind)) for kind in TOKEN_KINDS if kind in kinds], blocks
        before = prefix


def _block(kind: str, texts: Sequence[str]) -> TokenBlock:
    ends = TOKEN_KINDS[kind][0]
    hidden = max(0, len(texts) - 2 * ends)
    head, tail = (texts[:ends], texts[-ends:]) if hidden else (texts, [])
    return TokenBlock(kind, [_pieces(text) for text in head], hidden, [_pieces(text) for text in tail])


def _pieces(text: str) -> list[Piece]:
    """A token's text with marks for line breaks, control characters, and spaces other than those between words."""
    if not text:
        return [Piece("∅", True)]
    dotted = {index for match in SPACES.finditer(text) for index in range(*match.span())}
    shown = ((mark_unseen(character, index in dotted), character) for index, character in enumerate(text))
    grouped = groupby(((mark or character, mark is not None) for mark, character in shown), key=lambda pair: pair[1])
    return [Piece("".join(text for text, _ in group), mark) for mark, group in grouped]
