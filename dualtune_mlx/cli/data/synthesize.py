"""``dualtune data synthesize``: requests for the tools of a data folder, by our generator or by a teacher."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dualtune_mlx.cli import options
from dualtune_mlx.cli.output import console, emit_json, json_option, progress
from dualtune_mlx.data import read_tools
from dualtune_mlx.data.values import read_values
from dualtune_mlx.errors import count_of, escape
from dualtune_mlx.synthesis.options import SynthesisOptions
from dualtune_mlx.synthesis.sources import RequestMade
from dualtune_mlx.synthesis.synthesize import REJECTED, REQUESTS, Summary, SynthesisEvent, TeacherTried, synthesize
from dualtune_mlx.synthesis.teacher.asking import Asking, Waiting
from dualtune_mlx.synthesis.teacher.backends import KEY, open_backend
from dualtune_mlx.synthesis.teacher.budget import Limits
from dualtune_mlx.synthesis.teacher.trial import Trial

INTERRUPTED = 130  # 128 + SIGINT, as a shell has it
SHARE = click.FloatRange(0, 1)
OF_TEACHERS = (
    *("teacher_model", "teacher_key", "teacher_share", "several", "unserved", "max_requests", "max_tokens_total"),
    *("max_money", "price_read", "price_written", "in_flight", "seconds", "answer_tokens", "yes"),
)
REASONS = {
    "schema": "a call fits no tool's schema",
    "unwritable": "the grammar cannot write a call",
    "secret": "a secret or a home folder",
    "style": "no request as people write them",
    "unsaid": "a value is not said",
    "teacher": "the teacher chose another tool",
    "duplicate": "nearly the same as another",
}


def _option(name: str, kind: Any, default: Any, help: str, **more: Any) -> Any:
    return click.option(f"--{name}", type=kind, default=default, show_default=default is not None, help=help, **more)


def _of(name: str, kind: Any, flag: str = "", **more: Any) -> Any:
    """The option of a field of ``SynthesisOptions``, with the field's default and help."""
    field = SynthesisOptions.__dataclass_fields__[name]
    return _option(flag or name.replace("_", "-"), kind, field.default, field.metadata["help"], **more)


@click.command("synthesize")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Data folder with tools.json.")
@click.option("--teacher", metavar="URL|M", help="A model that words requests: an endpoint, a folder, a hub id.")
@click.option("--teacher-model", default="", metavar="NAME", help="The model's name at the endpoint.")
@click.option(
    "--teacher-key",
    default="",
    metavar="VARIABLE",
    help=f"Variable of the environment with the API key of the endpoint; else {KEY}, where it is set.",
)
@_of("teacher_share", SHARE)
@_of("requests", click.IntRange(1))
@_of("several", SHARE)
@_of("unserved", SHARE)
@click.option("--style", "styles", multiple=True, metavar="STYLE", help="A style of the requests; all by default.")
@_of("language", str)
@_of("seed", int)
@_option("max-requests", click.IntRange(1), None, "Most requests to the teacher, over all runs of the folder.")
@_option("max-tokens-total", click.IntRange(1), None, "Most tokens that it reads and writes, over all runs.")
@_option("max-money", click.FloatRange(0, min_open=True), None, "Most money, in the currency of the prices.")
@_option("price-read", click.FloatRange(0), 0.0, "Price of a million tokens that the teacher reads.")
@_option("price-written", click.FloatRange(0), 0.0, "Price of a million tokens that it writes.")
@_option("in-flight", click.IntRange(1), Asking.in_flight, "Requests to the teacher at once.")
@_option("seconds", click.FloatRange(0, min_open=True), Asking.seconds, "The longest that an answer may take.")
@_option("answer-tokens", click.IntRange(1), Asking.answer_tokens, "The longest answer, with its thoughts.")
@click.option("--yes", is_flag=True, help="Go on with a teacher that is right too seldom.")
@json_option
def command(
    data: Path,
    teacher: str | None,
    teacher_model: str,
    teacher_key: str,
    teacher_share: float,
    requests: int,
    several: float,
    unserved: float,
    styles: tuple[str, ...],
    language: str,
    seed: int,
    max_requests: int | None,
    max_tokens_total: int | None,
    max_money: float | None,
    price_read: float,
    price_written: float,
    in_flight: int,
    seconds: float,
    answer_tokens: int,
    yes: bool,
    json_to: str | None,
) -> None:
    """Make requests for the tools in DATA/tools.json, into DATA/requests.jsonl.

    What a filter refuses is in DATA/rejected.jsonl with its reason. A run that was stopped goes on by the same command.
    The teacher is tried on DATA/test.jsonl first, where there is one.

    Exit code 1: the teacher failed, or no request was made; 130: Ctrl-C.
    """
    if teacher is None:
        options.only_with("--teacher", *OF_TEACHERS)
    if max_money is not None and not price_read and not price_written:
        raise click.UsageError("Option '--max-money' needs '--price-read' or '--price-written'.")
    wanted = SynthesisOptions(
        requests, teacher_share, several, unserved, styles or SynthesisOptions().styles, language, seed
    )
    out = console(json_to)
    tools, values = read_tools(data / "tools.json"), read_values(data)
    limits = Limits(max_requests, max_tokens_total, max_money, price_read, price_written)
    try:
        with ExitStack() as stack:
            summary = synthesize(
                tools,
                data,
                wanted,
                open_backend(teacher, teacher_model, teacher_key) if teacher else None,
                limits,
                Asking(in_flight, seconds, answer_tokens),
                values=values,
                confirm=(lambda trial: True) if yes else _ask_whether,
                report=_Display(out, stack).show,
            )
    except KeyboardInterrupt:
        click.echo("Interrupted; the same command goes on from there.", err=True)
        sys.exit(INTERRUPTED)
    show_summary(out, data, summary)
    emit_json(json_to, summary.to_dict())
    sys.exit(0 if summary.kept else 1)


class _Display:
    """Shows a run: a bar for each source, and what happens beside."""

    def __init__(self, out: Console, stack: ExitStack) -> None:
        self._out, self._stack = out, stack
        self._bars: dict[str, Any] = {}

    def show(self, event: SynthesisEvent) -> None:
        match event:
            case TeacherTried(trial):
                self._out.print(f"The teacher chose the right tool for {_count_right(trial)}.", markup=False)
            case Waiting(seconds, why):
                self._out.print(Text(f"The teacher failed ({escape(why)}); again in {seconds:.1f} s.", style="yellow"))
            case RequestMade(source, number, done, wanted, spent):
                if source not in self._bars:
                    self._bars[source] = self._stack.enter_context(progress(self._out, source))
                cost = f", {spent.tokens:,} tokens" if spent.tokens else ""
                self._bars[source](done, wanted, f"round {number}{cost}")


def _count_right(trial: Trial) -> str:
    return f"{trial.right} of {trial.asked} of your own requests"


def _ask_whether(_: Trial) -> bool:
    """Ask whether to go on; where nobody can answer, the run ends with an error that says so."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    return click.confirm("That is less than it should be. Go on with this teacher?", default=False, err=True)


def show_summary(out: Console, data: Path, summary: Summary) -> None:
    """Print how many requests each tool got, and what the filters refused."""
    table = Table("requests for", "kept", "wanted", box=None)
    for name, (kept, wanted) in summary.tools.items():
        table.add_row(Text(escape(name)), str(kept), str(wanted), style="yellow" if kept < wanted else "")
    out.print(table)
    if summary.rejected:
        table = Table("rejected by", "requests", "because", box=None)
        for reason, number in summary.rejected.items():
            table.add_row(reason, str(number), REASONS[reason])
        out.print(table)
    where = (
        f"{count_of(summary.kept, 'request')} in {data / REQUESTS}, {sum(summary.rejected.values()):,} in {REJECTED}"
    )
    out.print(where, markup=False, soft_wrap=True)
    spent = summary.spent
    if spent.requests:
        money = f", {summary.money:.2f} of money" if summary.money else ""
        counted = f"{count_of(spent.read, 'token')} read, {count_of(spent.written, 'token')} written"
        out.print(
            f"The teacher has cost {count_of(spent.requests, 'request')}: {counted}{money}.",
            markup=False,
            soft_wrap=True,
        )
    if summary.unanswered:
        left = count_of(summary.unanswered, "question")
        out.print(f"The teacher left {left} unanswered; the same command asks again.", markup=False)
    if summary.exceeded:
        out.print(Text(f"The budget is spent: {summary.exceeded}. A larger one goes on from there.", style="yellow"))
