"""Small trajectories for the tests of training."""

from __future__ import annotations

from collections.abc import Sequence

from dualtune_mlx.kv import Snapshot
from dualtune_mlx.models import BaseModel
from dualtune_mlx.tools import Message, Tool, ToolCall, Trajectory
from dualtune_mlx.training.examples import Example, stage_examples
from dualtune_mlx.training.prefixes import shared_prefix
from tests import tiny

PATH = {"type": "object", "properties": {"path": {"type": "string"}}}
TOOLS = (Tool("read", "", PATH, "fs"), Tool("list", "", PATH, "fs"), Tool("now", "", {"type": "object"}, "clock"))


def trajectories(count: int = 12) -> list[Trajectory]:
    """Requests of different lengths, one tool after the other."""
    found = []
    for i in range(count):
        tool = TOOLS[i % 3]
        arguments = {"path": f"file-{i}"} if tool.takes_arguments else {}
        call = Message("assistant", "", (ToolCall(tool.name, arguments),))
        found.append(Trajectory((Message("user", f"{tool.name} {'please ' * (i % 5)}{i}"), call), TOOLS, f"line {i}"))
    return found


def base_prefix(base: BaseModel, found: Sequence[Example]) -> Snapshot | None:
    """The base model's keys and values of what all these examples begin with."""
    tokens = shared_prefix(found)
    return base.snapshot(tokens) if tokens else None


def examples(base: BaseModel, count: int = 12, stage: str = "selector", activation: str = "turn") -> list[Example]:
    """The examples of one stage."""
    renderer = tiny.renderer(base)
    return list(stage_examples(trajectories(count), renderer, stage, activation).examples)


def divided(count: int = 12) -> list[Trajectory]:
    """Requests of two parts, each with a call; every third is one as a whole."""
    found = []
    for i in range(count):
        first, second = f"list old{i}", f"read file-{i}"
        parts = () if i % 3 == 2 else (first, second)
        calls = [ToolCall("list", {"path": f"old{i}"}), ToolCall("read", {"path": f"file-{i}"})]
        messages = [Message("user", f"{first}, then {second}", subtasks=parts)]
        for call, part in zip(calls, parts or ("", ""), strict=True):
            messages += [Message("assistant", "", (call,), subtask=part), Message("tool", "ok")]
        found.append(Trajectory((*messages, Message("assistant", "Done.")), TOOLS))
    return found
