"""Texts without the secrets that a server was given."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

SHORTEST = 4  # characters: what is shorter is no secret, and stands in every other word
LINES = 10
CHARACTERS = 2_000


def redacted(text: str, secrets: Mapping[str, str]) -> str:
    """The text with every secret replaced by its name, also where it follows a scheme, as in ``Bearer …``."""
    values = [(part, name) for name, value in secrets.items() for part in (value, value.rpartition(" ")[2])]
    for value, name in sorted(values, key=lambda item: -len(item[0])):  # the longest first: one may hold another
        if len(value) >= SHORTEST:
            text = text.replace(value, f"<{name}>")
    return text


def last_words(output: bytes, secrets: Mapping[str, str]) -> str:
    """The last lines of what a server wrote, redacted before anything is cut, so that no secret is cut in half."""
    lines = redacted(output.decode(errors="replace"), secrets).strip().splitlines()[-LINES:]
    return "\n".join(lines)[-CHARACTERS:]


def without_credentials(url: str) -> str:
    """A URL without its user, password, query and fragment, which may hold secrets."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
