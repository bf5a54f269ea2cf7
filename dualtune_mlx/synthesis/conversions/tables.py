"""The words of ``words.toml``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dualtune_mlx.synthesis.values.sampling import read_toml

TABLES: Mapping[str, Any] = read_toml("conversions/words.toml")
"""Words by kind of value."""


def read_set(name: str) -> frozenset[str]:
    """A set of words."""
    return frozenset(TABLES["sets"][name].split())
