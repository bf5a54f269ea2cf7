"""``dualtune demo``: the other commands in a row, on the embedded example."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dualtune_mlx.cli import call, eval, train
from dualtune_mlx.cli.output import console, emit_json, json_option
from dualtune_mlx.demo import Recipe, Workspace
from dualtune_mlx.errors import DecodingError, ToolError
from dualtune_mlx.files import write_text
from dualtune_mlx.mcp import connect, read_config
from dualtune_mlx.models import EMBEDDED, resolve

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
def command(folder: Path, json_to: str | None) -> None:
    """Train and use two adapters on the embedded example, start to end."""
    emit_json(json_to, Demo(folder, Recipe(), console(json_to)).run())


class Demo:
    """A run of the demo in a folder; every part is skipped whose result is there already."""

    def __init__(self, folder: Path, recipe: Recipe, out: Console) -> None:
        self.folder = folder
        self.recipe = recipe
        self.out = out
        self.workspace = Workspace(folder / "workspace")

    def run(self) -> dict[str, Any]:
        began = time.perf_counter()
        recipe = self.recipe
        self.out.print(INTRODUCTION.format(test=recipe.test, requests=len(recipe.requests)), markup=False)
        self._prepare()
        prompt = ["--template", recipe.template, "--cards", recipe.cards]
        test, bundle = str(self.folder / "data" / "test.jsonl"), str(self.folder / "bundle")
        base = self._measure("base.json", ["--base", "--model", EMBEDDED, "--data", test, *prompt])
        for stage, options in (("selector", recipe.selector), ("arguments", recipe.arguments)):
            if not self._trained(stage):
                data = str(self.folder / "data")
                where = ["--model", EMBEDDED, "--data", data, "--bundle", bundle, "--resume"]
                self._dualtune(train.command, [stage, *where, *prompt, *options])
        trained = self._measure("trained.json", ["--bundle", bundle, "--data", test])
        calls = [self._call(number, request) for number, request in enumerate(recipe.requests, 1)]
        accuracy = {
            name: {m: value[m] for m in ("tool", "call")} for name, value in (("base", base), ("trained", trained))
        }
        self._summary(accuracy, bundle)
        seconds = time.perf_counter() - began
        return {"accuracy": accuracy, "bundle": bundle, "seconds": seconds, "calls": calls}

    def _prepare(self) -> None:
        self._forget_another_recipe()
        resolve(EMBEDDED)
        self.workspace.prepare()
        data = self.folder / "data"
        if not (data / "tools.json").exists():
            with connect(read_config(self.workspace.config)) as toolbox:
                self.recipe.write_data(data, toolbox.tools)

    def _forget_another_recipe(self) -> None:
        """What an earlier version of the demo left behind would be measured as if it were this one's."""
        key = self.folder / "recipe"
        if key.exists() and key.read_text() != self.recipe.key:
            for name in ("data", "bundle", "workspace", "calls"):
                shutil.rmtree(self.folder / name, ignore_errors=True)
            for name in ("base.json", "trained.json"):
                (self.folder / name).unlink(missing_ok=True)
        write_text(key, self.recipe.key)

    def _trained(self, stage: str) -> bool:
        manifest = self.folder / "bundle" / "dualtune.json"
        return manifest.exists() and stage in json.loads(manifest.read_text())["stages"]

    def _measure(self, name: str, arguments: Sequence[str]) -> dict[str, Any]:
        path = self.folder / name
        if not path.exists():
            limit = ["--max-tokens", str(self.recipe.max_tokens)]
            self._dualtune(eval.command, [*arguments, *limit, "--json", str(path)])
        value: dict[str, Any] = json.loads(path.read_text())
        return value

    def _call(self, number: int, request: str) -> dict[str, Any]:
        path = self.folder / "calls" / f"{number}.json"
        bundle, config = str(self.folder / "bundle"), str(self.workspace.config)
        limit = ["--max-tokens", str(self.recipe.max_tokens)]
        arguments = ["--bundle", bundle, "--mcp", config, "--execute", *limit, "--json", str(path), request]
        try:
            self._dualtune(call.command, arguments)
        except (DecodingError, ToolError) as error:  # one wrong answer of a small model does not end the demo
            self.out.print(Text(f"Error: {error}", style="red"))
            return {"request": request, "error": str(error)}
        value: dict[str, Any] = json.loads(path.read_text())
        return {"request": request, **value}

    def _dualtune(self, command: click.Command, arguments: Sequence[str]) -> None:
        shown = " ".join(f'"{a}"' if " " in a else a for a in arguments)
        self.out.print(Text(f"\n$ dualtune {command.name} {shown}", style="bold"))
        code = command.main(args=list(arguments), standalone_mode=False)
        if code:  # interrupted
            raise click.exceptions.Exit(code)

    def _summary(self, accuracy: dict[str, dict[str, float]], bundle: str) -> None:
        table = Table("wordings never trained on", "right tool", "whole call")
        for name, values in accuracy.items():
            table.add_row(name, f"{values['tool']:.1%}", f"{values['call']:.1%}")
        self.out.print(table)
        self.out.print(f"The bundle lies in {bundle}. Go on with:", markup=False)
        config, data = self.workspace.config, self.folder / "data"
        for line in (
            f'dualtune call --bundle {bundle} --mcp {config} --execute "List what is in src"',
            f"dualtune inspect --model {EMBEDDED} --data {data / 'test.jsonl'} --cards {self.recipe.cards}",
            f"dualtune eval --bundle {bundle} --data {data / 'valid.jsonl'}",
        ):
            self.out.print(f"  {line}", markup=False, soft_wrap=True)
