"""Engines over tiny models, and parameters of tools for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dualtune_mlx import DualTune, Tool
from dualtune_mlx.models import BaseModel
from dualtune_mlx.prompts import PromptRenderer, Template
from dualtune_mlx.tools import RESPOND
from tests import tiny
from tests.adapters.adapters import adapter_for

PATH = {"type": "object", "properties": {"path": {"type": "string", "maxLength": 6}}, "required": ["path"]}
WORDS = {"type": "object", "properties": {n: {"type": "string"} for n in ("a", "b")}, "required": ["a", "b"]}


def make_engine(base: BaseModel, activation: str, argument_card: str = "none", **options: Any) -> DualTune:
    """An engine whose stages have an adapter each. Whether ``auto`` fuses depends on the clock; here nothing does."""
    base.fusion.policy = "off"
    stages = enumerate(("selector", "arguments"), 1)
    adapters = {(name, ""): adapter_for(base.bank, seed, activation) for seed, name in stages}
    return DualTune(
        base, PromptRenderer(Template("chatml"), base.tokenizer, "name", argument_card), adapters, **options
    )


def make_calling_engine(tools: Sequence[Tool], activation: str = "turn", **options: Any) -> DualTune:
    """An engine with adapters whose random weights choose a tool, so that there is a second stage."""
    for seed in range(20):
        dualtune = make_engine(tiny.model(seed), activation, **options)
        if dualtune.select("show a.txt", tools, top_k=1)[0][0] is not RESPOND:
            dualtune.prefixes.clear()
            return dualtune
    raise AssertionError("no seed chooses a tool")
