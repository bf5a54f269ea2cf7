"""Requests in words for planned calls, without a teacher: from the names, descriptions and schemas of tools alone."""

from dualtune_mlx.synthesis.phrasing.generator import generate
from dualtune_mlx.synthesis.phrasing.tool_sense import ToolSense, understand
from dualtune_mlx.synthesis.phrasing.wording import STYLES, word_call

__all__ = ["STYLES", "ToolSense", "generate", "understand", "word_call"]
