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

from dualtune_mlx.cli.output import console, emit_json, json_option, progress
from dualtune_mlx.cli.teacher_flags import open_teaching, teacher_flags
from dualtune_mlx.data import read_tools
from dualtune_mlx.data.values import read_values
from dualtune_mlx.errors import count_of, escape_line
from dualtune_mlx.synthesis.options import SynthesisOptions
from dualtune_mlx.synthesis.sources import RequestMade
from dualtune_mlx.synthesis.synthesize import REJECTED, REQUESTS, Summary, SynthesisEvent, TeacherTried, synthesize
from dualtune_mlx.synthesis.teacher.asking import Waiting
from dualtune_mlx.synthesis.teacher.trial import Trial

INTERRUPTED = 130  # 128 + SIGINT, as a shell has it
SHARE = click.FloatRange(0, 1)
REASONS = {
    "schema": "a call fits no tool's schema",
    "unwritable": "the grammar cannot write a call",
    "secret": "a secret or a home folder",
    "style": "no request as people write them",
    "unsaid": "a value is not said",
    "teacher": "the teacher chose another tool",
    "duplicate": "nearly the same as another",
}


def _of(name: str, kind: Any) -> Any:
    """The option of a field of ``SynthesisOptions``, with the field's default and help."""
    field = SynthesisOptions.__dataclass_fields__[name]
    flag = f"--{name.replace('_', '-')}"
    return click.option(flag, type=kind, default=field.default, show_default=True, help=field.metadata["help"])


@click.command("synthesize")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Data folder with tools.json.")
@teacher_flags
@_of("teacher_share", SHARE)
@_of("requests", click.IntRange(1))
@_of("several", SHARE)
@_of("unserved", SHARE)
@click.option("--style", "styles", multiple=True, metavar="STYLE", help="A style of the requests; all by default.")
@_of("language", str)
@_of("seed", int)
@json_option
def command(
    data: Path,
    teacher_share: float,
    requests: int,
    several: float,
    unserved: float,
    styles: tuple[str, ...],
    language: str,
    seed: int,
    json_to: str | None,
    **teacher: Any,
) -> None:
    """Make requests for the tools in DATA/tools.json, into DATA/requests.jsonl.

    What a filter refuses is in DATA/rejected.jsonl with its reason. A run that was stopped goes on by the same command.
    The teacher is tried on DATA/test.jsonl first, where there is one.

    Exit code 1: the teacher failed, or no request was made; 130: Ctrl-C.
    """
    teaching = open_teaching(teacher, "teacher_share", "several", "unserved")
    wanted = SynthesisOptions(
        requests, teacher_share, several, unserved, styles or SynthesisOptions().styles, language, seed
    )
    out = console(json_to)
    tools, values = read_tools(data / "tools.json"), read_values(data)
    try:
        with ExitStack() as stack:
            summary = synthesize(
                tools,
                data,
                wanted,
                teaching,
                values=values,
                report=SynthesisDisplay(out, stack).show,
            )
    except KeyboardInterrupt:
        click.echo("Interrupted; the same command goes on from there.", err=True)
        sys.exit(INTERRUPTED)
    show_summary(out, data, summary)
    emit_json(json_to, summary.to_dict())
    sys.exit(0 if summary.kept else 1)


class SynthesisDisplay:
    """Shows a run: a bar for each source, and what happens beside."""

    def __init__(self, out: Console, stack: ExitStack) -> None:
        self._out, self._stack = out, stack
        self._bars: dict[str, Any] = {}

    def show(self, event: SynthesisEvent) -> None:
        match event:
            case TeacherTried(trial):
                self._out.print(f"The teacher chose the right tool for {_count_right(trial)}.", markup=False)
            case Waiting(seconds, why):
                self._out.print(Text(f"The teacher failed ({why}); again in {seconds:.1f} s.", style="yellow"))
            case RequestMade(source, number, done, wanted, spent):
                if source not in self._bars:
                    self._bars[source] = self._stack.enter_context(progress(self._out, source))
                cost = f", {spent.tokens:,} tokens" if spent.tokens else ""
                self._bars[source](done, wanted, f"round {number}{cost}")


def _count_right(trial: Trial) -> str:
    return f"{trial.right} of {trial.asked} of your own requests"


def show_summary(out: Console, data: Path, summary: Summary) -> None:
    """Print how many requests each tool got, and what the filters refused."""
    table = Table("requests for", "kept", "wanted", box=None)
    for name, (kept, wanted) in summary.tools.items():
        table.add_row(escape_line(name), str(kept), str(wanted), style="yellow" if kept < wanted else "")
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
