"""``dualtune learn``: from a list of tools to a bundle that is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dualtune_mlx.cli import train
from dualtune_mlx.cli.data.synthesize import SynthesisDisplay
from dualtune_mlx.cli.data.tools import show_reports
from dualtune_mlx.cli.output import console, emit_json, json_option, progress
from dualtune_mlx.cli.teacher_flags import open_teaching, teacher_flags
from dualtune_mlx.data.values import read_values
from dualtune_mlx.learning.events import (
    CommandStarted,
    DecisionEvaluated,
    LearnEvent,
    Measured,
    PlanMade,
    StepsChosen,
    TrainingRestarted,
)
from dualtune_mlx.learning.options import LearnOptions
from dualtune_mlx.learning.road import learn
from dualtune_mlx.mcp import read_config
from dualtune_mlx.mcp.inspection import inspect_servers, report_listing
from dualtune_mlx.mcp.snapshot import snapshot_tools
from dualtune_mlx.mcp.tools_file import read_listings
from dualtune_mlx.synthesis.sources import RequestMade
from dualtune_mlx.synthesis.synthesize import TeacherTried
from dualtune_mlx.synthesis.teacher.asking import Waiting


@click.command("learn")
@click.option("--tools", "tools_file", type=click.Path(path_type=Path), help="JSON file with the tools.")
@click.option("--mcp", type=click.Path(path_type=Path), help="mcpServers file; its servers are started and asked.")
@click.option("--bundle", required=True, type=click.Path(path_type=Path), help="Bundle folder; made when missing.")
@click.option(
    "--model",
    default=LearnOptions.model,
    show_default=True,
    help="Base model: a folder, a hub id, a .gguf file, or the embedded model's name.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(1),
    default=LearnOptions.minutes,
    show_default=True,
    help="The time that all of it may take.",
)
@click.option("--requests", type=click.IntRange(0), default=0, help="Requests to make.  [default: as many as fit]")
@click.option(
    "--more",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="JSONL file of requests with their calls, learned beside those that are made; may be repeated.",
)
@teacher_flags
@click.option(
    "--seed", type=int, default=LearnOptions.seed, show_default=True, help="Seed of the data and of training."
)
@json_option
@click.pass_context
def command(
    context: click.Context,
    tools_file: Path | None,
    mcp: Path | None,
    bundle: Path,
    model: str,
    minutes: float,
    requests: int,
    more: tuple[Path, ...],
    seed: int,
    json_to: str | None,
    **teacher: Any,
) -> None:
    """Learn tools: make requests for them, train on these, and measure the result.

    Ctrl-C stops, and the same command goes on. Where the bundle is there already, only what changed is learned.
    """
    if (tools_file is None) == (mcp is None):
        raise click.UsageError("Give either --tools or --mcp.")
    out, options = console(json_to), LearnOptions(model, minutes, requests=requests, seed=seed)
    teaching = open_teaching(teacher)
    listed = inspect_servers(read_config(mcp)) if mcp else map(report_listing, read_listings(tools_file or ""))
    tools = snapshot_tools(show_reports(out, listed), bundle / "data").tools
    try:
        with LearnPrinter(out, bundle) as show:
            values = read_values(bundle / "data")
            value = learn(tools, bundle, options, teaching=teaching, values=values, more=more, report=show)
    except KeyboardInterrupt:
        show.training.warn(train.STOPPED.format(command="the same command again"))
        context.exit(train.INTERRUPTED)
    print_summary(out, value, f"--mcp {mcp} --execute" if mcp else f"--tools {tools_file}")
    emit_json(json_to, value)


class LearnPrinter:
    """Prints what happens while tools are learned. As a context it ends the bar of a stopped part."""

    def __init__(self, out: Console, bundle: Path) -> None:
        self.out = out
        self.training = train.TrainPrinter(str(bundle), out)
        self._open = ExitStack()
        self._making = SynthesisDisplay(out, self._open)
        self._bar: Callable[[int, int, str], None] | None = None

    def __enter__(self) -> Self:
        self._open.enter_context(self.training)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def __call__(self, event: LearnEvent) -> None:
        match event:
            case PlanMade(plan):
                for line in plan.describe():
                    self.out.print(f"· {line}", markup=False, soft_wrap=True)
            case CommandStarted(arguments):
                self._open.close()
                shown = " ".join(f'"{text}"' if " " in text else text for text in arguments)
                self.out.print(Text(f"\n$ dualtune {shown}", style="bold"), soft_wrap=True)
            case StepsChosen(steps):
                chosen = ", ".join(f"{stage} {count:,}" for stage, count in steps.items())
                self.out.print(f"steps that fit into the time: {chosen}", markup=False)
            case TrainingRestarted(job, why):
                self.training.warn(f"{job.title} begins anew: {why}")
            case DecisionEvaluated(done, total):
                if self._bar is None:
                    self._bar = self._open.enter_context(progress(self.out, "measure"))
                self._bar(done, total, "")
            case Measured():
                self._open.close()
                self._bar = None
            case TeacherTried() | RequestMade() | Waiting():
                self._making.show(event)
            case _:
                self.training(event)


def print_summary(out: Console, value: Mapping[str, Any], tools: str) -> None:
    """Print what was right before and after, and the command to go on with."""
    own = value["measured_on"] == "own"
    title = f"{value['after']['n']} requests, " + ("your own" if own else "held out of those that were made")
    table = Table(title, "right tool", "whole call")
    for name in ("before", "after"):
        table.add_row(name, f"{value[name]['tool']:.1%}", f"{value[name]['call']:.1%}")
    out.print(table)
    out.print(f'Go on with:\n  dualtune call --bundle {value["bundle"]} {tools} "…"', markup=False, soft_wrap=True)
