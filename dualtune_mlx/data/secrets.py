"""Secrets and home folders in texts: what should not be learned, nor be sent anywhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Secret:
    """Something in a text that looks like a secret. It is never shown: only what it is, and where."""

    kind: str
    """What it is, in words: ``a GitHub token``."""
    start: int
    """Where it begins in the text, in characters."""
    end: int
    """Where it ends."""


SHAPES = {
    "an AWS access key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "a GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_\w{22})\w*",
    "a GitLab token": r"\bglpat-[\w-]{20,}",
    "an API key": r"\bsk-(?:[A-Za-z0-9]+-)*\w{20,}[\w-]*",
    "a Slack token": r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}",
    "a Google API key": r"\bAIza[\w-]{35}",
    "a Stripe key": r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,}",
    "an npm token": r"\bnpm_[A-Za-z0-9]{36}",
    "a PyPI token": r"\bpypi-[\w-]{50,}",
    "a Hugging Face token": r"\bhf_[A-Za-z0-9]{30,}",
    "a private key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----",
    "a JSON web token": r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}",
    "a bearer token": r"\b[Bb]earer\s+(?=\S*\d)[\w.~+/-]{20,}=*",
    "a password in a URL": r"\b[A-Za-z][A-Za-z0-9+.-]*://[^\s/:@<>{}$]+:[^\s/:@<>{}$]+@",
    "a password": (
        r"(?i:\b(?:\w+_)?(?:password|passwd|pwd|secret|api[_-]?key|access[_-]?key|token)\b[\"']?(?:\s*[:=]\s*|\s+is\s+)[\"']?)"
        r"(?=[^\s\"',;]*\d)(?=[^\s\"',;]*[A-Za-z])[^\s\"',;<>{}$()]{8,}"
    ),
}
"""The shapes of secrets. A shape that is only a word, such as "password", needs a value beside it."""
_MARKS = re.compile(
    "akia|asia|gh[pousr]_|github_pat_|glpat-|sk-|xox|aiza|hf_|k_live_|k_test_|npm_|pypi-|private key|eyj|earer|://"
    "|passw|pwd|secret|key|token"
)
"""Without one of these no shape can be found; looking for them costs little."""
HOME = re.compile(r"(?:/home/|/Users/|\b[A-Za-z]:[\\/]+Users[\\/]+)(?P<name>[\w.-]+)")
NOBODY = frozenset(
    ("user", "username", "users", "you", "me", "yourname", "name", "shared", "public", "default", "runner", "ubuntu")
)
"""Names of home folders that are nobody's."""
_SHAPES = re.compile("|".join(f"(?P<s{number}>{shape})" for number, shape in enumerate(SHAPES.values())))
_KINDS = {f"s{number}": kind for number, kind in enumerate(SHAPES)}


def find_secrets(text: str) -> Iterator[Secret]:
    """Find what has the shape of a key, a token or a password."""
    if _MARKS.search(text.lower()):
        for found in _SHAPES.finditer(text):
            yield Secret(_KINDS[str(found.lastgroup)], *found.span())


def find_home_paths(text: str) -> Iterator[str]:
    """Find the beginnings of paths that lie in somebody's home folder: ``/home/ada``."""
    if "/home/" in text or "Users" in text:
        for found in HOME.finditer(text):
            if found["name"].lower() not in NOBODY:
                yield found[0]


def hide_secrets(text: str) -> str:
    """The text with words in the place of each secret: ``<a GitHub token>``."""
    for secret in reversed(list(find_secrets(text))):
        text = f"{text[: secret.start]}<{secret.kind}>{text[secret.end :]}"
    return text
