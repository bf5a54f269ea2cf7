"""Decoupled fine-tuning for tool calling, native on MLX: one adapter chooses, another writes the arguments."""

from typing import TYPE_CHECKING, Any

from dualtune_mlx import linux
from dualtune_mlx.tools import Message, Tool, ToolCall, ToolServer, Trajectory

if TYPE_CHECKING:
    from dualtune_mlx.engine import DualTune

linux.load_openblas()

__all__ = ["DualTune", "Message", "Tool", "ToolCall", "ToolServer", "Trajectory"]


def __getattr__(name: str) -> Any:
    """``DualTune`` is imported when it is first used: the plain data types need no model library."""
    if name == "DualTune":
        from dualtune_mlx.engine import DualTune

        return DualTune
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
