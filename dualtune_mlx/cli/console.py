"""The console of all commands: whatever they print, no text of others controls the terminal or hides in it."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from dualtune_mlx.errors import escape


class SafeConsole(Console):
    """Takes text as text: without markup, links and codes of emoji, and what cannot be seen is spelled out."""

    def __init__(self, *, stderr: bool = False, quiet: bool = False) -> None:
        super().__init__(stderr=stderr, quiet=quiet, highlight=False, markup=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else escape(text), style, control)
