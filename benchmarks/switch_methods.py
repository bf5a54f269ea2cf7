"""Ways from one adapter's last token to the next one's first: mlx-lm's, and ours. Not a benchmark; ``switching.py`` is.

All start when the selector has just chosen, with its adapter acting, and end with the first token of the arguments.
mlx-lm has KV of the selector's adapter then, which is none of the next one's: it processes the whole stream again. Ours
has the base model's KV up to the activation point, which serves every adapter.
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
"""The last tokens of the stream that the selector's adapter processes beforehand."""
REFERENCE_CHANGES = 300
FORMS = ("low_rank", "fused", "fused_cold")
NO_LIMIT = 2**60


@dataclass(frozen=True)
class Task:
    """The stream up to the first argument token, where each activation begins in it, and the two adapters' folders."""

    model: str
    tokens: tuple[int, ...]
    starts: Mapping[str, int]
    selector: Path
    arguments: Path


@dataclass(frozen=True)
class Switches:
    """Seconds of every switch, the token that each gave, and how many tokens it processed."""

    seconds: tuple[float, ...]
    tokens: tuple[int, ...]
    processed: int


@dataclass(frozen=True)
class Ours:
    """Our switches by form and activation, the reference change alone, and decoding by form, in seconds.

    ``nbytes``: of an adapter in each form.
    """

    switches: Mapping[tuple[str, str], Switches]
    reference_changes: Mapping[str, tuple[float, ...]]
    decoding: Mapping[str, tuple[float, ...]]
    nbytes: Mapping[str, int]


def save_adapters(model: str, *folders: Path) -> None:
    """Adapters of all projections of all layers, each other, that change every logit."""
    bank = load_model(model).bank
    for seed, folder in enumerate(folders):
        fresh = bank.new_adapter(rank=RANK, scale=SCALE, activation="all", seed=seed)
        keys = mx.random.split(mx.random.key(1000 + seed), len(fresh.layers))
        layers = {
            name: replace(update, b=mx.random.normal(update.b.shape, key=key) * 0.01)
            for (name, update), key in zip(fresh.layers.items(), keys, strict=True)
        }
        Adapter.from_layers(fresh.config, layers).save(folder)


def reload(task: Task, repeats: int) -> Switches:
    """mlx-lm's server: drop the model, load model and adapter from disk, process the stream."""
    path = str(resolve(task.model))
    held: list[nn.Module] = []

    def switch() -> nn.Module:
        held.clear()
        gc.collect()
        mx.clear_cache()
        return mlx_lm.load(path, adapter_path=str(task.arguments))[0]

    runs = []
    for _ in range(repeats):
        held.append(mlx_lm.load(path, adapter_path=str(task.selector))[0])
        _first_token(held[0], task.tokens[-WARM_UP:])
        runs.append(_timed(lambda: _first_token(switch(), task.tokens)))
    return _switches(runs, len(task.tokens))


def load_in_place(task: Task, repeats: int) -> tuple[Switches, Switches]:
    """``load_adapters`` on the resident model; the second with the KV of the arguments' own adapter kept from before.

    mlx-lm's server keeps such KV for as long as it has room: a stream's length of it for every adapter.
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
        plain.append(_timed(lambda: _first_token(switch(task.arguments), task.tokens, cache)))  # noqa: B023
        _first_token(switch(task.selector), task.tokens[-WARM_UP:])
        active = task.tokens[task.starts["turn"] :]
        trim_prompt_cache(cache, cache[0].offset - task.starts["turn"])
        kept.append(_timed(lambda: _first_token(switch(task.arguments), active, cache)))  # noqa: B023
    return _switches(plain, len(task.tokens)), _switches(kept, len(active))


def ours(task: Task, repeats: int, decoded: int) -> Ours:
    """Our way, low-rank and fused, with every activation; then ``decoded`` tokens in each form."""
    base = load_model(task.model)
    bank = base.bank
    selector, arguments = bank.load(task.selector), bank.load(task.arguments)
    snapshot = base.snapshot(task.tokens[: max(task.starts.values())])
    changes = {"low_rank": _reference_changes(bank.activate, selector, arguments)}

    def first_token(start: int, activate: Callable[[Adapter], None]) -> int:
        activate(arguments)
        return _extended(base, snapshot.to_caches(start), task.tokens[start:])

    fusion = FusionCache(bank, NO_LIMIT, "always")
    plainly, fused = bank.activate, fusion.activate
    runs: dict[tuple[str, str], list[tuple[float, int]]] = {
        (form, activation): [] for form in FORMS for activation in task.starts
    }
    for _ in range(repeats):
        for form, activation in runs:
            _stand(form, fusion, selector, arguments)
            activate, start = plainly if form == "low_rank" else fused, task.starts[activation]
            runs[form, activation].append(_timed(lambda: first_token(start, activate)))  # noqa: B023
    _stand("fused", fusion, selector, arguments)
    changes["fused"] = _reference_changes(fusion.activate, selector, arguments)
    forms = {"base": {}, "low_rank": arguments.layers, "fused": bank.fused[arguments.content_hash]}
    start = task.starts["turn"]
    decoding = _decoding(base, forms, lambda: snapshot.to_caches(start), task.tokens[start:], decoded)
    return Ours(
        {key: _switches(run, len(task.tokens) - task.starts[key[1]]) for key, run in runs.items()},
        changes,
        decoding,
        {"low_rank": arguments.nbytes, "fused": fusion.nbytes // 2},
    )


def _stand(form: str, fusion: FusionCache, selector: Adapter, arguments: Adapter) -> None:
    """As things are when the selector is done: it acts in that form, the other adapter is there in it or not yet."""
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


def _reference_changes(activate: Callable[[Adapter], None], one: Adapter, other: Adapter) -> tuple[float, ...]:
    return tuple(_timed(lambda: activate(adapter))[0] for adapter in islice(cycle((other, one)), REFERENCE_CHANGES))  # noqa: B023


def _decoding(
    base: BaseModel,
    forms: Mapping[str, Mapping[str, Any]],
    caches: Callable[[], list[Any]],
    tail: tuple[int, ...],
    count: int,
) -> dict[str, tuple[float, ...]]:
    """Seconds of every token in each form; the forms take turns, so that all see the same machine."""
    held = {form: caches() for form in forms}
    tokens: dict[str, int] = {}
    for form, layers in forms.items():
        with base.bank.overriding(layers):
            tokens[form] = _extended(base, held[form], tail)
    seconds: dict[str, list[float]] = {form: [] for form in forms}
    for _ in range(count):
        for form, layers in forms.items():
            with base.bank.overriding(layers):
                taken, tokens[form] = _timed(lambda: _extended(base, held[form], (tokens[form],)))  # noqa: B023
            seconds[form].append(taken)
    return {form: tuple(taken) for form, taken in seconds.items()}


def _extended(base: BaseModel, caches: list[Any], tokens: tuple[int, ...]) -> int:
    """The most probable token after some more."""
    states = base.hidden(mx.array([tokens]), caches)
    return int(mx.argmax(base.head(states[0, -1])).item())  # type: ignore[arg-type]


def _first_token(model: nn.Module, tokens: tuple[int, ...], cache: list[Any] | None = None) -> int:
    """The token that mlx-lm generates after some others."""
    for token, _ in generate_step(mx.array(tokens), model, max_tokens=1, prompt_cache=cache):
        return int(token)
    raise AssertionError("mlx-lm generated nothing")


def _timed(run: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    value = run()
    return time.perf_counter() - began, value


def _switches(runs: list[tuple[float, int]], processed: int) -> Switches:
    seconds, tokens = zip(*runs, strict=True)
    return Switches(seconds, tokens, processed)
