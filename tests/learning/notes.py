"""The tools that the tests learn."""

from __future__ import annotations

from dualtune_mlx.tools import Tool

ADD = Tool(
    "add_note",
    "Add a note.",
    {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
    "notes",
)
LIST = Tool("list_notes", "List all notes.", {"type": "object", "properties": {}}, "notes")
FIND = Tool(
    "find_notes",
    "Find notes about a topic.",
    {"type": "object", "properties": {"topic": {"type": "string"}}, "required": ["topic"]},
    "notes",
)
