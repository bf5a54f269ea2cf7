"""The tokens at which an activation begins, for those who look for tokens instead of recording spans."""

from __future__ import annotations

from dualtune_mlx.errors import PromptError
from dualtune_mlx.prompts.renderer import PromptRenderer
from dualtune_mlx.tools import RESPOND, ToolCall

OPENED = ("invocation", "turn")
"""The activations that begin at an opener."""


def opener(prompt: PromptRenderer, activation: str) -> tuple[int, ...]:
    """The tokens that open a call ("invocation") or a user's message ("turn"), up to what is written in it.

    Raises:
        PromptError: when there are none.
    """
    tokens: tuple[int, ...] = ()
    if activation == "invocation":
        tokens = prompt.call(ToolCall(RESPOND.name, {}), ()).within("invocation")
    elif activation == "turn":
        pieces = prompt.template.render("user", content="?")
        before = pieces[: [piece.kind for piece in pieces].index("data")]
        tokens = tuple(token for piece in before if piece.kind == "text" for token in prompt.encoder.text(piece.value))
    if not tokens:
        raise PromptError("no tokens open this activation", where=prompt.template.name, got=activation)
    return tokens
