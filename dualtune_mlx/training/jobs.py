"""Which adapters a data set is good for: what ``dualtune train all`` trains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dualtune_mlx.tools import Tool, Trajectory, tool_called
from dualtune_mlx.tools.hierarchy import GROUP, hierarchy
from dualtune_mlx.training.examples import decisions_of_stage, is_divided
from dualtune_mlx.training.run import Job


def all_jobs(trajectories: Sequence[Trajectory], min_examples: int, routing: str = "auto") -> list[Job]:
    """The selector; an argument adapter for each tool that is called often enough, for each server, and for all.

    A planner comes first where requests are divided, then a router where they need one.

    With one server there is no adapter of the server's own: the one for all is that. A server's tools are in its
    shared adapter, whether they have one of their own or not: it serves tools that come later.
    """
    called = [
        tool_called(decision.call, decision.tools)
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
    """Whether servers or groups are to be chosen before tools: with ``auto``, where some conversation has more tools
    than one group holds, or tools in groups that the user gave."""
    if routing == "never":
        return False
    offered = [one.tools for one in trajectories if routing == "always" or _grouped(one.tools)]
    return any(hierarchy(tools).routes for tools in offered)


def _grouped(tools: Sequence[Tool]) -> bool:
    return len(tools) > GROUP or any(tool.group for tool in tools)
