"""Adapters: low-rank layers, their files, and the bank that holds them over one base model."""

from dualtune_mlx.adapters.adapter import Adapter, AdapterConfig
from dualtune_mlx.adapters.bank import AdapterBank
from dualtune_mlx.adapters.low_rank import LowRank, LowRankLinear

__all__ = ["Adapter", "AdapterBank", "AdapterConfig", "LowRank", "LowRankLinear"]
