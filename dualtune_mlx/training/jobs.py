"""The adapters that a data set has enough examples for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dualtune_mlx.errors import UsageError
from dualtune_mlx.tools import Tool, Trajectory, find_called_tool
from dualtune_mlx.tools.hierarchy import GROUP_SIZE, hierarchy
from dualtune_mlx.training.examples import decisions_of_stage, is_divided


@dataclass(frozen=True)
class Job:
    """One adapter to be trained.

    Raises:
        UsageError: when another stage than ``arguments`` has a scope.
    """

    stage: str
    """The stage that the adapter is for."""
    scope: str = ""
    """For ``arguments``: the server, or ``server/tool``, whose calls are learned; empty for all calls."""

    def __post_init__(self) -> None:
        if self.scope and self.stage != "arguments":
            raise UsageError(
                "only argument adapters have a scope", where=self.stage, got=self.scope, fix="leave the scope out"
            )

    @property
    def title(self) -> str:
        """The job in words, for reports and messages."""
        return f"{self.stage} · {self.scope}" if self.scope else self.stage


def all_jobs(trajectories: Sequence[Trajectory], min_examples: int, routing: str = "auto") -> list[Job]:
    """All adapters that the trajectories can train, in the order in which they are trained.

    * a planner, where requests are divided into subtasks;
    * a router, where ``needs_router`` says so;
    * a selector;
    * an argument adapter for each tool with at least ``min_examples`` calls;
    * an argument adapter for each server, where there are several;
    * an argument adapter for all calls.

    A server's adapter learns the calls of all its tools, so it also serves tools that the data does not have.
    """
    called = [
        find_called_tool(decision.call, decision.tools)
        for trajectory in trajectories
        for _, decision in decisions_of_stage(trajectory, "arguments")
    ]
    tools = Counter((tool.server, tool.name) for tool in called)
    servers = sorted({tool.server for tool in called if tool.server})
    own = [Job("arguments", f"{server}/{name}") for (server, name), n in sorted(tools.items()) if n >= min_examples]
    shared = [Job("arguments", server) for server in servers] if len(servers) > 1 else []
    router = [Job("router")] if needs_router(trajectories, routing) else []
    planner = [Job("planner")] if any(map(is_divided, trajectories)) else []
    return [*planner, *router, Job("selector"), *own, *shared, *([Job("arguments")] if called else [])]


def needs_router(trajectories: Sequence[Trajectory], routing: str) -> bool:
    """Whether servers or groups are to be chosen before tools.

    With ``auto`` they are where a conversation has more tools than one group holds, or tools in groups that the user
    gave; with ``always`` wherever there is more than one server or group; with ``never`` they are not.
    """
    if routing == "never":
        return False
    offered = [one.tools for one in trajectories if routing == "always" or _needs_groups(one.tools)]
    return any(hierarchy(tools).routes for tools in offered)


def _needs_groups(tools: Sequence[Tool]) -> bool:
    return len(tools) > GROUP_SIZE or any(tool.group for tool in tools)
