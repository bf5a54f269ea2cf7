"""MCP servers: their configuration, and calls of their tools."""

from dualtune_mlx.orchestration.client import BlockingToolbox, Toolbox, ToolResult, connect, connected
from dualtune_mlx.orchestration.config import ServerConfig, read_config

__all__ = ["BlockingToolbox", "ServerConfig", "ToolResult", "Toolbox", "connect", "connected", "read_config"]
