"""Templates of pages, in the look that all pages share: ``page.html.jinja``, and macros in ``parts.html.jinja``.

What a page says is untrusted: names of tools, requests, notes. Jinja escapes it, and invisible characters, such as
those that turn the direction of writing, are shown as marks.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, Template

MARKS = {"\n": "↵\n", "\t": "⇥"}


@cache
def open_template(package: str, name: str) -> Template:
    """The template of a package's folder; it may extend ``page.html.jinja``."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, "."), PackageLoader("dualtune_mlx.pages", ".")]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_mark_text,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def mark_unseen(character: str, dotted: bool = False) -> str | None:
    """The mark for an invisible character, or for a space that is to be ``dotted``; None for a visible one."""
    if dotted:
        return "·"
    if character in MARKS:
        return MARKS[character]
    if character < " ":
        return chr(ord("␀") + ord(character))
    unseen = unicodedata.category(character)[0] in "CZ" and character != " "
    return f"⟨U+{ord(character):04X}⟩" if unseen else None


def _mark_text(value: Any) -> Any:
    """Put marks into text before Jinja escapes it. Line breaks stay, and so does what is HTML already."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return "".join(character if character == "\n" else mark_unseen(character) or character for character in value)
