"""The date of a conversation, as year-month-day: 2026-11-30."""

from __future__ import annotations

from datetime import date

from dualtune_mlx.errors import DualTuneError


def machine_date() -> str:
    """The machine's date."""
    return date.today().isoformat()


def check_today(today: str, error: type[DualTuneError]) -> None:
    """Refuse what is neither a date nor "", which stands for none.

    Raises:
        DualTuneError: of the class ``error``.
    """
    try:
        right = today == "" or date.fromisoformat(today).isoformat() == today
    except (TypeError, ValueError):
        right = False
    if not right:
        raise error("a date is not one", where="today", got=repr(today), expected="year-month-day, such as 2026-11-30")
