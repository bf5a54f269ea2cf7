"""What the demo does: how much data, which training, which requests at the end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dualtune_mlx.data import write_split, write_tools
from dualtune_mlx.synthesis.requests import generate_requests
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
# A short run wants room: after 60 steps of 8, rank 64 chooses 55% of tools right where rank 16 chooses 48%.
FAST = ("--rank", "64", "--alpha", "256", "--learning-rate", "1e-3")


@dataclass(frozen=True)
class Recipe:
    """The demo in numbers; ``train`` trajectories are shared by both stages.

    ``wordings`` of each form are trained on, the plainest ones: all of them make a short run harder.
    """

    train: int = 3000
    wordings: int = 40
    valid: int = 48
    test: int = 90
    seed: int = 1
    template: str = "chatml"
    cards: str = "name"
    max_tokens: int = 96
    selector: tuple[str, ...] = ("--steps", "360", *FAST, "--validate-every", "120")
    arguments: tuple[str, ...] = ("--steps", "150", *FAST, "--validate-every", "75")
    requests: tuple[str, ...] = REQUESTS

    @property
    def key(self) -> str:
        """Changes when anything about the demo changes."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]

    def write_data(self, folder: Path, tools: Sequence[Tool]) -> None:
        """Write the three splits, whose wordings differ, and the tools they are about."""
        for split, count in (("train", self.train), ("valid", self.valid), ("test", self.test)):
            most = self.wordings if split == "train" else None
            write_split(folder, split, generate_requests(split, count, self.seed, tools, max_wordings=most))
        write_tools(folder, tools)
