"""Line charts as inline SVG, for a page that needs no script.

Positions are percentages: a chart fills the width that it is given, and its text and lines keep their size. The page's
style sheet gives colours, the height, and the room for labels at the left and below.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

Pair = tuple[float, float]

POINTS = 600  # of a line, at most
DOTS = 60  # validations that are drawn as dots, at most
SMOOTHING = 40  # a smoothed line looks at about this part of the run
LOG_SPAN = 30.0  # a wider range is drawn on a logarithmic scale
DECADES = 1e6  # what a logarithmic scale can hold; lower values lie on its lower end
GRID = 1000  # units of a plot's own coordinates, in both directions


@dataclass(frozen=True)
class Axis:
    """A linear or logarithmic scale between two values, and the values that have a label."""

    low: float
    high: float
    ticks: tuple[float, ...]
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Where a value lies: 0 at the low end, 1 at the high end. A value beyond an end lies at this end."""
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = log10(low), log10(high), log10(max(value, low))
        return min(1.0, max(0.0, (value - low) / (high - low)))

    def labels(self) -> list[str]:
        """A label for each tick; evenly spaced ticks have equally many decimals."""
        size = max(abs(tick) for tick in self.ticks)
        if self.logarithmic or size < 0.01 or size >= 1e6 or len(self.ticks) < 2:
            return [number(tick) for tick in self.ticks]
        decimals = max(0, -floor(log10(self.ticks[1] - self.ticks[0]) + 1e-9))
        return [f"{tick:,.{decimals}f}" for tick in self.ticks]


@dataclass(frozen=True)
class Series:
    """A line of a chart."""

    style: str
    """Its CSS class."""
    pairs: Sequence[Pair]
    """(step, value) in the order of steps."""
    dots: bool = False
    """Whether values are drawn as dots."""


@dataclass(frozen=True)
class Mark:
    """A point of a chart with words beside it."""

    pair: Pair
    words: str


def number(value: float) -> str:
    """A value in few characters: 12,345, 0.0312, 3.12e-7."""
    if value == 0:
        return "0"
    short = float(f"{value:.3g}")
    if abs(short) >= 1e6 or abs(short) < 1e-3:
        mantissa, exponent = f"{value:.3e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:,.0f}" if abs(short) >= 1000 else f"{short:g}"


def linear_axis(low: float, high: float, count: int) -> Axis:
    """A linear scale with about ``count`` round ticks, two of them its ends.

    Values that hardly differ lie in the middle of a wider scale, so that noise does not look like a trend.
    """
    if high - low <= 0.01 * abs(high):
        low, high = (0.9 * low, 1.1 * high) if high else (0.0, 1.0)
    step = _round_up((high - low) / count)
    ticks = tuple(index * step for index in range(floor(low / step + 1e-9), ceil(high / step - 1e-9) + 1))
    return Axis(ticks[0], ticks[-1], ticks)


def logarithmic_axis(low: float, high: float, count: int) -> Axis:
    """A logarithmic scale with at most about ``count`` ticks, a little wider than its values."""
    low = max(low, high / DECADES)
    margin = (high / low) ** 0.05
    low, high = low / margin, high * margin
    ticks: list[float] = []
    for digits, stride in (((1, 2, 5), 1), ((1, 3), 1), ((1,), 1), ((1,), 2)):
        powers = range(floor(log10(low) / stride) * stride, ceil(log10(high)) + 1, stride)
        ticks = [value for power in powers for digit in digits if low <= (value := digit * 10.0**power) <= high]
        if len(ticks) <= count:
            break
    return Axis(low, high, tuple(ticks), logarithmic=True)


def fitting_axis(values: Sequence[float], count: int) -> Axis:
    """The scale for values that are not negative: logarithmic over a wide range, otherwise linear.

    A linear one begins at zero unless all values are far from it.
    """
    low, high = min(values), max(values)
    positive = min((value for value in values if value > 0), default=high)
    if high > LOG_SPAN * positive:
        return logarithmic_axis(positive, high, count)
    return linear_axis(0.0 if low < high / 3 else low, high, count)


def steps_axis(first: int, last: int, count: int) -> Axis:
    """The scale from the first step, or from 0 where that is close, to the last; all ticks are whole steps."""
    low, high = (0 if first <= last / 10 else first), last
    if low == high:
        low, high = low - 1, high + 1
    step = max(1, round(_round_up((high - low) / count)))
    return Axis(low, high, tuple(range(-(-low // step) * step, high + 1, step)))


def _round_up(value: float) -> float:
    """The next of …, 0.5, 1, 2, 5, 10, …"""
    power = 10.0 ** floor(log10(value))
    return next(digit * power for digit in (1, 2, 5, 10) if value <= digit * power * (1 + 1e-9))


def thin(pairs: Sequence[Pair], limit: int = POINTS) -> list[Pair]:
    """At most ``limit`` pairs: the first, the last, and the lowest and highest of every part, so no spike is lost."""
    if len(pairs) <= limit:
        return list(pairs)
    parts, inner = limit // 2 - 1, len(pairs) - 2
    kept = [pairs[0]]
    for part in range(parts):
        own = pairs[1 + part * inner // parts : 1 + (part + 1) * inner // parts]
        kept += sorted({min(own, key=_value), max(own, key=_value)})
    return [*kept, pairs[-1]]


def _value(pair: Pair) -> float:
    return pair[1]


def smooth(values: Sequence[float]) -> list[float]:
    """An exponential mean, taken forwards and then backwards, so that it does not lag behind the values."""
    keep = 1 - 1 / max(3.0, len(values) / SMOOTHING)
    return _mean(_mean(values, keep)[::-1], keep)[::-1]


def _mean(values: Sequence[float], keep: float) -> list[float]:
    means: list[float] = []
    mean = weight = 0.0
    for value in values:
        weight = keep * weight + 1
        mean += (value - mean) / weight
        means.append(mean)
    return means


def draw_chart(
    name: str, title: str, *, about: str, x: Axis, y: Axis, series: Sequence[Series], mark: Mark | None = None
) -> str:
    """One chart as SVG. Its ids begin with ``name``; screen readers read its title and ``about``."""
    return "\n".join(
        [
            f'<svg class="chart" role="img" aria-labelledby="{name}-title {name}-about">',
            f'<title id="{name}-title">{escape(title)}</title>',
            f'<desc id="{name}-about">{escape(about)}</desc>',
            *_rules(y),
            '<line class="rule" x1="0" x2="100%" y1="100%" y2="100%"/>',
            *_steps(x),
            f'<svg viewBox="0 0 {GRID} {GRID}" preserveAspectRatio="none">',
            *(_polyline(one, x, y) for one in series),
            "</svg>",
            *(dot for one in series for dot in _dots(one, x, y)),
            *(_ring(mark, x, y) if mark else ()),
            "</svg>",
        ]
    )


def _rules(y: Axis) -> Iterator[str]:
    for tick, label in zip(y.ticks, y.labels(), strict=True):
        at = _percent(1 - y.place(tick))
        yield f'<line class="rule" x1="0" x2="100%" y1="{at}" y2="{at}"/>'
        yield f'<text x="0" dx="-10" y="{at}" dy="4" text-anchor="end">{label}</text>'


def _steps(x: Axis) -> Iterator[str]:
    for tick, label in zip(x.ticks, x.labels(), strict=True):
        yield f'<text x="{_percent(x.place(tick))}" y="100%" dy="20" text-anchor="middle">{label}</text>'


def _polyline(series: Series, x: Axis, y: Axis) -> str:
    points = (f"{GRID * x.place(at):.1f},{GRID * (1 - y.place(value)):.1f}" for at, value in thin(series.pairs))
    return f'<polyline class="{series.style}" points="{" ".join(points)}"/>'


def _dots(series: Series, x: Axis, y: Axis) -> Iterator[str]:
    """A dot for each pair of a short line that wants them; a lone pair is a dot, as no line leads to it."""
    if len(series.pairs) == 1 or (series.dots and len(series.pairs) <= DOTS):
        for at, value in series.pairs:
            where = f'cx="{_percent(x.place(at))}" cy="{_percent(1 - y.place(value))}"'
            yield f'<circle class="{series.style}" {where} r="3"><title>step {at:,}: {number(value)}</title></circle>'


def _ring(mark: Mark, x: Axis, y: Axis) -> Iterator[str]:
    """A ring, and a guide from it to the words at the upper edge, on the side where there is more room."""
    across, down = x.place(mark.pair[0]), _percent(1 - y.place(mark.pair[1]))
    at = _percent(across)
    shift, anchor = (-8, "end") if across > 0.5 else (8, "start")
    yield f'<line class="guide" x1="{at}" x2="{at}" y1="0" y2="{down}"/>'
    yield f'<circle class="ring" cx="{at}" cy="{down}" r="5.5"/>'
    yield f'<text class="marked" x="{at}" dx="{shift}" y="0" dy="11" text-anchor="{anchor}">{escape(mark.words)}</text>'


def _percent(share: float) -> str:
    return f"{100 * share:.2f}%"
