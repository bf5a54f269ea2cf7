"""The embedded example: its recipe, its workspace and pinned servers, and the run of it all."""

from dualtune_mlx.demo.recipe import Recipe
from dualtune_mlx.demo.run import run_demo
from dualtune_mlx.demo.workspace import Workspace

__all__ = ["Recipe", "Workspace", "run_demo"]
