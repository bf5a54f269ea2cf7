"""``dualtune convert from-peft`` and ``to-peft``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from dualtune_mlx.adapters import Adapter
from dualtune_mlx.bundle import MANIFEST
from dualtune_mlx.bundle.export import OnVerified, adapter_to_peft, bundle_to_peft, load_base
from dualtune_mlx.cli.options import TEMPLATE_HELP
from dualtune_mlx.cli.output import console, emit_json, json_option, progress
from dualtune_mlx.conversion.peft import from_peft, summarize_adapter

destination = click.argument("destination", type=click.Path(path_type=Path))
model = click.option("--model", metavar="M", help="The adapter's base model, which it must fit: a folder or a hub id.")
verify = click.option(
    "--verify", is_flag=True, help="Compare logits with PEFT's before anything is written; needs a model, torch, peft."
)


@click.command("from-peft")
@click.argument("source")
@destination
@model
@click.option("--dry-run", is_flag=True, help="Read and check everything, show what would be written, write nothing.")
@verify
@json_option
def from_peft_command(
    source: str, destination: Path, model: str | None, dry_run: bool, verify: bool, json_to: str | None
) -> None:
    """Convert a Hugging Face PEFT LoRA adapter, a folder or a hub id; exactly or not at all."""
    out = console(json_to)
    base = load_base(model) if model else None
    with progress(out, "checking") as report:
        adapter = from_peft(
            source,
            destination,
            base=base,
            progress=report,
            on_verified=_report_difference(out, verify),
            dry_run=dry_run,
        )
    rows = summarize_adapter(adapter)
    out.print(_make_table(rows))
    out.print(f"acts: {_activation_text(adapter)}")
    out.print("nothing written" if dry_run else f"written to {destination}", markup=False)
    emit_json(json_to, {"activation": adapter.config.activation, "modules": rows})


@click.command("to-peft")
@click.argument("source", type=click.Path(path_type=Path))
@destination
@model
@click.option("--template", metavar="T", help=f"Of a single activated adapter, to know what opens it: {TEMPLATE_HELP}")
@verify
def to_peft_command(source: Path, destination: Path, model: str | None, template: str | None, verify: bool) -> None:
    """Convert an adapter, or all adapters of a bundle, to folders that PeftModel.from_pretrained loads."""
    if verify and model is None and not (source / MANIFEST).is_file():
        raise click.UsageError("--verify needs --model.")
    if template is not None and (model is None or (source / MANIFEST).is_file()):
        raise click.UsageError("--template needs --model, and an adapter that is not in a bundle, which has its own.")
    out = console(None)
    if (source / MANIFEST).is_file():
        folders = bundle_to_peft(source, destination, model=model, on_verified=_report_difference(out, verify))
    else:
        folders = [destination]
        adapter_to_peft(
            source, destination, model=model, template=template, on_verified=_report_difference(out, verify)
        )
    for folder in folders:
        out.print(f"written to {folder}", markup=False)


def _report_difference(out: Console, verify: bool) -> OnVerified:
    """A function that prints the largest difference from PEFT's logits; None where these are not compared."""
    return (lambda largest: out.print(f"largest difference of a logit from PEFT's: {largest:.2g}")) if verify else None


def _activation_text(adapter: Adapter) -> str:
    config = adapter.config
    if config.tokens:
        return f"from the last {list(config.tokens)} on"
    return {"all": "on every token"}.get(config.activation, f"from the {config.activation} on")


def _make_table(rows: list[dict[str, Any]]) -> Table:
    table = Table("modules", "count", "kind", "rank", "scale", "parameters")
    for row in rows:
        texts = ("" if row[key] is None else f"{row[key]:,}" if key == "parameters" else str(row[key]) for key in row)
        table.add_row(*texts)
    return table
