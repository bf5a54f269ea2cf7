"""Prompts: templates with span tags, rendered into one token stream for training and inference."""

from dualtune_mlx.prompts.cards import CARD_KINDS
from dualtune_mlx.prompts.encoder import Encoder
from dualtune_mlx.prompts.fit import AUTO, check_fit, template_for
from dualtune_mlx.prompts.parameters import ARGUMENT_CARDS
from dualtune_mlx.prompts.renderer import PromptRenderer
from dualtune_mlx.prompts.stream import ACTIVATIONS, Span, TokenStream, span_name
from dualtune_mlx.prompts.template import BUILT_IN_TEMPLATES, SINGLE_STAGE_TEMPLATES, TEMPLATES, Template

__all__ = [
    "ACTIVATIONS",
    "ARGUMENT_CARDS",
    "AUTO",
    "BUILT_IN_TEMPLATES",
    "CARD_KINDS",
    "SINGLE_STAGE_TEMPLATES",
    "TEMPLATES",
    "Encoder",
    "PromptRenderer",
    "Span",
    "Template",
    "TokenStream",
    "check_fit",
    "span_name",
    "template_for",
]
