"""GGUF files to MLX model folders."""

from dualtune_mlx.conversion.gguf.convert import from_gguf

__all__ = ["from_gguf"]
