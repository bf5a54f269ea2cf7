"""Dates and times in words, relative to a Monday."""

from __future__ import annotations

from datetime import date, time

import pytest

from dualtune_mlx.synthesis.conversions.dates import list_date_words, list_other_date_words, list_time_words

TODAY = "2026-11-30"


@pytest.mark.parametrize(
    ("day", "words"),
    [
        ("2026-11-30", {"today"}),
        ("2026-12-01", {"tomorrow"}),
        ("2026-12-02", {"the day after tomorrow", "Wednesday", "this Wednesday"}),
        ("2026-12-04", {"Friday", "this Friday", "in four days"}),
        ("2026-12-06", {"Sunday", "this Sunday", "in six days"}),
        ("2026-12-07", {"Monday next week", "in seven days", "in a week"}),
        ("2026-12-08", {"Tuesday next week", "in eight days"}),
        ("2026-12-14", {"in fourteen days", "in two weeks"}),
        ("2026-12-15", set()),
        ("2026-11-29", {"yesterday"}),
        ("2026-11-28", {"the day before yesterday", "last Saturday"}),
        ("2026-11-23", {"last Monday", "seven days ago", "a week ago"}),
        ("2026-11-22", {"eight days ago"}),
    ],
)
def test_days_around_today(day: str, words: set[str]) -> None:
    found = {one for one in list_date_words(date.fromisoformat(day), TODAY) if not any(map(str.isdigit, one))}
    assert found == words


def test_on_a_friday_the_next_monday_is_not_this_monday() -> None:
    words = list_date_words(date(2026, 12, 7), "2026-12-04")
    assert {"Monday", "next Monday"} <= {*words}
    assert "this Monday" not in words


def test_a_day_far_away_has_a_year() -> None:
    assert list_date_words(date(2028, 2, 29), TODAY) == ["29 February 2028", "February 29, 2028", "29.02.2028"]


def test_what_is_said_of_one_day_is_said_of_no_other_near_it() -> None:
    days = [date.fromordinal(date.fromisoformat(TODAY).toordinal() + away) for away in range(-20, 21)]
    said = [words for day in days for words in list_date_words(day, TODAY)]
    assert len(said) == len(set(said))


def test_the_end_of_a_period() -> None:
    assert "end of the month" in list_other_date_words(date(2026, 11, 30), TODAY)
    assert "this month" in list_other_date_words(date(2026, 11, 1), TODAY)
    assert "last year" in list_other_date_words(date(2025, 12, 31), TODAY)
    assert "next week" in list_other_date_words(date(2026, 12, 7), TODAY)
    assert "next week" not in list_other_date_words(date(2026, 12, 8), TODAY)


@pytest.mark.parametrize(
    ("clock", "words"),
    [
        (time(15, 0), ["15:00", "3pm", "3 pm"]),
        (time(12, 0), ["12:00", "12pm", "12 pm", "noon"]),
        (time(0, 0), ["0:00", "12am", "12 am", "midnight"]),
        (time(9, 5), ["9:05", "9:05 am"]),
        (time(9, 5, 7), ["09:05:07"]),
    ],
)
def test_times(clock: time, words: list[str]) -> None:
    assert list_time_words(clock) == words
