"""Which linear layers an adapter changes: a range of decoder layers, and patterns of names inside a layer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from dualtune_mlx.errors import UsageError

LAYERS = re.compile("all|(last|first):([1-9][0-9]*)")
LAYERS_FORM = '"all", "last:N" or "first:N", with N at least 1'


def layer_range(spec: str, num_layers: int) -> range:
    """The decoder layers that "all", "last:16" or "first:8" names. A number larger than the model means all layers.

    Raises:
        UsageError: when the spec has another form.
    """
    match = LAYERS.fullmatch(spec)
    if not match:
        raise UsageError("a range of layers has an unknown form", where="layers", got=repr(spec), expected=LAYERS_FORM)
    count = min(int(match[2] or num_layers), num_layers)
    return range(num_layers - count, num_layers) if match[1] == "last" else range(count)


def matching_keys(keys: Sequence[str], patterns: Iterable[str]) -> tuple[str, ...]:
    """The names that match at least one pattern, in their order.

    Args:
        keys: names inside a decoder layer: "self_attn.q_proj".
        patterns: as for ``fnmatch``, case included: "self_attn.*". One without a dot ("q_proj") may also match the last
            component alone.

    Raises:
        UsageError: when a pattern matches nothing, naming every such pattern and all names.
    """
    patterns = list(patterns)
    unmatched = [pattern for pattern in patterns if not any(_matches(key, pattern) for key in keys)]
    if unmatched or not patterns:
        raise UsageError(
            "a pattern matches none of the model's linear layers" if patterns else "there is no pattern of layer names",
            where="targets",
            got=", ".join(map(repr, unmatched)) or None,
            expected=f'"*", or patterns that match some of {", ".join(keys)}',
        )
    return tuple(key for key in keys if any(_matches(key, pattern) for pattern in patterns))


def _matches(key: str, pattern: str) -> bool:
    return fnmatchcase(key, pattern) or fnmatchcase(key.rpartition(".")[2], pattern)
