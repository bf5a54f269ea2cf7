"""Values and the words for them, in both directions: what a person says for a value, and whether a request says it."""

from dualtune_mlx.synthesis.conversions.saying import CONVERSIONS, find_said, find_unsaid, list_leaves, say

__all__ = ["CONVERSIONS", "find_said", "find_unsaid", "list_leaves", "say"]
