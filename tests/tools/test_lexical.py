"""Words of tools and requests: BM25 beside a plain computation, and the words that count."""

from __future__ import annotations

from math import log

import pytest

from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.lexical import best_places, lexical_scores, split_words


def describe(name: str, description: str = "", **properties: dict[str, object]) -> Tool:
    return Tool(name, description, {"type": "object", "properties": properties})


SEND = describe("send_message", "Send a message to a channel.", channel={"type": "string"})
LIST = describe("listChannels", "List channels, oldest first.")
WEATHER = describe("get-weather", "", unit={"enum": ["celsius", "kelvin"], "description": "Scale of temperatures."})
TOOLS = (SEND, LIST, WEATHER)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("listPullRequests", ["list", "pull", "request"]),
        ("list_pull-requests.v2", ["list", "pull", "request", "v"]),
        ("HTTPServer URLs of 2024", ["http", "server", "url"]),
        ("Could you please show me the files?", ["show", "file"]),
        ("Größe ändern, naïve 天気", ["größe", "ändern", "naïv", "天", "気"]),
        ("Погода в Москве", ["погода", "в", "москве"]),
    ],
)
def test_words_are_split_and_stemmed(text: str, words: list[str]) -> None:
    assert split_words(text) == words


def test_scores_are_those_of_a_plain_computation() -> None:
    documents = [
        ["send", "messag", "send", "messag", "channel", "channel"],
        ["list", "channel", "list", "channel", "oldest", "first"],
        ["get", "weather", "unit", "scale", "temperatur", "celsius", "kelvin"],
    ]
    asked = ["send", "oldest", "messag", "channel"]
    mean = sum(map(len, documents)) / 3
    plain = []
    for document in documents:
        total = 0.0
        for split, weight in ((list, 1.0), (pieces, 0.1)):
            for word in set(split(asked)):
                n, count = sum(word in split(one) for one in documents), split(document).count(word)
                rarity = log(1 + (3 - n + 0.5) / (n + 0.5))
                total += weight * rarity * count * 4 / (count + 3 * len(document) / mean)
        plain.append(total)
    scores = lexical_scores("Send the oldest message to that channel", TOOLS)
    assert scores == pytest.approx([one / (1 + max(plain)) for one in plain])
    assert scores[0] > scores[1] > scores[2] == 0


def pieces(words: list[str]) -> list[str]:
    return [f"^{word}$"[i:][:4] for word in words for i in range(len(word) - 1)]


def test_misspelt_and_joined_words_are_found_and_values_are_not() -> None:
    tools = (describe("list_datasources"), describe("open_file", "Open a docx file."), WEATHER)
    for request_, best in (("lst teh datasuorces", 0), ("the data sources", 0), ("wether in kelvim", 2)):
        scores = lexical_scores(request_, tools)
        assert scores.index(max(scores)) == best, request_
    assert max(lexical_scores("datasources/list.docx list@weather.docx file.open", tools)) == 0


@pytest.mark.parametrize(
    ("request_", "best"),
    [("in kelvin", WEATHER), ("what temperature is it?", WEATHER), ("which channels are there, list them", LIST)],
)
def test_names_descriptions_parameters_and_values_count(request_: str, best: Tool) -> None:
    scores = lexical_scores(request_, TOOLS)
    assert TOOLS[scores.index(max(scores))] is best


def test_a_server_is_found_by_its_name() -> None:
    servers = [Tool("search", "Search.", server="slack"), Tool("search", "Search.", server="git-hub")]
    scores = lexical_scores("search GitHub", servers)
    assert scores[1] > scores[0] > 0


def test_where_nothing_matches_all_scores_are_0() -> None:
    assert lexical_scores("Tell me a joke about it", TOOLS) == [0, 0, 0]
    assert lexical_scores("", TOOLS) == [0, 0, 0]
    assert lexical_scores("anything", ()) == []


def test_the_best_score_is_as_high_among_many_tools() -> None:
    many = [describe(f"{action}_{thing}") for action in ("open", "close") for thing in map("item{}".format, "abcdefgh")]
    few, all_of_them = (max(lexical_scores("send a message", (SEND, *others))) for others in (many[:3], many))
    assert 0.5 < few < all_of_them < 1


def test_a_tool_with_a_broken_schema_is_found_by_its_name() -> None:
    broken = Tool("send_parcel", "", {"type": "object", "properties": {"to": {"type": "nothing"}}})
    assert lexical_scores("send it", (broken, WEATHER))[0] > 0


def test_best_places_keep_their_order() -> None:
    assert best_places([0.1, 0.9, 0.5, 0.5], 2) == [1, 2]
    assert best_places([0.1, 0.9], 5) == [0, 1]
