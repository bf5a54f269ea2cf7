"""Forms of English words."""

import pytest

from dualtune_mlx.synthesis.phrasing.english import (
    capitalize,
    mend_articles,
    participle,
    pluralize,
    singularize,
    with_article,
)


@pytest.mark.parametrize(
    ("one", "several"),
    [
        ("issue", "issues"),
        ("repository", "repositories"),
        ("branch", "branches"),
        ("index", "indices"),
        ("pull request", "pull requests"),
        ("key", "keys"),
        ("child", "children"),
        ("metadata", "metadata"),
        ("status", "statuses"),
    ],
)
def test_plurals_go_both_ways(one: str, several: str) -> None:
    assert pluralize(one) == several
    assert pluralize(several) == several
    *first, last = several.split()
    assert " ".join([*first, singularize(last)]) == one


@pytest.mark.parametrize(
    ("verb", "done"),
    [("delete", "deleted"), ("copy", "copied"), ("look up", "looked up"), ("show me", "shown"), ("put in", "put in")],
)
def test_participles(verb: str, done: str) -> None:
    assert participle(verb) == done


def test_articles() -> None:
    assert [with_article(noun) for noun in ("issue", "note", "new event", "data", "files")] == [
        "an issue",
        "a note",
        "a new event",
        "data",
        "files",
    ]
    assert mend_articles("a event and an note, a URL, an user") == "an event and a note, a URL, a user"


def test_a_name_keeps_its_small_letter() -> None:
    assert [capitalize(text) for text in ("show it", "a.txt is old", "getName fails")] == [
        "Show it",
        "a.txt is old",
        "getName fails",
    ]
