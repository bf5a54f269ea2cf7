"""Decoding: the exact choice among names, and arguments under a JSON Schema."""

from dualtune_mlx.decoding.choice import Ranked, best_first
from dualtune_mlx.decoding.grammar import ArgumentGrammar, GrammarTokenizer
from dualtune_mlx.decoding.grounding import Grounding, grounded, learn_grounding

__all__ = ["ArgumentGrammar", "GrammarTokenizer", "Grounding", "Ranked", "best_first", "grounded", "learn_grounding"]
