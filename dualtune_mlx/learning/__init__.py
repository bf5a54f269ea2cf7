"""The road from a list of tools to a bundle that is measured."""

from dualtune_mlx.learning.options import LearnOptions
from dualtune_mlx.learning.road import learn

__all__ = ["LearnOptions", "learn"]
