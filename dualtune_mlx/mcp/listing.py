"""A server's list of tools, which is data: those that can be used, and those that are set aside, with reasons."""

from __future__ import annotations

from itertools import chain
from typing import Any

from dualtune_mlx.errors import DualTuneError, UsageError
from dualtune_mlx.grammar import check_compiles
from dualtune_mlx.mcp.config import ServerConfig
from dualtune_mlx.mcp.pinned_arguments import show_tool
from dualtune_mlx.mcp.settled_schema import find_argument_names
from dualtune_mlx.mcp.tool_checks import check_configured_names, check_limit, read_tool, show_name, tool_error
from dualtune_mlx.tools import Tool

MOST_TOOLS = 1_000


class Listing:
    """What a server lists, tool by tool. One tool that cannot be used does not touch the others.

    Attributes:
        config: the server's configuration.
        set_aside: why tools cannot be used, by their names.
    """

    def __init__(self, config: ServerConfig) -> None:
        self.config = config
        self.set_aside: dict[str, DualTuneError] = {}
        self._listed: dict[str, Any] = {}
        self._excluded: dict[str, set[str]] = {}
        self._tools: dict[str, Tool] = {}
        self._shown: dict[str, Tool] = {}
        self._count = 0

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The tools that can be used, with all their arguments."""
        return tuple(self._tools.values())

    @property
    def excluded(self) -> tuple[str, ...]:
        """The names of the tools that the configuration does not offer."""
        return tuple(self._excluded)

    @property
    def shown(self) -> tuple[Tool, ...]:
        """The same tools as a model sees them."""
        return tuple(self._shown.values())

    def add(self, listed: Any) -> Tool | None:
        """Take the next tool of the list; None where it is excluded, set aside, or listed before. An excluded one is
        not looked at.

        Raises:
            ToolError: when there are too many.
        """
        self._count += 1
        check_limit(self.config.name, "list of tools", self._count, MOST_TOOLS, "tools")
        name = listed.get("name") if isinstance(listed, dict) else None
        label = show_name(name) if isinstance(name, str) else f"(number {self._count}, without a name)"
        names = {label} | ({name} if isinstance(name, str) else set())
        if not all(map(self.config.offers, names)):
            self._excluded[label] = names
            return None
        if label in self._listed:
            if self._listed[label] != listed:
                where = f"{self.config.name}/{label}"
                self.drop(label, tool_error("a server lists two tools of one name", where, None, "one tool a name"))
            return None
        self._listed[label] = listed
        try:
            tool = read_tool(listed, self.config)
            shown = show_tool(self.config, tool)
            check_compiles(shown)
        except DualTuneError as reason:
            self.drop(label, reason)
            return None
        self._tools[label], self._shown[label] = tool, shown
        return tool

    def drop(self, name: str, reason: DualTuneError) -> None:
        """Set a tool aside."""
        self._tools.pop(name, None), self._shown.pop(name, None)
        self.set_aside.setdefault(name, reason)

    def drop_unpinned(self, taken: dict[str, set[str]]) -> None:
        """Set aside the tools that no longer take an argument which the configuration pins.

        Args:
            taken: the pinned arguments that each tool has taken so far, by its name; those of this list are added.
        """
        for tool in self.tools if self.config.pinned else ():
            pinned = self.config.pinned.keys() & find_argument_names(tool.parameters)
            known = taken.setdefault(tool.name, set())
            if lost := known - pinned:
                what = "a tool no longer takes an argument that the configuration pins"
                where = f"{self.config.name}/{tool.name}"
                self.drop(tool.name, tool_error(what, where, "none of this name", ", ".join(map(repr, sorted(lost)))))
            known |= pinned

    def check_configuration(self) -> None:
        """Check that the server has every argument and tool that the configuration names, and takes what it pins.

        Raises:
            UsageError: with the unknown names, or with a tool that no call is left of.
        """
        for reason in self.set_aside.values():
            if isinstance(reason, UsageError):
                raise reason
        config, names = self.config, sorted({*self._listed, *chain(*self._excluded.values())})
        arguments = sorted(
            {*chain(*(find_argument_names(tool.parameters) for tool in self.tools)), *self._lost_names()}
        )
        for what, named, known in (
            ("pinned arguments", config.pinned, arguments),
            ("excluded tools", config.exclude, names),
            ("included tools", config.include or (), names),
            ("allowed tools", config.allow, names),
            ("tools of a group", chain(*config.groups.values()), names),
            ("tools of a rule", chain(*(rule.tools for rule in config.rules)), names),
            ("arguments of a rule", chain(*(rule.arguments for rule in config.rules)), arguments),
        ):
            check_configured_names(what, named, known, config.name)

    def _lost_names(self) -> set[str]:
        """The arguments of tools that are set aside, as far as they can be read."""
        schemas = (
            one.get("inputSchema")
            for name, one in self._listed.items()
            if name in self.set_aside and isinstance(one, dict)
        )
        listed = (schema.get("properties") for schema in schemas if isinstance(schema, dict))
        return set(chain(*(properties for properties in listed if isinstance(properties, dict))))
