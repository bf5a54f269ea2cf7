"""Prompts: templates with span tags, rendered into one token stream for training and inference."""

from dualtune_mlx.prompts.cards import CARDS
from dualtune_mlx.prompts.encoder import Encoder
from dualtune_mlx.prompts.renderer import PromptRenderer
from dualtune_mlx.prompts.stream import ACTIVATIONS, Span, TokenStream, span_of
from dualtune_mlx.prompts.template import BUILT_IN, OF_ONE_STAGE, TEMPLATES, Template

__all__ = [
    "ACTIVATIONS",
    "BUILT_IN",
    "CARDS",
    "OF_ONE_STAGE",
    "TEMPLATES",
    "Encoder",
    "PromptRenderer",
    "Span",
    "Template",
    "TokenStream",
    "span_of",
]
