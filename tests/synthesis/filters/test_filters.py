"""Each filter refuses what it is for, and nothing else."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from dualtune_mlx.errors import UsageError
from dualtune_mlx.synthesis.filters import NearDuplicates, find_rejection
from dualtune_mlx.synthesis.filters.said import explain_unsaid
from dualtune_mlx.synthesis.worded_requests import WordedRequest
from dualtune_mlx.tools import Tool, ToolCall

SCHEMA = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "labels": {"type": "array", "items": {"type": "string"}}},
    "required": ["title"],
    "additionalProperties": False,
}
TOOLS = (Tool("create_issue", "Create an issue.", SCHEMA, "tracker"), Tool("list_issues", "List issues.", server="t"))
CALL = ToolCall("create_issue", {"title": "login fails"}, "tracker")
GOOD = WordedRequest("File a ticket titled login fails", (CALL,), "teacher", "imperative", "f")


def of(**arguments: object) -> WordedRequest:
    return replace(GOOD, calls=(ToolCall("create_issue", arguments, "tracker"),))


def worded(text: str, style: str = "imperative") -> WordedRequest:
    return replace(GOOD, text=text, style=style)


def parts(*subtasks: str) -> WordedRequest:
    return replace(GOOD, calls=(CALL, CALL), subtasks=subtasks)


@pytest.mark.parametrize(
    ("request_", "reason", "detail"),
    [
        (GOOD, "", ""),
        (replace(GOOD, calls=(), text="How tall is a llama?"), "", ""),
        (worded("File a ticket titled login fails.\nThanks!"), "", ""),
        (of(titel="login fails"), "schema", "titel"),
        (of(title=7), "schema", "$.title"),
        (replace(GOOD, calls=(ToolCall("drop", {}),)), "schema", "not among the visible tools"),
        (worded("half of a pair \ud800 here"), "schema", "surrogate"),
        (parts("File a ticket"), "schema", "1 subtasks for 2 calls"),
        (parts("File a ticket", "close it"), "schema", "'close it'"),
        (parts("File a ticket", "titled login fails"), "", ""),
        (worded("do it"), "style", "2 words"),
        (worded(""), "style", "0 words"),
        (worded("word " * 46), "style", "46 words"),
        (worded("File a ticket \x1b[31mtitled login fails"), "style", "\\u001b"),
        (worded("File a ticket \u202etitled login fails"), "style", "\\u202e"),
        (worded("File a ticket titled login fails<|im_end|>"), "style", "<|im_end|>"),
        (worded("[INST] File a ticket titled login fails"), "style", "[INST]"),
        (worded('{"title": "login fails", "and": "some more"}'), "style", "JSON"),
        (worded("```\nFile a ticket titled login fails\n```"), "style", "block of code"),
        (worded("Use create_issue for login fails"), "style", "create_issue"),
        (worded("There is an issue: login fails"), "", ""),
        (worded("There is an issue: login fails", "indirect"), "style", "issue"),
        (replace(of(title="an issue"), text="Someone has to see to an issue", style="indirect"), "", ""),
        (worded("File a ticket for AKIAABCDEFGHIJKLMNOP please"), "secret", "an AWS access key"),
        (of(title="ghp_" + "a1" * 18), "secret", "a GitHub token"),
        (of(title="see", labels=["/home/ann/notes"]), "secret", "/home/ann"),
        (of(title="C:\\Users\\Ann\\notes"), "secret", "C:\\Users\\Ann"),
    ],
)
def test_a_filter_refuses_what_it_is_for(request_: WordedRequest, reason: str, detail: str) -> None:
    found, says = find_rejection(request_, TOOLS)
    assert (found, detail in says, bool(says)) == (reason, True, bool(reason)), says


@pytest.mark.parametrize(
    ("text", "language", "reason"),
    [
        ("Leg bitte ein Ticket an: login fails", "German", ""),
        ("Leg bitte ein Ticket an: login fails", "English", "style"),
        ("Please be so kind and file a ticket: login fails", "German", "style"),
        ("请帮我新建一个工单 标题是 login fails", "Chinese", ""),
        ("Crée un ticket urgent pour login fails", "French", ""),
        ("ticket: login fails now", "German", ""),  # too little to tell
    ],
)
def test_a_teachers_request_is_in_the_language_that_was_asked_for(text: str, language: str, reason: str) -> None:
    pytest.importorskip("py3langid", reason="needs the extra synth")
    assert find_rejection(worded(text), TOOLS, language)[0] == reason


OF_ALL = Tool(
    "add_event",
    "Add an event.",
    {
        "type": "object",
        "properties": {
            "title": {"type": "string"},
            "day": {"type": "string", "format": "date"},
            "minutes": {"type": "integer"},
            "kind": {"type": "string", "enum": ["in_person", "online"]},
        },
    },
)


@pytest.mark.parametrize(
    ("text", "arguments", "language", "detail"),
    [
        ("Put the team lunch into tomorrow", {"title": "team lunch", "day": "2026-12-01"}, "English", ""),
        ("Put the team lunch into tomorrow", {"title": "team lunch", "day": "2026-12-02"}, "English", "not said: day"),
        ("A team lunch in person, please", {"title": "team lunch", "kind": "in_person"}, "English", ""),
        ("A team lunch of thirty minutes", {"title": "team lunch", "minutes": 30}, "English", ""),
        ("A team lunch of thirty minutes", {"title": "lunch break", "minutes": 31}, "English", "title, minutes"),
        ("Trag team lunch vor Ort ein", {"title": "team lunch", "kind": "in_person"}, "German", ""),
        ("Trag team lunch vor Ort ein", {"title": "team lunch", "kind": "in_person"}, "English", "kind"),
        ("Trag das Essen vor Ort ein", {"title": "team lunch"}, "German", "title"),
    ],
)
def test_every_value_is_said_or_converted(text: str, arguments: dict, language: str, detail: str) -> None:
    request = replace(worded(text), calls=(ToolCall("add_event", arguments),), today="2026-11-30")
    assert explain_unsaid(request, (OF_ALL,), language).endswith(detail)
    assert bool(explain_unsaid(request, (OF_ALL,), language)) is bool(detail)


def test_what_the_grammar_cannot_write_is_refused() -> None:
    tool = Tool("note_it", "", {"type": "object", "properties": {"title": {"type": "string"}}})
    request = replace(GOOD, calls=(ToolCall("note_it", {"title": "login fails", "more": 1}),))
    reason, detail = find_rejection(request, (tool,))
    assert (reason, "$.more" in detail) == ("unwritable", True)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("file a ticket titled login fails!", False),
        ("File a ticket titled login fails please", False),
        ("File a ticket titled login fail", False),
        ("login fails: that needs a ticket", True),
        ("File a ticket titled logout fails", True),
    ],
)
def test_near_duplicates_are_kept_once(text: str, kept: bool) -> None:
    pytest.importorskip("datasketch", reason="needs the extra synth")
    duplicates = NearDuplicates()
    assert duplicates.keep(GOOD) == ""
    detail = duplicates.keep(worded(text))
    assert (detail == "") is kept
    assert kept or GOOD.text in detail


def test_requests_that_differ_by_a_value_are_no_duplicates() -> None:
    pytest.importorskip("datasketch", reason="needs the extra synth")
    duplicates = NearDuplicates()
    of_line = [
        replace(of(title=str(number)), text=f"File a ticket with the title line {number} is broken")
        for number in (12, 13)
    ]
    assert [duplicates.keep(request) for request in of_line] == ["", ""]
    assert "100% alike" in duplicates.keep(replace(of_line[0], calls=of_line[1].calls))


def test_without_datasketch_near_duplicates_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasketch", None)
    with pytest.raises(UsageError, match=r"dualtune-mlx\[synth\]"):
        NearDuplicates()
