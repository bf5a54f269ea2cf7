"""Our own hand-written corpus: a server a file."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files

from dualtune_mlx.files import parse_json
from dualtune_mlx.start.domain import Domain, LabelledRequest
from dualtune_mlx.tools import Tool

CORPUS = files("dualtune_mlx.start") / "corpus"


def read_corpus() -> Iterator[Domain]:
    """A domain for each server of the corpus."""
    for path in sorted(CORPUS.iterdir(), key=lambda path: path.name):
        value = parse_json(path.read_text(encoding="utf-8"), "the file is not JSON", path.name)
        tools = tuple(Tool.from_dict(tool) for tool in value["tools"])
        requests = tuple(
            LabelledRequest(
                line["request"],
                (line["call"] or {}).get("name", ""),
                (line["call"] or {}).get("arguments"),
                line.get("today", ""),
            )
            for line in value["requests"]
        )
        yield Domain("corpus", value["server"], tools, requests)
