"""Numbers for a parameter: of a size that people say for what it counts, within the schema's bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from dualtune_mlx.synthesis.conversions.durations import find_unit
from dualtune_mlx.synthesis.conversions.texts import read_words, split_name
from dualtune_mlx.synthesis.descriptions import find_bounds
from dualtune_mlx.synthesis.values.sampling import Sampler
from dualtune_mlx.tools.parameters import Parameter

ROUND = (5, 10, 20, 25, 50, 100)
SIZES: Mapping[str, tuple[float, float]] = {
    "page": (1, 12),
    "level": (1, 4),
    "depth": (1, 5),
    "index": (0, 20),
    "row": (1, 60),
    "rows": (1, 12),
    "cols": (1, 8),
    "columns": (1, 8),
    "col": (0, 12),
    "column": (0, 12),
    "offset": (0, 200),
    "year": (2015, 2027),
    "month": (1, 12),
    "day": (1, 28),
    "hour": (0, 23),
    "minute": (0, 59),
    "port": (1024, 9999),
    "rating": (1, 5),
    "priority": (0, 4),
    "age": (18, 90),
    "size": (8, 48),
    "width": (20, 1600),
    "height": (20, 1200),
    "x": (0, 900),
    "y": (0, 900),
    "lat": (-60, 70),
    "latitude": (-60, 70),
    "lon": (-170, 170),
    "lng": (-170, 170),
    "longitude": (-170, 170),
    "price": (1, 900),
    "amount": (1, 900),
    "cost": (1, 900),
    "opacity": (0.1, 0.9),
    "temperature": (0, 1),
    "threshold": (0, 100),
    "percent": (1, 100),
    "percentage": (1, 100),
    "percentile": (1, 99),
    "quality": (10, 100),
    "retries": (1, 5),
    "attempts": (1, 5),
    "quantity": (1, 30),
    "replicas": (1, 12),
    "guests": (1, 8),
    "servings": (1, 10),
    "rooms": (1, 7),
    "length": (4, 40),
    "people": (1, 8),
    "bins": (3, 30),
    "scale": (1, 4),
    "base": (2, 16),
    "concurrency": (1, 20),
    "workers": (1, 16),
    "stars": (1, 5),
    "id": (1, 99999),
    "number": (1, 2000),
}
"""From where to where a number goes, by a word of the parameter's name."""
COUNTS = frozenset(read_words("limit count max top size n results per first last lines total maximum take num"))
EXACT = frozenset(read_words("lat latitude lon lng longitude price amount cost"))
UNIT_COUNTS = (1, 2, 3, 5, 10, 15, 20, 30, 45, 60, 90, 120)


def draw_number(sampler: Sampler, parameter: Parameter, schema: Mapping[str, Any], whole: bool) -> int | float:
    """A number that fits the schema's bounds and divisor, if there is one."""
    value = _draw(sampler, parameter, whole)
    low, high = _read_bounds(schema, whole)
    least, most = find_bounds(parameter)
    if max(low, least) < min(high, most):
        low, high = max(low, least), min(high, most)
    if not low <= value <= high:
        value = _draw_between(sampler, low, high)
    divisor = schema.get("multipleOf")
    if divisor:
        value = _round_to(value, divisor, low, high)
    elif whole:
        value = _round_to(value, 1, low, high)
    return int(value) if whole or float(value).is_integer() else round(value, 6)


def _draw(sampler: Sampler, parameter: Parameter, whole: bool) -> float:
    words = split_name(parameter.path.rpartition(".")[2])
    unit = find_unit(parameter)
    if unit:
        return _draw_duration(sampler, unit)
    word = next((one for one in reversed(words) if one in SIZES), "")
    if COUNTS & set(words) and word not in ("id", "index", "width", "height"):
        return float(sampler.rng.choice(ROUND) if sampler.chance(0.5) else sampler.rng.randint(1, 40))
    if word == "id":
        return float(int(10 ** sampler.rng.uniform(0.3, 5)))
    low, high = SIZES.get(word, (1, 100))
    if high <= 1 or (word in EXACT and not whole and sampler.chance(0.7)):
        return round(sampler.rng.uniform(low, high), 2)
    if not whole and high < 200 and sampler.chance(0.1):
        return round(sampler.rng.uniform(low, high), 1)
    return float(sampler.rng.randint(int(low), int(high)))


def _draw_duration(sampler: Sampler, unit: int) -> float:
    """So many of a unit that the same time is said in round numbers, perhaps of a larger unit."""
    count = sampler.rng.choice(UNIT_COUNTS)
    larger = {1: 1_000, 1_000: 60_000 if sampler.chance(0.5) else 1_000, 60_000: 60_000}.get(unit, unit)
    return float(count * larger // unit)


def _read_bounds(schema: Mapping[str, Any], whole: bool) -> tuple[float, float]:
    step = 1 if whole else 0.01
    low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if isinstance(above, int | float):  # draft 4 has booleans there
        low = low if isinstance(above, bool) else max(low, above + step)
    if isinstance(below, int | float):
        high = high if isinstance(below, bool) else min(high, below - step)
    return low, high


def _draw_between(sampler: Sampler, low: float, high: float) -> float:
    """A number between bounds, of which one may be missing, mostly near the smaller one where they are far apart."""
    low = low if low > -math.inf else (0 if high > 0 else high - 100)
    high = high if high < math.inf else low + 100
    if high - low > 1000:
        return low + math.floor((high - low) ** sampler.rng.uniform(0.2, 1))
    if float(low).is_integer() and float(high).is_integer() and high - low > 1:
        return float(sampler.rng.randint(int(low), int(high)))
    return round(sampler.rng.uniform(low, high), 2)


def _round_to(value: float, divisor: float, low: float, high: float) -> float:
    """The multiple of a divisor that is nearest to a value, within the bounds."""
    step = Fraction(str(divisor))
    count = round(Fraction(str(value)) / step)
    if low > -math.inf:
        count = max(count, math.ceil(Fraction(str(low)) / step))
    if high < math.inf:
        count = min(count, math.floor(Fraction(str(high)) / step))
    return float(count * step)
