"""Decoupled fine-tuning for tool calling, native on MLX: one adapter chooses, another writes the arguments."""

from dualtune_mlx import blas

blas.load()
