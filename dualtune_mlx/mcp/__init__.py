"""MCP servers: their configuration, calls of their tools, and what may be called."""

from dualtune_mlx.mcp.approvals import ApprovalPolicy, ApprovalQuestion
from dualtune_mlx.mcp.client import PreparedCall, Toolbox, ToolWarning, aconnect, connect
from dualtune_mlx.mcp.config import ServerConfig, read_config
from dualtune_mlx.mcp.results import Media, Resource, ToolResult, head_and_tail

__all__ = [
    "ApprovalPolicy",
    "ApprovalQuestion",
    "Media",
    "PreparedCall",
    "Resource",
    "ServerConfig",
    "ToolResult",
    "ToolWarning",
    "Toolbox",
    "aconnect",
    "connect",
    "head_and_tail",
    "read_config",
]
