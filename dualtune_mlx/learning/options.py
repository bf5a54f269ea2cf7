"""What decides how tools are learned, and how the minutes are divided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dualtune_mlx.bundle import Bundle
from dualtune_mlx.errors import UsageError
from dualtune_mlx.models import EMBEDDED, BaseModel
from dualtune_mlx.prompts import PromptRenderer, template_for
from dualtune_mlx.tools import Message, Tool
from dualtune_mlx.training import ConfigFile, TrainConfig, merge_config
from dualtune_mlx.training.config import ConfigLayer

TEMPLATE = "chatml"
ARGUMENT_CARD = "prefix"
SIGNATURE_TOKENS = 700
"""Tools whose signatures take more tokens are shown as names alone: each step of training looks at all of them."""
VALIDATIONS = 2
"""How often a run measures its validation loss."""
VALIDATED = 24
"""Requests that training is validated with at most."""
MOST_HELD_OUT = 0.1
"""The share of the requests that is held out at most."""
TRAINED_A_MINUTE = 60
"""Requests that training sees at most, for each minute there is."""
LONG_MINUTES = 30
"""With fewer minutes, training sees no long conversations: one takes as long as several short ones."""
TRAINING_SHARES: Mapping[str, float] = {"selector": 0.3, "arguments": 0.7}
"""The part of the time for training that each stage has."""
MEASURED_A_MINUTE = 1.5
"""Requests that are measured, for each minute there is: what is measured twice takes time from training."""
LEAST_MEASURED = 12
REQUESTS_A_MINUTE, REQUESTS_A_TOOL = 160, 100
"""Requests that are made: training sees so many, and the words of each tool are learned from so many."""
FEWEST, MOST = 600, 20_000
"""Requests that are made at least and at most."""
FROM_START = ("rank", "alpha", "rslora", "dora", "targets", "layers", "activation")
"""Options that an adapter to go on from has decided."""
FROM_NOTHING: Mapping[str, Any] = {"rank": 64, "alpha": 256.0, "learning_rate": 1e-3}
"""A short run needs a high rank."""
FROM_SOMETHING: Mapping[str, Any] = {"learning_rate": 5e-4}


@dataclass(frozen=True)
class LearnOptions:
    """How tools are learned.

    Raises:
        UsageError: when a value is out of range.
    """

    model: str = EMBEDDED
    """The base model: a folder, a hub id, a .gguf file, or the embedded model's name."""
    minutes: float = 60.0
    """The time that all of it may take."""
    measured: int = 60
    """How many requests are measured, where the user gave none."""
    requests: int = 0
    """How many requests are made; 0 for as many as fit the time and the tools (``for_tools``)."""
    seed: int = 0
    """The seed of the data and of training."""

    def __post_init__(self) -> None:
        rules = {"minutes": self.minutes > 0, "measured": self.measured >= 1, "requests": self.requests >= 0}
        for name, is_right in rules.items():
            if not is_right:
                expected = {"minutes": "more than 0", "measured": "1 or more", "requests": "0 or more"}[name]
                raise UsageError(
                    "an option of learning is out of range", where=name, got=getattr(self, name), expected=expected
                )

    @property
    def of_data(self) -> dict[str, Any]:
        """The options that the requests depend on."""
        return {"requests": self.requests, "seed": self.seed}

    @property
    def of_training(self) -> dict[str, Any]:
        """The options that the steps of training depend on."""
        return {"model": self.model, "minutes": self.minutes}

    @property
    def most_trained(self) -> int:
        """How many requests training sees at most: making more ready for it takes time that it needs."""
        return max(FEWEST, round(TRAINED_A_MINUTE * self.minutes))

    @property
    def most_measured(self) -> int:
        """How many requests that were made are measured at most."""
        return min(self.measured, max(LEAST_MEASURED, round(MEASURED_A_MINUTE * self.minutes)))

    @property
    def held_out(self) -> int:
        """How many requests are held out: to validate with, or to measure."""
        return max(VALIDATED, self.most_measured)

    def for_tools(self, tools: int) -> LearnOptions:
        """The options with the number of requests decided: what the time can train on, and enough for each tool."""
        fitting = max(REQUESTS_A_MINUTE * self.minutes, REQUESTS_A_TOOL * tools, FEWEST)
        return replace(self, requests=self.requests or round(min(fitting, MOST)))


def choose_cards(tools: tuple[Tool, ...], base: BaseModel) -> str:
    """How the tools are written in prompts: as signatures, or as names alone where signatures take too many tokens."""
    template = template_for(TEMPLATE, base.tokenizer, base.vocabulary)
    renderer = PromptRenderer(template, base.tokenizer, "signature", ARGUMENT_CARD)
    described = renderer.render_conversation((Message("user", ""),), tools).last_span("prefix").end
    return "signature" if described <= SIGNATURE_TOKENS else "name"


def stage_options(stage: str, start: Bundle | None) -> dict[str, Any]:
    """The options of a stage's training, without its length."""
    entry = start.stages.get((stage, "")) if start else None
    if entry is None:
        return dict(FROM_NOTHING)
    return {**{name: entry.training[name] for name in FROM_START if name in entry.training}, **FROM_SOMETHING}


def train_config(
    steps: Mapping[str, int], start: Path | None, *, model: str, data: str, bundle: str, cards: str, seed: int
) -> TrainConfig:
    """How stages are trained.

    Args:
        steps: optimiser steps of each stage.
        start: the bundle whose adapters training goes on from; None to begin from nothing.
        model: the base model.
        data: the data folder.
        bundle: the bundle's folder.
        cards: the kind of tool card.
        seed: the seed of training.
    """
    opened = Bundle.open(start) if start else None
    sections = {
        stage: ConfigLayer("learn", {**stage_options(stage, opened), **_length(count)})
        for stage, count in steps.items()
    }
    place = {"model": model, "data": data, "bundle": bundle, "start": str(start or "")}
    shown = {"template": TEMPLATE, "cards": cards, "argument_card": ARGUMENT_CARD, "routing": "never"}
    return merge_config(ConfigFile(ConfigLayer("", {}), sections), {**place, **shown, "seed": seed})


def _length(steps: int) -> dict[str, int]:
    return {"steps": steps, "validate_every": max(1, -(-steps // VALIDATIONS))}
