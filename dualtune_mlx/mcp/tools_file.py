"""Lists of tools in a file: answers to ``tools/list``, tools in OpenAI's form, or our own tools files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dualtune_mlx.errors import DataError
from dualtune_mlx.files import parse_json, read_text
from dualtune_mlx.mcp.config import ServerConfig
from dualtune_mlx.mcp.listing import Listing

FORMS = '{"tools": […]}, a list of such pages, or a list of tools'
SCHEMAS = ("inputSchema", "input_schema", "parameters")


def read_listings(path: str | Path) -> tuple[Listing, ...]:
    """Read a file of tools as its servers would list them. One tool that cannot be used does not touch the others.

    Args:
        path: a JSON file: an answer to ``tools/list`` (also inside JSON-RPC's ``result``), a list of its pages, or a
            list of tools in OpenAI's, MCP's or our form. ``server`` beside tools, or at a tool, names its server.

    Raises:
        UsageError: when the file cannot be read.
        DataError: when it holds no list of tools, or only the first of several pages.
        ToolError: when a server has too many tools.
    """
    path = Path(path)
    value = parse_json(read_text(path), "a tools file is not JSON", path)
    pages = [_open_page(page) for page in (value if isinstance(value, list) and any(map(_is_page, value)) else [value])]
    if isinstance(pages[-1], Mapping) and pages[-1].get("nextCursor"):
        raise DataError(
            "a tools file holds only the first of several pages",
            where=path,
            got=f"nextCursor {pages[-1]['nextCursor']!r}",
            expected="the last page, which has none, at the end of a list of pages",
            fix="ask the server for its other pages, or give its configuration: --mcp",
        )
    entries: defaultdict[str, list[tuple[Any, str]]] = defaultdict(list)
    for page in pages:
        for server, listed, group in _read_page(page, path):
            entries[server].append((listed, group))
    if not entries:
        raise DataError("a tools file holds no tools", where=path, expected=FORMS)
    return tuple(_list_tools(server, listed) for server, listed in entries.items())


def _is_page(value: Any) -> bool:
    return isinstance(value, Mapping) and ("tools" in value or "result" in value)


def _open_page(value: Any) -> Any:
    """The page in a JSON-RPC answer; another value as it is."""
    return value["result"] if isinstance(value, Mapping) and "result" in value else value


def _read_page(page: Any, path: Path) -> Iterator[tuple[str, Any, str]]:
    """The server, the tool as MCP lists it, and the group of each tool of a page."""
    tools = page.get("tools") if isinstance(page, Mapping) else page
    if not isinstance(tools, list):
        raise DataError("a tools file holds no list of tools", where=path, got=type(page).__name__, expected=FORMS)
    server = page.get("server") if isinstance(page, Mapping) else ""
    for tool in tools:
        body = tool.get("function", tool) if isinstance(tool, Mapping) else tool
        named = [one.get("server") for one in (tool, body) if isinstance(one, Mapping)] + [server, ""]
        groups = [one.get("group") for one in (tool, body) if isinstance(one, Mapping)] + [""]
        yield _first_text(named), _as_listed(body), _first_text(groups)


def _first_text(values: list[Any]) -> str:
    return next((value for value in values if isinstance(value, str) and value), "")


def _as_listed(body: Any) -> Any:
    """The tool with its schema where MCP has it."""
    if not isinstance(body, Mapping):
        return body
    schema = next((body[key] for key in SCHEMAS if body.get(key)), None)
    return {**{key: body[key] for key in ("name", "description", "annotations") if key in body}, "inputSchema": schema}


def _list_tools(server: str, entries: list[tuple[Any, str]]) -> Listing:
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for listed, group in entries:
        if group:
            groups[group].append(str(listed.get("name")))
    listing = Listing(ServerConfig(server, groups={group: tuple(names) for group, names in groups.items()}))
    for listed, _ in entries:
        listing.add(listed)
    return listing
