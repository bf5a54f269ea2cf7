"""Adapters: low-rank layers, their files, and the bank that holds them over one base model."""

from dualtune_mlx.adapters.adapter import Adapter
from dualtune_mlx.adapters.bank import AdapterBank
from dualtune_mlx.adapters.config import AdapterConfig
from dualtune_mlx.adapters.low_rank import LowRank, LowRankLinear
from dualtune_mlx.adapters.targets import LAYERS, LAYERS_FORM, layer_range, matching

__all__ = [
    "LAYERS",
    "LAYERS_FORM",
    "Adapter",
    "AdapterBank",
    "AdapterConfig",
    "LowRank",
    "LowRankLinear",
    "layer_range",
    "matching",
]
