"""What a road that was stopped goes on from: ``learn.json`` in the bundle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from dualtune_mlx.errors import UsageError
from dualtune_mlx.files import parse_json, read_text, write_json
from dualtune_mlx.tools import Tool

FILE = "learn.json"
FORMAT = 1


@dataclass(frozen=True)
class LearnState:
    """What was decided, and what was measured."""

    round: int = 0
    """How often there were other tools, from 1; 0 before the first time."""
    tools: str = ""
    """The fingerprint of the tools of this round."""
    changed: Sequence[str] = ()
    """The full names of the tools that this round learns; the first one learns all."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The options that what follows was decided with."""
    made: bool = False
    """Whether the requests of this round are made; from then on they are the user's to mend."""
    cards: str = ""
    """The kind of tool card."""
    steps: Mapping[str, int] = field(default_factory=dict)
    """Optimiser steps of each adapter, from the speed that was measured."""
    words: str = ""
    """The hash of the requests that the word classifier was fitted to."""
    measured: Mapping[str, Any] = field(default_factory=dict)
    """What was measured, by name: ``before`` and ``after``. Each has the report, and the key of what it measured."""

    @classmethod
    def open(cls, bundle: Path) -> LearnState:
        """Read the state; a new one where there is none.

        Raises:
            UsageError: when the file cannot be read, or is of another format.
        """
        path = bundle / FILE
        if not path.is_file():
            return cls()
        value = parse_json(read_text(path), "the state of learning is not JSON", path)
        if not isinstance(value, dict) or value.pop("format", None) != FORMAT:
            raise UsageError("the state of learning has an unknown format", where=path, fix="learn into another folder")
        return cls(**value)

    def write(self, bundle: Path, **changes: Any) -> LearnState:
        """Write the state with these changes, and return it."""
        state = replace(self, **changes)
        write_json(bundle / FILE, {"format": FORMAT, **asdict(state)})
        return state


def fingerprint_tools(tools: Sequence[Tool]) -> str:
    """The SHA-256 of all that is known of the tools, in hexadecimal digits."""
    return hashlib.sha256(json.dumps([tool.to_dict() for tool in tools], sort_keys=True).encode()).hexdigest()
