"""What is understood of a tool from its name and description."""

import pytest

from dualtune_mlx.synthesis.phrasing.tool_sense import understand, understand_tool
from dualtune_mlx.tools import Tool

from .servers import CALENDAR, TRACKER


@pytest.mark.parametrize(
    ("name", "description", "action", "noun", "manner"),
    [
        ("create_issue", "", "create", "issue", ""),
        ("getFileContents", "", "list", "file content", ""),
        ("list-available-documents", "", "list", "document", ""),
        ("SearchIndexTool", "", "search", "index", ""),
        ("API-patch-page", "Update a page", "update", "page", ""),
        ("file_upload", "Upload files.", "upload", "file", ""),
        ("rules_read", "List alert rules.", "list", "rule", ""),
        ("add_footnote_after_text", "", "add", "footnote", "after text"),
        ("merge_table_cells_vertical", "", "merge", "table cell", "vertical"),
        ("search_and_replace", "Search for text and replace all occurrences.", "replace", "text", ""),
        ("drop_table", "", "delete", "table", ""),
        ("weather", "Returns the forecast for a city.", "read", "weather", ""),
        ("frobnicate", "", "read", "frobnicate", ""),
        ("buscar_notas", "Busca notas por texto.", "read", "buscar nota", ""),
    ],
)
def test_an_action_and_a_thing(name: str, description: str, action: str, noun: str, manner: str) -> None:
    sense = understand_tool(Tool(name, description))
    assert (sense.actions[0], sense.things[0].noun, sense.manner) == (action, noun, manner)


def test_a_prefix_that_all_tools_share_says_nothing() -> None:
    senses = understand([Tool(f"acme_{name}", server="s") for name in ("get_note", "delete_note", "archive_note")])
    assert [sense.actions[0] for sense in senses.values()] == ["read", "delete", "archive"]
    assert {sense.things[0].noun for sense in senses.values()} == {"note"}


def test_a_shared_verb_stays() -> None:
    senses = understand([Tool("get_news", server="s"), Tool("get_price", server="s")])
    assert [sense.things[0].noun for sense in senses.values()] == ["news", "price"]


def test_orders_and_topics_are_read_from_the_description() -> None:
    sense = understand_tool(Tool("q", "Retrieves the log of a specific run, including steps, times and errors."))
    assert sense.orders == ("retrieve the log of a run",)
    assert [topic.noun for topic in sense.topics] == ["step", "time", "error"]


def test_tools_for_things_alike_are_rivals() -> None:
    senses = understand([*TRACKER, *CALENDAR])
    assert "delete_issue" in senses["getIssue"].rivals
    assert "search_comments" not in senses["getIssue"].rivals
    assert senses["CreateEventTool"].rivals == ("ListEventsTool",)
