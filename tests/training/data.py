"""Small trajectories for the tests of training."""

from __future__ import annotations

from dualtune_mlx.models import BaseModel
from dualtune_mlx.prompts import Prompt, Template
from dualtune_mlx.tools import Message, Tool, ToolCall, Trajectory
from dualtune_mlx.training.examples import Example, stage_examples

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


def examples(base: BaseModel, count: int = 12, stage: str = "selector", activation: str = "turn") -> list[Example]:
    """The examples of one stage."""
    prompt = Prompt(Template("chatml"), base.tokenizer, "name")
    return list(stage_examples(trajectories(count), prompt, stage, activation).examples)
