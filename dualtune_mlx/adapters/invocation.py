"""Where an adapter of the activation "tokens" begins to act."""

from __future__ import annotations

from collections.abc import Sequence


def invocation_start(tokens: Sequence[int], invocation: Sequence[int]) -> int:
    """The first position of the invocation's last occurrence, or ``len(tokens)``: the base alone acts, as in PEFT."""
    ids, wanted = list(tokens), list(invocation)
    starts = range(len(ids) - len(wanted), -1, -1)
    return next((start for start in starts if ids[start : start + len(wanted)] == wanted), len(ids))
