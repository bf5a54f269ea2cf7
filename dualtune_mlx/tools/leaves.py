"""The leaves of a JSON value: what is neither an object nor a list."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def iter_leaves(value: Any) -> Iterator[Any]:
    """Yield the leaves at all depths, in their order; names of objects are none."""
    if isinstance(value, Mapping):
        for item in value.values():
            yield from iter_leaves(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from iter_leaves(item)
    else:
        yield value


def iter_strings(value: Any) -> Iterator[str]:
    """Yield the texts among the leaves."""
    return (leaf for leaf in iter_leaves(value) if isinstance(leaf, str))
