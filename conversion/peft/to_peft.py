"""Convert one of our adapters to a folder that ``PeftModel.from_pretrained`` loads, exactly or not at all.

dualtune convert to-peft ADAPTER FOLDER --model MODEL
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlx.core as mx

from dualtune_mlx.adapters import Adapter, LoRAUpdate, TrainedTokenRows
from dualtune_mlx.adapters.config import AT_TOKENS
from dualtune_mlx.conversion.peft.base import BaseCheckpoint
from dualtune_mlx.conversion.peft.config import CONFIG, FIELDS
from dualtune_mlx.conversion.peft.experts import PARAMETERS, to_peft_stacks
from dualtune_mlx.conversion.peft.files import METADATA, WEIGHTS
from dualtune_mlx.conversion.peft.names import PREFIX, peft_path
from dualtune_mlx.conversion.peft.verify import compare_logits
from dualtune_mlx.errors import ConversionError
from dualtune_mlx.files import atomic_folder

EXPERTS = re.compile(r".+\.switch_mlp\.\w+")
ROUTER = re.compile(r".+\.(mlp|block_sparse_moe)\.gate")
"""A router. In transformers 5 it is not a linear layer but a parameter."""
LOADED_ONLY = ("runtime_config",)
"""Fields that PEFT does not write."""


@dataclass(frozen=True)
class PeftUpdate:
    """A low-rank update under PEFT's names."""

    module: str
    """The path of its module."""
    update: LoRAUpdate
    """The update itself."""
    rank: int
    """Its rank; of a stack of experts, that of each expert."""
    parameter: str = ""
    """The name of the parameter that it changes, where that is not the weight of a linear layer."""
    inner: str = ""
    """What stands between the module's path and the names of the tensors."""

    @property
    def name(self) -> str:
        """The name that PEFT's patterns are matched with."""
        return f"{self.module}.{self.parameter}" if self.parameter else self.module

    @property
    def is_embedding(self) -> bool:
        """Whether its module is the embedding."""
        return self.module.endswith("embed_tokens")

    def tensors(self) -> Iterator[tuple[str, mx.array]]:
        """Its tensors under PEFT's keys."""
        a, b = ("lora_embedding_A", "lora_embedding_B") if self.is_embedding else ("lora_A.weight", "lora_B.weight")
        names = {"a": a, "b": b, "m": "lora_magnitude_vector"}
        for part, array in self.update.parts.items():
            yield f"{PREFIX}{self.module}{self.inner}.{names[part]}", mx.contiguous(array.T)


def to_peft(
    adapter: Adapter,
    destination: str | Path,
    *,
    model: str | None = None,
    invocation: Sequence[int] = (),
    fingerprint: str | None = None,
    where: object = None,
    base: BaseCheckpoint | None = None,
    on_verified: Callable[[float], object] | None = None,
) -> None:
    """Write an adapter as PEFT's. Nothing is written unless everything converts.

    Args:
        adapter: one of ours.
        destination: the new folder.
        model: the base model's hub id or folder, as PEFT is told.
        invocation: the token ids at which an adapter of the activation "invocation" or "turn" begins to act.
        fingerprint: of the base's weights; written beside the tensors.
        where: the adapter's name in errors.
        base: the model to compare logits over.
        on_verified: if given, PEFT's logits are compared with ours before the folder gets its name. It is called with
            the largest difference.

    Raises:
        ConversionError: when PEFT cannot express something; the error names it.
        UsageError: when the destination exists.
    """
    tokens = _invocation_tokens(adapter, tuple(invocation), where)
    updates = list(_to_peft_updates(adapter, where))
    if not updates:
        raise ConversionError(
            "PEFT knows no LoRA adapter without a low-rank update", where=where, fix="train the adapter with a rank"
        )
    _check_kinds(adapter, updates, tokens, where)
    fields = _config_fields(adapter, updates, tokens, model, where)
    own = {"activation": adapter.config.activation, "fingerprint": fingerprint}
    tensors = dict(tensor for update in updates for tensor in update.tensors()) | dict(_module_tensors(adapter))
    with atomic_folder(Path(destination)) as folder:
        metadata = {"format": "pt", METADATA: json.dumps(own)}
        with (folder / WEIGHTS).open("wb") as file:
            mx.save_safetensors(file, tensors, metadata=metadata)
        (folder / CONFIG).write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
        if on_verified is not None:
            config = replace(adapter.config, activation=AT_TOKENS, tokens=tokens) if tokens else adapter.config
            on_verified(compare_logits(replace(adapter, config=config), folder, base))


def _config_fields(
    adapter: Adapter, updates: list[PeftUpdate], tokens: tuple[int, ...], model: str | None, where: object
) -> dict[str, Any]:
    """Make PEFT's ``adapter_config.json``."""
    return {
        **{key: field.default for key, field in FIELDS.items() if key not in LOADED_ONLY},
        **_rank_fields(updates, where),
        **_module_fields(adapter),
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": model,
        "inference_mode": True,
        # PEFT refuses a dropout beside parameters, even at inference.
        "lora_dropout": 0.0 if any(update.parameter for update in updates) else adapter.config.dropout,
        "use_dora": adapter.config.kind == "dora",
        "target_modules": sorted(update.module for update in updates if not update.parameter),
        "target_parameters": sorted(update.name for update in updates if update.parameter) or None,
        "alora_invocation_tokens": list(tokens) or None,
    }


def _to_peft_updates(adapter: Adapter, where: object) -> Iterator[PeftUpdate]:
    experts = {path: update for path, update in adapter.layers.items() if EXPERTS.fullmatch(path)}
    for path, update in adapter.layers.items():
        if path not in experts:
            parameter = "weight" if ROUTER.fullmatch(path) else ""
            yield PeftUpdate(peft_path(path), update, update.a.shape[1], parameter)
    for path, parameters in to_peft_stacks(experts, where).items():
        for name, update in parameters.items():
            # PEFT wraps the parameters one around the other. The last one is outermost.
            inner = ".base_layer" if name == PARAMETERS[0] and len(parameters) == 2 else ""
            count = next(one.a.shape[0] for one in experts.values())
            yield PeftUpdate(peft_path(path), update, update.a.shape[1] // count, name, inner)


def _invocation_tokens(adapter: Adapter, given: tuple[int, ...], where: object) -> tuple[int, ...]:
    """The invocation tokens that PEFT is told; none where the adapter acts everywhere."""
    if adapter.config.activation == "all":
        return ()
    tokens = adapter.config.tokens or given
    if not tokens:
        raise ConversionError(
            "where an activated adapter begins to act can only be said to PEFT in tokens",
            where=where,
            got=f"activation {adapter.config.activation}, no tokens",
            expected="the token ids of the opener",
            fix="convert its bundle, which knows the template, or give --model and --template",
        )
    return tokens


def _check_kinds(adapter: Adapter, updates: list[PeftUpdate], tokens: tuple[int, ...], where: object) -> None:
    """Refuse kinds of updates that PEFT does not combine."""
    wrapped = [update.name for update in updates if update.is_embedding or update.parameter]
    if adapter.config.kind == "dora" and wrapped:
        raise ConversionError(
            "DoRA of embeddings and parameters is not PEFT's",
            where=where,
            got=", ".join(wrapped),
            fix="train it without DoRA, or without these",
        )
    odd = [*wrapped, *adapter.modules, *(["DoRA"] if adapter.config.kind == "dora" else [])]
    if tokens and odd:
        raise ConversionError(
            "PEFT activates only plain low-rank updates of linear layers",
            where=where,
            got=f"activation {adapter.config.activation}, and {', '.join(odd)}",
            fix="train it with activation all, or without these",
        )


def _rank_fields(updates: list[PeftUpdate], where: object) -> dict[str, Any]:
    """Fields from which PEFT computes exactly each update's scale: the commonest rank and alpha, others by name."""
    choices = [(rslora, _find_alphas(updates, rslora)) for rslora in (False, True)]
    # Whole alphas tell which of the two formulas the scales were made with.
    rslora, exact = max(choices, key=lambda choice: (len(choice[1]), all(map(float.is_integer, choice[1].values()))))
    missing = [f"{update.name}: {update.update.scale}" for update in updates if update.name not in exact]
    if missing:
        raise ConversionError(
            "no alpha gives a layer's scale exactly",
            where=where,
            got="; ".join(missing),
            fix="train with a scale that is alpha over rank",
        )
    # PEFT warns of patterns that name parameters, although it follows them.
    common = [update for update in updates if update.parameter] or updates
    rank = Counter(update.rank for update in common).most_common(1)[0][0]
    alpha = Counter(exact[update.name] for update in common).most_common(1)[0][0]
    return {
        "r": rank,
        "lora_alpha": _as_integer(alpha),
        "use_rslora": rslora,
        "rank_pattern": {re.escape(one.name): one.rank for one in updates if one.rank != rank},
        "alpha_pattern": {re.escape(name): _as_integer(own) for name, own in exact.items() if own != alpha},
    }


def _find_alphas(updates: list[PeftUpdate], rslora: bool) -> dict[str, float]:
    """The alphas by update name. An update whose scale no alpha gives exactly is left out."""
    alphas = {update.name: _find_alpha(update.update.scale, update.rank, rslora) for update in updates}
    return {name: alpha for name, alpha in alphas.items() if alpha is not None}


def _find_alpha(scale: float, rank: int, rslora: bool) -> float | None:
    """The alpha that gives the scale bit for bit when PEFT divides it by the rank, or its root. Whole numbers first."""
    divisor = math.sqrt(rank) if rslora else rank
    product = scale * divisor
    if not math.isfinite(product):
        return None
    near = (round(product), product, math.nextafter(product, math.inf), math.nextafter(product, -math.inf))
    return next((float(alpha) for alpha in near if alpha / divisor == scale), None)


def _as_integer(value: float) -> float:
    return int(value) if value.is_integer() else value


def _module_fields(adapter: Adapter) -> dict[str, Any]:
    rows = {
        peft_path(path): own.ids.tolist() for path, own in adapter.modules.items() if isinstance(own, TrainedTokenRows)
    }
    saved = [peft_path(path) for path, own in adapter.modules.items() if not isinstance(own, TrainedTokenRows)]
    return {"trainable_token_indices": rows or None, "modules_to_save": saved or None}


def _module_tensors(adapter: Adapter) -> Iterator[tuple[str, mx.array]]:
    for path, own in adapter.modules.items():
        if isinstance(own, TrainedTokenRows):
            yield f"{PREFIX}{peft_path(path)}.token_adapter.trainable_tokens_delta", own.rows
        else:
            yield from ((f"{PREFIX}{peft_path(path)}.{name}", array) for name, array in own.parts.items())
