"""How long lines of data are in a model's tokens, as training sees them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from dualtune_mlx.data.checking import Length
from dualtune_mlx.data.decisions import call_decisions
from dualtune_mlx.models import load_network, load_tokenizer
from dualtune_mlx.models.support import context_length
from dualtune_mlx.prompts import AUTO, PromptRenderer, template_for
from dualtune_mlx.tools import Trajectory
from dualtune_mlx.training.options import TrainOptions


@dataclass(frozen=True)
class TokenCount:
    """Counts the tokens of a line's last decision: the tools' cards, the conversation, and the call with its card.

    It holds names alone, so it can go to another process.
    """

    model: str
    """The model whose tokens are counted, in the template of its form."""

    def __call__(self, trajectory: Trajectory) -> int:
        """The tokens of a line; 0 where nothing is decided."""
        decisions = list(call_decisions(trajectory))
        if not decisions:
            return 0
        last = decisions[-1]
        stream = _renderer(self.model).render(
            last.messages, last.tools, last.call, subtask=last.subtask, today=last.today
        )
        return len(stream.tokens)


def token_length(model: str) -> Length:
    """Lengths in a model's tokens, against the model's context or the window of training, whichever is shorter.

    Raises:
        ModelError: when the model is missing or damaged.
        PromptError: when no built-in template fits it.
    """
    _renderer(model)
    network = load_network(model, lazy=True)  # its configuration alone
    context = context_length(network.model, network.exact_length)
    window = min(filter(None, (context, TrainOptions().window)), default=0)
    return Length(f"tokens of {model}", window, TokenCount(model))


@lru_cache(maxsize=1)
def _renderer(model: str) -> PromptRenderer:
    tokenizer = load_tokenizer(model)
    return PromptRenderer(template_for(AUTO, tokenizer), tokenizer, argument_card="parameters")
