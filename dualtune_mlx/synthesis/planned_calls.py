"""A call that is planned before its request is worded: arguments first, words second, so that the label is right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dualtune_mlx.tools import Tool


@dataclass(frozen=True)
class SaidValue:
    """A value of a call's arguments, and the words that say it in the request."""

    path: str
    """Where it stands in the arguments: ``due``, ``labels[1]``, ``edits[0].oldText``."""
    value: Any
    """The value."""
    words: str
    """How the request says it: ``next Friday`` for 2026-12-04. The request holds these words as they are."""
    conversion: str
    """What leads from the words to the value: ``verbatim``, or the name of a conversion."""


@dataclass(frozen=True)
class PlannedCall:
    """A call with valid arguments, and the words of each of their values."""

    tool: Tool
    """The tool that is called."""
    arguments: Mapping[str, Any]
    """Its arguments, in the order of the schema."""
    said: tuple[SaidValue, ...]
    """A value for each leaf of the arguments, in their order."""
    today: str = ""
    """The date of the conversation (2026-11-30), which words such as "tomorrow" are relative to; "" for none."""
