"""Base models: found by name, checked, loaded."""

from dualtune_mlx.models.base_model import FUSED_BUDGET, PREFILL_CHUNK, BaseModel, fingerprint
from dualtune_mlx.models.loading import (
    EMBEDDED,
    EMBEDDED_WHEEL,
    embedded_file,
    load_model,
    load_network,
    load_tokenizer,
    resolve,
)
from dualtune_mlx.models.support import check_supported
from dualtune_mlx.models.whole_weights import hash_loaded, hash_weights

__all__ = [
    "EMBEDDED",
    "EMBEDDED_WHEEL",
    "FUSED_BUDGET",
    "PREFILL_CHUNK",
    "BaseModel",
    "check_supported",
    "embedded_file",
    "fingerprint",
    "hash_loaded",
    "hash_weights",
    "load_model",
    "load_network",
    "load_tokenizer",
    "resolve",
]
