"""``dualtune demo``: train and use two adapters on the embedded example, and show which commands do the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dualtune_mlx.cli import call, eval, train
from dualtune_mlx.cli.output import console, emit_json, json_option, progress
from dualtune_mlx.demo import Recipe, Workspace, run_demo
from dualtune_mlx.demo.run import (
    CallFailed,
    CallFinished,
    CommandStarted,
    DecisionEvaluated,
    DemoEvent,
    EvaluationFinished,
)
from dualtune_mlx.models import EMBEDDED

INTRODUCTION = """This trains two small adapters on a 135M-parameter model, here, and lets them call real tools:
  1. prepare the model, a scratch workspace and three MCP servers (filesystem, git, time: 28 tools)
  2. measure the base model on {test} requests whose wordings are never trained on
  3. train a selector and a shared argument adapter
  4. measure again, and send {requests} requests to the live servers
About 19 minutes on 2 CPU cores; less where there is Metal. Stop with Ctrl-C; run it again to go on.
"""


@click.command("demo")
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path),
    default=Path("dualtune-demo"),
    show_default=True,
    help="Where data, workspace and bundle go.",
)
@json_option
@click.pass_context
def command(context: click.Context, folder: Path, json_to: str | None) -> None:
    """Train and use two adapters on the embedded example, start to end."""
    out, recipe = console(json_to), Recipe()
    out.print(INTRODUCTION.format(test=recipe.test, requests=len(recipe.requests)), markup=False)
    try:
        with DemoPrinter(out, folder / "bundle") as show:
            value = run_demo(folder, recipe, report=show)
    except KeyboardInterrupt:
        if not show.stage:
            raise
        show.training.warn(train.STOPPED.format(command="the same command again"))
        context.exit(train.INTERRUPTED)
    print_summary(out, folder, recipe, value)
    emit_json(json_to, value)


class DemoPrinter:
    """Prints the demo's events as the commands do that it names. As a context it ends the bar of a stopped part."""

    def __init__(self, out: Console, bundle: Path) -> None:
        self.out = out
        self.training = train.TrainPrinter(str(bundle), out)
        self.stage = ""
        """The stage in training, while there is one."""
        self._open = ExitStack()
        self._bar: Callable[[int, int, str], None] | None = None

    def __enter__(self) -> DemoPrinter:
        self._open.enter_context(self.training)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def __call__(self, event: DemoEvent) -> None:
        match event:
            case CommandStarted(arguments):
                self.stage = arguments[1] if arguments[0] == "train" else ""
                shown = " ".join(f'"{text}"' if " " in text else text for text in arguments)
                self.out.print(Text(f"\n$ dualtune {shown}", style="bold"))
            case DecisionEvaluated(done, total):
                if self._bar is None:
                    self._bar = self._open.enter_context(progress(self.out, "eval calls"))
                self._bar(done, total, "")
            case EvaluationFinished(value):
                self._open.close()
                self._bar = None
                self.out.print(eval.accuracy_table(value))
            case CallFinished(request, made, result):
                call.show(self.out, request, made, result)
            case CallFailed(_, error):
                self.out.print(Text(f"Error: {error}", style="red"))
            case _:
                self.training(event)


def print_summary(out: Console, folder: Path, recipe: Recipe, value: Mapping[str, Any]) -> None:
    """Print the accuracies, and commands to go on with."""
    table = Table("wordings never trained on", "right tool", "whole call")
    for name, values in value["accuracy"].items():
        table.add_row(name, f"{values['tool']:.1%}", f"{values['call']:.1%}")
    out.print(table)
    bundle, config, data = value["bundle"], Workspace(folder / "workspace").config, folder / "data"
    out.print(f"The bundle lies in {bundle}. Go on with:", markup=False)
    for line in (
        f'dualtune call --bundle {bundle} --mcp {config} --execute "List what is in src"',
        f"dualtune inspect --model {EMBEDDED} --data {data / 'test.jsonl'} --cards {recipe.cards}",
        f"dualtune eval --bundle {bundle} --data {data / 'valid.jsonl'}",
    ):
        out.print(f"  {line}", markup=False, soft_wrap=True)
