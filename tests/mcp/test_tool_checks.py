from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dualtune_mlx.errors import ToolError
from dualtune_mlx.mcp import ServerConfig, connect
from dualtune_mlx.mcp.tool_checks import read_tool
from dualtune_mlx.tools import Tool

CONFIG = ServerConfig("s", "c", groups={"g": ("a",)})


def nest_schema(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


def test_a_tool_within_the_limits_is_kept_with_all_it_says() -> None:
    tool = {"name": "a" * 128, "description": "d" * 20_000, "inputSchema": nest_schema(20), "_meta": {"x": 1}}
    assert read_tool(tool, CONFIG) == Tool("a" * 128, "d" * 20_000, nest_schema(20), "s")
    assert read_tool({"name": "a"}, CONFIG) == Tool("a", "", {"type": "object"}, "s", group="g")


@pytest.mark.parametrize(
    ("tool", "parts"),
    [
        ("a", ["without a name", "got: a"]),
        ({"name": 1}, ["without a name", "got: dict"]),
        ({"name": ""}, ["name cannot be used", "0 characters"]),
        ({"name": "a" * 129}, ["name cannot be used", "129 characters"]),
        ({"name": "a\nb"}, ["name cannot be used", "printable"]),
        ({"name": "a", "description": "d" * 20_001}, ["description is beyond the limit", "20,001 characters", "s/a"]),
        ({"name": "a", "inputSchema": nest_schema(40)}, ["schema is beyond the limit", "82 levels"]),
        ({"name": "a", "inputSchema": nest_schema(100_000)}, ["schema is beyond the limit", "levels"]),
        ({"name": "a", "inputSchema": {"enum": ["x" * 200_000]}}, ["schema is beyond the limit", "characters", "200,"]),
        ({"name": "a", "inputSchema": {"type": "array"}}, ["does not describe an object"]),
    ],
)
def test_refuses(tool: Any, parts: list[str]) -> None:
    with pytest.raises(ToolError) as caught:
        read_tool(tool, CONFIG)
    for part in parts:
        assert part in str(caught.value)
    assert len(str(caught.value)) < 1_000


def test_annotations_are_kept_in_memory_alone(server: Callable[..., ServerConfig]) -> None:
    with connect([server("rough")]) as toolbox:
        first, second, *_ = toolbox.servers[0].tools
    assert first.annotations == {"title": "Its number", "readOnlyHint": True} and second.annotations == {}
    assert "readOnlyHint" not in str(first.to_dict())
    assert first == Tool.from_dict(first.to_dict())
