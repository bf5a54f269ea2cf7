"""A tool's schema as a grammar: what may be written of a call's arguments. No MLX."""

from dualtune_mlx.grammar.compiling import check_compiles, new_matcher
from dualtune_mlx.grammar.writable import explain_unwritable

__all__ = ["check_compiles", "explain_unwritable", "new_matcher"]
