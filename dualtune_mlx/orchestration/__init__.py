"""MCP servers: their configuration, and calls of their tools; the agent that makes them."""

from typing import TYPE_CHECKING, Any

from dualtune_mlx.orchestration.approvals import Policy, Question
from dualtune_mlx.orchestration.client import Toolbox, connect, connected
from dualtune_mlx.orchestration.config import ConfigWarning, ServerConfig, read_config
from dualtune_mlx.orchestration.limits import Limits
from dualtune_mlx.orchestration.results import Media, Resource, ToolResult, head_and_tail

if TYPE_CHECKING:
    from dualtune_mlx.orchestration.agent import Agent

__all__ = [
    "Agent",
    "ConfigWarning",
    "Limits",
    "Media",
    "Policy",
    "Question",
    "Resource",
    "ServerConfig",
    "ToolResult",
    "Toolbox",
    "connect",
    "connected",
    "head_and_tail",
    "read_config",
]


def __getattr__(name: str) -> Any:
    """``Agent`` is imported when it is first used: servers need no model library."""
    if name == "Agent":
        from dualtune_mlx.orchestration.agent import Agent

        return Agent
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
