"""The flags of a teacher: where it is, and what it may cost."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from dualtune_mlx.cli import options
from dualtune_mlx.synthesis.teacher import Teaching
from dualtune_mlx.synthesis.teacher.asking import Asking
from dualtune_mlx.synthesis.teacher.backends import KEY, open_backend
from dualtune_mlx.synthesis.teacher.budget import Limits
from dualtune_mlx.synthesis.teacher.trial import Trial

Command = TypeVar("Command", bound=Callable[..., Any])


def _option(name: str, kind: Any, default: Any, help: str) -> Any:
    return click.option(f"--{name}", type=kind, default=default, show_default=default is not None, help=help)


FLAGS = {
    "teacher": click.option(
        "--teacher", metavar="URL|M", help="A model that words requests: an endpoint, a folder, a hub id."
    ),
    "teacher_model": click.option(
        "--teacher-model", default="", metavar="NAME", help="The model's name at the endpoint."
    ),
    "teacher_key": click.option(
        "--teacher-key",
        default="",
        metavar="VARIABLE",
        help=f"Variable of the environment with the API key of the endpoint; else {KEY}, where it is set.",
    ),
    "max_requests": _option(
        "max-requests", click.IntRange(1), None, "Most requests to the teacher, over all runs of the folder."
    ),
    "max_tokens_total": _option(
        "max-tokens-total", click.IntRange(1), None, "Most tokens that it reads and writes, over all runs."
    ),
    "max_money": _option(
        "max-money", click.FloatRange(0, min_open=True), None, "Most money, in the currency of the prices."
    ),
    "price_read": _option("price-read", click.FloatRange(0), 0.0, "Price of a million tokens that the teacher reads."),
    "price_written": _option("price-written", click.FloatRange(0), 0.0, "Price of a million tokens that it writes."),
    "in_flight": _option("in-flight", click.IntRange(1), Asking.in_flight, "Requests to the teacher at once."),
    "seconds": _option(
        "seconds", click.FloatRange(0, min_open=True), Asking.seconds, "The longest that an answer may take."
    ),
    "answer_tokens": _option(
        "answer-tokens", click.IntRange(1), Asking.answer_tokens, "The longest answer, with its thoughts."
    ),
    "yes": click.option("--yes", is_flag=True, help="Go on with a teacher that is right too seldom."),
}
"""Each flag by its parameter's name."""


def teacher_flags(command: Command) -> Command:
    """Give a command the flags; they come as keywords of their names."""
    for flag in reversed(FLAGS.values()):
        command = flag(command)
    return command


def open_teaching(given: Mapping[str, Any], *others: str) -> Teaching | None:
    """The teacher that the flags name; None where they name none.

    Args:
        given: the flags' values by name.
        others: the names of other options that do nothing without a teacher.

    Raises:
        click.UsageError: when a flag is given that does nothing.
        UsageError, ModelError: as ``open_backend`` does.
    """
    if not given["teacher"]:
        options.only_with("--teacher", *(name for name in FLAGS if name != "teacher"), *others)
        return None
    if given["max_money"] is not None and not given["price_read"] and not given["price_written"]:
        raise click.UsageError("Option '--max-money' needs '--price-read' or '--price-written'.")
    return Teaching(
        open_backend(given["teacher"], given["teacher_model"], given["teacher_key"]),
        Limits(
            given["max_requests"],
            given["max_tokens_total"],
            given["max_money"],
            given["price_read"],
            given["price_written"],
        ),
        Asking(given["in_flight"], given["seconds"], given["answer_tokens"]),
        (lambda trial: True) if given["yes"] else _ask_whether,
    )


def _ask_whether(_: Trial) -> bool:
    """Ask whether to go on; where nobody can answer, the run ends with an error that says so."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    return click.confirm("That is less than it should be. Go on with this teacher?", default=False, err=True)
