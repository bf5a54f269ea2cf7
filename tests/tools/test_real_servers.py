"""The tools of real servers: each is listed and compiled, takes arguments that fit it, and refuses others."""

from __future__ import annotations

from typing import Any

import pytest

from dualtune_mlx.errors import ToolError
from dualtune_mlx.grammar import explain_unwritable
from dualtune_mlx.mcp.config import ServerConfig
from dualtune_mlx.mcp.tool_checks import read_tool
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.schemas import check_arguments
from tests.tools.real_servers.packages import PACKAGES
from tests.tools.real_servers.table import PAGE, find_set_aside, read_list, replace_table

pytestmark = pytest.mark.servers


@pytest.mark.parametrize("server", PACKAGES)
def test_tools(server: str) -> None:
    listed, aside = read_list(server)["tools"], find_set_aside(server)
    assert len(aside) < len(listed)
    for entry in listed:
        if entry["name"] not in aside:
            check_tool(read_tool(entry, ServerConfig(server)), entry["valid"], entry["invalid"])


def check_tool(tool: Tool, valid: dict[str, Any], invalid: Any) -> None:
    check_arguments(valid, tool)
    assert explain_unwritable(tool, valid) == "", tool.name
    if isinstance(invalid, dict):  # there are schemas that refuse nothing
        with pytest.raises(ToolError, match="do not fit"):
            check_arguments(invalid, tool)
        assert explain_unwritable(tool, invalid), tool.name


@pytest.mark.skipif(not PAGE.exists(), reason="the documentation is not beside the tests")
def test_page() -> None:
    page = PAGE.read_text("utf-8")
    assert replace_table(page) == page
