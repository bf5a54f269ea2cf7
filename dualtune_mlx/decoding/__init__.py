"""Decoding: the exact choice among names, and arguments under a JSON Schema."""

from dualtune_mlx.decoding.branches import Branches
from dualtune_mlx.decoding.choice import Fork, Ranked, best_first
from dualtune_mlx.decoding.confidence import unsure_strings
from dualtune_mlx.decoding.grammar import ArgumentGrammar, GrammarTokenizer
from dualtune_mlx.decoding.grounding import Grounding, grounded, learn_grounding, only
from dualtune_mlx.decoding.lookup import Lookup
from dualtune_mlx.decoding.options import GROUNDINGS, Decoding, Options
from dualtune_mlx.decoding.writing import Step, Tape, written

__all__ = [
    "GROUNDINGS",
    "ArgumentGrammar",
    "Branches",
    "Decoding",
    "Fork",
    "GrammarTokenizer",
    "Grounding",
    "Lookup",
    "Options",
    "Ranked",
    "Step",
    "Tape",
    "best_first",
    "grounded",
    "learn_grounding",
    "only",
    "unsure_strings",
    "written",
]
