"""A wrong call or a bad file: one clear message, the right exit code, no traceback."""

from __future__ import annotations

import json
import shutil
import string
import warnings
from errno import EFBIG, ENOSPC
from os import strerror

import click
import pytest

from dualtune_mlx.cli.main import COMMANDS, main
from dualtune_mlx.errors import DualTuneWarning
from tests.cli.conftest import SMALL, dualtune


def check_failure(code: int, words: list[str], *arguments: object) -> None:
    result = dualtune(*arguments)
    assert result.exit_code == code, result.output
    for word in words:
        assert word in result.stderr
    assert "Traceback" not in result.output
    if arguments[0] != "train":  # whose progress bar is there already
        assert result.stdout == ""


def test_help_lists_every_command():
    result = dualtune("--help")
    assert result.exit_code == 0
    for name, text in COMMANDS.items():
        assert name in result.stdout
        assert text.split()[0] in result.stdout


def test_warnings_of_ours_are_told_as_errors_are_and_others_as_python_does(monkeypatch):
    def warn() -> None:
        warnings.warn("groups differ\n  fix: that", DualTuneWarning, stacklevel=1)
        warnings.warn("other", FutureWarning, stacklevel=1)

    monkeypatch.setattr(main, "get_command", lambda *asked: click.Command("doctor", callback=warn))
    with pytest.warns(FutureWarning, match="other"):
        result = dualtune("doctor")
    assert result.stderr == "Warning: groups differ\n  fix: that\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command):
    result = dualtune(command, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: dualtune {command}")


def test_the_version_is_the_package_s():
    from importlib.metadata import version

    assert dualtune("--version").stdout.split()[-1] == version("dualtune-mlx")


def test_an_unknown_command_is_a_wrong_call_with_the_known_ones():
    check_failure(2, ["no such command", "got: trian", "train, call"], "trian", "selector")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "chooser"], ["chooser", "selector"]),
        (["train", "selector"], ["--data"]),
        (["train", "selector", "--data", "d", "--bundle", "b"], ["--model"]),
        (["train", "selector", "--data", "d", "--bundle", "b", "--steps", "many"], ["--steps", "many"]),
        (["train", "selector", "--data", "d", "--bundle", "b", "--model", "m", "--steps", "0"], ["steps", "got: 0"]),
        (["train", "selector", "--data", "d", "--bundle", "b", "--activation", "always"], ["always", "invocation"]),
        (["train", "selector", "--data", "d", "--bundle", "b", "--learning_rate", "1"], ["--learning_rate"]),
        (["eval", "--data", "d"], ["--bundle", "--base"]),
        (["eval", "--data", "d", "--bundle", "b", "--base"], ["--bundle", "--base"]),
        (["eval", "--bundle", "b"], ["--data"]),
        (["eval", "--bundle", "b", "--data", "d", "--suite", "other"], ["other", "calls"]),
        (["call", "--bundle", "b", "hi"], ["--tools", "--mcp"]),
        (["call", "--bundle", "b", "--tools", "t", "--mcp", "m", "hi"], ["--tools", "--mcp"]),
        (["call", "--bundle", "b", "--tools", "t", "--execute", "hi"], ["--execute", "--mcp"]),
        (["call", "--bundle", "b", "--tools", "t"], ["REQUEST"]),
        (["call", "--bundle", "b", "--tools", "t", "--json"], ["REQUEST"]),
        (["call", "--bundle", "b", "--tools", "t", "--json", "out.json"], ["REQUEST", "--json is its file"]),
        (["call", "--tools", "t", "--model", "m", "hi"], ["--bundle"]),
        (["inspect", "--data", "d", "--stage", "x"], ["'x'", "selector"]),
        (["convert", "from-gguf", "a"], ["DESTINATION"]),
        (["convert", "from-gguf", "a", "b", "--quantize", "four"], ["--quantize", "'four'", "BITS:GROUP"]),
        (["convert", "from-gguf", "a", "b", "--quantize", "3"], ["3 bits in groups of 64", "4 or 8 bits"]),
        (["convert", "from-onnx"], ["from-onnx"]),
    ],
)
def test_a_wrong_call_says_what_is_wrong(arguments, words):
    check_failure(2, words, *arguments)


def test_missing_files_are_named(model, data, bundle, tmp_path):
    nowhere = tmp_path / "nowhere"
    tools = data / "tools.json"
    new = tmp_path / "new"
    train = ["train", "selector", "--bundle", new]
    check_failure(2, ["cannot be read", "nowhere/train.jsonl"], *train, "--model", model, "--data", nowhere)
    check_failure(2, ["cannot be read", "nowhere"], "eval", "--bundle", bundle, "--data", nowhere)
    check_failure(1, ["no bundle", "nowhere"], "eval", "--bundle", nowhere, "--data", data / "test.jsonl")
    check_failure(1, ["no bundle", "nowhere"], "call", "--bundle", nowhere, "--tools", tools, "hi")
    check_failure(2, ["cannot be read", "nowhere"], "call", "--bundle", bundle, "--tools", nowhere, "hi")
    check_failure(2, ["cannot be read", "nowhere"], "inspect", "--model", model, "--data", nowhere)
    check_failure(1, ["cannot be opened", "nowhere"], "convert", "from-gguf", nowhere, tmp_path / "out")
    check_failure(1, ["not found", "nowhere"], *train, "--model", nowhere, "--data", data)
    check_failure(1, ["template", "nowhere", "chatml"], *train, "--model", model, "--data", data, "--template", nowhere)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["empty"]),
        ("{\n", ["not JSON", "data.jsonl:1"]),
        ('{"messages": [{"role": "user", "content": "x"}]}', ["data.jsonl:1", "no assistant"]),
    ],
)
def test_bad_data_is_named_with_its_line(model, data, bundle, tmp_path, text, words):
    shutil.copy(data / "tools.json", tmp_path / "tools.json")
    (tmp_path / "data.jsonl").write_text(text)
    (tmp_path / "train.jsonl").write_text(text)
    check_failure(1, words, "inspect", "--model", model, "--data", tmp_path / "data.jsonl")
    check_failure(1, words, "eval", "--bundle", bundle, "--data", tmp_path / "data.jsonl")
    words = [word.replace("data.jsonl", "train.jsonl") for word in words]
    check_failure(
        1, words, "train", "selector", "--model", model, "--data", tmp_path, "--bundle", tmp_path / "new", *SMALL
    )
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("tools", "words"),
    [
        ([], ["no list of tools"]),
        ([{"name": "a", "inputSchema": {"type": "array"}}], ["does not describe an object", "tool 'a'"]),
        ([{"name": "a", "inputSchema": {"properties": {"x": {"type": "strin"}}}}], ["not a valid JSON Schema", "'a'"]),
        ([{"name": "a"}, {"name": "a"}], ["same name", "got: /a"]),
        ([{"name": "respond"}], ["is called 'respond'"]),
    ],
)
def test_bad_tools_are_named(bundle, tmp_path, tools, words):
    (tmp_path / "tools.json").write_text(json.dumps(tools))
    check_failure(1, words, "call", "--bundle", bundle, "--tools", tmp_path / "tools.json", "hi")


def test_a_schema_that_cannot_be_enforced_is_named(bundle, tmp_path):
    schema = {"type": "object", "properties": {"x": {"not": {"type": "string"}}}, "required": ["x"]}
    letters = string.ascii_letters + string.digits  # so many that the untrained model does not answer in words
    tools = [{"name": f"respond{letter}", "inputSchema": schema} for letter in letters]
    (tmp_path / "tools.json").write_text(json.dumps(tools))
    words = ["cannot be enforced", "tool 'respond"]
    check_failure(1, words, "call", "--bundle", bundle, "--tools", tmp_path / "tools.json", "hi")


def test_a_folder_that_is_no_model_is_named(data, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    arguments = ["--data", data, "--bundle", tmp_path / "b"]
    check_failure(1, ["cannot be loaded", str(tmp_path)], "train", "selector", "--model", tmp_path, *arguments)
    (tmp_path / "config.json").unlink()
    check_failure(1, ["holds no model", "config.json"], "train", "selector", "--model", tmp_path, *arguments)


def test_a_bundle_of_another_model_is_not_trained_further(data, bundle, tmp_path):
    from tests import tiny

    other = tiny.save(tmp_path / "other", seed=7)
    before = (bundle / "dualtune.json").read_bytes()
    where = ["--model", other, "--data", data, "--bundle", bundle]
    check_failure(1, ["another model", "fix: "], "train", "selector", *where, *SMALL)
    assert (bundle / "dualtune.json").read_bytes() == before


@pytest.mark.parametrize(("number", "file"), [(ENOSPC, "out.txt"), (EFBIG, None)])
def test_a_full_disk_is_told_in_words_wherever_a_command_meets_it(monkeypatch, number, file):
    def write() -> None:
        raise OSError(number, strerror(number), file)

    monkeypatch.setattr(main, "get_command", lambda *asked: click.Command("doctor", callback=write))
    check_failure(2, [strerror(number), file or "the output", "make room"], "doctor")
