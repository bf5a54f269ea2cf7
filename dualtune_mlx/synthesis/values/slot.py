"""A slot: a gap in a wording, and the value that fills it. The kinds of slots are in ``slots.py``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

SLOT_PATTERN = re.compile(r"\{([a-z_]+)(\d?)\}")
"""A placeholder in a wording: the kind of slot, and a digit where a wording has two slots of a kind."""


@dataclass(frozen=True)
class Slot:
    """A slot with its value."""

    surface: str
    """The words that stand in the request."""
    value: Any
    """The value that stands in the call's arguments."""

    @staticmethod
    def verbatim(text: str) -> Slot:
        """A slot whose value is exactly what the user writes."""
        return Slot(text, text)
