"""Base models: found by name, loaded, known by their kind."""

from dualtune_mlx.models.base_model import (
    EMBEDDED,
    EMBEDDED_WHEEL,
    BaseModel,
    check_supported,
    fingerprint,
    load_model,
    load_network,
    load_tokenizer,
    resolve,
)

__all__ = [
    "EMBEDDED",
    "EMBEDDED_WHEEL",
    "BaseModel",
    "check_supported",
    "fingerprint",
    "load_model",
    "load_network",
    "load_tokenizer",
    "resolve",
]
