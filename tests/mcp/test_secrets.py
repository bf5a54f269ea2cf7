from __future__ import annotations

import json
import re
from collections.abc import Callable
from urllib.parse import quote

import pytest

from dualtune_mlx.mcp.secrets import clean_output, redact, strip_credentials


def test_secrets_become_their_names_the_longest_first() -> None:
    secrets = [("A", "abcd"), ("B", "abcdef"), ("Auth", "Bearer t0ken"), ("SHORT", "on")]
    said = redact("abcdef abcd Bearer t0ken t0ken, on and on", secrets)
    assert said == "<B> <A> <Auth> <Auth>, on and on"


@pytest.mark.parametrize(
    "secret",
    [
        "pa\"ss'wörd\\1",
        "it's-a-kwzrd",
        'quo"ted',
        "back\\slash",
        "schlüssel",
        "tab\tx\nend",
        "🔑kwzrd🔑",
        "a b/kwzrd?d",
    ],
)
@pytest.mark.parametrize(
    "told",
    [
        lambda value: value,
        repr,
        lambda value: repr(f"it's {value}"),
        lambda value: repr(f'say "{value}"'),
        lambda value: repr({"key": f"Bearer {value}"}),
        ascii,
        lambda value: repr(value.encode()),
        json.dumps,
        lambda value: json.dumps({"key": value}, ensure_ascii=False),
        lambda value: json.dumps(json.dumps([value])),
        lambda value: repr(json.dumps([value])),
        lambda value: json.dumps(repr(value), ensure_ascii=False),
        lambda value: f"https://host/mcp?key={quote(value, safe='')}",
    ],
)
def test_a_secret_is_found_in_every_form_that_programs_give_it(secret: str, told: Callable[[str], str]) -> None:
    said = redact(told(secret), [("KEY", f"Bearer {secret}" if " " not in secret else secret)])
    assert "<KEY>" in said
    longest = max(re.findall(r"\w+", secret), key=len)
    assert longest not in said


def test_what_is_told_is_short_and_hides_a_secret_that_a_cut_would_split() -> None:
    secret = "x" * 1_990 + "y" * 20
    assert clean_output(f"first\n{secret} the end\n", [("KEY", secret)]) == "first\n<KEY> the end"
    assert clean_output("line\n" * 100, []).count("line") == 10
    assert len(clean_output("z" * 10_000, [])) == 2_000


def test_what_is_told_cannot_steer_the_terminal() -> None:
    assert clean_output("a\tb\x1b[31m\x07c\rd", []) == "a\tb\ufffd[31m\ufffdc\nd"


def test_an_address_without_its_secrets() -> None:
    assert strip_credentials("https://u:p@h.example:81/mcp?key=1#f") == "https://h.example:81/mcp"
