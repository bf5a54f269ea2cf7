"""``dualtune call``: one request, one tool call, executed when asked for."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from dualtune_mlx.cli import options
from dualtune_mlx.cli.calls import format_short, quote_name
from dualtune_mlx.cli.output import argument_or_file, console, emit_json, json_option, show_tool_changes
from dualtune_mlx.data import read_tools
from dualtune_mlx.decoding import Decoding
from dualtune_mlx.engine import DualTune
from dualtune_mlx.engine.requests import CallOptions
from dualtune_mlx.errors import UsageError, escape_line
from dualtune_mlx.mcp import ToolResult, connect, read_config
from dualtune_mlx.models import EMBEDDED
from dualtune_mlx.start import start_bundle
from dualtune_mlx.tools import ToolCall

SHOWN = 400  # characters of a result
UNSEEN = "tools never seen: their words count too; `dualtune learn` would teach them"


@click.command("call")
@click.argument("request", required=False)
@click.option(
    "--bundle", type=click.Path(path_type=Path), help="Bundle folder.  [default: the model's start bundle, if any]"
)
@options.model
@click.option("--tools", "tools_file", type=click.Path(path_type=Path), help="JSON file with the visible tools.")
@click.option("--mcp", type=click.Path(path_type=Path), help="mcpServers file; its servers are started.")
@click.option(
    "--execute", is_flag=True, help="Execute the call on its MCP server, whatever tool it is; nothing is asked."
)
@click.option("--top-k", type=click.IntRange(1), default=3, show_default=True, help="How many candidates to rank.")
@click.option(
    "--abstain",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Below this probability of the best candidate, rank the candidates and make no call.",
)
@click.option(
    "--today",
    metavar="DATE",
    help="The date that a bundle with argument cards tells for a tool that takes one.  [default: this machine's]",
)
@options.temperature
@options.seed
@options.grounding
@options.routing
@options.max_tokens
@json_option
def command(
    request: str | None,
    bundle: Path | None,
    model: str | None,
    tools_file: Path | None,
    mcp: Path | None,
    execute: bool,
    top_k: int,
    abstain: float,
    today: str | None,
    temperature: float,
    seed: int,
    grounding: str,
    routing: str,
    max_tokens: int,
    json_to: str | None,
) -> None:
    """Choose a tool for a request and write its arguments."""
    request, json_to = argument_or_file(request, json_to, "REQUEST")
    if (tools_file is None) == (mcp is None):
        raise click.UsageError("Give either --tools or --mcp.")
    if execute and mcp is None:
        raise click.UsageError("--execute needs --mcp: a file of tools cannot be called.")
    decoding = Decoding(max_tokens=max_tokens, temperature=temperature, seed=seed, grounding=grounding)
    out = console(json_to)
    bundle = bundle or find_start_bundle(model or EMBEDDED)
    with ExitStack() as stack:
        toolbox = stack.enter_context(connect(read_config(mcp))) if mcp else None
        tools = toolbox.tools if toolbox else read_tools(tools_file or Path())
        dualtune = stack.enter_context(DualTune.load(bundle, model, decoding=decoding, routing=routing))
        changes = dualtune.compare_tools(tools)
        choice: CallOptions = {"top_k": top_k, "abstain": abstain}
        if today:
            choice["today"] = today
        call = dualtune.call(request, tools, **choice)
        made = not call.is_respond and not call.abstained
        result = toolbox.execute(call) if toolbox and execute and made else None
        if (changes is None or changes.untrained) and dualtune.counts_words(tools):
            out.print(UNSEEN, style="dim", markup=False)
    show_tool_changes(out, changes)
    show(out, request, call, result)
    emit_json(json_to, {**to_json(call, result), "tool_changes": changes.to_dict() if changes is not None else None})


def find_start_bundle(model: str) -> Path:
    """The bundle that serves where none was given.

    Raises:
        UsageError: when there is no start bundle for the model.
    """
    if (folder := start_bundle(model)) is None:
        raise UsageError(
            "no bundle is given, and there is no start bundle for the model",
            got=model,
            expected=f"--bundle, or --model with a start bundle, such as {EMBEDDED}",
            fix="make a bundle: dualtune train all --model …",
        )
    return folder


def show(out: Console, request: str, call: ToolCall, result: ToolResult | None) -> None:
    """The request, the candidates as bars, the call, the result and the times."""
    out.print(Text(request, style="bold"))
    for tool, probability in call.candidates:
        bar = "█" * round(20 * probability)
        out.print(Text(f"  {quote_name(tool.name):<28}{probability:>7.1%} {bar}"))
    if call.abstained:
        out.print(Text("  no call: the best candidate is too improbable", style="yellow"))
    elif not call.is_respond:
        out.print(Text(f"  → {format_short(call)}", style="cyan"))
        if call.unsaid:
            out.print(Text(f"  unsaid: {escape_line(', '.join(call.unsaid))}", style="yellow"))
    if result is not None:
        label, style = ("error", "red") if result.is_error else ("result", "green")
        out.print(Text(f"  {label}: {_join_lines(result.for_model(SHOWN))}", style=style))
    stages = call.usage.stages
    times = ", ".join(f"{name} {stage.seconds:.2f} s" for name, stage in stages.items())
    server = f", server {result.seconds:.2f} s" if result else ""
    out.print(Text(f"  {times}{server}\n", style="dim"))


def to_json(call: ToolCall, result: ToolResult | None) -> dict[str, Any]:
    value = call.to_record()
    if result is not None:
        value["result"] = result.to_record()
    return value


def _join_lines(text: str) -> str:
    return " ⏎ ".join(line for line in text.splitlines() if line.strip())
