"""Other people's data files at every command that reads them: obeyed, or one message with the way out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import SMALL, dualtune, line

COMMANDS = ("train", "plan", "inspect", "eval")
MOMENT = {"type": "object", "properties": {"at": {"type": "string", "format": "date-time"}}}
PLAN_TOOL = {"name": "book", "inputSchema": MOMENT, "server": "calendar"}


@pytest.fixture
def run(model, bundle, tmp_path):
    """Runs a command over a file, which is the training data of commands that take a folder; the result."""

    def one(command: str, content: bytes | str, valid: bytes | str | None = None) -> Any:
        folder = tmp_path / "given"
        folder.mkdir(exist_ok=True)
        for name, text in (("train", content), ("valid", content if valid is None else valid)):
            (folder / f"{name}.jsonl").write_bytes(text if isinstance(text, bytes) else text.encode())
        return dualtune(*arguments(command, model, bundle, folder, folder / "train.jsonl", tmp_path / "new"))

    return one


def arguments(command: str, model: Path, bundle: Path, folder: Path, file: Path, new: Path) -> list[object]:
    small = SMALL if command == "train" else SMALL[:4]
    return {
        "train": ["train", "arguments", "--model", model, "--data", folder, "--bundle", new, *small],
        "plan": ["plan", "--model", model, "--data", folder, *small],
        "inspect": ["inspect", "--model", model, "--data", file],
        "eval": ["eval", "--bundle", bundle, "--data", file],
    }[command]


def with_tools(*lines: str, tools: list[dict[str, Any]] | None = None) -> str:
    """Lines that bring their tools along."""
    read = {"name": "read", "inputSchema": {"type": "object", "properties": {"path": {"type": "string"}}}}
    return "".join(json.dumps(json.loads(text) | {"tools": tools or [read]}) + "\n" for text in lines)


GOOD = with_tools(line("show a", "read", path="a"), line("show b", "read", path="b"))
NESTED = '{"messages": ' + "[" * 100_000
BAD: dict[str, tuple[bytes | str, list[str]]] = {
    "empty": ("", ["a data file is empty", "train.jsonl"]),
    "UTF-16": (GOOD.encode("utf-16"), ["not UTF-8", "got: UTF-16", "fix: save it as UTF-8"]),
    "UTF-16 without a mark": (GOOD.encode("utf-16-le"), ["not UTF-8", "UTF-16"]),
    "Latin-1": (GOOD.encode() + "Jörg".encode("latin-1"), ["not UTF-8", "train.jsonl:3", "0xf6"]),
    "a list as a line": (GOOD + "[1, 2]", ["no messages", "train.jsonl:3", "got: [1, 2]"]),
    "NaN": (GOOD + '{"messages": [], "weight": NaN}', ["not JSON", "train.jsonl:3", "NaN"]),
    "NaN in text": (with_tools(line("show", "read", path=float("nan"))), ["not JSON", "train.jsonl:1", "NaN"]),
    "Infinity": (GOOD + '{"messages": [], "weight": 1e999}', ["not JSON", "train.jsonl:3", "1e999"]),
    "a key twice": (GOOD + '{"messages": [], "messages": []}', ["train.jsonl:3", "'messages' stands there twice"]),
    "half a character": (GOOD + '{"messages": ["\\ud83d"]}', ["not JSON", "train.jsonl:3", "surrogates"]),
    "nested without end": (GOOD + NESTED, ["not JSON", "train.jsonl:3", "recursion"]),
    "JSON over several lines": (
        json.dumps(json.loads(GOOD.splitlines()[0]), indent=1),
        ["not JSON", "train.jsonl:1", "expected: a JSON object on every line"],
    ),
    "20 MB that are no JSON": (GOOD + "x" * 20_000_000, ["not JSON", "train.jsonl:3"]),
    "20 MB of an unknown key": (
        GOOD + json.dumps({"messages": [], "text": "x" * 20_000_000}),
        ["a key that is not known", "train.jsonl:3", '"text": "xxx'],
    ),
    "an unknown key": (GOOD + '{"messages": [], "train": 0}', ["a key that is not known", '"train": 0', '"weight": 0']),
    "an answer before a request": (
        GOOD + with_tools(json.dumps({"messages": [{"role": "assistant", "content": "hi"}]})),
        ["before any request", "train.jsonl:3"],
    ),
    "a late system message": (
        GOOD
        + with_tools(
            json.dumps({"messages": [{"role": role, "content": "x"} for role in ("user", "system", "assistant")]})
        ),
        ["system message", "train.jsonl:3", "message 2"],
    ),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", BAD)
def test_what_is_no_data_is_refused_in_a_few_lines(run, command, name):
    content, words = BAD[name]
    result = run(command, content)
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    assert len(result.stderr) < 2000
    for word in words:
        assert word in result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_a_byte_order_mark_and_other_line_ends_are_read(run, command):
    assert run(command, b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode()).exit_code == 0


@pytest.mark.parametrize("command", ["train", "plan", "inspect"])
def test_arguments_that_decoding_cannot_write_are_not_trained(run, command):
    result = run(command, GOOD + with_tools(line("book it", "book", at="2026-05-06T12:30:00"), tools=[PLAN_TOOL]))
    assert result.exit_code == 1
    for word in ("could never write", "calendar/book at $.at", "train.jsonl:3", '"weight": 0'):
        assert word in result.stderr


def test_eval_says_what_could_never_be_written_and_what_was_not_asked(run):
    moment = with_tools(line("book it", "book", at="2026-05-06T12:30:00"), tools=[PLAN_TOOL])
    unlearned = with_tools(json.dumps(json.loads(line("show", "read")) | {"weight": 0}))
    result = run("eval", GOOD + moment + unlearned)
    assert result.exit_code == 0, result.output
    assert "right calls that could never be written: 1 of 3" in result.stdout
    assert "book at $.at" in result.stdout
    assert "decisions that were not asked: 1 of weight 0" in result.stdout


def test_what_a_stage_does_not_learn_is_said(run):
    unlearned = with_tools(json.dumps(json.loads(line("show", "read", path="c")) | {"weight": 0}))
    nothing = with_tools(line("go", "stop"), tools=[{"name": "stop"}])
    said = "left out: 1 of weight 0, 1 of tools without parameters"
    assert f"arguments: {said}" in run("inspect", GOOD + unlearned + nothing).stdout
    assert said in run("train", GOOD + unlearned + nothing).stdout


def test_a_map_is_written_and_learned(run):
    tool = {"name": "tag", "inputSchema": {"type": "object", "additionalProperties": {"type": "string"}}}
    result = run("inspect", with_tools(line("tag it", "tag", a="b"), tools=[tool]))
    assert result.exit_code == 0, result.output
    assert "left out" not in result.stdout
    assert '{"a": "b"}' in result.stdout


@pytest.mark.parametrize("command", ["train", "plan"])
def test_a_folder_says_what_it_lacks_and_how_to_come_by_it(model, bundle, data, command, tmp_path):
    folder = tmp_path / "lacking"
    folder.mkdir()
    given = arguments(command, model, bundle, folder, folder, tmp_path / "new")
    empty = dualtune(*given)
    for name in ("tools.json", "test.jsonl"):
        shutil.copy(data / name, folder)
    test_only = dualtune(*given)
    (folder / "test.jsonl").rename(folder / "train.jsonl")
    no_valid = dualtune(*given)
    as_file = dualtune(*arguments(command, model, bundle, folder / "train.jsonl", folder, tmp_path / "new"))
    missing = dualtune(*arguments(command, model, bundle, folder / "nowhere", folder, tmp_path / "new"))
    results = (empty, test_only, no_valid, as_file, missing)
    assert [result.exit_code for result in results] == [2] * 5
    for result, words in zip(
        results,
        (
            ["lacking/train.jsonl", "no .jsonl file", "fix: write"],
            ["lacking/train.jsonl", "got: test.jsonl", "fix: write"],
            ["lacking/valid.jsonl", "got: train.jsonl", "every tenth line", "awk"],
            ["train.jsonl/train.jsonl", "a file, no folder", f"fix: name the folder: {folder}"],
            ["nowhere/train.jsonl", "no such folder", "fix: "],
        ),
        strict=True,
    ):
        for word in words:
            assert word in result.stderr


@pytest.mark.parametrize("command", ["inspect", "eval"])
def test_a_folder_as_a_file_names_its_files(model, bundle, data, command, tmp_path):
    result = dualtune(*arguments(command, model, bundle, data, data, tmp_path / "new"))
    assert result.exit_code == 2
    for word in ("cannot be read", "got: a folder", "fix: name one of its files: test.jsonl", "train.jsonl"):
        assert word in result.stderr
