"""``dualtune demo``: learn three servers and use what was learned, and show which commands do the same."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dualtune_mlx.cli import call, train
from dualtune_mlx.cli.learn import LearnPrinter
from dualtune_mlx.cli.output import console, emit_json, json_option
from dualtune_mlx.demo import Recipe, Workspace, run_demo
from dualtune_mlx.demo.run import CallFailed, CallFinished, DemoEvent

INTRODUCTION = """This teaches a 135M-parameter model, here, to call real tools:
  1. prepare the model, a scratch workspace and three MCP servers (filesystem, git, time: 28 tools)
  2. learn them as `dualtune learn` learns any servers, with hand-written wordings as one more source
  3. measure on {test} requests whose wordings are never trained on, before, after, and the base model alone
  4. send {requests} requests to the live servers
About 22 minutes on 2 CPU cores; less where there is Metal. Stop with Ctrl-C; run it again to go on.
"""
MEASURED = {"base": "base model", "start": "start bundle", "trained": "trained"}


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
    """Learn three servers with the embedded model, and call their tools, start to end."""
    out, recipe = console(json_to), Recipe()
    out.print(INTRODUCTION.format(test=recipe.test, requests=len(recipe.requests)), markup=False)
    try:
        with DemoPrinter(out, folder / "bundle") as show:
            value = run_demo(folder, recipe, report=show)
    except KeyboardInterrupt:
        show.training.warn(train.STOPPED.format(command="the same command again"))
        context.exit(train.INTERRUPTED)
    print_summary(out, folder, value)
    emit_json(json_to, value)


class DemoPrinter(LearnPrinter):
    """Prints the demo's events as the commands do that it names."""

    def __call__(self, event: DemoEvent) -> None:
        match event:
            case CallFinished(request, made, result):
                call.show(self.out, request, made, result)
            case CallFailed(_, error):
                self.out.print(Text(f"Error: {error}", style="red"))
            case _:
                super().__call__(event)


def print_summary(out: Console, folder: Path, value: Mapping[str, Any]) -> None:
    """Print the accuracies, and commands to go on with."""
    table = Table("wordings never trained on", "right tool", "whole call")
    for name, values in value["accuracy"].items():
        table.add_row(MEASURED[name], f"{values['tool']:.1%}", f"{values['call']:.1%}")
    out.print(table)
    bundle, config = value["bundle"], Workspace(folder / "workspace").config
    out.print(f"The bundle lies in {bundle}, its report in {Path(bundle, 'report.html')}. Go on with:", markup=False)
    for line in (
        f'dualtune call --bundle {bundle} --mcp {config} --execute "List what is in src"',
        f"dualtune inspect --bundle {bundle} --data {Path(bundle, 'data', 'test.jsonl')}",
        "dualtune learn --mcp mcp.json --bundle mine --minutes 15   (your own servers)",
    ):
        out.print(f"  {line}", markup=False, soft_wrap=True)
