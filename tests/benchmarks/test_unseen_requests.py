"""The requests for unseen servers: their calls are of the servers' tools, fit the schemas, and can be written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dualtune_mlx.grammar import explain_unwritable
from dualtune_mlx.mcp.config import ServerConfig
from dualtune_mlx.mcp.tool_checks import read_tool
from dualtune_mlx.tools.schemas import check_arguments
from tests.tools.real_servers.table import read_list

FOLDER = Path(__file__).parents[2] / "benchmarks" / "unseen"
FILES = sorted(FOLDER.glob("*/*.jsonl"))
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the benchmarks are not beside the tests")


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_calls(file: Path) -> None:
    tools = {entry["name"]: read_tool(entry, ServerConfig(file.stem)) for entry in read_list(file.stem)["tools"]}
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert len({line["request"] for line in lines}) == len(lines) >= 24
    assert sum(line["call"] is None for line in lines) == 4
    for line in lines:
        call = line["call"]
        for arguments in [call["arguments"], *line.get("also", [])] if call else []:
            check_arguments(arguments, tools[call["name"]])
            assert explain_unwritable(tools[call["name"]], arguments) == "", line["request"]


def test_no_server_is_in_both_sets() -> None:
    assert not {file.stem for file in FOLDER.glob("test/*.jsonl")} & {file.stem for file in FOLDER.glob("tune/*.jsonl")}
