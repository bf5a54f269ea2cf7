"""Numbers under bounds and divisors, where llguidance counts the decimals of what the schema names.

Under a maximum of 0.95 it writes 0.90, and 0.9 only under a maximum of 0.9. Under a divisor of 0.25 it writes 1.50, and
1.5 only under 0.5. And a whole number that one bound excludes is written where the other bound begins with it: 0
between an excluded 0 and 0.5.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from math import copysign, gcd, inf, nextafter
from typing import Any

from dualtune_mlx.grammar.keywords import kinds

INCLUSIVE = {
    **dict.fromkeys(("minimum", "exclusiveMinimum"), "minimum"),
    **dict.fromkeys(("maximum", "exclusiveMaximum"), "maximum"),
}
LEAST = 1e-40
"""The first number that is written after an excluded 0. llguidance compiles no bound of many more decimals."""
TOO_LARGE = 2.0**63
"""Bounds and divisors that llguidance refuses, as it does those that are no finite numbers."""


def list_decimal_parts(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What to combine with a schema in plain form, so that numbers are written with as few decimals as they have."""
    named = {key: schema[key] for key in ("multipleOf", *INCLUSIVE) if abs(schema.get(key, inf)) < TOO_LARGE}
    choices = [("multipleOf", _list_divisors(named.pop("multipleOf")))] if "multipleOf" in named else []
    bounds = named if "number" in (kinds(schema) or ("number",)) else {}
    choices += [(INCLUSIVE[key], _list_beginnings(bound)) for key, bound in bounds.items()]
    fewer = [{"anyOf": [{key: value} for value in values]} for key, values in choices if len(values) > 1]
    return [*fewer, *_move_excluded(bounds)]


def _list_divisors(divisor: float) -> list[float]:
    """Divisors with fewer decimals whose multiples are all those of a divisor that have as few."""
    number = Decimal(str(divisor)).normalize()
    decimals = max(0, -int(number.as_tuple().exponent))
    whole = int(number.scaleb(decimals))
    fewer = ((whole // gcd(whole, 10 ** (decimals - kept)), kept) for kept in range(decimals + 1))
    return [float(Decimal(part).scaleb(-kept)) for part, kept in fewer]


def _list_beginnings(bound: float) -> list[float]:
    """A bound and what is left of it with fewer decimals: of 0.95 also 0.9 and 0."""
    whole, _, decimals = f"{Decimal(str(bound)):f}".partition(".")
    return list(dict.fromkeys(float(f"{whole}.{decimals[:kept]}") for kept in range(len(decimals) + 1)))


def _move_excluded(bounds: Mapping[str, float]) -> Iterator[dict[str, float]]:
    """Bounds behind the whole numbers that are excluded and begin the other bound."""
    for key, bound in bounds.items():
        others = (other for name, other in bounds.items() if INCLUSIVE[name] != INCLUSIVE[key])
        if key not in INCLUSIVE.values() and any(int(other) == bound for other in others):
            side = inf if key == "exclusiveMinimum" else -inf
            yield {INCLUSIVE[key]: nextafter(bound, side) if bound else copysign(LEAST, side)}
