"""The two ends of a range are in their order."""

from __future__ import annotations

from typing import Any

import pytest

from dualtune_mlx.synthesis.planning.ranges import sort_bounds


@pytest.mark.parametrize(
    ("arguments", "sorted_arguments"),
    [
        ({"start_row": 5, "end_row": 2}, {"start_row": 2, "end_row": 5}),
        ({"minPrice": 9, "maxPrice": 3.5}, {"minPrice": 3.5, "maxPrice": 9}),
        ({"from": "2026-03-01", "to": "2026-02-01"}, {"from": "2026-02-01", "to": "2026-03-01"}),
        ({"check_out": "2026-03-01", "check_in": "2026-04-01"}, {"check_out": "2026-04-01", "check_in": "2026-03-01"}),
        ({"from": 5, "to": 2}, {"from": 5, "to": 2}),
        ({"from": "Oslo", "to": "Bonn"}, {"from": "Oslo", "to": "Bonn"}),
        ({"start_row": 5, "end_col": 2}, {"start_row": 5, "end_col": 2}),
        ({"first": True, "last": False}, {"first": True, "last": False}),
        ({"start": 1}, {"start": 1}),
    ],
)
def test_bounds(arguments: dict[str, Any], sorted_arguments: dict[str, Any]) -> None:
    assert sort_bounds(arguments) == sorted_arguments
