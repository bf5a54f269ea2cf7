"""Decoding: the exact choice among names, and arguments under a JSON Schema."""

from dualtune_mlx.decoding.choice import Ranked, best_first
from dualtune_mlx.decoding.grammar import ArgumentGrammar, GrammarTokenizer

__all__ = ["ArgumentGrammar", "GrammarTokenizer", "Ranked", "best_first"]
