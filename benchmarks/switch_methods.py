"""The ways from one adapter's last token to the next one's first: mlx-lm's and ours. The benchmark is ``switching.py``.

All start when the selector has just chosen, with its adapter active, and end with the first token of the arguments.
mlx-lm then has the KV of the selector's adapter, which the next one cannot use: it processes the whole stream again.
Ours has the base model's KV up to the activation point, which serves every adapter.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx_lm
from mlx_lm.generate import generate_step
from mlx_lm.models.cache import make_prompt_cache, trim_prompt_cache
from mlx_lm.tuner.utils import load_adapters, remove_lora_layers

from dualtune_mlx.adapters import Adapter, FusionCache, LoRAUpdate
from dualtune_mlx.models import BaseModel, load_model, resolve
from dualtune_mlx.models.loading import NO_CODE

RANK, SCALE = 16, 2.0
WARM_UP = 16
"""How many of the stream's last tokens the selector's adapter processes beforehand."""
REFERENCE_CHANGES = 100
"""How often the change of references alone is timed in a round."""
FORMS = ("low_rank", "fused", "fused_cold")
"""How an adapter of ours acts; ``fused_cold`` is fused within the switch."""
OWN_KV = "load_adapters, own KV"
"""The way of mlx-lm that keeps a KV for each adapter."""
NO_LIMIT = 2**60
"""Bytes of fused weights."""


@dataclass(frozen=True)
class SwitchTask:
    """What every way does: switch from the selector to the arguments of one call."""

    model: str
    """The base model's name."""
    tokens: tuple[int, ...]
    """The stream up to the first argument token."""
    starts: Mapping[str, int]
    """Where each activation begins in it."""
    selector: Path
    """The folder of the adapter that is active before."""
    arguments: Path
    """The folder of the adapter that is active then."""


Way = tuple[str, str]
"""A way's name and its activation, which is "" where it makes no difference."""


@dataclass(frozen=True)
class Switch:
    """One switch in one way."""

    seconds: float
    """Its time."""
    token: int
    """The token that it ended with."""
    processed: int
    """How many tokens it processed."""
    shared_kv: int = 0
    """Bytes of KV that are kept between switches for all adapters together."""
    adapter_kv: int = 0
    """Bytes of KV that are kept between switches for each adapter."""


@dataclass(frozen=True)
class Round:
    """What one round of measurements gives."""

    switches: Mapping[Way, Switch]
    """A switch in every way of the method."""
    decoding: Mapping[str, float] = field(default_factory=dict)
    """Of ours, tokens a second by form; "base" is the model without an adapter."""
    reference_changes: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Of ours, by form, the seconds of the change of references alone."""
    adapter_bytes: Mapping[str, int] = field(default_factory=dict)
    """Of ours, by form, the bytes of an adapter."""


def save_adapters(model: str, *folders: Path) -> None:
    """Save different adapters of all projections of all layers, which change every logit."""
    bank = load_model(model).bank
    for seed, folder in enumerate(folders):
        fresh = bank.new_adapter(rank=RANK, scale=SCALE, activation="all", seed=seed)
        keys = mx.random.split(mx.random.key(1000 + seed), len(fresh.layers))
        layers = {
            name: replace(update, b=mx.random.normal(update.b.shape, key=key) * 0.01)
            for (name, update), key in zip(fresh.layers.items(), keys, strict=True)
        }
        Adapter.from_layers(fresh.config, layers).save(folder)


def time_reload(task: SwitchTask) -> Iterator[Round]:
    """Time what mlx-lm's server does: drop the model, load model and adapter from disk, process the stream."""
    path = str(resolve(task.model))
    loaded: list[nn.Module] = []

    def switch() -> nn.Module:
        loaded.clear()
        gc.collect()
        mx.clear_cache()
        return mlx_lm.load(path, NO_CODE, adapter_path=str(task.arguments))[0]

    while True:
        loaded.append(mlx_lm.load(path, NO_CODE, adapter_path=str(task.selector))[0])
        _first_token(loaded[0], task.tokens[-WARM_UP:])
        seconds, token = _time(lambda: _first_token(switch(), task.tokens))
        yield Round({("reload", ""): Switch(seconds, token, len(task.tokens))})


def time_load_adapters(task: SwitchTask) -> Iterator[Round]:
    """Time ``load_adapters`` on the resident model; then the same with the arguments' own KV from an earlier call.

    mlx-lm's server keeps such KV for as long as it has room, a stream's length of it for every adapter. Counted is what
    a later call can use, up to its request.
    """
    model = mlx_lm.load(str(resolve(task.model)), NO_CODE)[0]
    active = task.tokens[task.starts["turn"] :]

    def switch(adapter: Path) -> nn.Module:
        changed = load_adapters(remove_lora_layers(model), str(adapter))
        mx.eval(changed.parameters())
        return changed.eval()

    while True:
        _first_token(switch(task.selector), task.tokens[-WARM_UP:])
        cache = make_prompt_cache(model)
        seconds, token = _time(lambda: _first_token(switch(task.arguments), task.tokens, cache))  # noqa: B023
        plain = Switch(seconds, token, len(task.tokens))
        _first_token(switch(task.selector), task.tokens[-WARM_UP:])
        trim_prompt_cache(cache, cache[0].offset - task.starts["turn"])
        nbytes = sum(array.nbytes for layer in cache for array in layer.keys_and_values())
        seconds, token = _time(lambda: _first_token(switch(task.arguments), active, cache))  # noqa: B023
        kept = Switch(seconds, token, len(active), adapter_kv=nbytes)
        yield Round({("load_adapters", ""): plain, (OWN_KV, "turn"): kept})


def time_ours(task: SwitchTask, decoded: int) -> Iterator[Round]:
    """Time our switches in every form with every activation, then ``decoded`` tokens in each form."""
    base = load_model(task.model)
    bank = base.bank
    selector, arguments = bank.load(task.selector), bank.load(task.arguments)
    snapshot = base.snapshot(task.tokens[: max(task.starts.values())])
    turn = task.starts["turn"]
    shared = snapshot.bytes_per_token * turn
    fusion = FusionCache(bank, NO_LIMIT, "always")
    activate = {form: bank.activate if form == "low_rank" else fusion.activate for form in FORMS}

    def switch(form: str, start: int) -> Switch:
        def first_token() -> int:
            activate[form](arguments)
            return _next_token(base, snapshot.to_caches(start), task.tokens[start:])

        _set_up(form, fusion, selector, arguments)
        seconds, token = _time(first_token)
        return Switch(seconds, token, len(task.tokens) - start, shared_kv=shared)

    def time_reference_changes(form: str) -> tuple[float, ...]:
        _set_up(form, fusion, selector, arguments)
        adapters = islice(cycle((arguments, selector)), REFERENCE_CHANGES)
        return tuple(_time(lambda: activate[form](adapter))[0] for adapter in adapters)  # noqa: B023

    while True:
        switches = {
            (form, activation): switch(form, start) for form in FORMS for activation, start in task.starts.items()
        }
        changes = {form: time_reference_changes(form) for form in ("low_rank", "fused")}
        layers = {"base": {}, "low_rank": arguments.layers, "fused": bank.fused[arguments.content_hash]}
        speeds = _decode(base, layers, lambda: snapshot.to_caches(turn), task.tokens[turn:], decoded)
        nbytes = {"low_rank": arguments.nbytes, "fused": fusion.nbytes // 2}
        yield Round(switches, speeds, changes, nbytes)


def _set_up(form: str, fusion: FusionCache, selector: Adapter, arguments: Adapter) -> None:
    """Restore the moment when the selector is done. It acts in this form; the other adapter is ready, or not fused."""
    if form == "low_rank":
        fusion.clear()
        fusion.bank.activate(selector)
        return
    if form == "fused_cold":
        fusion.forget(arguments)
    else:
        fusion.activate(arguments)
    fusion.activate(selector)
    fused = (layer for layers in fusion.bank.fused.values() for layer in layers.values())
    mx.eval([layer.weight for layer in fused if not isinstance(layer, LoRAUpdate)])


def _decode(
    base: BaseModel,
    forms: Mapping[str, Mapping[str, Any]],
    caches: Callable[[], list[Any]],
    tail: tuple[int, ...],
    count: int,
) -> dict[str, float]:
    """Tokens a second in each form. The forms take turns at every token, so that a busy machine slows all of them."""
    own_caches = {form: caches() for form in forms}
    tokens: dict[str, int] = {}
    for form, layers in forms.items():
        with base.bank.overriding(layers):
            tokens[form] = _next_token(base, own_caches[form], tail)
    seconds = dict.fromkeys(forms, 0.0)
    for _ in range(count):
        for form, layers in forms.items():
            with base.bank.overriding(layers):
                taken, tokens[form] = _time(lambda: _next_token(base, own_caches[form], (tokens[form],)))  # noqa: B023
            seconds[form] += taken
    return {form: count / taken for form, taken in seconds.items()}


def _next_token(base: BaseModel, caches: list[Any], tokens: tuple[int, ...]) -> int:
    """The most probable token behind these."""
    states = base.hidden(mx.array([tokens]), caches)
    return int(mx.argmax(base.head(states[0, -1])).item())  # type: ignore[arg-type]


def _first_token(model: nn.Module, tokens: tuple[int, ...], cache: list[Any] | None = None) -> int:
    """The token that mlx-lm generates behind these."""
    for token, _ in generate_step(mx.array(tokens), model, max_tokens=1, prompt_cache=cache):
        return int(token)
    raise AssertionError("mlx-lm generated nothing")


def _time(run: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    value = run()
    return time.perf_counter() - began, value
