"""The ways from one adapter's last token to the next one's first: mlx-lm's and ours. The benchmark is ``switching.py``.

All start when the selector has just chosen, with its adapter active, and end with the first token of the arguments.
mlx-lm then has the KV of the selector's adapter, which the next one cannot use: it processes the whole stream again.
Ours has the base model's KV up to the activation point, which serves every adapter.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
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

RANK, SCALE = 16, 2.0
WARM_UP = 16
"""How many of the stream's last tokens the selector's adapter processes beforehand."""
REFERENCE_CHANGES = 300
"""How often the change of references alone is timed."""
FORMS = ("low_rank", "fused", "fused_cold")
"""How an adapter of ours acts; ``fused_cold`` is fused within the switch."""
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


@dataclass(frozen=True)
class TimedSwitches:
    """The switches in one way."""

    seconds: tuple[float, ...]
    """The time of each."""
    tokens: tuple[int, ...]
    """The token that each ended with."""
    processed: int
    """How many tokens each processed."""


@dataclass(frozen=True)
class OurResults:
    """Everything that is measured of ours."""

    switches: Mapping[tuple[str, str], TimedSwitches]
    """By form and activation."""
    reference_changes: Mapping[str, tuple[float, ...]]
    """By form, the seconds of the change of references alone."""
    decoding: Mapping[str, tuple[float, ...]]
    """By form, the seconds of each decoded token; "base" is the model without an adapter."""
    nbytes: Mapping[str, int]
    """By form, the bytes of an adapter."""


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


def time_reload(task: SwitchTask, repeats: int) -> TimedSwitches:
    """Time what mlx-lm's server does: drop the model, load model and adapter from disk, process the stream."""
    path = str(resolve(task.model))
    loaded: list[nn.Module] = []

    def switch() -> nn.Module:
        loaded.clear()
        gc.collect()
        mx.clear_cache()
        return mlx_lm.load(path, adapter_path=str(task.arguments))[0]

    runs = []
    for _ in range(repeats):
        loaded.append(mlx_lm.load(path, adapter_path=str(task.selector))[0])
        _first_token(loaded[0], task.tokens[-WARM_UP:])
        runs.append(_time(lambda: _first_token(switch(), task.tokens)))
    return _collect(runs, len(task.tokens))


def time_load_adapters(task: SwitchTask, repeats: int) -> tuple[TimedSwitches, TimedSwitches]:
    """Time ``load_adapters`` on the resident model; then the same with the arguments' own KV from an earlier call.

    mlx-lm's server keeps such KV for as long as it has room, a stream's length of it for every adapter.
    """
    model = mlx_lm.load(str(resolve(task.model)))[0]

    def switch(adapter: Path) -> nn.Module:
        changed = load_adapters(remove_lora_layers(model), str(adapter))
        mx.eval(changed.parameters())
        return changed.eval()

    plain, kept = [], []
    for _ in range(repeats):
        _first_token(switch(task.selector), task.tokens[-WARM_UP:])
        cache = make_prompt_cache(model)
        plain.append(_time(lambda: _first_token(switch(task.arguments), task.tokens, cache)))  # noqa: B023
        _first_token(switch(task.selector), task.tokens[-WARM_UP:])
        active = task.tokens[task.starts["turn"] :]
        trim_prompt_cache(cache, cache[0].offset - task.starts["turn"])
        kept.append(_time(lambda: _first_token(switch(task.arguments), active, cache)))  # noqa: B023
    return _collect(plain, len(task.tokens)), _collect(kept, len(active))


def time_ours(task: SwitchTask, repeats: int, decoded: int) -> OurResults:
    """Time our switches in every form with every activation, then ``decoded`` tokens in each form."""
    base = load_model(task.model)
    bank = base.bank
    selector, arguments = bank.load(task.selector), bank.load(task.arguments)
    snapshot = base.snapshot(task.tokens[: max(task.starts.values())])
    changes = {"low_rank": _time_reference_changes(bank.activate, selector, arguments)}

    def first_token(start: int, activate: Callable[[Adapter], None]) -> int:
        activate(arguments)
        return _next_token(base, snapshot.to_caches(start), task.tokens[start:])

    fusion = FusionCache(bank, NO_LIMIT, "always")
    runs: dict[tuple[str, str], list[tuple[float, int]]] = {
        (form, activation): [] for form in FORMS for activation in task.starts
    }
    for _ in range(repeats):
        for form, activation in runs:
            _set_up(form, fusion, selector, arguments)
            activate = bank.activate if form == "low_rank" else fusion.activate
            start = task.starts[activation]
            runs[form, activation].append(_time(lambda: first_token(start, activate)))  # noqa: B023
    _set_up("fused", fusion, selector, arguments)
    changes["fused"] = _time_reference_changes(fusion.activate, selector, arguments)
    forms = {"base": {}, "low_rank": arguments.layers, "fused": bank.fused[arguments.content_hash]}
    start = task.starts["turn"]
    decoding = _time_decoding(base, forms, lambda: snapshot.to_caches(start), task.tokens[start:], decoded)
    return OurResults(
        {key: _collect(run, len(task.tokens) - task.starts[key[1]]) for key, run in runs.items()},
        changes,
        decoding,
        {"low_rank": arguments.nbytes, "fused": fusion.nbytes // 2},
    )


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


def _time_reference_changes(activate: Callable[[Adapter], None], one: Adapter, other: Adapter) -> tuple[float, ...]:
    return tuple(_time(lambda: activate(adapter))[0] for adapter in islice(cycle((other, one)), REFERENCE_CHANGES))  # noqa: B023


def _time_decoding(
    base: BaseModel,
    forms: Mapping[str, Mapping[str, Any]],
    caches: Callable[[], list[Any]],
    tail: tuple[int, ...],
    count: int,
) -> dict[str, tuple[float, ...]]:
    """Time every token in each form. The forms take turns, so that a busy machine slows all of them."""
    own_caches = {form: caches() for form in forms}
    tokens: dict[str, int] = {}
    for form, layers in forms.items():
        with base.bank.overriding(layers):
            tokens[form] = _next_token(base, own_caches[form], tail)
    seconds: dict[str, list[float]] = {form: [] for form in forms}
    for _ in range(count):
        for form, layers in forms.items():
            with base.bank.overriding(layers):
                taken, tokens[form] = _time(lambda: _next_token(base, own_caches[form], (tokens[form],)))  # noqa: B023
            seconds[form].append(taken)
    return {form: tuple(taken) for form, taken in seconds.items()}


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


def _collect(runs: list[tuple[float, int]], processed: int) -> TimedSwitches:
    seconds, tokens = zip(*runs, strict=True)
    return TimedSwitches(seconds, tokens, processed)
