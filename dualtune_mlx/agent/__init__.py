"""The agent: calls and their results, until a task is done."""

from dualtune_mlx.agent.agent import Agent
from dualtune_mlx.agent.limits import Limits

__all__ = ["Agent", "Limits"]
