"""Which kinds of models are supported, and why the others are refused."""

from __future__ import annotations

from typing import Any, cast

import mlx.nn as nn
from mlx_lm.models.rope_utils import DynamicNTKScalingRoPE

from dualtune_mlx.errors import ModelError

LIBRARY = "mlx_lm.models."
KINDS = ("gemma3_text", "llama", "ministral3", "phi", "phi3", "qwen2", "qwen3")
"""The mlx-lm models of the shape that ``BaseModel`` relies on: attention caches only, and a plain linear head."""
CONVERTED = ("mixtral", "olmoe", "qwen2_moe", "qwen3_moe")
"""The mlx-lm models with experts, which only conversions load."""
WRAPPERS = ("gemma3", "mistral3")
"""The mlx-lm models that hold one of those as ``language_model`` and give its logits unchanged."""


def language_model(model: nn.Module) -> nn.Module:
    """The language model: the model itself, or the one inside a multimodal checkpoint's wrapper."""
    return cast(nn.Module, getattr(model, "language_model", model))


def context_length(model: nn.Module, exact_length: int | None) -> int | None:
    """The longest sequence, in tokens, that a model was made for and mlx-lm computes exactly; None where it is unknown.

    Args:
        model: mlx-lm's network.
        exact_length: the longest one that mlx-lm computes exactly; None where it does always.
    """
    args = model.args
    # A wrapper's text_config is the file's own; the arguments made of it have mlx-lm's defaults filled in.
    config: dict[str, Any] = vars(args) if language_model(model) is model else args.text_config
    return min(filter(None, (config.get("max_position_embeddings"), exact_length)), default=None)


def check_supported(name: str, model: nn.Module) -> None:
    """Refuse a model that ``BaseModel`` would compute wrongly. No weight is read.

    Raises:
        ModelError: when the kind of the model, or the way it scales its positions, is not supported.
    """
    _check_kind(name, model)
    _check_positions(name, model)


def _check_kind(name: str, model: nn.Module) -> None:
    """Refuse every kind that is not listed: with another head, mask or cache, training would be silently wrong."""
    kinds = [f"{LIBRARY}{kind}" for kind in KINDS]
    outer, inner = type(model).__module__, type(language_model(model)).__module__
    if inner in kinds and (outer == inner or outer in [f"{LIBRARY}{wrapper}" for wrapper in WRAPPERS]):
        return
    raise ModelError(
        "this kind of model is not supported",
        where=name,
        got=f"{getattr(model, 'model_type', type(model).__name__)}, which is {outer}"
        + (f" around {inner}" if outer != inner else ""),
        expected=f"one of mlx-lm's {', '.join(sorted((*KINDS, *WRAPPERS)))} (mistral is llama there)",
        fix="use a Llama, Mistral, Qwen2, Qwen2.5, Qwen3, Gemma 3 or Phi model",
    )


def _check_positions(name: str, model: nn.Module) -> None:
    """Refuse rotary positions that depend on the length of the sequence: cached keys would become wrong."""
    if any(isinstance(module, DynamicNTKScalingRoPE) for module in model.modules()):
        raise ModelError(
            "this model's way of scaling its rotary positions is not supported",
            where=name,
            got="rope_scaling of type dynamic, whose keys change with the length of the sequence",
            expected="default, linear, llama3, longrope or yarn",
            fix="use a model without dynamic rope scaling",
        )
