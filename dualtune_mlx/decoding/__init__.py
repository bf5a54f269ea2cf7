"""Decoding: the exact choice among names, and arguments under a JSON Schema."""

from dualtune_mlx.decoding.choice import LogProbabilities, RankedName, TrieFork, rank_names, search_names
from dualtune_mlx.decoding.confidence import find_unsure_strings
from dualtune_mlx.decoding.copies import CopyReport, Ungrounded, find_slips, learn_grounding, report_copies
from dualtune_mlx.decoding.evidence import Evidence, KnownChoice, fit_evidence, join, log_sum
from dualtune_mlx.decoding.grammar import ArgumentGrammar, GrammarTokenizer
from dualtune_mlx.decoding.grounding import Grounding, filter_grounding, ground_schema, tool_key
from dualtune_mlx.decoding.lookup import PromptLookup
from dualtune_mlx.decoding.narrowing import narrow
from dualtune_mlx.decoding.options import GROUNDINGS, Decoding, DecodingOptions
from dualtune_mlx.decoding.places import free_strings, leave_out
from dualtune_mlx.decoding.unsaid import find_unsaid
from dualtune_mlx.decoding.word_classifier import WordClassifier, WordReading
from dualtune_mlx.decoding.writing import ArgumentWriter, DecodeStep, DraftBuffer, write_arguments

__all__ = [
    "GROUNDINGS",
    "ArgumentGrammar",
    "ArgumentWriter",
    "CopyReport",
    "DecodeStep",
    "Decoding",
    "DecodingOptions",
    "DraftBuffer",
    "Evidence",
    "GrammarTokenizer",
    "Grounding",
    "KnownChoice",
    "LogProbabilities",
    "PromptLookup",
    "RankedName",
    "TrieFork",
    "Ungrounded",
    "WordClassifier",
    "WordReading",
    "filter_grounding",
    "find_slips",
    "find_unsaid",
    "find_unsure_strings",
    "fit_evidence",
    "free_strings",
    "ground_schema",
    "join",
    "learn_grounding",
    "leave_out",
    "log_sum",
    "narrow",
    "rank_names",
    "report_copies",
    "search_names",
    "tool_key",
    "write_arguments",
]
