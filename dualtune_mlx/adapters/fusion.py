"""The fusion cache: it decides, under a byte budget, which adapters have fused weights W'; the bank holds these.

cache = FusionCache(bank, budget=2 * 2**30)
cache.activate(adapter)     # acts by fused weights where it has some or they pay, else low-rank
cache.prepare(likely)       # begins to fuse ahead of need
cache.activate(None)        # the base, bit for bit
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from math import inf

import mlx.core as mx
import mlx.nn as nn

from dualtune_mlx.adapters.adapter import Adapter
from dualtune_mlx.adapters.bank import AdapterBank, layer_and_key
from dualtune_mlx.adapters.lora import FusedWeight, LinearUpdate, dtype_of, shape_of
from dualtune_mlx.errors import UsageError

POLICIES = ("off", "always", "auto")
DTYPES = {"bfloat16": mx.bfloat16, "float16": mx.float16, "float32": mx.float32}
"""What ``fuse_to`` may name."""
REPEATS = 10
"""How often each part of the break-even is timed. The shortest time counts."""

Measure = Callable[[AdapterBank, Adapter, mx.Dtype | None], float]


@dataclass
class FusionStats:
    """What is known of an adapter's use since its fused weights were last evicted."""

    nbytes: int
    """Bytes of its fused weights."""
    fusible: bool
    """Whether it can be fused at all."""
    tokens: int = 0
    """Tokens that were run under it."""
    last_used: int = 0
    """When it was last used, on the cache's own clock."""


class FusionCache:
    """Decides which of a bank's adapters act by fused weights, and computes these. ``AdapterBank`` holds them.

    The weights of the least recently used adapter are evicted first.

    Fusing computes in float32 and rounds once. It needs the intermediates of one layer beside the budget.

    Args:
        bank: the resident adapters. A bank has one cache.
        budget: bytes that all fused weights may take together. An adapter that needs more stays low-rank.
        policy: when an adapter is fused. ``off``: never. ``always``: at its first use. ``auto``: when more tokens were
            run under it than fusing costs, which is never the case where fused weights are not faster.
        fuse_to: the type of fused weights; by default that of the layers. Adapters of quantised layers are fused only
            where it is given, because their whole weights are several times larger than the quantised ones.
        measure: gives the break-even of ``auto`` in tokens. It is called once.

    Raises:
        UsageError: when the budget is negative, or the policy or the type is unknown.
    """

    def __init__(
        self,
        bank: AdapterBank,
        budget: int,
        policy: str = "auto",
        fuse_to: str | None = None,
        measure: Measure | None = None,
    ) -> None:
        if budget < 0:
            raise UsageError("a budget of fused weights is negative", where="budget", got=budget, expected="0 or more")
        _check_known("policy", policy, POLICIES)
        if fuse_to is not None:
            _check_known("fuse_to", fuse_to, tuple(DTYPES))
        self.bank = bank
        self.budget = budget
        self.policy = policy
        self.dtype = None if fuse_to is None else DTYPES[fuse_to]
        self.hits = self.fusions = self.evictions = 0
        self._measure = measure or measure_break_even
        self._break_even: float | None = None
        self._stats: dict[str, FusionStats] = {}
        self._clock = count(1)
        self._stream = mx.new_thread_local_stream(mx.default_device())

    @property
    def nbytes(self) -> int:
        """Bytes of all fused weights."""
        return sum(_nbytes(layers) for layers in self.bank.fused.values())

    def activate(self, adapter: Adapter | None, tokens: int = 0) -> None:
        """Make one adapter act, or none. Only references change, unless the adapter is to be fused now.

        Args:
            adapter: a resident adapter; None for the base.
            tokens: how many are about to run under it, as far as that is known. ``count_tokens`` adds others
                afterwards.

        Raises:
            AdapterError: when the adapter is not resident.
        """
        self.bank.activate(adapter)
        if adapter is None:
            return
        adapter = self.bank.require_resident(adapter)
        stats = self._stats_of(adapter)
        stats.tokens += tokens
        if adapter.content_hash in self.bank.fused:
            self.hits += 1
        elif self._should_fuse(adapter):
            self._fuse(adapter)
        stats.last_used = next(self._clock)

    def count_tokens(self, adapter: Adapter, tokens: int) -> None:
        """Count more tokens that were run under an adapter.

        Raises:
            AdapterError: when the adapter is not resident.
        """
        self._stats_of(self.bank.require_resident(adapter)).tokens += tokens

    def prepare(self, adapter: Adapter) -> None:
        """Begin to fuse an adapter ahead of need, if the policy would fuse it. The active adapter keeps its weights.

        This does not wait, except for the one measurement of ``auto``.

        Raises:
            AdapterError: when the adapter is not resident.
        """
        adapter = self.bank.require_resident(adapter)
        if adapter.content_hash not in self.bank.fused and self._should_fuse(adapter):
            # On the stream of the forward passes, those that follow would have to wait.
            with mx.stream(self._stream):
                self._fuse(adapter)
        self._stats_of(adapter).last_used = next(self._clock)

    def resize(self, budget: int) -> None:
        """Change the budget, and evict until it is kept. The use of adapters without fused weights is forgotten."""
        self.budget = budget
        for adapter in sorted(self._fused_adapters(), key=lambda one: self._stats_of(one).last_used):
            if self.nbytes > budget:
                self._evict(adapter)
        for content_hash in self._stats.keys() - self.bank.fused.keys():
            del self._stats[content_hash]

    def forget(self, adapter: Adapter) -> None:
        """Release an adapter's fused weights and forget its use. Where it is active it acts on, low-rank."""
        self.bank.drop_fused(adapter)
        self._stats.pop(adapter.content_hash, None)

    def clear(self) -> None:
        """Forget every adapter."""
        for adapter in self._fused_adapters():
            self.forget(adapter)
        self._stats.clear()

    def _should_fuse(self, adapter: Adapter) -> bool:
        """Whether the policy fuses an adapter now. The break-even is measured when it is first needed."""
        stats = self._stats_of(adapter)
        if not stats.fusible or self.policy == "off":
            return False
        if self.policy == "always":
            return True
        if not stats.tokens:
            return False
        if self._break_even is None:
            self._break_even = self._measure(self.bank, adapter, self.dtype)
        return stats.tokens >= self._break_even

    def _fuse(self, adapter: Adapter) -> None:
        """Begin to compute an adapter's fused weights, and keep them; nothing where there is no room."""
        if not self._make_room(self._stats_of(adapter).nbytes):
            return
        layers = {}
        for name, update in adapter.layers.items():
            layers[name] = FusedWeight.of(self.bank.layers[name].linear, update, self.dtype)
            mx.async_eval(layers[name].weight)  # layer by layer: not all float32 intermediates at once
        self.bank.keep_fused(adapter, layers)
        self.fusions += 1
        self._stats_of(adapter).last_used = next(self._clock)

    def _make_room(self, nbytes: int) -> bool:
        """Evict the least recently used until ``nbytes`` are free; none where evicting all would not suffice.

        The active adapter is never evicted.
        """
        evictable = [adapter for adapter in self._fused_adapters() if adapter is not self.bank.active]
        evictable.sort(key=lambda adapter: self._stats_of(adapter).last_used)
        left = self.nbytes
        for needed in range(len(evictable) + 1):
            if left + nbytes <= self.budget:
                self._evict(*evictable[:needed])
                return True
            left -= sum(_nbytes(self.bank.fused[adapter.content_hash]) for adapter in evictable[needed : needed + 1])
        return False

    def _evict(self, *adapters: Adapter) -> None:
        for adapter in adapters:
            self.bank.drop_fused(adapter)
            # Its tokens so far have paid for the weights that are gone.
            self._stats.pop(adapter.content_hash, None)
            self.evictions += 1

    def _fused_adapters(self) -> list[Adapter]:
        return [adapter for adapter in self.bank.resident if adapter.content_hash in self.bank.fused]

    def _stats_of(self, adapter: Adapter) -> FusionStats:
        if adapter.content_hash not in self._stats:
            self._stats[adapter.content_hash] = self._new_stats(adapter)
        return self._stats[adapter.content_hash]

    def _new_stats(self, adapter: Adapter) -> FusionStats:
        if self.policy == "off" or not self.bank.changes_only_linears(adapter):
            return FusionStats(0, fusible=False)
        linears = [self.bank.layers[name].linear for name in adapter.layers]
        if self.dtype is None and any(isinstance(linear, nn.QuantizedLinear) for linear in linears):
            return FusionStats(0, fusible=False)
        shapes = [(shape_of(linear), self.dtype or linear.weight.dtype) for linear in linears]
        nbytes = sum(inputs * outputs * dtype.size for (inputs, outputs), dtype in shapes)
        return FusionStats(nbytes, fusible=nbytes <= self.budget)


def measure_break_even(bank: AdapterBank, adapter: Adapter, dtype: mx.Dtype | None) -> float:
    """The seconds that fusing takes over those that a decoded token saves, in tokens; ``inf`` where it saves none.

    Both are timed on one decoder layer, because both grow alike with the number of layers.
    """
    first = min(layer_and_key(name)[0] for name in adapter.layers)
    updates = {name: update for name, update in adapter.layers.items() if layer_and_key(name)[0] == first}
    layers = {name: bank.layers[name] for name in updates}
    inputs = {name: mx.ones((1, 1, shape_of(one.linear)[0]), dtype_of(one.linear)) for name, one in layers.items()}

    def fuse() -> dict[str, FusedWeight]:
        return {name: FusedWeight.of(layers[name].linear, update, dtype) for name, update in updates.items()}

    def decode(updates: Mapping[str, LinearUpdate]) -> float:
        with bank.overriding(updates):
            return _seconds(lambda: [layer(inputs[name]) for name, layer in layers.items()])

    fused = fuse()
    fusing = min(_seconds(lambda: [layer.weight for layer in fuse().values()]) for _ in range(REPEATS))
    # The two take turns, so that a machine that is busy for a while slows down both.
    low_rank, whole = map(min, zip(*((decode(updates), decode(fused)) for _ in range(REPEATS)), strict=True))
    return fusing / (low_rank - whole) if low_rank > whole else inf


def _nbytes(layers: Mapping[str, LinearUpdate]) -> int:
    return sum(update.nbytes for update in layers.values())


def _seconds(make: Callable[[], list[mx.array]]) -> float:
    """Seconds to build some arrays and evaluate them."""
    began = time.perf_counter()
    mx.eval(make())
    return time.perf_counter() - began


def _check_known(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UsageError(f"an unknown {option}", where=option, got=repr(value), expected=", ".join(known))
