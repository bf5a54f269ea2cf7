"""Removes the secrets of a server from texts."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from urllib.parse import quote, urlsplit

SHORTEST = 4  # characters: what is shorter is no secret, and stands in every other word
LINES = 10
CHARACTERS = 2_000

FORMS: Sequence[Callable[[str], str]] = (
    lambda value: json.dumps(value)[1:-1],
    lambda value: json.dumps(value, ensure_ascii=False)[1:-1],
    lambda value: repr(value + "\"'")[1:-4],  # both quotes: single ones are then escaped
    lambda value: repr(value)[1:-1],
    lambda value: ascii(value)[1:-1],
    lambda value: repr(value.encode(errors="surrogateescape"))[2:-1],
    lambda value: quote(value, safe="", errors="surrogateescape"),
)
"""How programs write a text inside another one."""

Secrets = Sequence[tuple[str, str]]
"""Pairs of a name and a secret value."""


def redact(text: str, secrets: Secrets) -> str:
    """Replace every secret by its name, also the part of a secret behind a scheme, as in ``Bearer …``.

    Texts of programs hold it as it is, and as JSON, Python's ``repr`` or a URL has it, or JSON inside of JSON.
    """
    parts = [(part, name) for name, value in secrets for part in (value, value.rpartition(" ")[2])]
    spelled = [(form, name) for part, name in parts if len(part) >= SHORTEST for form in _spell(part)]
    for form, name in sorted(spelled, key=lambda item: -len(item[0])):  # the longest first: one may hold another
        text = text.replace(form, f"<{name}>")
    return text


def _spell(value: str) -> set[str]:
    once = {value, *(form(value) for form in FORMS)}
    return once | {form(one) for one in once for form in FORMS}


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
