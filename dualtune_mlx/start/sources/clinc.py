"""CLINC150 (https://github.com/clinc/oos-eval): intents as tools that we describe, and requests out of their scope."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from dualtune_mlx.files import parse_json
from dualtune_mlx.start.domain import Domain, LabelledRequest
from dualtune_mlx.tools import Tool

INTENTS = files("dualtune_mlx.start.sources") / "clinc_intents.json"
"""Our description of each intent that could be a tool; "" for small talk, which none serves."""


def read_clinc(folder: Path) -> Iterator[Domain]:
    """A domain for each of the data set's, and one of small talk and requests out of scope."""
    described = parse_json(INTENTS.read_text(encoding="utf-8"), "the file is not JSON", INTENTS.name)
    data = json.loads((folder / "data/data_full.json").read_text(encoding="utf-8"))
    domains = json.loads((folder / "data/domains.json").read_text(encoding="utf-8"))
    texts: defaultdict[str, list[str]] = defaultdict(list)
    for split in ("train", "val", "test", "oos_train", "oos_val", "oos_test"):
        for text, intent in data[split]:
            texts[intent].append(text)
    for name, intents in domains.items():
        tools = [Tool(intent, described[intent]) for intent in intents if described.get(intent)]
        requests = [LabelledRequest(text, tool.name) for tool in tools for text in texts[tool.name]]
        if tools:
            yield Domain("clinc", name, tuple(tools), tuple(requests))
    nothing = [intent for intent in texts if not described.get(intent)]
    yield Domain("clinc", "out of scope", (), tuple(LabelledRequest(text) for one in nothing for text in texts[one]))
