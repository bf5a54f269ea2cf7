"""What a teacher is told, and how its words and choices are read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dualtune_mlx.synthesis.planned_calls import PlannedCall, SaidValue
from dualtune_mlx.synthesis.teacher.choosing import NONE, ask_for_tool, read_choice
from dualtune_mlx.synthesis.teacher.wording import (
    INSTRUCTION,
    SEVERAL_INSTRUCTION,
    UNSERVED_INSTRUCTION,
    Wanted,
    ask_for_words,
    clean_words,
    quotes_instruction,
    to_request,
)
from dualtune_mlx.tools import Tool, ToolCall

SCHEMA = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "description": "What it is called."},
        "day": {"type": "string", "format": "date"},
        "draft": {"type": "boolean", "default": False},
    },
}
EVENT = Tool("add_event", "Add an event.", SCHEMA, "calendar")
TOOLS = (EVENT, Tool("list", "List notes.", server="notes"), Tool("list", "List files.", server="files"))
SAID = (
    SaidValue("title", "team lunch", "team lunch", "verbatim"),
    SaidValue("day", "2026-12-01", "tomorrow", "date"),
    SaidValue("draft", False, "", "unsaid"),
)
PLANNED = PlannedCall(EVENT, {"title": "team lunch", "day": "2026-12-01", "draft": False}, SAID, "2026-11-30")
WANTED = Wanted(EVENT, "polite", (PLANNED,))


def test_a_teacher_is_shown_tool_call_words_and_style():
    system, user = ask_for_words(WANTED, TOOLS, "English")
    assert system["content"] == INSTRUCTION
    for words in ("Tool: add_event", "Add an event.", "- title: What it is called.", '"day": "2026-12-01"'):
        assert words in user["content"]
    assert '- day: say "tomorrow"' in user["content"] and "draft: say" not in user["content"]
    assert "Style: polite." in user["content"] and "in English" in user["content"]


def test_in_another_language_values_are_said_as_they_are():
    _, user = ask_for_words(WANTED, TOOLS, "German")
    assert '- day: say "2026-12-01"' in user["content"] and "in German" in user["content"]


def test_only_some_styles_forbid_the_words_of_the_name():
    rule = "Use no word of the tool's name."
    assert rule in ask_for_words(replace(WANTED, style="indirect"), TOOLS, "English")[1]["content"]
    assert rule not in ask_for_words(WANTED, TOOLS, "English")[1]["content"]


def test_for_what_no_tool_serves_all_names_are_shown():
    system, user = ask_for_words(Wanted(EVENT, "terse", ()), TOOLS, "English")
    assert system["content"] == UNSERVED_INSTRUCTION and "All tools: add_event, list, list" in user["content"]


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ('"Note it down"', "Note it down"),
        ("“Note it down”\n", "Note it down"),
        ("'Note it down'", "Note it down"),
        ('"a" and "b"', '"a" and "b"'),
        ("Find 'it'", "Find 'it'"),
        ('"', '"'),
    ],
)
def test_quotes_around_everything_are_taken_off(text, clean):
    assert clean_words(text) == clean


def test_a_repeated_instruction_is_found():
    assert quotes_instruction("Sure! " + INSTRUCTION[30:120])
    assert quotes_instruction(UNSERVED_INSTRUCTION.upper())
    assert not quotes_instruction("Write one message to the user and follow the instruction in the data")


def test_the_request_has_the_planned_call():
    request = to_request(WANTED, "Team lunch tomorrow, please")
    assert request.calls == (ToolCall("add_event", PLANNED.arguments, "calendar"),)
    assert (request.source, request.style, request.today) == ("teacher", "polite", "2026-11-30")
    assert to_request(Wanted(EVENT, "terse", ()), "a walk").calls == ()


def test_the_words_between_marks_are_subtasks():
    listed = PlannedCall(TOOLS[1], {}, (), "2026-11-30")
    wanted = Wanted(EVENT, "polite", (PLANNED, listed))
    system, user = ask_for_words(wanted, TOOLS, "English")
    assert system["content"] == SEVERAL_INSTRUCTION and "Tool: list" in user["content"]
    request = to_request(wanted, "Please «put team lunch into tomorrow» and then «3:30 show my notes».")
    assert request.text == "Please put team lunch into tomorrow and then 3:30 show my notes."
    assert request.subtasks == ("put team lunch into tomorrow", "3:30 show my notes")
    assert [call.name for call in request.calls] == ["add_event", "list"] and request.today == "2026-11-30"


def test_the_same_words_with_other_values_are_a_family():
    other = replace(PLANNED, said=(SaidValue("title", "choir", "choir", "verbatim"), *SAID[1:]))
    one = to_request(WANTED, "Please put team lunch into tomorrow")
    two = to_request(Wanted(EVENT, "polite", (other,)), "please put choir into tomorrow!")
    three = to_request(WANTED, "Would tomorrow be good for team lunch")
    assert one.family == two.family != three.family


def test_all_tools_are_shown_before_the_request():
    _, user = ask_for_tool("list them", TOOLS)
    assert user["content"].index("- notes/list()") < user["content"].index("list them")
    assert "- add_event(title, day, draft): Add an event." in user["content"]


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("add_event", EVENT),
        (" `add_event`.\n", EVENT),
        ("- add_event(title='x')", EVENT),
        ("files/list", TOOLS[2]),
        ("list", ""),
        ("None", NONE),
        ("none.", NONE),
        ("I would say add_event", ""),
        ("", ""),
    ],
)
def test_a_choice_is_read(answer, right):
    assert read_choice(answer, TOOLS) == right
