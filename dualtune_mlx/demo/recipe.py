"""The recipe of the demo: which requests it learns from and is measured on, how long, and what it asks at the end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from dualtune_mlx.learning.options import LearnOptions
from dualtune_mlx.synthesis import generate_requests
from dualtune_mlx.tools import Tool, Trajectory

REQUESTS = (
    "What have I written down in notes/todo.txt?",
    "Make a folder called reports/2026",
    "Put the text 'call Ada about the lease' into notes/calls.txt",
    "Which files are modified but not committed yet?",
    "Show me the last 3 commits",
    "If it is 18:30 in Berlin, what time is it in Tokyo?",
    "Thanks, that was very helpful!",
)


@dataclass(frozen=True)
class Recipe:
    """All that decides what the demo does."""

    minutes: float = 18.0
    """The time that learning may take."""
    made: int = 0
    """Requests that are made; 0 for as many as fit the time and the tools."""
    train: int = 3000
    """Requests in hand-written wordings that are learned beside them."""
    wordings: int = 40
    """Wordings of each template that these are in, the plainest ones: more of them make a short run harder."""
    valid: int = 180
    """The same, in the wordings for validation, all of them."""
    test: int = 60
    """Requests that are measured, in wordings of their own."""
    seed: int = 1
    """The seed of all of it."""
    requests: tuple[str, ...] = REQUESTS
    """Requests that the trained bundle answers with real tools."""

    @property
    def key(self) -> str:
        """A short hash of the recipe."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]

    @property
    def options(self) -> LearnOptions:
        """How the tools are learned."""
        return LearnOptions(minutes=self.minutes, requests=self.made, seed=self.seed)

    def learned(self, tools: Sequence[Tool]) -> list[Trajectory]:
        """The hand-written requests that are learned; some go on behind their call, so that the end is learned."""
        train = generate_requests("train", self.train, seed=self.seed, tools=tools, max_wordings=self.wordings)
        return [*train, *generate_requests("valid", self.valid, seed=self.seed, tools=tools)]

    def measured(self, tools: Sequence[Tool]) -> list[Trajectory]:
        """The requests that are measured, each with its call alone."""
        return generate_requests("test", self.test, seed=self.seed, tools=tools, answer_every=0)
