"""Looks at what servers hold: every tool that only reads, and needs no argument, is called once."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dualtune_mlx.errors import DualTuneError, ToolError
from dualtune_mlx.mcp.approvals import ApprovalPolicy
from dualtune_mlx.mcp.client import PreparedCall, Toolbox, ToolWarning, connect
from dualtune_mlx.mcp.config import ServerConfig
from dualtune_mlx.mcp.observed import ObservedValues, find_values
from dualtune_mlx.mcp.results import ToolResult
from dualtune_mlx.tools import Tool, ToolCall

MOST_CALLS = 40
LARGEST_ANSWER = 2 * 2**20
"""Bytes of an answer."""
CALL_SECONDS = 15.0
SECONDS = 120.0


@dataclass(frozen=True)
class Look:
    """A call that was made, and what came of it."""

    call: ToolCall
    """The call as it is sent."""
    result: ToolResult | None = None
    """What the tool answered; None where it did not."""
    failure: str = ""
    """Why it did not."""

    def to_dict(self) -> dict[str, Any]:
        """The look as JSON, without the result."""
        failure = "it answered with an error" if self.result and self.result.is_error else self.failure
        return {"server": self.call.server, "name": self.call.name, "failure": failure or None}


def observe_servers(
    configs: Sequence[ServerConfig], announce: Callable[[Sequence[ToolCall]], None]
) -> tuple[list[Look], ObservedValues]:
    """Start the servers, look at what they hold, and find the values in it.

    Args:
        configs: the servers.
        announce: is given the calls before the first one is made; what it raises ends it.

    Raises:
        UsageError, ServerError, ToolError: as ``connect``.
    """
    limited = [replace(config, output_limit=min(config.output_limit, LARGEST_ANSWER)) for config in configs]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ToolWarning)  # the snapshot has said it
        with connect(limited) as toolbox:
            calls = plan_looks(toolbox, ApprovalPolicy(configs, "auto"))
            announce([prepared.call for prepared in calls])
            looks, tools = list(look(toolbox, calls)), toolbox.tools
    results = [one.result for one in looks if one.result is not None]
    return looks, find_values(tools, results, [pair for config in configs for pair in config.secrets])


def plan_looks(toolbox: Toolbox, policy: ApprovalPolicy) -> tuple[PreparedCall, ...]:
    """The calls that may be made: of tools whose server says that they only read, which the policy lets run, and which
    need no other arguments than those that are pinned or have a default."""
    found = (_prepare(toolbox, call) for call in map(_default_call, toolbox.tools) if call is not None)
    return tuple(one for one in found if one is not None and _may_look(one.tool, policy))[:MOST_CALLS]


def look(toolbox: Toolbox, calls: Sequence[PreparedCall]) -> Iterator[Look]:
    """Make the calls, one after the other, within limits of time. A tool that changed since is not called."""
    ends = time.monotonic() + SECONDS
    for prepared in calls:
        call = prepared.call
        left = ends - time.monotonic()
        if left <= 0:
            yield Look(call, failure="there was no time left")
            continue
        try:
            yield Look(call, toolbox.execute(prepared, timeout=min(left, CALL_SECONDS)))
        except TimeoutError:
            yield Look(call, failure="it took too long")
        except DualTuneError as error:
            yield Look(call, failure=error.what)


def _may_look(tool: Tool, policy: ApprovalPolicy) -> bool:
    return tool.annotations.get("readOnlyHint") is True and policy.verdict(tool).action == "run"


def _default_call(tool: Tool) -> ToolCall | None:
    """The call with the defaults of what the tool needs; None where something that it needs has none."""
    listed = tool.parameters.get("properties", {})
    needed = {name: listed.get(name) for name in tool.parameters.get("required", ())}
    if not all(isinstance(schema, dict) and "default" in schema for schema in needed.values()):
        return None
    return ToolCall(tool.name, {name: schema["default"] for name, schema in needed.items()}, tool.server)


def _prepare(toolbox: Toolbox, call: ToolCall) -> PreparedCall | None:
    """The call as it is sent; None where it may not be sent."""
    try:
        return toolbox.prepare(call)
    except ToolError:
        return None
