"""A tiny model folder, a data folder, and a bundle trained on them by the commands themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dualtune_mlx.cli import main
from tests import tiny

PATH = {"type": "object", "properties": {"path": {"type": "string", "maxLength": 6}}, "required": ["path"]}
TOOLS = [
    {"name": "read_file", "description": "Read a file.", "inputSchema": PATH, "server": "fs"},
    {"name": "list_dir", "description": "List a folder.", "inputSchema": PATH, "server": "fs"},
    {"name": "now", "description": "The time.", "server": "clock"},
]
SMALL = ["--steps", "2", "--batch-size", "2", "--rank", "2", "--warmup", "1", "--template", "chatml"]


def dualtune(*arguments: object) -> Result:
    """Run the command ``dualtune``; whatever it raised beyond an exit is raised again."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="dualtune")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def line(request: str, name: str, **arguments: Any) -> str:
    function = {"name": name, "arguments": json.dumps(arguments)}
    user, assistant = (
        {"role": "user", "content": request},
        {"role": "assistant", "tool_calls": [{"function": function}]},
    )
    return json.dumps({"messages": [user, assistant]}) + "\n"


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "tools.json").write_text(json.dumps(TOOLS))
    lines = [line("show a", "read_file", path="a"), line("list b", "list_dir", path="b"), line("time?", "now")]
    for split in ("train", "valid", "test"):
        (folder / f"{split}.jsonl").write_text("".join(lines))
    return folder


@pytest.fixture(scope="session")
def bundle(model, data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "bundle"
    for stage in ("selector", "arguments"):
        result = dualtune("train", stage, "--model", model, "--data", data, "--bundle", folder, *SMALL)
        assert result.exit_code == 0, result.output
    return folder
