"""``dualtune convert``: models and adapters to MLX, and adapters to PEFT."""

from __future__ import annotations

import re
from pathlib import Path

import click
from rich.table import Column, Table

from dualtune_mlx.cli.convert_peft import from_peft_command, to_peft_command
from dualtune_mlx.cli.output import console, progress
from dualtune_mlx.conversion.gguf import DTYPES, ConversionPlan, Quantization, plan_conversion, summarize_weights


@click.group("convert")
def command() -> None:
    """Convert models and adapters to MLX, and adapters to PEFT."""


command.add_command(from_peft_command)
command.add_command(to_peft_command)


class _QuantizationType(click.ParamType):
    """``4``, ``8``, or with the size of the groups: ``4:32``."""

    name = "BITS[:GROUP]"

    def convert(self, value: object, parameter: click.Parameter | None, context: click.Context | None) -> Quantization:
        numbers = re.fullmatch(r"(\d+)(?::(\d+))?", str(value), re.ASCII)
        if numbers is None:
            self.fail(f"{value!r} is not BITS or BITS:GROUP, e.g. 4 or 4:32", parameter, context)
        return Quantization(*(int(number) for number in numbers.groups() if number))


@command.command("from-gguf")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("destination", type=click.Path(path_type=Path))
@click.option(
    "--dtype", type=click.Choice(list(DTYPES)), default="float32", show_default=True, help="Type of the weights."
)
@click.option(
    "--quantize", type=_QuantizationType(), help="Quantise for MLX: 4 or 8 bits, in groups of 64 if not given."
)
@click.option("--dry-run", is_flag=True, help="Print what would be written, and write nothing.")
def gguf(source: Path, destination: Path, dtype: str, quantize: Quantization | None, dry_run: bool) -> None:
    """Convert a GGUF file (llama, qwen2, qwen3, gemma3) to a model folder that mlx-lm loads."""
    out = console(None)
    plan = plan_conversion(source, dtype, quantize)
    if dry_run:
        out.print(_make_table(plan))
        return
    with progress(out, "converting") as done:
        plan.write(destination, done)
    out.print(f"written to {destination}", markup=False)


def _make_table(plan: ConversionPlan) -> Table:
    """What becomes of the tensors. Those that differ in their layer alone share a row."""
    size = sum(weight.nbytes for weight in plan.weights)
    title = (
        f"{plan.config['model_type']}, {plan.config['num_hidden_layers']} layers, {plan.tokenizer.size:,} tokens "
        f"({plan.tokenizer.kind}): {size / 2**20:,.1f} MiB"
    )
    whole = [Column(name, no_wrap=True) for name in ("tensors", "", "shape", "type", "as")]
    table = Table(*whole, Column("becomes", overflow="fold"), title=title, box=None)
    for row in summarize_weights(plan):
        shape = " x ".join(map(str, row["shape"]))
        table.add_row(row["source"], str(row["count"]), shape, row["stored"], row["becomes"], row["target"])
    return table
