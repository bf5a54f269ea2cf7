"""``dualtune bundle``: show, verify or assemble a bundle, or fit what words say of tools."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from dualtune_mlx.bundle import Bundle
from dualtune_mlx.bundle.assemble import AdapterSource, assemble
from dualtune_mlx.bundle.summary import describe_grounding, summarize_adapters
from dualtune_mlx.bundle.verify import find_problems
from dualtune_mlx.cli import options
from dualtune_mlx.cli.calls import quote_name
from dualtune_mlx.cli.output import console, emit_json, json_option, progress
from dualtune_mlx.data import read_tools, read_trajectories
from dualtune_mlx.decoding.evidence import SHOWN
from dualtune_mlx.engine.evidence import fit_bundle
from dualtune_mlx.engine.loading import load_base
from dualtune_mlx.prompts import SINGLE_STAGE_TEMPLATES
from dualtune_mlx.training.words import fit_bundle_words

folder = click.option("--bundle", required=True, type=click.Path(path_type=Path), help="Bundle folder.")
EVERY_TOOL = "*"


def calls_option(text: str) -> Callable[[Any], Any]:
    """The option for a data file with right calls, with its help."""
    return click.option("--data", required=True, type=click.Path(path_type=Path), help=text)


@click.group("bundle")
def command() -> None:
    """Show, assemble or verify a bundle."""


@command.command()
@folder
@json_option
def show(bundle: Path, json_to: str | None) -> None:
    """Print what is in a bundle."""
    out = console(json_to)
    opened = Bundle.open(bundle)
    rows = summarize_adapters(opened)
    out.print(f"model     {opened.model} ({opened.fingerprint[:12]})", markup=False)
    cards = f"cards: {opened.cards}, argument card: {opened.argument_card}"
    out.print(f"template  {opened.template} ({opened.template_hash[:12]}), {cards}", markup=False)
    out.print(f"tools     {', '.join(quote_name(tool.name) for tool in opened.tools) or 'none'}", markup=False)
    table = Table("stage", "for", "kind", "rank", "acts", "template", "size", "content", box=None)
    for column in table.columns:
        column.overflow = "fold"
    for row in rows:
        size = f"{row['bytes'] / 2**20:.1f} MiB"
        texts = (row["stage"], row["scope"] or EVERY_TOOL, row["kind"], row["rank"], row["activation"], row["template"])
        table.add_row(*map(str, texts), size, row["content"][:12])
    out.print(table)
    for (stage, scope), entry in opened.stages.items():
        for what, names in describe_grounding(entry.grounding, entry.ungrounded).items():
            out.print(f"{stage} {scope or EVERY_TOOL}, {what}: {names}", markup=False, soft_wrap=True)
    if opened.evidence:
        numbers = (f"{name} {number:.3g}" for name, number in opened.evidence.to_dict().items())
        out.print(f"evidence  {', '.join(numbers)}", markup=False)
    if opened.words:
        out.print(f"words     learned ({opened.words.content_hash[:12]})", markup=False)
    emit_json(json_to, {**opened.to_dict(), "adapters": rows})


@command.command()
@folder
@options.model
@json_option
def verify(bundle: Path, model: str | None, json_to: str | None) -> None:
    """Check a bundle's hashes, tensors, templates, tools and model; exit code 1 if something is wrong."""
    out = console(json_to)
    problems = find_problems(bundle, model)
    for problem in problems:
        out.print(f"{problem.part}: {problem.message}", markup=False)
    if not problems:
        out.print("no problems found")
    emit_json(json_to, {"bundle": str(bundle), "problems": [asdict(problem) for problem in problems]})
    if problems:
        click.get_current_context().exit(1)


class _ScopedAdapter(click.ParamType):
    """``SCOPE=ADAPTER``, the scope being a server, a server's tool, or ``*``."""

    name = "SCOPE=ADAPTER"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> tuple[str, str]:
        scope, equals, source = str(value).partition("=")
        if not (scope and equals and source):
            self.fail(f"{value!r} is not SCOPE=ADAPTER, e.g. files/read_file=path/to/adapter", parameter, context)
        return ("" if scope == EVERY_TOOL else scope), source


STAGE_TEMPLATE = f"What it was trained with, if not --template: {', '.join(SINGLE_STAGE_TEMPLATES)} as well."


@command.command("assemble")
@folder
@options.model
@click.option("--tools", required=True, type=click.Path(path_type=Path), help="JSON file with the tools.")
@click.option(
    "--selector", metavar="ADAPTER", help="The selector's adapter: a folder of ours, or PEFT's or its hub id."
)
@click.option("--selector-template", metavar="T", help=STAGE_TEMPLATE)
@click.option(
    "--arguments",
    multiple=True,
    type=_ScopedAdapter(),
    help="An adapter that writes arguments: SERVER/TOOL=…, SERVER=…, *=….",
)
@click.option("--arguments-template", metavar="T", help=STAGE_TEMPLATE)
@options.template
@options.cards
@options.argument_card
def assemble_command(
    bundle: Path,
    model: str | None,
    tools: Path,
    selector: str | None,
    selector_template: str | None,
    arguments: tuple[tuple[str, str], ...],
    arguments_template: str | None,
    template: str,
    cards: str,
    argument_card: str,
) -> None:
    """Make a new bundle of adapters that exist; PEFT's are converted, exactly or not at all."""
    if selector_template and not selector:
        raise click.UsageError("Option '--selector-template' goes with '--selector' only.")
    if arguments_template and not arguments:
        raise click.UsageError("Option '--arguments-template' goes with '--arguments' only.")
    sources = [AdapterSource("selector", "", selector, selector_template)] if selector else []
    sources += [AdapterSource("arguments", scope, source, arguments_template) for scope, source in arguments]
    assemble(
        bundle,
        model=options.required_model(model),
        tools=read_tools(tools),
        sources=sources,
        template=template,
        cards=cards,
        argument_card=argument_card,
    )
    console(None).print(f"written to {bundle}", markup=False)


@command.command("evidence")
@folder
@options.model
@calls_option("JSONL file with right calls of tools that the bundle was not trained on.")
@click.option(
    "--shown", type=click.IntRange(1), default=SHOWN, show_default=True, help="How many tools are shown at most."
)
@json_option
def evidence_command(bundle: Path, model: str | None, data: Path, shown: int, json_to: str | None) -> None:
    """Fit how much the words of tools count that the bundle was not trained on, and keep it in the bundle."""
    out = console(json_to)
    trajectories, opened = read_trajectories(data), Bundle.open(bundle)
    base = load_base(opened, model, None)
    with progress(out, "choices") as bar:
        fitted, choices = fit_bundle(opened, base, trajectories, shown, lambda done, total: bar(done, total, ""))
    evidence = fitted.evidence.to_dict() if fitted.evidence else {}
    out.print(f"fitted to {choices:,} choices: {', '.join(f'{n} {v:.3g}' for n, v in evidence.items())}", markup=False)
    emit_json(json_to, {"bundle": str(bundle), "choices": choices, "evidence": evidence})


@command.command("words")
@folder
@options.model
@calls_option("JSONL file with right calls of the tools that the bundle is for.")
@json_option
def words_command(bundle: Path, model: str | None, data: Path, json_to: str | None) -> None:
    """Learn which words ask for which tool, and keep that in the bundle beside the adapters."""
    out = console(json_to)
    trajectories, opened = read_trajectories(data), Bundle.open(bundle)
    classifier = fit_bundle_words(opened, load_base(opened, model, None), trajectories)
    kinds = Counter(map(len, classifier.outputs))
    learned = {"requests": len(trajectories), "choices": kinds[1], "arguments": kinds[2]}
    out.print(
        f"from {learned['requests']:,} conversations: {learned['choices']:,} choices of a tool, "
        f"{learned['arguments']:,} optional arguments",
        markup=False,
    )
    emit_json(json_to, {"bundle": str(bundle), **learned})
