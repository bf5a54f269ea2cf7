"""The kind of value that a parameter takes."""

from __future__ import annotations

from typing import Any

import pytest

from dualtune_mlx.synthesis.planning.kinds import find_kind
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.parameters import Parameter


def kind_of(name: str, description: str = "", tool: str = "A tool.", **schema: Any) -> str:
    own = {"type": "string", "description": description, **schema}
    properties = {name: own, "date": {"type": "string"}}
    return find_kind(Tool("do", tool, {"type": "object", "properties": properties}), Parameter(name, own, (own,), True))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("path", "path"),
        ("source_filename", "file"),
        ("owner", "owner"),
        ("repoName", "repo"),
        ("title", "title"),
        ("searchQuery", "search"),
        ("city", "town"),
        ("symbols[]", "ticker"),
        ("channel", "channel"),
        ("start_cell", "cell"),
        ("sheet_name", "sheet"),
        ("namespace", "service"),
        ("startElement", "element"),
        ("backgroundColor", "colour"),
        ("user.email", "email"),
        ("next_token", "opaque"),
        ("blorb", ""),
    ],
)
def test_by_name(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_a_format_counts_most() -> None:
    assert kind_of("title", format="email") == "email"


def test_by_description() -> None:
    assert kind_of("blorb", "A date as YYYY-MM-DD") == "date"
    assert kind_of("start_time", "The day, YYYY-MM-DD") == "date"
    assert kind_of("query", "The SQL to run") == "sql"
    assert kind_of("content", "The Mermaid diagram") == "mermaid"
    assert kind_of("title", "A title, also for the HTML page") == "title"


def test_by_what_the_tool_speaks_of() -> None:
    assert kind_of("query", tool="Run SQL against the database.") == "sql"
    assert kind_of("from", tool="Search mail.") == "email"
    assert kind_of("from", tool="Find flights.") == "town"
    assert kind_of("image", tool="Pull an image from a container registry.") == "container_image"
    assert kind_of("time") == "clock"
    assert kind_of("to", tool="Convert between units.") == "measure"
    assert kind_of("formula", tool="Calculate a value.") == "math"
    assert kind_of("folder", tool="Move a note.") == "name"
    assert kind_of("recurrence", "As RRULE") == "rrule"
