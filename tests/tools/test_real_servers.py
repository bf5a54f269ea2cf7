"""The tools of real servers: each is listed and compiled, takes arguments that fit it, and refuses others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dualtune_mlx.errors import ToolError
from dualtune_mlx.grammar import check_compiles, explain_unwritable
from dualtune_mlx.mcp.config import ServerConfig
from dualtune_mlx.mcp.tool_checks import read_tool
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.schemas import check_arguments
from tests.tools.real_servers.packages import PACKAGES

LISTS = Path(__file__).parent / "real_servers" / "lists"
SET_ASIDE = {"linear/linear_generateOAuthApplicationSetup": "look-around"}
"""Tools that cannot be used, with the reason that is given."""
pytestmark = pytest.mark.servers


@pytest.mark.parametrize("server", PACKAGES)
def test_tools(server: str) -> None:
    listed = json.loads((LISTS / f"{server}.json").read_text("utf-8"))["tools"]
    config = ServerConfig(server)
    assert listed
    for entry in listed:
        name = f"{server}/{entry['name']}"
        if name in SET_ASIDE:
            with pytest.raises(ToolError, match=SET_ASIDE[name]):
                check_compiles(read_tool(entry, config))
        else:
            check_tool(read_tool(entry, config), entry["valid"], entry["invalid"])


def check_tool(tool: Tool, valid: dict[str, Any] | None, invalid: Any) -> None:
    check_compiles(tool)
    assert valid is not None, tool.name
    check_arguments(valid, tool)
    assert explain_unwritable(tool, valid) == "", tool.name
    if isinstance(invalid, dict):
        with pytest.raises(ToolError, match="do not fit"):
            check_arguments(invalid, tool)
        assert explain_unwritable(tool, invalid), tool.name
