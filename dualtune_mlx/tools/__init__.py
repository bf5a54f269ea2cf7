"""Tools, calls, messages and trajectories: plain frozen data, their schemas, their hierarchy, and what a call costs."""

from dualtune_mlx.tools.conversation import as_messages, sort_results
from dualtune_mlx.tools.messages import ClientMessage, Message, Trajectory
from dualtune_mlx.tools.types import (
    LONGEST_PLAN,
    NO_PARAMETERS,
    PLAN,
    RESPOND,
    ClientTool,
    Tool,
    ToolCall,
    ToolServer,
    as_tools,
    find_called_tool,
)

__all__ = [
    "LONGEST_PLAN",
    "NO_PARAMETERS",
    "PLAN",
    "RESPOND",
    "ClientMessage",
    "ClientTool",
    "Message",
    "Tool",
    "ToolCall",
    "ToolServer",
    "Trajectory",
    "as_messages",
    "as_tools",
    "find_called_tool",
    "sort_results",
]
