"""The embedded example's data: fair splits, exact calls, open vocabulary."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from dualtune_mlx.data import SPLITS
from dualtune_mlx.errors import DataError
from dualtune_mlx.synthesis import generate_requests
from dualtune_mlx.synthesis.answers import ANSWER_EVERY
from dualtune_mlx.synthesis.dialogue import ANSWERS
from dualtune_mlx.synthesis.requests import RESPOND_SHARE, wordings
from dualtune_mlx.synthesis.values.clock import CITIES, ZONES
from dualtune_mlx.synthesis.values.sampling import WORDS
from dualtune_mlx.synthesis.values.slot import SLOT_PATTERN
from dualtune_mlx.tools import Tool, ToolCall, Trajectory

TOOLS = Path(__file__).parents[1] / "fixtures" / "tools"
MAPPED = {"timezone", "source_timezone", "target_timezone", "time"}
WRITTEN = {"query"}
"""SQL, which test_tables.py reads."""
FIXED = {"", ".", "local", "remote", "all", "name", "size"}
CHOSEN: dict[str, dict[Any, str]] = {
    "location": {"New York": r"new york|nyc", "Chicago": r"chicago", "Los Angeles": r"los angeles|\bla\b"},
    "messageType": {"error": r"error", "success": r"success", "debug": r"debug"},
    "includeImage": {
        True: r"^(?!.*\b(no|without|leave|skip|off|don't)\b)",
        False: r"\b(no|without|leave|skip|off|don't)\b",
    },
    "resourceType": {"Text": r"text", "Blob": r"blob|binary"},
    "outputType": {
        "resourceLink": r"(?<!no )(?<!not a )(?<!t want a )(?<!of a )(?<!than a )\b(link\b|resourcelink)",
        "resource": r"\b(full|whole|complete|actual|inline|embed(ded)?|type resource|the resource(?! link))\b",
    },
}
"""Values of a closed set, and how a request names them: exactly one of them."""
OPTIONAL = {
    ("get-annotated-message", "includeImage"): r"image|picture",
    ("get-resource-reference", "resourceType"): r"text|blob|binary",
    ("trigger-long-running-operation", "duration"): r"\d ?-?s(ec|econds?)?\b|duration",
    ("simulate-research-query", "ambiguous"): r"ambiguous|clari",
}
"""Arguments that are there exactly where the request says so."""


def server_tools(server: str) -> list[Tool]:
    listing = json.loads((TOOLS / f"{server}.json").read_text())
    return [Tool.from_dict(tool, server) for tool in (listing if isinstance(listing, list) else listing["tools"])]


def hide_pinned(tool: Tool) -> Tool:
    properties = {name: value for name, value in tool.parameters["properties"].items() if name != "repo_path"}
    required = [name for name in tool.parameters.get("required", []) if name != "repo_path"]
    return replace(tool, parameters={**tool.parameters, "properties": properties, "required": required})


SERVERS = ("filesystem", "git", "time", "memory", "sqlite", "everything")
FULL = {tool.name: tool for server in SERVERS for tool in server_tools(server)}
VISIBLE = [hide_pinned(tool) for tool in FULL.values()]


@pytest.fixture(scope="module")
def examples() -> dict[str, list[Trajectory]]:
    return {split: generate_requests(split, 1200, seed=7, tools=VISIBLE) for split in SPLITS}


def requests_and_calls(trajectories: list[Trajectory]) -> Iterator[tuple[str, ToolCall]]:
    for trajectory in trajectories:
        user, assistant, *_ = trajectory.messages
        for call in assistant.tool_calls:
            yield user.content, call


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings(item)


def all_wordings() -> list[str]:
    return [text for split in SPLITS for texts in wordings(split).values() for text in texts]


def normalise(wording: str) -> str:
    """Case, white space and punctuation aside; a slot counts as a slot, of whatever kind."""
    return re.sub(r"\W+", " ", SLOT_PATTERN.sub(" slot ", wording).casefold()).strip()


def test_no_wording_is_in_two_splits() -> None:
    owners: dict[tuple[str, str], set[str]] = {}
    for split in SPLITS:
        for tool, texts in wordings(split).items():
            for text in texts:
                owners.setdefault((tool, normalise(text)), set()).add(split)
    assert [key for key, splits in owners.items() if len(splits) > 1] == []


def test_no_wording_stands_for_two_tools() -> None:
    owners: dict[str, set[str]] = {}
    for split in SPLITS:
        for tool, texts in wordings(split).items():
            for text in texts:
                owners.setdefault(" ".join(text.casefold().split()), set()).add(tool)
    assert {text: tools for text, tools in owners.items() if len(tools) > 1} == {}


@pytest.mark.parametrize(("split", "per_tool", "respond"), [("train", 40, 90), ("valid", 4, 10), ("test", 6, 16)])
def test_every_tool_has_enough_different_wordings(split: str, per_tool: int, respond: int) -> None:
    counts = {tool: len({normalise(text) for text in texts}) for tool, texts in wordings(split).items()}
    assert set(counts) == {*FULL, "respond"}
    least = {tool: respond if tool == "respond" else per_tool for tool in counts}
    assert {tool: count for tool, count in counts.items() if count < least[tool]} == {}


def test_a_slot_is_never_glued_to_a_full_stop() -> None:
    glued = re.compile(r"\{(?!place|town|time|number|name|noun|tech|count|lines|context)\w+\}[.\w/]")
    assert [text for text in all_wordings() if glued.search(text)] == []


def test_free_text_ends_the_message_or_is_quoted() -> None:
    kinds = "content|note|message|sentence|old|new|trait|fact|other_fact|cell|insight|saying|theme"
    free = re.compile(rf"(?<![\"'`])\{{(?:{kinds})\d?\}}(?!$)")
    assert [text for text in all_wordings() if free.search(text)] == []


@pytest.mark.parametrize("split", SPLITS)
def test_every_call_fits_the_servers_own_schema(examples: dict[str, list[Trajectory]], split: str) -> None:
    for request, call in requests_and_calls(examples[split]):
        schema = FULL[call.name].parameters
        pinned = {"repo_path": "."} if "repo_path" in schema["properties"] else {}
        arguments = {**pinned, **call.arguments}
        assert not list(Draft202012Validator(schema).iter_errors(arguments)), (request, arguments)
        assert list(arguments) == [name for name in schema["properties"] if name in arguments], "key order"
        assert call.server == FULL[call.name].server


@pytest.mark.parametrize("split", SPLITS)
def test_every_copied_value_stands_in_the_request(examples: dict[str, list[Trajectory]], split: str) -> None:
    for request, call in requests_and_calls(examples[split]):
        for name, value in call.arguments.items():
            if name in MAPPED | WRITTEN | set(CHOSEN):
                continue
            parts = value.split(":", 1) if name == "revision" else strings(value)
            assert all(part in request or part in FIXED for part in parts), (request, call.arguments)
            if type(value) in (int, float):
                assert re.search(rf"(?<!\d){re.escape(str(value))}(?!\d)", request), (request, value)


@pytest.mark.parametrize("split", SPLITS)
def test_times_and_zones_follow_from_the_request(examples: dict[str, list[Trajectory]], split: str) -> None:
    for request, call in requests_and_calls(examples[split]):
        for name in MAPPED & set(call.arguments):
            value = call.arguments[name]
            if name == "time":
                assert re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", value)
                assert readings(request) == {value}, request
            else:
                assert value in request or any(city in request for city, zone in CITIES.items() if zone == value)


@pytest.mark.parametrize("split", SPLITS)
def test_chosen_values_are_the_only_ones_that_the_request_names(
    examples: dict[str, list[Trajectory]], split: str
) -> None:
    for request, call in requests_and_calls(examples[split]):
        said = re.sub(r"\S*[:/.]\w\S*", "", request)
        for name in set(CHOSEN) & set(call.arguments):
            named = [value for value, words in CHOSEN[name].items() if re.search(words, said, re.IGNORECASE)]
            assert named == [call.arguments[name]], (request, name)


@pytest.mark.parametrize("split", SPLITS)
def test_optional_arguments_are_there_if_the_request_says_so(examples: dict[str, list[Trajectory]], split: str) -> None:
    for request, call in requests_and_calls(examples[split]):
        for (tool, name), words in OPTIONAL.items():
            if call.name == tool:
                assert (name in call.arguments) == bool(re.search(words, request, re.IGNORECASE)), (request, name)


def readings(request: str) -> set[str]:
    """Every time of day in a request, read independently of the generator."""
    found = {"noon": "12:00", "midnight": "00:00"}
    times = {value for word, value in found.items() if word in request}
    for hour, minute, half in re.findall(r"\b(\d{1,2})(?::(\d\d))?\s?([ap]m|AM|PM)?\b", request):
        if minute or half:
            shift = 12 if half.lower() == "pm" else 0
            times.add(f"{int(hour) % 12 + shift if half else int(hour):02}:{minute or '00'}")
    return times


def test_the_same_seed_gives_the_same_data_and_another_seed_does_not() -> None:
    first, again, other = (generate_requests("train", 100, seed=seed, tools=VISIBLE) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_paths_are_open_vocabulary(examples: dict[str, list[Trajectory]]) -> None:
    paths = [
        text
        for _, call in requests_and_calls(examples["train"])
        for name in ("path", "source", "destination", "paths", "files")
        for text in strings(call.arguments.get(name))
        if text != "."
    ]
    assert len(paths) > 200
    assert len(set(paths)) > 0.9 * len(paths)


def test_words_and_zones_are_plentiful() -> None:
    assert len({word for words in WORDS.values() for word in words}) >= 3000
    assert len(set(ZONES)) >= 150
    assert len(CITIES) >= 60


@pytest.mark.parametrize("split", SPLITS)
def test_no_placeholder_is_left_over(examples: dict[str, list[Trajectory]], split: str) -> None:
    for trajectory in examples[split]:
        for message in trajectory.messages:
            texts = [message.content, *(text for call in message.tool_calls for text in strings(dict(call.arguments)))]
            assert not any(SLOT_PATTERN.search(text) for text in texts), texts


def test_tools_are_equally_frequent_and_respond_a_little_more() -> None:
    weights = dict.fromkeys(FULL, 1.0) | {"respond": RESPOND_SHARE * len(FULL)}
    calls = Counter(
        trajectory.messages[1].tool_calls[0].name if trajectory.messages[1].tool_calls else "respond"
        for trajectory in generate_requests("train", round(40 * sum(weights.values())), seed=3, tools=VISIBLE)
    )
    assert calls == {name: round(40 * weight) for name, weight in weights.items()}


def test_every_wording_is_used_before_any_repeats() -> None:
    status = "git_status"
    count = round(len(wordings("test")[status]) * len(FULL) * (1 + RESPOND_SHARE))
    generated = requests_and_calls(generate_requests("test", count, seed=5, tools=VISIBLE))
    assert sorted(request for request, call in generated if call.name == status) == sorted(wordings("test")[status])


def test_only_training_requests_are_noisy() -> None:
    exact = {split: set(wordings(split)["list_allowed_directories"]) for split in SPLITS}
    strange = {
        split: [
            request
            for request, call in requests_and_calls(generate_requests(split, 2000, seed=1, tools=VISIBLE))
            if call.name == "list_allowed_directories" and request not in exact[split]
        ]
        for split in SPLITS
    }
    assert strange["train"]
    assert strange["valid"] == strange["test"] == []


def test_quoted_text_does_not_contain_its_quote(examples: dict[str, list[Trajectory]]) -> None:
    for split in SPLITS:
        for request, call in requests_and_calls(examples[split]):
            for text in strings(dict(call.arguments)):
                for quote in "\"'`":
                    assert text == "" or f"{quote}{text}{quote}" not in request or quote not in text, request


def test_a_missing_tool_is_named() -> None:
    with pytest.raises(DataError, match="git_reset"):
        generate_requests("train", 10, seed=1, tools=[tool for tool in VISIBLE if tool.name != "git_reset"])


def test_a_call_that_does_not_fit_is_refused() -> None:
    with pytest.raises(DataError, match="repo_path"):
        generate_requests("train", 100, seed=1, tools=list(FULL.values()))


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(DataError, match="tset"):
        generate_requests("tset", 10, seed=1, tools=VISIBLE)


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ("arguments = {}\ntrian = []", "trian"),
        ("train = ['x']", "missing"),
        ("arguments = {}\ntest = ['look']", "no wordings"),
        ("arguments = {", "not TOML"),
        ("arguments = {}\ntrain = ['see {fiel}']", r"\{fiel\}"),
        ("arguments = { path = '{file}' }\ntrain = ['see it']", r"\{file\}"),
        ("arguments = { pth = '{file}' }\ntrain = ['see {file}']", "only the arguments path"),
    ],
)
def test_mistakes_in_ones_own_wordings_are_explained(tmp_path: Path, table: str, complaint: str) -> None:
    (tmp_path / "own.toml").write_text(f"[[look]]\n{table}\n")
    look = Tool("look", parameters={"type": "object", "properties": {"path": {"type": "string"}}})
    with pytest.raises(DataError, match=complaint):
        generate_requests("train", 1, seed=1, tools=[look], folder=tmp_path, answer_every=0)


def test_ones_own_wordings_work(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text("[[look]]\narguments = { path = '{file}' }\ntest = ['see {file}']\n")
    look = Tool("look", parameters={"type": "object", "properties": {"path": {"type": "string"}}})
    for request, call in requests_and_calls(
        generate_requests("test", 5, seed=1, tools=[look], folder=tmp_path, answer_every=0)
    ):
        assert request == f"see {call.arguments['path']}"


def test_wordings_of_servers_that_are_not_there_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text("[[look]]\narguments = {}\ntest = ['see']\n")
    (tmp_path / "other.toml").write_text("[[hear]]\narguments = {}\ntest = ['hear']\n")
    (tmp_path / "respond.toml").write_text(
        "[[respond]]\nanswer = 'Hi'\ntest = ['hi']\n[[respond]]\nanswer = '3'\nunless = ['look']\ntest = ['1 + 2']\n"
    )
    look, sing = Tool("look", parameters={"type": "object"}), Tool("sing", parameters={"type": "object"})
    asked = {
        one.messages[0].content
        for one in generate_requests("test", 60, seed=1, tools=[look, sing], folder=tmp_path, answer_every=0)
    }
    assert asked == {"see", "hi"}
    assert {
        one.messages[0].content
        for one in generate_requests("test", 9, seed=1, tools=[sing], folder=tmp_path, answer_every=0)
    } == {
        "hi",
        "1 + 2",
    }


def test_where_few_wordings_are_wanted_they_are_the_first_of_each_template(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text("[[look]]\narguments = {}\ntest = ['see', 'watch', 'view']\n")
    look = Tool("look", parameters={"type": "object"})
    asked = {
        one.messages[0].content
        for one in generate_requests("test", 30, seed=1, tools=[look], folder=tmp_path, answer_every=0, max_wordings=2)
    }
    assert asked == {"see", "watch"}


def test_some_calls_go_on_with_a_result_and_an_answer(examples: dict[str, list[Trajectory]]) -> None:
    for split in SPLITS:
        longer = [one for one in examples[split] if len(one.messages) > 2]
        assert all([message.role for message in one.messages][2:] == ["tool", "assistant"] for one in longer)
        assert not any(one.messages[-1].tool_calls for one in longer)
        calls = sum(bool(one.messages[1].tool_calls) for one in examples[split])
        assert len(longer) == -(-calls // ANSWER_EVERY)
    answers = {one.messages[-1].content for one in examples["train"] if len(one.messages) > 2}
    assert {"done", "failed"} == {kind for kind, texts in ANSWERS.items() if answers & set(texts)}


def test_requests_are_the_same_where_no_call_goes_on(examples: dict[str, list[Trajectory]]) -> None:
    without = generate_requests("train", 1200, seed=7, tools=VISIBLE, answer_every=0)
    assert [one.messages for one in without] == [one.messages[:2] for one in examples["train"]]


def test_a_tool_whose_answers_are_not_known_is_named_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text("[[look]]\narguments = {}\ntrain = ['look']\n")
    look = Tool("look", parameters={"type": "object"})
    with pytest.raises(DataError, match="look(?s:.*)answer_every=0"):
        generate_requests("train", 5, seed=1, tools=[look], folder=tmp_path)
