"""The command group. The package's errors and warnings become messages here, and nowhere else."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn, TextIO

import click

from dualtune_mlx import linux
from dualtune_mlx.cli.lazy import LazyGroup
from dualtune_mlx.errors import DualTuneError, DualTuneWarning, escape
from dualtune_mlx.files import NO_ROOM, write_error

COMMANDS = {
    "demo": "Learn three servers with the embedded model, and call their tools, start to end.",
    "data": "Make, check and divide the data of your own tools.",
    "learn": "Learn tools: make requests for them, train on these, and measure the result.",
    "train": "Train a stage's adapter, or all adapters, into a bundle.",
    "call": "Choose a tool for a request and write its arguments.",
    "agent": "Do a task with the tools of MCP servers.",
    "replay": "Repeat a past run without its servers, or learn from it.",
    "eval": "Measure right servers, tools and calls.",
    "inspect": "Show tokens, masks and activation.",
    "convert": "Convert models and adapters to MLX, and adapters to PEFT.",
    "bundle": "Show, assemble or verify a bundle.",
    "bench": "Measure a claim here, beside the peer.",
    "warm": "Compute the prefixes of a bundle's tools ahead.",
    "plan": "Say what memory and time training will need.",
    "doctor": "Say what this machine has and lacks.",
}


class _Main(LazyGroup):
    def invoke(self, context: click.Context) -> object:
        try:
            with _warnings_as_messages():
                return super().invoke(context)
        except click.ClickException as error:
            error.message = escape(error.message)  # type: ignore[misc]  # click shows it as it is
            raise
        except DualTuneError as error:
            _end(context, error)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            _end(context, write_error(Path(error.filename or "the output, or a file of this command"), error))


def _end(context: click.Context, error: DualTuneError) -> NoReturn:
    click.echo(f"Error: {error}", err=True)
    context.exit(error.exit_code)


@contextmanager
def _warnings_as_messages() -> Iterator[None]:
    """Print the package's warnings as messages; others are shown as Python shows them."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def show_warning(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, DualTuneWarning):
                click.echo(f"Warning: {message}", err=True)
            else:
                show(escape(str(message)), category, filename, lineno, file, line)

        warnings.showwarning = show_warning
        yield


@click.group(
    cls=_Main,
    package="dualtune_mlx.cli",
    summaries=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(version("dualtune-mlx"), prog_name="dualtune")
def main() -> None:
    """Decoupled fine-tuning for tool calling: one adapter chooses the tool, another writes its arguments."""
    linux.keep_freed_memory()


if __name__ == "__main__":
    sys.exit(main())
