"""The adapter-fusion cache: whole weights W' for the adapters that they pay for, under a byte budget.

cache = FusionCache(bank, budget=2 * 2**30)
cache.activate(adapter)     # acts fused where it is fused already or that pays, else low-rank
cache.prepare(likely)       # begins to fuse ahead of need
cache.activate(None)        # the base, bit for bit
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count

import mlx.core as mx
import mlx.nn as nn

from dualtune_mlx.adapters.adapter import Adapter
from dualtune_mlx.adapters.bank import AdapterBank
from dualtune_mlx.adapters.lora import Fused, Linear, LoRAUpdate, Requantized, Update
from dualtune_mlx.adapters.measures import LogitError, logit_error, measured_break_even
from dualtune_mlx.adapters.policies import POLICIES, TYPES, FusionStats
from dualtune_mlx.errors import AdapterError, UsageError

NOT_ONLY_LINEAR = "it changes more than the decoder layers' linear layers"
Measure = Callable[[AdapterBank, Adapter, mx.Dtype | None], float]


class FusionCache:
    """Decides which of a bank's adapters act by fused weights, least recently used out first.

    Fusing computes in float32 and rounds once. It needs the intermediates of a layer beside the budget.

    Args:
        bank: whose resident adapters these are; a bank has one cache.
        budget: bytes that all fused weights may take together. An adapter that needs more stays low-rank.
        policy: when an adapter is fused: ``off``; ``always``; ``hot``, after three uses; ``auto``, when more tokens
            were run under it than fusing costs, which is never where fused weights are not faster.
        fuse_to: the type of fused weights; without one that of the layers. Adapters of quantised layers are fused
            only where it is given, because their whole weights are some times larger.
        measure: gives the break-even of ``auto`` in tokens, once.

    Raises:
        UsageError: when the budget, the policy or the type is none.
    """

    def __init__(
        self,
        bank: AdapterBank,
        budget: int,
        policy: str = "auto",
        fuse_to: str | None = None,
        measure: Measure = measured_break_even,
    ) -> None:
        if budget < 0:
            raise UsageError("a budget of fused weights is negative", where="budget", got=budget, expected="0 or more")
        _check_listed("policy", policy, POLICIES)
        if fuse_to is not None:
            _check_listed("fuse_to", fuse_to, TYPES)
        self.bank = bank
        self.budget = budget
        self.policy = policy
        self.dtype = None if fuse_to is None else TYPES[fuse_to]
        self.hits = self.fusions = self.evictions = 0
        self._measure = measure
        self._break_even: float | None = None
        self._accounts: dict[str, FusionStats] = {}
        self._pinned: set[str] = set()
        self._clock = count(1)
        self._stream = mx.new_thread_local_stream(mx.default_device())

    @property
    def nbytes(self) -> int:
        """Bytes of all fused weights."""
        return sum(_bytes(layers) for layers in self.bank.fused.values())

    def activate(self, adapter: Adapter | None, tokens: int = 0) -> None:
        """Make one adapter act, or none: reference changes only, unless it is to be fused now.

        ``tokens`` are about to run under it, as far as that is known; ``ran`` counts others afterwards.

        Raises:
            AdapterError: when it is not in the bank.
        """
        self.bank.activate(adapter)
        if adapter is None:
            return
        adapter = self.bank.require_resident(adapter)
        account = self._account(adapter)
        account.tokens += tokens
        if adapter.content_hash in self.bank.fused:
            self.hits += 1
        elif self._pays(adapter):
            self._fuse(adapter)
        account.uses += 1
        account.last = next(self._clock)

    def ran(self, adapter: Adapter, tokens: int) -> None:
        """Count tokens that were run under an adapter."""
        self._account(self.bank.require_resident(adapter)).tokens += tokens

    def prepare(self, adapter: Adapter) -> None:
        """Begin to fuse an adapter ahead of need if the policy would fuse it; what acts keeps its weights.

        This does not wait, but for the one measurement of ``auto``.
        """
        adapter = self.bank.require_resident(adapter)
        if adapter.content_hash not in self.bank.fused and self._pays(adapter):
            # On the stream of the forward passes, those that follow would have to wait.
            with mx.stream(self._stream):
                self._fuse(adapter)
        self._account(adapter).last = next(self._clock)

    def pin(self, adapter: Adapter) -> None:
        """Fuse an adapter now, whatever it has been used, and keep it fused until ``unpin``.

        Raises:
            AdapterError: when it cannot be fused, or the pinned ones together exceed the budget.
        """
        adapter = self.bank.require_resident(adapter)
        account, fused = self._account(adapter), self.bank.fused.get(adapter.content_hash)
        if fused is None and account.refusal:
            raise AdapterError("an adapter cannot be pinned", got=account.refusal, fix="change the cache's options")
        others = (a.content_hash for a in self._fused() if a.content_hash in self._pinned and a is not adapter)
        needed = sum(_bytes(self.bank.fused[content]) for content in others)
        needed += account.size if fused is None else _bytes(fused)
        if needed > self.budget:
            raise AdapterError(
                "the pinned adapters exceed the budget of fused weights",
                got=f"{needed} bytes",
                expected=f"at most {self.budget}",
                fix="raise the budget, or unpin another adapter",
            )
        if fused is None and not self._fuse(adapter):
            # All but the pinned ones and the active one were not enough; the active one goes on low-rank.
            self._evict(*(other for other in self._fused() if other is self.bank.active))
            self._fuse(adapter)
        self._pinned.add(adapter.content_hash)

    def unpin(self, adapter: Adapter) -> None:
        """Let an adapter be evicted like any other."""
        self._pinned.discard(adapter.content_hash)

    def resize(self, budget: int) -> None:
        """Change the budget, and release what is over it, pinned adapters last; low-rank adapters are counted anew."""
        self.budget = budget
        for adapter in sorted(self._fused(), key=lambda a: (a.content_hash in self._pinned, self._account(a).last)):
            if self.nbytes > budget:
                self.unpin(adapter)
                self._evict(adapter)
        for content in self._accounts.keys() - self.bank.fused.keys():
            del self._accounts[content]

    def forget(self, adapter: Adapter) -> None:
        """Release an adapter's fused weights and what is known of its use; where it is active it acts on, low-rank."""
        self.bank.drop_fused(adapter)
        self._pinned.discard(adapter.content_hash)
        self._accounts.pop(adapter.content_hash, None)

    def clear(self) -> None:
        """Forget all."""
        for adapter in self._fused():
            self.forget(adapter)
        self._pinned.clear()
        self._accounts.clear()

    def requantize(self, adapter: Adapter, prompts: Sequence[Sequence[int]]) -> LogitError:
        """Fuse an adapter at its quantised layers' own bits, within the budget, and measure what that does.

        It can erase an adapter whose changes are smaller than a quantisation step: look at the result, and
        ``forget`` the adapter where it is too large.

        Args:
            prompts: token ids; the logits of all their positions are compared.

        Raises:
            AdapterError: when a layer is not quantised, or there is no room.
        """
        adapter = self.bank.require_resident(adapter)
        if not self.bank.only_linear(adapter):
            raise AdapterError("an adapter cannot be fused", got=NOT_ONLY_LINEAR, fix="let it act low-rank")
        linears = {name: self.bank.slots[name].linear for name in adapter.layers}
        plain = [name for name, linear in linears.items() if not isinstance(linear, nn.QuantizedLinear)]
        if plain:
            raise AdapterError("layers are not quantised", got=", ".join(plain), fix="use pin, or a policy that fuses")
        parts = (linear.get(name) for linear in linears.values() for name in ("weight", "scales", "biases"))
        size = sum(part.nbytes for part in parts if part is not None)
        self.bank.drop_fused(adapter)
        if not self._keep(adapter, size, Requantized.of):
            raise AdapterError(
                "there is no room for a fused adapter",
                got=f"{size} bytes",
                expected=f"at most {self.budget}, with the pinned and the active adapter",
                fix="raise the budget, or unpin another adapter",
            )
        return logit_error(self.bank, adapter, self.bank.fused[adapter.content_hash], prompts)

    def _pays(self, adapter: Adapter) -> bool:
        account = self._account(adapter)
        return account.refusal is None and POLICIES[self.policy](account, partial(self._tokens_to_pay, adapter))

    def _tokens_to_pay(self, adapter: Adapter) -> float:
        if self._break_even is None:
            self._break_even = self._measure(self.bank, adapter, self.dtype)
        return self._break_even

    def _fuse(self, adapter: Adapter) -> bool:
        return self._keep(adapter, self._account(adapter).size, partial(Fused.of, dtype=self.dtype))

    def _keep(self, adapter: Adapter, size: int, make: Callable[[Linear, LoRAUpdate], Fused | Requantized]) -> bool:
        """Begin to compute fused weights of so many bytes, and keep them; whether there was room."""
        if not self._make_room(size):
            return False
        layers = {}
        for name, update in adapter.layers.items():
            layers[name] = make(self.bank.slots[name].linear, update)
            mx.async_eval(layers[name].arrays)  # layer by layer: not all float32 intermediates at once
        self.bank.keep_fused(adapter, layers)
        self.fusions += 1
        self._account(adapter).last = next(self._clock)
        return True

    def _make_room(self, size: int) -> bool:
        """Evict the least recently used until ``size`` bytes are free; nothing where all that may go is not enough."""
        loose = [a for a in self._fused() if a.content_hash not in self._pinned and a is not self.bank.active]
        loose.sort(key=lambda adapter: self._account(adapter).last)
        left = self.nbytes
        for needed in range(len(loose) + 1):
            if left + size <= self.budget:
                self._evict(*loose[:needed])
                return True
            left -= sum(_bytes(self.bank.fused[adapter.content_hash]) for adapter in loose[needed : needed + 1])
        return False

    def _evict(self, *adapters: Adapter) -> None:
        for adapter in adapters:
            self.bank.drop_fused(adapter)
            # What it was used before has paid for the weights that are gone.
            self._accounts.pop(adapter.content_hash, None)
            self.evictions += 1

    def _fused(self) -> list[Adapter]:
        return [adapter for adapter in self.bank.resident if adapter.content_hash in self.bank.fused]

    def _account(self, adapter: Adapter) -> FusionStats:
        if adapter.content_hash not in self._accounts:
            linears = [self.bank.slots[name].linear for name in adapter.layers if name in self.bank.slots]
            account = FusionStats.opened(linears, self.policy, self.budget, self.dtype)
            if not self.bank.only_linear(adapter):
                account.refusal = NOT_ONLY_LINEAR
            self._accounts[adapter.content_hash] = account
        return self._accounts[adapter.content_hash]


def _bytes(layers: Mapping[str, Update]) -> int:
    return sum(update.nbytes for update in layers.values())


def _check_listed(option: str, value: str, table: Mapping[str, object]) -> None:
    if value not in table:
        raise UsageError(f"an unknown {option}", where=option, got=repr(value), expected=", ".join(table))
