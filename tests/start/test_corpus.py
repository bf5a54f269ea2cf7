"""The start corpus: servers, their tools, and requests with the one right call."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dualtune_mlx.grammar import check_compiles, explain_unwritable
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.schemas import check_arguments

FOLDER = Path(__file__).parents[2] / "dualtune_mlx" / "start" / "corpus"
SERVERS = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))}
CONVERTED_FORMATS = {"date", "date-time", "time"}
DIGITS = r"^\d{"
"""The patterns of dates and times start like this."""


def find_copied(value: Any, schema: Any) -> Iterator[str]:
    """The strings of an argument that are copied from the request. Enum words, dates and times are converted."""
    schema = next(iter(schema.get("anyOf", ())), schema)
    match value:
        case str():
            converted = schema.get("format") in CONVERTED_FORMATS or schema.get("pattern", "").startswith(DIGITS)
            if "enum" not in schema and not converted:
                yield value
        case list():
            for item in value:
                yield from find_copied(item, schema.get("items", {}))
        case dict():
            for key, item in value.items():
                others = schema.get("additionalProperties")
                yield from find_copied(item, schema.get("properties", {}).get(key) or others or {})


@pytest.fixture(scope="module", params=SERVERS, ids=str)
def server(request):
    return SERVERS[request.param]


def test_the_file_has_its_servers_name(server):
    assert SERVERS[server["server"]] is server
    assert set(server) == {"server", "tools", "requests"}


def test_tools_can_be_written(server):
    tools = [Tool.from_dict(tool, server["server"]) for tool in server["tools"]]
    assert len({tool.name for tool in tools}) == len(tools) >= 5
    for tool in tools:
        check_compiles(tool)


def test_calls_fit_their_requests(server):
    tools = {tool["name"]: Tool.from_dict(tool, server["server"]) for tool in server["tools"]}
    for line in server["requests"]:
        if call := line["call"]:
            tool, arguments = tools[call["name"]], call["arguments"]
            check_arguments(arguments, tool)
            assert explain_unwritable(tool, arguments) == "", line
            unsaid = [text for text in find_copied(arguments, tool.parameters) if text not in line["request"]]
            assert not unsaid, line


def test_every_tool_is_asked_for(server):
    called = [line["call"]["name"] for line in server["requests"] if line["call"]]
    assert {name for tool in server["tools"] if called.count(name := tool["name"]) < 5} == set()


def test_no_request_stands_twice(server):
    said = [line["request"].casefold() for line in server["requests"]]
    assert len(set(said)) == len(said)


def test_some_requests_are_served_by_no_tool():
    calls = [line["call"] for server in SERVERS.values() for line in server["requests"]]
    assert 0.08 <= calls.count(None) / len(calls) <= 0.2
