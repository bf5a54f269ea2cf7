"""``dualtune agent``: calls and their results, until the task is done."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click

from dualtune_mlx.agent import Agent, Limits
from dualtune_mlx.agent.agent import ask_nobody
from dualtune_mlx.agent.chat_model import open_chat_model
from dualtune_mlx.agent.events import RunEnded
from dualtune_mlx.agent.transcript import event_to_json
from dualtune_mlx.cli import options
from dualtune_mlx.cli.live import RunDisplay
from dualtune_mlx.cli.output import (
    STDOUT,
    argument_or_file,
    console,
    echo_json,
    emit_json,
    json_option,
    show_tool_changes,
)
from dualtune_mlx.decoding import Decoding
from dualtune_mlx.engine import DualTune
from dualtune_mlx.mcp import ApprovalPolicy, connect, read_config

INTERRUPTED = 130  # 128 + SIGINT, as a shell has it


@click.command("agent")
@click.argument("task", required=False)
@click.option("--bundle", required=True, type=click.Path(path_type=Path), help="Bundle folder.")
@click.option("--mcp", required=True, type=click.Path(path_type=Path), help="mcpServers file; its servers are started.")
@options.model
@click.option(
    "--approve",
    type=click.Choice(["ask", "auto", "never"]),
    default="ask",
    show_default=True,
    help="Ask before calls that the configuration does not allow; before those that may be destructive; refuse all.",
)
@click.option("--dry-run", is_flag=True, help="Write the first call and end; no tool is called.")
@click.option("--planner", metavar="M|URL", help="A model that plans and answers: a folder, a hub id, or an endpoint.")
@click.option(
    "--planner-model",
    default="",
    metavar="NAME",
    help="The model's name at the endpoint that --planner gives.",
)
@click.option(
    "--planner-key",
    default="",
    metavar="VARIABLE",
    help="Variable of the environment with the API key of this endpoint.",
)
@click.option("--steps", default=Limits.steps, show_default=True, help="Most calls.")
@click.option("--seconds", default=Limits.seconds, show_default=True, help="Longest run, without your answers.")
@click.option("--tokens", default=Limits.tokens, show_default=True, help="Most tokens that are written.")
@click.option("--answer-tokens", default=Limits.answer_tokens, show_default=True, help="Longest answer, in tokens.")
@click.option("--transcripts", type=click.Path(path_type=Path), help="Folder for the transcript; else in the cache.")
@options.grounding
@options.routing
@options.max_tokens
@json_option
def command(
    task: str | None,
    bundle: Path,
    mcp: Path,
    model: str | None,
    approve: str,
    dry_run: bool,
    planner: str | None,
    planner_model: str,
    planner_key: str,
    steps: int,
    seconds: float,
    tokens: int,
    answer_tokens: int,
    transcripts: Path | None,
    grounding: str,
    routing: str,
    max_tokens: int,
    json_to: str | None,
) -> None:
    """Do a task with the tools of MCP servers.

    Exit code 0: answered (or a dry run); 1: stopped by a limit, a repetition or a failure; 130: Ctrl-C.
    """
    if not planner:
        options.only_with("--planner", "planner_model", "planner_key")
    task, json_to = argument_or_file(task, json_to, "TASK")
    limits = Limits(steps, seconds, tokens, answer_tokens)
    configs = read_config(mcp)
    out = console(json_to)
    ended = None
    try:
        with ExitStack() as stack:
            chat_model = open_chat_model(planner, planner_model, planner_key) if planner else None
            toolbox = stack.enter_context(connect(configs))
            decoding = Decoding(max_tokens, grounding=grounding)
            dualtune = stack.enter_context(DualTune.load(bundle, model, decoding=decoding, routing=routing))
            emit = stack.enter_context(open_event_output(json_to))
            changes = dualtune.compare_tools(toolbox.tools)
            show_tool_changes(out, changes)
            if changes is not None:
                emit({"event": "tool_changes", **changes.to_dict()})
            view = stack.enter_context(RunDisplay(out))
            ask = view.ask if out.is_terminal and sys.stdin.isatty() else ask_nobody
            agent = Agent(
                dualtune,
                toolbox,
                ApprovalPolicy(configs, approve),
                ask,
                limits=limits,
                chat_model=chat_model,
                dry_run=dry_run,
                transcripts=transcripts,
            )
            for event in agent.stream(task):
                view.show(event)
                if (value := event_to_json(event)) is not None:
                    emit(value)
                if isinstance(event, RunEnded):
                    ended = event
    except KeyboardInterrupt:
        click.echo("Interrupted; a run that had begun has left its transcript.", err=True)
        sys.exit(INTERRUPTED)
    sys.exit(0 if ended and ended.succeeded else 1)


@contextmanager
def open_event_output(json_to: str | None) -> Iterator[Callable[[Any], None]]:
    """Take events for JSON: a list on stdout, one item a line as they come, or in a file at the end."""
    events: list[Any] = []

    def emit(event: Any) -> None:
        if json_to == STDOUT:
            echo_json(("," if events else "[") + json.dumps(event, ensure_ascii=False))
        events.append(event)

    try:
        yield emit
    finally:
        if json_to == STDOUT:
            click.echo("]" if events else "[]")
        else:
            emit_json(json_to, events)
