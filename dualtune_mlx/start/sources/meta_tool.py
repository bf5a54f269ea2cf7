"""MetaTool (https://github.com/HowieHwong/MetaTool): requests with the right tool, without arguments."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from dualtune_mlx.start.domain import Domain, LabelledRequest
from dualtune_mlx.tools import Tool


def read_meta_tool(folder: Path) -> Iterator[Domain]:
    """One domain of all tools."""
    described = json.loads((folder / "dataset/plugin_des.json").read_text(encoding="utf-8"))
    requests: defaultdict[str, list[LabelledRequest]] = defaultdict(list)
    with (folder / "dataset/data/all_clean_data.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            requests[row["Tool"]].append(LabelledRequest(row["Query"].strip(), row["Tool"]))
    tools = tuple(Tool(name, described[name]) for name in requests)
    yield Domain("meta_tool", "plugins", tools, tuple(request for found in requests.values() for request in found))
