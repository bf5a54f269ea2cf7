"""Approvals: the user's configuration decides which calls may run, which need the user's word, and which are refused.

This file only decides. The agent asks the user, and ``client.py`` enforces: it refuses a call that was not approved.
A server's hints can only make this stricter, unless the user believes them: by ``auto``, or of this server by
``trust_hints``. What a tool or its results say has no influence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from dualtune_mlx.errors import UsageError
from dualtune_mlx.mcp.config import ServerConfig
from dualtune_mlx.mcp.own_keys import APPROVALS
from dualtune_mlx.tools import Tool, ToolCall

ApprovalAnswer = Literal["yes", "always", "no", "nobody"]


@dataclass(frozen=True)
class ApprovalQuestion:
    """May this call run?"""

    call: ToolCall
    """What would be sent, with the pinned arguments."""
    tool: Tool
    """The tool that would be called, as its server lists it now."""
    why: str
    """Why the user is asked."""


Ask = Callable[[ApprovalQuestion], ApprovalAnswer]
"""Asks the user. "always" is for this very tool until the run ends; "nobody" is said where there is nobody to ask."""


@dataclass(frozen=True)
class ApprovalVerdict:
    """What is to be done with a call, and why."""

    action: Literal["run", "ask", "refuse"]
    why: str


class ApprovalPolicy:
    """The user's rules for approvals.

    Args:
        configs: the servers' configurations.
        approve: when the user is asked. ``ask``: before every call that the configuration does not allow; ``auto``:
            only before calls that servers do not call harmless; ``never``: what ``ask`` asks about is refused.

    Raises:
        UsageError: when ``approve`` has another value.
    """

    def __init__(self, configs: Sequence[ServerConfig], approve: str = "ask") -> None:
        if approve not in APPROVALS:
            raise UsageError("there is no such approval policy", got=approve, expected=", ".join(APPROVALS))
        self._configs: Mapping[str, ServerConfig] = {config.name: config for config in configs}
        self._approve = approve

    def verdict(self, tool: Tool) -> ApprovalVerdict:
        """What is to be done with a call of the tool."""
        config = self._configs.get(tool.server)
        if config is None:
            return ApprovalVerdict("refuse", f"there is no configuration of server {tool.server!r}")
        if config.approve == "never":
            return ApprovalVerdict("refuse", "the configuration forbids this server's tools")
        if tool.name in config.allow:
            return ApprovalVerdict("run", "the configuration allows this tool")
        danger, automatic = _describe_danger(tool, config), self._approve == config.approve == "auto"
        if not danger and automatic:
            return ApprovalVerdict("run", "everything that is not destructive is approved")
        if not danger and config.trust_hints and _only_reads(tool):
            return ApprovalVerdict("run", "it only reads, says its server, whose hints the configuration trusts")
        called_destructive = tool.annotations.get("destructiveHint") is True
        why = danger if automatic or called_destructive else "the configuration does not allow this tool"
        return ApprovalVerdict("refuse" if self._approve == "never" else "ask", why)


def _only_reads(tool: Tool) -> bool:
    return tool.annotations.get("readOnlyHint") is True


def _describe_danger(tool: Tool, config: ServerConfig) -> str:
    """Why a tool counts as destructive; "" where it does not. Without a hint it does: that is MCP's default."""
    hint = tool.annotations.get("destructiveHint")
    if hint is None and not _only_reads(tool) and not config.trust_unhinted:
        return "its server does not say whether it is destructive"
    if hint in (None, False):
        return ""
    return "its server says that it is destructive" if hint is True else "its server's hints cannot be read"
