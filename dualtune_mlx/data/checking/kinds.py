"""The kinds of faults that a check finds, and a fault."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Kind:
    """A kind of fault."""

    title: str
    """What it is, in a few words."""
    is_error: bool = True
    """Whether the data should not be used with it; otherwise it is a warning."""
    removable: bool = True
    """Whether leaving the line out mends it, so that ``--fix`` does so."""


KINDS = {
    "encoding": Kind("no UTF-8 text"),
    "json": Kind("no JSON"),
    "keys": Kind("keys that are not known"),
    "message": Kind("messages that cannot be read"),
    "order": Kind("roles in a wrong order"),
    "parts": Kind("parts that do not fit the request"),
    "tools": Kind("tools that cannot be used"),
    "today": Kind("a date that is none"),
    "unknown_tool": Kind("calls of unknown tools"),
    "schema": Kind("arguments that do not fit the schema"),
    "double_encoded": Kind("arguments that are JSON in JSON"),
    "unwritable": Kind("calls that decoding cannot write"),
    "written_call": Kind("answers that pretend a call"),
    "empty_request": Kind("empty requests"),
    "control_token": Kind("requests with control tokens"),
    "missing_today": Kind("relative dates without a today"),
    "result_without_call": Kind("results without a call"),
    "call_without_result": Kind("calls without their result"),
    "repeated_result": Kind("two results of one call"),
    "secret": Kind("secrets"),
    "contradiction": Kind("the same request, other calls", removable=False),
    "wording_in_splits": Kind("the same wording in two splits"),
    "family_in_splits": Kind("a family in two splits", removable=False),
    "empty_file": Kind("files without a line", removable=False),
    "duplicate": Kind("the same line again", is_error=False),
    "near_duplicate": Kind("nearly the same line again", is_error=False, removable=False),
    "claimed_call": Kind("answers that claim what no call did", is_error=False, removable=False),
    "unanswered": Kind("requests without an answer", is_error=False, removable=False),
    "too_long": Kind("longer than the window", is_error=False, removable=False),
    "home_path": Kind("paths in somebody's home folder", is_error=False, removable=False),
    "rare_tool": Kind("tools that are hardly called", is_error=False, removable=False),
    "optional_argument": Kind("optional arguments always or never given", is_error=False, removable=False),
}
"""All kinds, in the order of reports."""


@dataclass(frozen=True)
class Finding:
    """A fault at its place."""

    file: str
    """The file's name in the data folder."""
    line: int
    """The line's number, from 1; 0 where it is the file as a whole."""
    kind: str
    """One of ``KINDS``."""
    what: str
    """What is wrong, in a sentence."""
    fix: str = ""
    """What can be done."""
    stays: bool = False
    """Whether the line is the one to keep, although others of this fault are better left out."""

    def to_dict(self) -> dict[str, Any]:
        """The fault as JSON."""
        return {**asdict(self), "stays": bool(self.stays)}
