"""Texts without the secrets that a server was given."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

SHORTEST = 4  # characters: what is shorter is no secret, and stands in every other word
LINES = 10
CHARACTERS = 2_000

Secrets = Sequence[tuple[str, str]]
"""Names and values."""


def redacted(text: str, secrets: Secrets) -> str:
    """The text with every secret replaced by its name, also where it follows a scheme, as in ``Bearer …``."""
    values = [(part, name) for name, value in secrets for part in (value, value.rpartition(" ")[2])]
    for value, name in sorted(values, key=lambda item: -len(item[0])):  # the longest first: one may hold another
        if len(value) >= SHORTEST:
            text = text.replace(value, f"<{name}>")
    return text


def told(text: str, secrets: Secrets) -> str:
    """What a server said, fit to be shown: redacted before it is cut, so that no secret is cut in half; its last lines,
    without control characters."""
    lines = redacted(text, secrets).strip().splitlines()[-LINES:]
    plain = ["".join(c if c.isprintable() or c == "\t" else "\ufffd" for c in line[-CHARACTERS:]) for line in lines]
    return "\n".join(plain)[-CHARACTERS:]


def without_credentials(url: str) -> str:
    """A URL without its user, password, query and fragment, which may hold secrets."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
