"""The table of docs/reference/real-servers.md: which tools of real servers can be used.

python -m tests.tools.real_servers.table     writes it
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from dualtune_mlx.errors import ToolError
from dualtune_mlx.grammar import check_compiles
from dualtune_mlx.mcp.config import ServerConfig
from dualtune_mlx.mcp.tool_checks import read_tool
from tests.tools.real_servers.packages import PACKAGES

LISTS = Path(__file__).parent / "lists"
PAGE = Path(__file__).parents[3] / "docs" / "reference" / "real-servers.md"
HEAD = "| server | package | tools | can be used | set aside |\n| --- | --- | --- | --- | --- |\n"


def read_list(server: str) -> Mapping[str, Any]:
    """A server's package, and its tools as they were collected."""
    listed: Mapping[str, Any] = json.loads((LISTS / f"{server}.json").read_text("utf-8"))
    return listed


@cache
def find_set_aside(server: str) -> Mapping[str, ToolError]:
    """The tools of a server that cannot be used, by name, and why."""
    found = {}
    for entry in read_list(server)["tools"]:
        try:
            check_compiles(read_tool(entry, ServerConfig(server)))
        except ToolError as error:
            found[entry["name"]] = error
    return found


def write_table() -> str:
    """The table, with a last row for all servers."""
    rows, total, usable = [], 0, 0
    for server in PACKAGES:
        listed, aside = read_list(server), find_set_aside(server)
        count = len(listed["tools"])
        reasons = "; ".join(f"`{name}`: {describe(error)}" for name, error in aside.items())
        rows.append(f"| {server} | {listed['package']} | {count:,} | {count - len(aside):,} | {reasons} |")
        total, usable = total + count, usable + count - len(aside)
    rows.append(f"| all {len(PACKAGES)} | | {total:,} | {usable:,} | |")
    return HEAD + "\n".join(rows) + "\n"


def describe(error: ToolError) -> str:
    """The keyword that cannot be used, and what is the matter with it."""
    keyword, *rest = re.split(r" '.*': |: ", str(error.got), maxsplit=1)
    return f"{keyword} ({', '.join(rest)})"


def replace_table(page: str) -> str:
    """The page with the table of now, which stands at its end."""
    return page.partition(HEAD)[0] + write_table()


if __name__ == "__main__":
    PAGE.write_text(replace_table(PAGE.read_text("utf-8")), "utf-8")
