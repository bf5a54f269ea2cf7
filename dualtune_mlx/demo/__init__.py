"""The embedded example: its wordings, its data, and the workspace its servers work in."""

from dualtune_mlx.demo.recipe import Recipe
from dualtune_mlx.demo.workspace import Workspace

__all__ = ["Recipe", "Workspace"]
