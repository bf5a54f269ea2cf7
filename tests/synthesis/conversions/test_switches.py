"""Booleans in words, by the form of their names and by their descriptions."""

from __future__ import annotations

import random

import pytest

from dualtune_mlx.synthesis.conversions import find_said, say
from dualtune_mlx.tools.parameters import Parameter

DESCRIPTION = "Whether to submit entered text (press Enter after)"


@pytest.mark.parametrize(
    ("name", "description", "yes", "no"),
    [
        ("include_late", "", "including late|with late", "without late|no late"),
        (
            "include_archived",
            "",
            "including archived ones|with archived ones",
            "without archived ones|no archived ones",
        ),
        ("excludeDrafts", "", "without drafts|no drafts", "including drafts|with drafts"),
        ("notify_users", "", "notify users", "don't notify users|do not notify users"),
        ("bold", "", "bold|make it bold", "not bold"),
        ("isLocked", "", "locked|make it locked", "not locked"),
        ("unread_only", "", "only unread|unread only", "not only unread"),
        ("if_empty", "", "if empty", "not if empty"),
        ("comments", "", "with comments", "without comments|no comments"),
        ("on", "", "switched on", "switched off"),
        ("guestsCanModify", "", "guests can modify", "guests can't modify"),
        ("submit", DESCRIPTION, "submit entered text", "don't submit entered text|do not submit entered text"),
    ],
)
def test_words(name: str, description: str, yes: str, no: str) -> None:
    parameter = Parameter(name, {"description": description}, ({"type": "boolean"},), False)
    rng = random.Random(1)
    for value, expected in ((True, yes), (False, no)):
        words = {say(parameter, value, rng)[0] for _ in range(40)}
        assert words == {*expected.split("|")}
        assert {find_said(parameter, value, f"well, {one}!") for one in words} == {"switch"}
