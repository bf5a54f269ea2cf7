"""MCP servers: their configuration, and calls of their tools. ``Agent`` and its parts are in ``agent``."""

from dualtune_mlx.orchestration.client import Toolbox, connect, connected
from dualtune_mlx.orchestration.config import ConfigWarning, ServerConfig, read_config
from dualtune_mlx.orchestration.results import Media, Resource, ToolResult, head_and_tail

__all__ = [
    "ConfigWarning",
    "Media",
    "Resource",
    "ServerConfig",
    "ToolResult",
    "Toolbox",
    "connect",
    "connected",
    "head_and_tail",
    "read_config",
]
