"""What is said of a value is found in a text again, by every conversion."""

from __future__ import annotations

import random
from typing import Any

import pytest

from dualtune_mlx.synthesis.conversions import CONVERSIONS, find_said, find_unsaid, list_leaves, say
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.parameters import Parameter

TODAY = "2026-11-30"  # a Monday


def new_parameter(path: str, description: str = "", **schema: Any) -> Parameter:
    own = {"description": description, **schema}
    return Parameter(path, own, (own,), False)


STATE = new_parameter("state", enum=["in_progress", "done"], type="string")
ORDER = new_parameter("order", enum=["asc", "desc"], type="string")
VALUES: list[tuple[Parameter, Any]] = [
    (new_parameter("title", type="string"), "Quarterly numbers"),
    (new_parameter("limit", type="integer"), 24),
    (new_parameter("limit", type="integer"), 1500),
    (new_parameter("limit", type="integer"), 7),
    (new_parameter("x", type="number"), -2.5),
    (new_parameter("opacity", type="number"), 0.25),
    (new_parameter("timeout", "in seconds", type="integer"), 300),
    (new_parameter("start", type="string"), "now-1h"),
    (new_parameter("step", type="string"), "5m"),
    (new_parameter("due", type="string", format="date"), "2026-12-01"),
    (new_parameter("due", type="string", format="date"), "2026-12-04"),
    (new_parameter("due", type="string", format="date"), "2026-11-16"),
    (new_parameter("due", type="string", format="date"), "2028-02-29"),
    (new_parameter("start", type="string", format="date-time"), "2026-12-01T15:00:00Z"),
    (new_parameter("timestamp", type="integer"), 1796137200),
    (new_parameter("at", type="string"), "09:30"),
    (new_parameter("at", type="string"), "12:00"),
    (new_parameter("recurrence", type="string"), "RRULE:FREQ=WEEKLY;BYDAY=MO"),
    (new_parameter("recurrence", type="string"), "FREQ=DAILY;INTERVAL=2"),
    (new_parameter("color", type="string"), "#FF0000"),
    (new_parameter("target_language", type="string"), "de"),
    (STATE, "in_progress"),
    (ORDER, "desc"),
    (new_parameter("include_archived", type="boolean"), True),
    (new_parameter("include_archived", type="boolean"), False),
    (new_parameter("bold", type="boolean"), True),
    (new_parameter("notify_users", type="boolean"), False),
    (new_parameter("exclude_drafts", type="boolean"), True),
]


@pytest.mark.parametrize(("parameter", "value"), VALUES, ids=lambda one: getattr(one, "path", str(one)))
def test_what_is_said_is_found(parameter: Parameter, value: Any) -> None:
    rng = random.Random(5)
    for _ in range(60):
        words, conversion = say(parameter, value, rng, TODAY)
        assert words, conversion
        assert find_said(parameter, value, f"Well, {words}, please.", TODAY), (words, conversion)


def test_every_conversion_says_something() -> None:
    rng = random.Random(1)
    used = {say(parameter, value, rng, TODAY)[1] for parameter, value in VALUES for _ in range(60)}
    assert used == {one.name for one in CONVERSIONS} - {"unsaid"}


@pytest.mark.parametrize(
    ("parameter", "value", "text", "conversion"),
    [
        (new_parameter("title"), "Jürgen Weiß", "by jürgen  weiß", "verbatim"),
        (new_parameter("text"), "See Appendix C.", 'the endnote "See Appendix C"', "verbatim"),
        (new_parameter("url"), "https://a.example.org/", "open a.example.org", "verbatim"),
        (new_parameter("limit"), 5000, "the first 5,000 rows", "number words"),
        (new_parameter("limit"), 1500, "1.5k of them", "number words"),
        (new_parameter("index", "0-based index"), 2, "the third paragraph", "number words"),
        (new_parameter("page"), 3, "the 3rd page", "digits"),
        (new_parameter("timeout_ms"), 120_000, "give it two minutes", "duration"),
        (new_parameter("start"), "now-1h", "errors of the last hour", "duration"),
        (new_parameter("due"), "2026-12-03", "by the 3rd of December", "date"),
        (new_parameter("due"), "2026-12-04", "due next Friday", "date"),
        (new_parameter("due"), "2026-12-14", "in two weeks", "date"),
        (new_parameter("due"), "2026-12-03", "before 3 Dec", "date"),
        (new_parameter("start"), "2026-12-01T15:00:00Z", "tomorrow from 3pm to 5pm", "date and time"),
        (new_parameter("at"), "09:30", "at half past nine", "time of day"),
        (STATE, "in_progress", "those in progress", "choice"),
        (ORDER, "desc", "newest first", "phrase"),
        (new_parameter("type", "'bullet' for bullets or 'number' for numbers"), "bullet", "bulleted", "choice"),
        (new_parameter("include_archived"), True, "archived ones too", "switch"),
        (new_parameter("match_case"), False, "upper or lower case doesn't matter", "switch"),
        (new_parameter("limit", default=10), 10, "all of it", "unsaid"),
    ],
)
def test_what_people_say_is_found(parameter: Parameter, value: Any, text: str, conversion: str) -> None:
    assert find_said(parameter, value, text, TODAY) == conversion


@pytest.mark.parametrize(
    ("parameter", "value", "text"),
    [
        (new_parameter("title"), "Lisbon", "a trip to Lis"),
        (new_parameter("id"), "aXz91kQ", "show axz91kq"),
        (new_parameter("title"), "Call the landlord", 'add "Call the landlord about the rent"'),
        (new_parameter("limit"), 5, "the first 50 of 2025, from v1.5 on"),
        (new_parameter("due"), "2026-12-04", "by Thursday"),
        (new_parameter("start"), "2026-12-01T15:00:00Z", "tomorrow at 4pm"),
        (STATE, "in_progress", "all that are done"),
        (ORDER, "desc", "oldest first"),
        (new_parameter("include_archived"), True, "list my boards"),
        (new_parameter("include_archived"), False, "list my boards"),
    ],
)
def test_what_is_not_said_is_not_found(parameter: Parameter, value: Any, text: str) -> None:
    assert find_said(parameter, value, text, TODAY) == ""


def test_without_a_date_for_today_nothing_is_relative() -> None:
    due = new_parameter("due", format="date")
    rng = random.Random(2)
    assert {say(due, "2026-12-01", rng)[0] for _ in range(50)} <= {
        "2026-12-01",
        "1 December 2026",
        "December 1, 2026",
        "01.12.2026",
    }
    assert find_said(due, "2026-12-01", "due tomorrow") == ""


def test_leaves_of_objects_and_lists() -> None:
    edits = {
        "type": "array",
        "items": {"type": "object", "properties": {"old": {"type": "string", "description": "it"}}},
    }
    tool = Tool("edit", "", {"type": "object", "properties": {"edits": edits, "free": {"type": "object"}}})
    leaves = list(list_leaves(tool, {"edits": [{"old": "a"}, {"old": "b"}], "free": {"x": {}, "y": None}}))
    assert [(path, value) for path, _, value in leaves] == [
        ("edits[0].old", "a"),
        ("edits[1].old", "b"),
        ("free.x", {}),
        ("free.y", None),
    ]
    assert leaves[1][1].description == "it"
    assert find_unsaid(tool, {"edits": [{"old": "moon"}, {"old": "sun"}]}, "put the moon there") == ("edits[1].old",)


@pytest.mark.parametrize(
    ("parameter", "value", "text"),
    [
        (new_parameter("x[]"), 2, "points 1,2,3"),
        (new_parameter("height"), 1350, "1080x1350"),
        (new_parameter("bill"), 56.4, "20% on 56.40"),
        (new_parameter("shares"), 100, "a hundred of them"),
        (new_parameter("value"), -40, "minus forty degrees"),
        (new_parameter("minutes"), 30, "half an hour"),
        (new_parameter("minutes"), 90, "an hour and a half"),
        (new_parameter("minutes"), 150, "two and a half hours"),
        (new_parameter("period"), "7d", "over the past week"),
        (new_parameter("ttl"), 3600, "one hour"),
        (new_parameter("from"), "2026-02-01", "in February 2026"),
        (new_parameter("to"), "2026-02-28", "in February 2026"),
        (new_parameter("to"), "2025-12-31", "all of 2025"),
        (new_parameter("to"), "2026-12-31", "this year"),
        (new_parameter("from"), "2026-12-07", "next week"),
        (new_parameter("check_in"), "2027-01-03", "from 3 to 7 January 2027"),
        (new_parameter("check_out"), "2027-01-07", "January 3rd to 7th"),
        (new_parameter("to", "currency"), "EUR", "in euros"),
        (new_parameter("to"), "de", "into German"),
        (new_parameter("format", enum=["pdf", "xlsx"]), "xlsx", "as an Excel file"),
        (new_parameter("env", enum=["prod", "dev"]), "prod", "to production"),
        (new_parameter("kind", enum=["mindmap", "tree"]), "mindmap", "a mind map"),
        (new_parameter("dark", "true or false"), "true", "with dark mode"),
    ],
)
def test_more_that_people_say_is_found(parameter: Parameter, value: Any, text: str) -> None:
    assert find_said(parameter, value, text, TODAY)
    assert not find_said(parameter, value, "nothing of the kind", TODAY)


@pytest.mark.parametrize(
    ("value", "text"),
    [(1, "1,000"), (2, "1,2"), (200, "1,200"), (17, "e17"), (3, "13"), (5, "2.5"), (300, "half an hour")],
)
def test_a_part_of_a_number_is_no_number(value: int, text: str) -> None:
    assert bool(find_said(new_parameter("count"), value, text)) == (text == "1,2")
