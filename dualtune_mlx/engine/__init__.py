"""The engine: a tool is chosen, then its arguments are written."""

from dualtune_mlx.engine.dualtune import DualTune

__all__ = ["DualTune"]
