"""What a chat model writes, piece by piece."""

from __future__ import annotations

from dataclasses import dataclass

CHARACTERS_PER_TOKEN = 8
"""A text with more characters than this for each token that it may have goes on without an end."""


@dataclass(frozen=True)
class ChatPiece:
    """A piece of the text that a chat model writes, and what is said with it."""

    text: str = ""
    """The next characters."""
    finish: str = ""
    """Why the text ends here: ``stop``, ``length``, …; "" where it goes on."""
    tokens: tuple[int, int] | None = None
    """Tokens that were read and tokens that were written for the whole text, where it is said here."""


def strip_thoughts(text: str) -> str:
    """The text of a reasoning model without its thoughts."""
    return text.rpartition("</think>")[2].strip()
