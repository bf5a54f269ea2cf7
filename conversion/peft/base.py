"""The base model of a PEFT adapter, and the check that it is the one that the adapter was made for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import mlx.nn as nn
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from dualtune_mlx.adapters import Adapter, AdapterBank
from dualtune_mlx.adapters.layers import unwrap
from dualtune_mlx.conversion.peft.config import PeftConfig, read_json
from dualtune_mlx.errors import ConversionError

DEFINING_KEYS = (
    "model_type",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
    "tie_word_embeddings",
)
"""The entries of a configuration in which two copies of one model cannot differ."""


@dataclass(frozen=True)
class BaseCheckpoint:
    """A base model that adapters are checked against."""

    name: str
    """Its folder or hub id."""
    model: nn.Module
    """mlx-lm's network. Its weights may be unread."""
    config: Mapping[str, Any]
    """Its ``config.json``."""
    fingerprint: Callable[[], str]
    """Computes the fingerprint of its weights."""
    weights: Callable[[], str] = lambda: ""
    """Computes the hash of all of its weights; "" where it is not known."""

    @cached_property
    def modules(self) -> dict[str, nn.Module]:
        """Its modules by path, without adapter layers around them."""
        named = {
            path.replace(".linear.", ".").replace(".layer.", "."): module for path, module in self.model.named_modules()
        }
        return {path: unwrap(module) for path, module in named.items()}

    def check(self, adapter: Adapter) -> None:
        """Refuse an adapter that does not fit the model.

        Raises:
            AdapterError: when it does not fit, naming every bad tensor.
        """
        AdapterBank(self.model).check(adapter)

    @property
    def model_type(self) -> str:
        """transformers' name of its kind; of a multimodal model, that of its language model."""
        text = self.config.get("text_config")
        return str((text if isinstance(text, Mapping) else self.config).get("model_type"))


def check_base(base: BaseCheckpoint, config: PeftConfig, fingerprint: object) -> None:
    """Refuse a model that cannot be the one that an adapter was made for: by class, configuration or weights.

    Args:
        base: the model.
        config: the adapter's configuration.
        fingerprint: that of the adapter's own base, where its file has it.

    Raises:
        ConversionError: when it is another model.
    """
    classes = base.config.get("architectures") or []
    if config.base_class and classes and config.base_class not in classes:
        raise _wrong_base(base, config, ", ".join(classes), f"{config.base_class}, as auto_mapping says")
    differing = _find_differences(base.config, config.base)
    if differing:
        raise _wrong_base(base, config, "; ".join(differing), f"the configuration of {config.base}")
    if fingerprint is not None and fingerprint != (own := base.fingerprint()):
        raise _wrong_base(base, config, f"weights {own[:12]}", f"weights {str(fingerprint)[:12]}")


def _find_differences(config: Mapping[str, Any], named: str | None) -> list[str]:
    """The differences from the configuration of the base that an adapter names, if that is on this machine."""
    path = _find_config(named)
    if path is None:
        return []
    try:
        theirs = read_json(path)
    except (OSError, ValueError, RecursionError) as error:
        raise ConversionError(
            "the configuration of an adapter's base cannot be read",
            where=path,
            got=error,
            fix="name a model folder whose config.json is whole",
        ) from error
    return [
        f"{key} {config[key]}, not {theirs[key]}"
        for key in DEFINING_KEYS
        if isinstance(theirs, dict) and key in config and key in theirs and config[key] != theirs[key]
    ]


def _find_config(named: str | None) -> Path | None:
    """The ``config.json`` of a model's folder, or of a hub id that was downloaded before. Nothing is downloaded."""
    if not named:
        return None
    try:
        path = Path(named) / "config.json" if Path(named).is_dir() else try_to_load_from_cache(named, "config.json")
    except HFValidationError:
        return None
    return Path(path) if isinstance(path, str | Path) and Path(path).is_file() else None


def _wrong_base(base: BaseCheckpoint, config: PeftConfig, got: str, expected: str) -> ConversionError:
    return ConversionError(
        "the model is not the one that the adapter was made for",
        where=f"{config.where}, with {base.name}",
        got=got,
        expected=expected,
        fix=f"give the model that the adapter names: {config.base}"
        if config.base
        else "give the adapter's own base model",
    )
