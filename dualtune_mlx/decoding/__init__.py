"""Decoding: the exact choice among names, and arguments under a JSON Schema."""

from dualtune_mlx.decoding.choice import Answers, Fork, Ranked, best_first, search
from dualtune_mlx.decoding.confidence import unsure_strings
from dualtune_mlx.decoding.grammar import ArgumentGrammar, GrammarTokenizer
from dualtune_mlx.decoding.grounding import Grounding, grounded, learn_grounding, only
from dualtune_mlx.decoding.lookup import Lookup
from dualtune_mlx.decoding.options import GROUNDINGS, Decoding, Options
from dualtune_mlx.decoding.writing import DecodeStep, DraftBuffer, Writer, written

__all__ = [
    "GROUNDINGS",
    "Answers",
    "ArgumentGrammar",
    "DecodeStep",
    "Decoding",
    "DraftBuffer",
    "Fork",
    "GrammarTokenizer",
    "Grounding",
    "Lookup",
    "Options",
    "Ranked",
    "Writer",
    "best_first",
    "grounded",
    "learn_grounding",
    "only",
    "search",
    "unsure_strings",
    "written",
]
