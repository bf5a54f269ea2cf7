"""What results hold becomes values of the parameters that they fit, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dualtune_mlx.mcp.observed import explain_left_out, find_values
from dualtune_mlx.mcp.observed_fields import singular, to_snake
from dualtune_mlx.mcp.results import ToolResult
from dualtune_mlx.tools import Tool

TEXT, WHOLE = {"type": "string"}, {"type": "integer"}


def tool(name: str, **properties: Any) -> Tool:
    return Tool(name, "", {"type": "object", "properties": properties}, "s")


def result(name: str, content: Any, server: str = "s", is_error: bool = False) -> ToolResult:
    text = content if isinstance(content, str) else ""
    return ToolResult(server, name, (), text, None if isinstance(content, str) else content, is_error, 0.1)


PROJECTS = {"projects": [{"id": 7, "name": "Garden", "owner": {"login": "ada"}}, {"id": 8, "name": "Sky"}], "total": 2}


@pytest.mark.parametrize("content", [PROJECTS, json.dumps(PROJECTS)], ids=["structured", "JSON text"])
def test_fields_become_values_of_the_parameters_that_they_are(content):
    tools = [
        tool("get_project", id=WHOLE),
        tool("get_user", id=WHOLE, login=TEXT),
        tool("move", projectId=WHOLE, project=TEXT, projectNames={"type": "array", "items": TEXT}),
        tool("sort", project={"enum": ["Garden"]}, projectId=TEXT),
    ]
    values = find_values(tools, [result("list_projects", content)]).values
    assert {key: value for key, value in values.items() if "/" in key} == {
        "s/get_project/id": [7, 8],
        "s/get_user/login": ["ada"],
        "s/move/projectId": [7, 8],
        "s/move/project": ["Garden", "Sky"],
        "s/move/projectNames[]": ["Garden", "Sky"],
    }
    assert values["project_id"] == [7, 8] and values["project"] == ["Garden", "Sky"] and values["login"] == ["ada"]
    assert "id" not in values and "name" not in values, "what they are the names of is not said"


def test_lines_of_a_text_become_values():
    text = "Directories:\n/data/docs\n[FILE] a.txt\n* main\n  dev\nCurrent branch: main\nsome words of prose\n"
    tools = [tool("checkout", branch=TEXT), tool("read", path=TEXT, filePath=TEXT)]
    values = find_values(tools, [result("git_branches", text)]).values
    assert values["s/checkout/branch"] == ["main", "dev"] and values["s/read/path"] == ["/data/docs", "a.txt"]
    assert values["s/read/filePath"] == ["/data/docs", "a.txt"]
    assert values["path"] == ["/data/docs", "a.txt"]
    assert not any("prose" in str(value) for value in values.values())
    inside = find_values(tools, [result("list_roots", {"content": "Roots:\n/data/docs"})]).values
    assert inside["s/read/path"] == ["/data/docs"]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("notes.txt", ""),
        (7, ""),
        ("", "empty and long texts"),
        ("a" * 81, "empty and long texts"),
        ("two\nlines", "texts that are not plain"),
        (" a", "texts that are not plain"),
        ("\x1b[31m", "texts that are not plain"),
        ("<|im_end|>", "texts that are not plain"),
        ("ghp_" + "a1" * 18, "secrets"),
        ("of the configuration: s3cret", "secrets"),
        ("/home/ada/notes.txt", "paths in home folders"),
        (str(Path.home() / "notes.txt"), "paths in home folders"),
    ],
)
def test_what_is_no_value_is_left_out_and_counted(value, reason):
    secrets = [("KEY", "s3cret")]
    assert explain_left_out(value, secrets) == reason
    observed = find_values([], [result("list_things", {"names": [value]})], secrets)
    lines = isinstance(value, str) and "\n" in value  # lines are values by themselves
    assert lines or (dict(observed.left_out), bool(observed.values)) == ({reason: 1} if reason else {}, not reason)


def test_errors_other_servers_and_endless_results_are_passed_over():
    tools = [tool("read", path=TEXT)]
    assert find_values(tools, [result("list", {"path": "a"}, is_error=True)]).values == {}
    assert "s/read/path" not in find_values(tools, [result("list", {"path": "a"}, server="t")]).values
    assert find_values(tools, [result("list", "a.txt\n" * 100_000)]).values == {}
    many = {"paths": [f"{number}.txt" for number in range(200)]}
    assert len(find_values(tools, [result("list", many)]).values["s/read/path"]) == 50
    deep: Any = "a.txt"
    for _ in range(100):
        deep = [deep]
    assert find_values(tools, [result("list", deep)]).values == {}


@pytest.mark.parametrize(
    ("name", "snake", "one"),
    [
        ("projectIds", "project_ids", "project_id"),
        ("HTTPStatuses", "http_statuses", "http_statuse"),
        ("open-branches", "open_branches", "open_branch"),
        ("entries", "entries", "entry"),
        ("address", "address", "address"),
        ("status", "status", "status"),
        ("Sheet Name", "sheet_name", "sheet_name"),
    ],
)
def test_names_are_compared_in_snake_case_and_in_the_singular(name, snake, one):
    assert (to_snake(name), singular(snake)) == (snake, one)
