"""Adapters: low-rank layers, their files, the bank that holds them over one base model, and what of them is fused."""

from dualtune_mlx.adapters.adapter import Adapter
from dualtune_mlx.adapters.bank import AdapterBank
from dualtune_mlx.adapters.config import AdapterConfig, invocation_start
from dualtune_mlx.adapters.fusion import FusionCache
from dualtune_mlx.adapters.lora import LoRALinear, LoRAUpdate
from dualtune_mlx.adapters.module_weights import SavedModule, TrainedTokenRows
from dualtune_mlx.adapters.targets import LAYERS, LAYERS_FORM, layer_range, matching_keys

__all__ = [
    "LAYERS",
    "LAYERS_FORM",
    "Adapter",
    "AdapterBank",
    "AdapterConfig",
    "FusionCache",
    "LoRALinear",
    "LoRAUpdate",
    "SavedModule",
    "TrainedTokenRows",
    "invocation_start",
    "layer_range",
    "matching_keys",
]
