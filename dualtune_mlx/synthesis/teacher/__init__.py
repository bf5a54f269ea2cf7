"""A teacher: a larger model that words requests for planned calls, and chooses tools back to check them."""

from dualtune_mlx.synthesis.teacher.teaching import Teaching

__all__ = ["Teaching"]
