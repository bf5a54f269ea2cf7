"""Removes the secrets of a server from texts."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

SHORTEST = 4  # characters: what is shorter is no secret, and stands in every other word
LINES = 10
CHARACTERS = 2_000

Secrets = Sequence[tuple[str, str]]
"""Pairs of a name and a secret value."""


def redact(text: str, secrets: Secrets) -> str:
    """Replace every secret by its name, also the part of a secret behind a scheme, as in ``Bearer …``."""
    values = [(part, name) for name, value in secrets for part in (value, value.rpartition(" ")[2])]
    for value, name in sorted(values, key=lambda item: -len(item[0])):  # the longest first: one may hold another
        if len(value) >= SHORTEST:
            text = text.replace(value, f"<{name}>")
    return text


def clean_output(text: str, secrets: Secrets) -> str:
    """The last lines of what a server said, without secrets and control characters.

    Secrets are replaced before the text is cut, so that none is cut in half.
    """
    lines = redact(text, secrets).strip().splitlines()[-LINES:]
    plain = ["".join(c if c.isprintable() or c == "\t" else "\ufffd" for c in line[-CHARACTERS:]) for line in lines]
    return "\n".join(plain)[-CHARACTERS:]


def strip_credentials(url: str) -> str:
    """Remove user, password, query and fragment from a URL: they may hold secrets."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
