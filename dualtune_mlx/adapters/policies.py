"""When an adapter is fused: what is known of its use, and the policies by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn

from dualtune_mlx.adapters.lora import Linear, shape_of

HOT = 3
"""Uses after which ``hot`` fuses."""
TYPES = {"bfloat16": mx.bfloat16, "float16": mx.float16, "float32": mx.float32}
"""What ``fuse_to`` may name."""


@dataclass
class FusionStats:
    """What is known of an adapter since it was last evicted.

    ``size``: bytes of its fused weights; ``refusal``: why it cannot be fused, if so; ``uses``: activations so far;
    ``tokens``: run under it; ``last``: when it was last used, on the cache's own clock.
    """

    size: int
    refusal: str | None
    uses: int = 0
    tokens: int = 0
    last: int = 0

    @classmethod
    def opened(cls, linears: Sequence[Linear], policy: str, budget: int, dtype: mx.Dtype | None) -> FusionStats:
        """A new one, of an adapter of these layers, in a cache with these options."""
        if policy == "off":
            return cls(0, "the policy is off")
        if dtype is None and any(isinstance(linear, nn.QuantizedLinear) for linear in linears):
            return cls(0, "its layers are quantised, and fuse_to names no type")
        shapes = [(shape_of(linear), dtype or linear.weight.dtype) for linear in linears]
        size = sum(inputs * outputs * kind.size for (inputs, outputs), kind in shapes)
        return cls(size, f"{size} bytes, more than the budget of {budget}" if size > budget else None)


POLICIES: Mapping[str, Callable[[FusionStats, Callable[[], float]], bool]] = {
    "off": lambda account, break_even: False,
    "always": lambda account, break_even: True,
    "hot": lambda account, break_even: account.uses >= HOT,
    "auto": lambda account, break_even: account.tokens > 0 and account.tokens >= break_even(),
}
"""Whether an adapter shall be fused now; the break-even in tokens is measured when it is first asked for."""
