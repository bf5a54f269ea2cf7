"""The recipe of the demo: how much data, which training, which requests at the end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dualtune_mlx.data import write_split, write_tools
from dualtune_mlx.synthesis import generate_requests
from dualtune_mlx.synthesis.answers import ANSWER_EVERY
from dualtune_mlx.tools import Tool

REQUESTS = (
    "What have I written down in notes/todo.txt?",
    "Make a folder called reports/2026",
    "Put the text 'call Ada about the lease' into notes/calls.txt",
    "Which files are modified but not committed yet?",
    "Show me the last 3 commits",
    "If it is 18:30 in Berlin, what time is it in Tokyo?",
    "Thanks, that was very helpful!",
)
# A short run needs a high rank: after 60 steps of 8, rank 64 chooses 55% of tools right, rank 16 chooses 48%.
FAST = ("--rank", "64", "--alpha", "256", "--learning-rate", "1e-3")


@dataclass(frozen=True)
class Recipe:
    """All that decides what the demo does."""

    train: int = 3000
    """Trajectories for training; both stages share them."""
    wordings: int = 40
    """Wordings of each template that are trained on, the plainest ones: more of them make a short run harder."""
    valid: int = 48
    """Trajectories for validation."""
    test: int = 90
    """Trajectories that are measured."""
    seed: int = 1
    """The seed of the data."""
    template: str = "chatml"
    """The prompt template."""
    cards: str = "name"
    """The kind of tool card."""
    max_tokens: int = 96
    """The longest arguments, in tokens."""
    selector: tuple[str, ...] = ("--steps", "384", *FAST, "--validate-every", "128")
    """Flags of ``dualtune train selector``, in pairs of name and number."""
    arguments: tuple[str, ...] = ("--steps", "150", *FAST, "--validate-every", "75")
    """Flags of ``dualtune train arguments``."""
    requests: tuple[str, ...] = REQUESTS
    """Requests that the trained bundle answers with real tools."""

    @property
    def key(self) -> str:
        """A short hash of the recipe."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]

    def flags(self, stage: str) -> tuple[str, ...]:
        """The flags of ``dualtune train`` for the selector or the arguments."""
        return {"selector": self.selector, "arguments": self.arguments}[stage]

    def options(self, stage: str) -> dict[str, Any]:
        """The same flags as options by name, for ``merge_config``."""
        flags = self.flags(stage)
        pairs = zip(flags[::2], flags[1::2], strict=True)
        return {flag.removeprefix("--").replace("-", "_"): json.loads(number) for flag, number in pairs}

    def write_data(self, folder: Path, tools: Sequence[Tool]) -> None:
        """Write the three splits, which have different wordings, and the tools.

        The test's lines end with their calls: what is measured is requests.
        """
        for split, count in (("train", self.train), ("valid", self.valid), ("test", self.test)):
            most = self.wordings if split == "train" else None
            every = 0 if split == "test" else ANSWER_EVERY
            made = generate_requests(split, count, seed=self.seed, tools=tools, max_wordings=most, answer_every=every)
            write_split(folder, split, made)
        write_tools(folder, tools)
