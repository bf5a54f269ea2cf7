"""What the accuracy benchmark trains on and measures, and the key of what is trained. Not a benchmark itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dualtune_mlx.benchmarks.tasks import TASKS
from dualtune_mlx.synthesis import generate_chains, generate_requests
from dualtune_mlx.tools import Message, Tool, ToolCall, Trajectory
from dualtune_mlx.training import TrainOptions

SEED = 1
MAX_CHARACTERS = 600
"""The most characters of a chain in the training data."""
ANSWER_EVERY = 4
"""Of so many divided chains, one keeps its answer: the end of the last subtask is like the ends of the others."""
EPOCHS = {"planner": 2.4, "router": 0.56, "selector": 0.9, "arguments": 1.05, "flat selector": 0.8}
"""How often a run goes over the examples of its stage; the flat selector has fewer examples."""


@dataclass(frozen=True)
class Round:
    """One round of training: its data, and its learning rate."""

    single: int
    """Trajectories of a single request."""
    chains: int
    """Trajectories of several calls; those that are too long are left out."""
    learning_rate: float = 1e-3
    """The highest learning rate of each run."""


@dataclass(frozen=True)
class Setting:
    """How much is trained and measured."""

    rounds: tuple[Round, ...]
    """Each round draws new values, and continues from the adapters of the round before."""
    test: int
    """Single requests to measure."""
    valid: int = 64
    """Single requests that decide, with a quarter as many chains, which state of an adapter is the best one."""
    tasks: int = len(TASKS)
    """Tasks for the agent."""
    steps: int = 0
    """The length of each run; with 0, a run goes over its examples as often as ``EPOCHS`` say."""

    def options(self, name: str, learning_rate: float) -> TrainOptions:
        """The options of a run; ``name`` is one of ``EPOCHS``."""
        # A short run wants room and a high rate, as in the demo.
        epochs = 0.0 if self.steps else EPOCHS[name]
        length: dict[str, Any] = {"steps": self.steps, "epochs": epochs, "validate_every": 0}
        return TrainOptions(rank=64, alpha=256.0, learning_rate=learning_rate, seed=SEED, **length)


FULL = Setting((Round(11000, 4300), Round(5600, 3200, 6e-4)), test=172)
QUICK = Setting((Round(120, 40),), test=30, tasks=3, steps=6)


@dataclass(frozen=True)
class Data:
    """All trajectories, and the tools they are about."""

    tools: tuple[Tool, ...]
    rounds: Sequence[Sequence[Trajectory]] = field(repr=False)
    """What each round trains on."""
    valid: Sequence[Trajectory] = field(repr=False)
    """What the best state of an adapter is chosen by."""
    test: Sequence[Trajectory] = field(repr=False)
    """What is measured."""


def generate_data(setting: Setting, tools: tuple[Tool, ...]) -> Data:
    """Generate single requests and chains; the test has single requests only, every tool equally often."""
    rounds = [generate_round(one, SEED + number, tools) for number, one in enumerate(setting.rounds)]
    valid = [
        *generate_single("valid", setting.valid, SEED, tools),
        *generate_chains("valid", setting.valid // 4, seed=SEED, tools=tools),
    ]
    return Data(tools, rounds, valid, generate_single("test", setting.test, SEED, tools))


def generate_round(wanted: Round, seed: int, tools: tuple[Tool, ...]) -> list[Trajectory]:
    """Generate the training data of a round."""
    chains = filter(is_short, generate_chains("train", wanted.chains, seed=seed, tools=tools))
    return [*generate_single("train", wanted.single, seed, tools), *drop_most_answers(chains)]


def generate_single(split: str, count: int, seed: int, tools: tuple[Tool, ...]) -> list[Trajectory]:
    """Generate requests that end with their call: what follows a result is in the chains."""
    return generate_requests(split, count, seed=seed, tools=tools, answer_every=0)


def is_short(trajectory: Trajectory) -> bool:
    """Whether messages and arguments have at most ``MAX_CHARACTERS``: long results take most of the training time."""
    calls = [call for message in trajectory.messages for call in message.tool_calls]
    texts = [message.content for message in trajectory.messages] + [json.dumps(dict(call.arguments)) for call in calls]
    return sum(map(len, texts)) <= MAX_CHARACTERS


def drop_most_answers(chains: Iterable[Trajectory]) -> Iterator[Trajectory]:
    """The chains, most of the divided ones without their answer: ends of subtasks took half of the training tokens."""
    for number, chain in enumerate(chains):
        is_divided = bool(chain.messages[0].subtasks)
        yield replace(chain, messages=chain.messages[:-1]) if is_divided and number % ANSWER_EVERY else chain


def key(data: Data) -> str:
    """Changes when anything changes that is trained on, and not when a field of the data classes is renamed."""
    digest = hashlib.sha256(f"({', '.join(map(tool_key, data.tools))}{',' * (len(data.tools) == 1)})".encode())
    for trajectories in (*data.rounds, data.valid):
        for trajectory in trajectories:
            digest.update(json.dumps(list(map(message_key, trajectory.messages)), default=str).encode())
    return digest.hexdigest()[:12]


def tool_key(tool: Tool) -> str:
    """What ``key`` knows of a tool."""
    return (
        f"Tool(name={tool.name!r}, description={tool.description!r}, parameters={tool.parameters!r}, "
        f"server={tool.server!r}, annotations={tool.annotations!r}, group={tool.group!r})"
    )


def message_key(message: Message) -> dict[str, Any]:
    """What ``key`` knows of a message."""
    return {
        "role": message.role,
        "content": message.content,
        "tool_calls": [call_key(call) for call in message.tool_calls],
        "parts": message.subtasks,
        "part": message.subtask,
    }


def call_key(call: ToolCall) -> dict[str, Any]:
    """What ``key`` knows of a call in the data: no probability, no candidate and no usage belongs to it."""
    return {
        "name": call.name,
        "arguments": dict(call.arguments),
        "server": call.server,
        "confidence": None,
        "candidates": [],
        "usage": None,
    }


def planner_examples(trajectories: Sequence[Trajectory]) -> list[Trajectory]:
    """The trajectories for the planner: all chains, and a quarter as many single requests, so that most are divided."""
    chains = [one for one in trajectories if len(one.messages) > 2]
    return [*single_requests(trajectories)[: len(chains) // 4], *chains]


def single_requests(trajectories: Sequence[Trajectory]) -> list[Trajectory]:
    """The trajectories of a single request: they end with its call, or with an answer in words."""
    return [one for one in trajectories if len(one.messages) == 2]
