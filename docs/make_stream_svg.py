"""Draws docs/stream.svg: one stream of tokens and the two masks over it.

python docs/make_stream_svg.py            writes the picture
python docs/make_stream_svg.py --check    fails when the picture is not the one this script draws

The tokens are SmolLM2's for this request in the template ``chatml``; the spaces that some begin with, and two
tokens that are only a space, are not drawn.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

TARGET = Path(__file__).with_name("stream.svg")
WIDTH, HEIGHT, MARGIN = 1000, 372, 28
CHARACTER, PADDING = 7.0, 3.5  # of a token's cell, in pixels
GAP, BORDER = 1.5, 3.0  # between tokens, and what is added between parts
STREAM_Y, CELL = 114, 40
LANES = (("selector", 194), ("arguments", 256))
BAR = 20

CONTROL = {"<|im_start|>": "▸", "<|im_end|>": "◂"}


@dataclass(frozen=True)
class Part:
    """A run of tokens with one meaning; a block stands for more tokens than can be drawn."""

    name: str
    caption: str
    tokens: tuple[str, ...]
    block: bool = False


PARTS = (
    Part("prefix", "prefix", ("system message,\n28 tool cards",), block=True),
    Part("context", "context", ("earlier\nmessages",), block=True),
    Part(
        "turn",
        "request",
        ("<|im_start|>", "user", "\n", "Show", "the", "last", "3", "commits", "<|im_end|>", "\n"),
    ),
    Part("invocation", "invocation", ("<|im_start|>", "ass", "istant", "\n")),
    Part("name", "NAME", ("git", "_", "log", "\n")),
    Part("arguments", "ARGUMENTS", ('{"', "max", "_", "count", '":', "3", "}", "<|im_end|>", "\n")),
)
WRITTEN = {"selector": "name", "arguments": "arguments"}

# Two palettes; the rules below name the colours, so that no program has to know CSS variables.
LIGHT = {
    "paper": "#ffffff", "line": "#d5d9e0", "ink": "#1f2430", "soft": "#667085", "cell": "#f5f6f8", "base": "#dfe3e9",
    "selector": "#0e7490", "selector-soft": "#bfe3ec", "arguments": "#b45309", "arguments-soft": "#f9dcb4",
}  # fmt: skip
DARK = {
    "paper": "#12161d", "line": "#333c49", "ink": "#e6e9ef", "soft": "#98a2b3", "cell": "#1d232d", "base": "#323b48",
    "selector": "#22b8cf", "selector-soft": "#174e59", "arguments": "#f59f3b", "arguments-soft": "#5b3e17",
}  # fmt: skip
FONTS = """
text { font-family: -apple-system, "Segoe UI", Inter, "Helvetica Neue", Arial, "DejaVu Sans", sans-serif }
text { font-size: 13px }
.strong { font-weight: 600 }
.small { font-size: 12px }
.token { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: 11.5px }
""".strip()
COLOURS = """
text { fill: ink } .soft { fill: soft } .paper { fill: paper; stroke: line } .cell { fill: cell; stroke: line }
.rule { fill: none; stroke: soft } .guide { fill: none; stroke: soft; stroke-dasharray: 2 3 }
.tip { fill: soft } .base { fill: base }
.selector { fill: selector } .selector-soft { fill: selector-soft }
.arguments { fill: arguments } .arguments-soft { fill: arguments-soft }
""".strip()


def style() -> str:
    """The style sheet: light, and dark where the reader's system is."""
    return f"{FONTS}\n{_coloured(LIGHT)}\n@media (prefers-color-scheme: dark) {{\n{_coloured(DARK)}\n}}"


def _coloured(palette: dict[str, str]) -> str:
    return re.sub(r"(?<=: )[a-z-]+(?=[ ;])", lambda match: palette.get(match[0], match[0]), COLOURS)


@dataclass(frozen=True)
class Cell:
    """A token, or a block of tokens, in its place."""

    part: Part
    text: str
    x: float
    width: float


def cells() -> list[Cell]:
    """All tokens from left to right; the two blocks share the room that the tokens leave."""
    texts = {part.name: [_shown(token) for token in part.tokens] for part in PARTS}
    widths = {name: [max(len(t), 1) * CHARACTER + 2 * PADDING for t in shown] for name, shown in texts.items()}
    drawn = [part for part in PARTS if not part.block]
    taken = sum(sum(widths[part.name]) + GAP * len(widths[part.name]) for part in drawn)
    left = WIDTH - 2 * MARGIN - taken - 2 * GAP - BORDER * (len(PARTS) - 1) + GAP
    blocks = {"prefix": 0.6 * left, "context": 0.4 * left}
    placed, x = [], float(MARGIN)
    for part in PARTS:
        for index, text in enumerate(texts[part.name]):
            width = blocks.get(part.name, widths[part.name][index])
            placed.append(Cell(part, text, x, width))
            x += width + GAP
        x += BORDER
    return placed


def _shown(token: str) -> str:
    return CONTROL.get(token, "↵" if token == "\n" else token)


def extent(placed: list[Cell], *names: str) -> tuple[float, float]:
    """From the left edge of the first of these parts to the right edge of the last."""
    own = [cell for cell in placed if cell.part.name in names]
    return own[0].x, own[-1].x + own[-1].width


def svg() -> str:
    """The whole picture."""
    placed = cells()
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'role="img" aria-labelledby="title description">',
        '<title id="title">One stream of tokens with its two masks</title>',
        '<desc id="description">A prefix with the tool cards and the earlier messages are computed under the base '
        "weights. From the request on, the selector's adapter is active up to the name of the tool, which it learns. "
        "The arguments' adapter starts again from the same place and learns the arguments.</desc>",
        f"<style>\n{style()}\n</style>",
        f'<rect class="paper" x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="10"/>',
        *activation_points(placed),
        *stream(placed),
        *(line for name, y in LANES for line in lane(placed, name, y)),
        *shared(placed),
        *legend(HEIGHT - 22),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def activation_points(placed: list[Cell]) -> Iterator[str]:
    """Where an adapter may begin to act."""
    yield text(MARGIN, 34, "activation: where the adapter begins to act", "small soft")
    for name, part, note in (
        ("all", "prefix", "classic LoRA"),
        ("turn", "turn", "the default"),
        ("invocation", "invocation", "the cheapest switch"),
    ):
        x = extent(placed, part)[0]
        yield f'<path class="rule" d="M {x:.1f} 52 V {STREAM_Y - 8}"/>'
        yield f'<path class="tip" d="M {x - 4:.1f} {STREAM_Y - 10} h 8 l -4 7 z"/>'
        yield (
            f'<text x="{x + 8:.1f}" y="62"><tspan class="strong">{name}</tspan>'
            f'<tspan class="soft" dx="6">{note}</tspan></text>'
        )
    x = extent(placed, "turn")[0]
    yield f'<path class="guide" d="M {x - (GAP + BORDER) / 2:.1f} {STREAM_Y + CELL} V {LANES[-1][1] + BAR}"/>'


def stream(placed: list[Cell]) -> Iterator[str]:
    """The tokens, each in its cell, and a caption over every part."""
    for part in PARTS:
        left, right = extent(placed, part.name)
        yield text((left + right) / 2, STREAM_Y - 9, part.caption, "small soft", "middle")
    for cell in placed:
        yield rect("cell", cell.x, STREAM_Y, cell.width, CELL)
        style = "small" if cell.part.block else "token soft" if cell.text in "▸◂↵" else "token"
        rows = cell.text.split("\n")
        for row, words in enumerate(rows):
            y = STREAM_Y + CELL / 2 + 4 + 15 * (row - (len(rows) - 1) / 2)
            yield text(cell.x + cell.width / 2, y, words, style, "middle")


def lane(placed: list[Cell], stage: str, y: float) -> Iterator[str]:
    """One stage over the same tokens: base weights, adapter active, learned."""
    written = WRITTEN[stage]
    order = [part.name for part in PARTS]
    end = order.index(written)
    yield text(MARGIN, y - 8, f"{stage} stage", "strong")
    yield text(extent(placed, "turn")[0] + 5, y - 8, "adapter active from here on", "small soft")
    yield text(extent(placed, written)[1], y - 8, "learned: the loss mask", "small soft", "end")
    for cell in placed:
        position = order.index(cell.part.name)
        if position <= end:
            style = "base" if cell.part.block else stage if position == end else f"{stage}-soft"
            yield rect(style, cell.x, y, cell.width, BAR)


def shared(placed: list[Cell]) -> Iterator[str]:
    """The bracket under what both stages share."""
    left, right = extent(placed, "prefix", "context")
    y = LANES[-1][1] + BAR + 6
    yield f'<path class="rule" d="M {left + 0.5:.1f} {y} v 6 H {right - 0.5:.1f} v -6"/>'
    yield text(left, y + 22, "base-model KV: computed once, used by both stages", "small")


def legend(y: float) -> Iterator[str]:
    """What colours and signs mean."""
    x = float(MARGIN)
    for styles, words in (
        (("base",), "base weights"),
        (("selector-soft", "arguments-soft"), "adapter active, not learned"),
        (("selector", "arguments"), "adapter active, learned"),
    ):
        for style in styles:
            yield rect(style, x, y - 10, 13, 13)
            x += 16
        yield text(x + 3, y + 1, words, "small soft")
        x += 3 + 6.3 * len(words) + 24
    yield text(WIDTH - MARGIN, y + 1, "▸ ◂ control tokens \u00a0 ↵ line break", "small soft", "end")


def text(x: float, y: float, words: str, style: str, anchor: str = "start") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def rect(style: str, x: float, y: float, width: float, height: float) -> str:
    return f'<rect class="{style}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="3"/>'


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        return int(TARGET.read_text(encoding="utf-8") != svg())
    if arguments:
        print(__doc__)
        return 2
    TARGET.write_text(svg(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
