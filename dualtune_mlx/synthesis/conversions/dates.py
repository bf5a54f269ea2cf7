"""Dates and times of day, as people say them: by the calendar, and relative to today."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from dualtune_mlx.synthesis.conversions.conversion import Conversion, Leaf
from dualtune_mlx.synthesis.conversions.numbers import shorten_ordinal, spell_cardinal, spell_ordinal
from dualtune_mlx.synthesis.conversions.texts import fold, holds, read_words, split_name
from dualtune_mlx.tools.parameters import Parameter

DAYS = read_words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = read_words("January February March April May June July August September October November December")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}|\d{8}")
_DATE_TIME = re.compile(r"(\d{4}-\d{2}-\d{2})[T ](\d{2}:\d{2})(?::(\d{2})(?:\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?")
_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::00)?")
_STAMPS = frozenset(read_words("timestamp epoch unix millis ts"))
_NEAR = 180
"""Days within which a date needs no year."""


def read_date(value: Any) -> date | None:
    """The date of a value; None where it is none."""
    try:
        return date.fromisoformat(value) if isinstance(value, str) and _DATE.fullmatch(value) else None
    except ValueError:
        return None


def read_moment(parameter: Parameter, value: Any) -> tuple[date, time] | None:
    """The date and the time of day of a value; None where it is no point in time."""
    if isinstance(value, int) and not _STAMPS.isdisjoint(split_name(f"{parameter.path} {parameter.description}")):
        seconds = value / 1000 if value > 10**11 else value
        moment = datetime.fromtimestamp(seconds, UTC) if 10**9 <= seconds < 10**10 else None
        return (moment.date(), moment.time()) if moment else None
    match = _DATE_TIME.fullmatch(value) if isinstance(value, str) else None
    try:
        return (date.fromisoformat(match[1]), time.fromisoformat(f"{match[2]}:{match[3] or '00'}")) if match else None
    except ValueError:
        return None


def list_date_words(day: date, today: str) -> list[str]:
    """How people say a date. Without a date for today there is nothing that they could say it relative to."""
    now = date.fromisoformat(today) if today else None
    months = (MONTHS[day.month - 1], MONTHS[day.month - 1][:3])
    plain = [words for month in months for words in (f"{day.day} {month}", f"{month} {day.day}")]
    plain += [f"{months[0]} {shorten_ordinal(day.day)}", f"the {shorten_ordinal(day.day)} of {months[0]}"]
    dated = [f"{day.day} {months[0]} {day.year}", f"{months[0]} {day.day}, {day.year}"]
    dated += [f"{day.day:02}.{day.month:02}.{day.year}"]
    if now is None or abs((day - now).days) > _NEAR:
        return dated
    return [*_list_relative(day, now), *plain, *dated[:1]]


def _list_relative(day: date, now: date) -> list[str]:
    """How far a date is from today, and its day of the week."""
    away, name = (day - now).days, DAYS[day.weekday()]
    close = {0: ["today"], 1: ["tomorrow"], 2: ["the day after tomorrow"], -1: ["yesterday"]}
    close |= {-2: ["the day before yesterday"]}
    found = list(close.get(away, ()))
    if 1 < away < 7:
        found += [name, f"this {name}" if day.weekday() > now.weekday() else f"next {name}"]
    if away > 6 and day - timedelta(day.weekday()) == now - timedelta(now.weekday()) + timedelta(7):
        found += [f"{name} next week"]
    if -7 <= away < -1:
        found += [f"last {name}"]
    if 2 < abs(away) < 15:
        count = f"{spell_cardinal(abs(away))} days"
        found += [f"in {count}" if away > 0 else f"{count} ago"]
    if abs(away) in (7, 14, 21):
        weeks = "a week" if abs(away) == 7 else f"{spell_cardinal(abs(away) // 7)} weeks"
        found += [f"in {weeks}" if away > 0 else f"{weeks} ago"]
    return found


def list_other_date_words(day: date, today: str) -> Iterator[str]:
    """More words for a date that are understood: other orders, other separators, other conventions."""
    month, year = MONTHS[day.month - 1], day.year
    yield from (day.isoformat(), f"{year}{day.month:02}{day.day:02}", f"{year}/{day.month:02}/{day.day:02}")
    for first, second in ((day.day, day.month), (day.month, day.day)):
        for sign in "/.-":
            for years in (f"{sign}{year}", f"{sign}{year % 100:02}", ""):
                yield from (f"{first}{sign}{second}{years}", f"{first:02}{sign}{second:02}{years}")
    for name in (month, month[:3], f"{month[:3]}."):
        for number in (str(day.day), shorten_ordinal(day.day), f"{day.day}.", spell_ordinal(day.day)):
            yield from (f"{number} {name}", f"{name} {number}", f"{number} of {name}")
        if _is_month_edge(day):
            yield f"{name} {year}"
    if (day.month, day.day) in ((1, 1), (12, 31)):
        yield str(year)
    if not today:
        return
    now = date.fromisoformat(today)
    away, name = (day - now).days, DAYS[day.weekday()]
    if 0 < away < 14:
        yield from (f"next {name}", f"coming {name}", f"{name[:3]}" if away < 7 else f"{name} week")
    if 0 <= away < 7:
        yield from (name, f"this {name}", "tonight" if away == 0 else name)
    if -7 <= away < 0:
        yield from (name, f"last {name}", f"past {name}")
    if 0 < abs(away) < 100:
        for count in (str(abs(away)), spell_cardinal(abs(away))):
            yield f"in {count} day{'s' * (abs(away) > 1)}" if away > 0 else f"{count} day{'s' * (abs(away) > 1)} ago"
            yield f"{count} days from {'now' if away > 0 else ''}"
    yield from _list_periods(day, now)
    if (day.year, day.month) == (now.year, now.month):
        yield f"the {shorten_ordinal(day.day)}"


def _is_month_edge(day: date) -> bool:
    """Whether a date is the first or the last of its month."""
    return day.day == 1 or (day + timedelta(1)).day == 1


def _list_periods(day: date, now: date) -> Iterator[str]:
    """The week, the month or the year that a date begins or ends."""
    words = {-1: ("last",), 0: ("this", "current"), 1: ("next", "coming")}
    if _is_month_edge(day):
        months = (day.year - now.year) * 12 + day.month - now.month
        yield from (f"{word} month" for word in words.get(months, ()))
        yield from (MONTHS[day.month - 1],) if abs(months) < 12 else ()
        yield from ("end of the month",) if months == 0 and day.day > 1 else ()
    if day.weekday() in (0, 6):
        weeks = (day - timedelta(day.weekday()) - now + timedelta(now.weekday())).days // 7
        yield from (f"{word} week" for word in words.get(weeks, ()))
    if (day.month, day.day) in ((1, 1), (12, 31)):
        yield from (f"{word} year" for word in words.get(day.year - now.year, ()))


def list_time_words(clock: time) -> list[str]:
    """How people say a time of day: 15:00 is ``3pm``."""
    hour, half = clock.hour % 12 or 12, "am" if clock.hour < 12 else "pm"
    if clock.second:
        return [clock.isoformat()]
    exact = [f"{clock.hour}:{clock.minute:02}", f"{hour}:{clock.minute:02} {half}"]
    if clock.minute:
        return exact
    named = {0: ["midnight"], 12: ["noon"]}.get(clock.hour, [])
    return [*exact[:1], f"{hour}{half}", f"{hour} {half}", *named]


def list_other_time_words(clock: time) -> Iterator[str]:
    """More words for a time of day that are understood."""
    hour, half = clock.hour % 12 or 12, "a.m." if clock.hour < 12 else "p.m."
    minute = f":{clock.minute:02}"
    yield from (f"{clock.hour:02}{minute}", clock.isoformat(), f"{clock.hour}h{clock.minute or ''}")
    yield from (f"{hour}{minute} {half}", f"{hour}{minute}{half.replace('.', '')}", f"{hour}{minute}")
    yield from (f"{clock.hour}.{clock.minute:02}", f"{clock.hour:02}{clock.minute:02}")
    name, next_name = spell_cardinal(hour), spell_cardinal(hour % 12 + 1)
    if clock.minute == 0:
        part = "morning" if clock.hour < 12 else "afternoon" if clock.hour < 18 else "evening"
        yield from (f"{hour} {half}", f"{name} o'clock", f"{hour} o'clock", f"at {name}", f"at {hour}")
        yield from (f"{name} in the {part}", f"{hour} in the {part}", f"from {hour}", f"by {hour}", f"to {hour}")
    quarters = {15: f"quarter past {name}", 30: f"half past {name}", 45: f"quarter to {next_name}"}
    yield from (words for words in (quarters.get(clock.minute),) if words)


def _list_dates(leaf: Leaf) -> list[str]:
    day = read_date(leaf.value)
    return list_date_words(day, leaf.today) if day else []


def _list_other_dates(leaf: Leaf) -> Iterator[str]:
    if day := read_date(leaf.value):
        yield from list_other_date_words(day, leaf.today)
    elif isinstance(leaf.value, str) and (match := re.fullmatch(r"(\d{4})-(0[1-9]|1[0-2])", leaf.value)):
        month = MONTHS[int(match[2]) - 1]
        yield from (f"{month} {match[1]}", f"{month[:3]} {match[1]}", *((month,) if match[1] == leaf.today[:4] else ()))


def _recognize_date(leaf: Leaf, text: str) -> bool:
    """A date whose month and year stand with the other end of a range is understood, too: "from 3 to 7 January"."""
    if any(holds(text, words) for words in (*_list_dates(leaf), *_list_other_dates(leaf))):
        return True
    day = read_date(leaf.value)
    return day is not None and any(re.search(pattern, fold(text), re.IGNORECASE) for pattern in _list_range_ends(day))


def _list_range_ends(day: date) -> tuple[str, str]:
    month, to, ending = MONTHS[day.month - 1], "(?:-|to|till|until|and|bis)", r"(?:st|nd|rd|th|\.)?"
    names, number, other = f"(?:{month}|{month[:3]})", rf"\b{day.day}{ending}", rf"(?:the )?\d\d?{ending}"
    return rf"{number} ?{to} ?{other} (?:of )?{names}\b", rf"\b{names} {other} ?{to} ?(?:the )?{number}(?!\w)"


DATE = Conversion("date", _list_dates, recognize=_recognize_date)
"""A date."""


def _list_moments(leaf: Leaf) -> list[str]:
    moment = read_moment(leaf.parameter, leaf.value)
    if not moment:
        return []
    days = list_date_words(moment[0], leaf.today)
    if _is_edge(moment[1]):
        return days
    return [f"{day} at {clock}" for day in days for clock in list_time_words(moment[1])]


def _is_edge(clock: time) -> bool:
    """Whether a time is the beginning or the end of a day, which nobody says."""
    return clock in (time(0, 0), time(23, 59), time(23, 59, 59))


def _recognize_moment(leaf: Leaf, text: str) -> bool:
    """The day and the time may stand apart, as in "tomorrow from 3pm to 5pm"."""
    moment = read_moment(leaf.parameter, leaf.value)
    if not moment:
        return False
    day, clock = moment
    days = (*list_date_words(day, leaf.today), *list_other_date_words(day, leaf.today))
    clocks = (*list_time_words(clock), *list_other_time_words(clock))
    return any(holds(text, words) for words in days) and (
        _is_edge(clock) or any(holds(text, words) for words in clocks)
    )


MOMENT = Conversion("date and time", _list_moments, recognize=_recognize_moment)
"""A date with a time of day."""


def _read_time(value: Any) -> time | None:
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    return time(int(match[1]), int(match[2])) if match else None


TIME = Conversion(
    "time of day",
    lambda leaf: list_time_words(clock) if (clock := _read_time(leaf.value)) else (),
    lambda leaf: list_other_time_words(clock) if (clock := _read_time(leaf.value)) else (),
)
"""A time of day."""
