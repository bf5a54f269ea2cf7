"""Forms of copied values: where all values of an argument look like a file name, other words are not meant."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import regex  # type: ignore[import-untyped]

from dualtune_mlx.decoding.spans import find_spans
from dualtune_mlx.tools import Message

FORMS: Mapping[str, str] = {
    "address": r"\w+://\S+",
    "mail": r"\S+@\S+\.\w+",
    "number": r"[+-]?\d[\d.,:/-]*",
    "file": r"(?!\w+://)[^\s@]*\w\.\p{L}\w{0,4}",
    "path": r"\S*/\S*",
}
"""Each form by a pattern, the narrow ones first."""
_FORMS = {name: regex.compile(pattern) for name, pattern in FORMS.items()}
SHARE = 0.9
"""Which share of an argument's values must be copied, and which share of these must have its form."""


def find_form(values: Sequence[str]) -> str:
    """The narrowest form that nearly all values have; "" for none."""
    fitting = (name for name in FORMS if sum(map(_matcher(name), values)) >= SHARE * len(values))
    return next(fitting, "") if values else ""


def spans_of_form(form: str, messages: Iterable[Message]) -> list[str]:
    """The spans of a conversation that have a form, each once."""
    return list(dict.fromkeys(filter(_matcher(form), find_spans(messages))))


def _matcher(form: str) -> Callable[[str], bool]:
    pattern = _FORMS[form]
    return lambda value: pattern.fullmatch(value) is not None
