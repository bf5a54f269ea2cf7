"""The rooms of the package, from the ground up, and the imports between them.

python docs/import_graph.py              counts rooms, floors, arrows, upward arrows and circles
python docs/import_graph.py FOLDER       the same for another checkout, by its own CONTRIBUTING.md
python docs/import_graph.py --write      writes the list of rooms in CONTRIBUTING.md

A room is a module or a folder of the package, or a folder beside it that imports as a part of it. An arrow is that
a room imports another one, wherever in a file the import stands. An upward arrow imports a room that the list has
below the importing one. A circle is a set of rooms that import each other.
"""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
BESIDE = ("conversion", "benchmarks")
OFFERED = {"DualTune": "engine"}
"""The rooms of the names that the package itself offers; the others are of ``tools``."""
ROOMS = {
    "errors.py": "the errors; every message says what, where, got, expected, fix",
    "linux.py": "OpenBLAS before MLX, and memory that is kept",
    "paths.py": "folders of the user's machine",
    "files.py": "files that are either whole or not there",
    "concurrency.py": "one user at a time of a model, in order, from any threads",
    "tools/": "tools, calls, messages, trajectories, usage: plain frozen data, no MLX; schemas; the hierarchy of tools",
    "data/": "trajectory files: reading, checking, writing; the decisions in a trajectory",
    "prompts/": "templates, tool cards, encoding; conversations to token streams with spans",
    "adapters/": "low-rank layers, adapter files, the bank of resident adapters, fusion",
    "conversion/": "GGUF to MLX; PEFT's adapters to ours and back (top level; imports as `dualtune_mlx.conversion`)",
    "kv/": "snapshots of base-model KV, trees of tokens, the prefix cache in memory and on disk",
    "decoding/": "the choice among names; arguments under a grammar; grounding",
    "models/": "base models: found by name, loaded, known by their kind",
    "machine.py": "what this machine has and lacks",
    "bundle/": "what training writes and everything else reads: manifest, assembly, verification, export",
    "engine/": "a call from request to arguments: `DualTune`, its pipeline and its stages",
    "synthesis/": "training data from tools: values, requests in many wordings, chains of calls",
    "training/": "examples, batches, loss, trainer, checkpoints, a stage's run, the report",
    "mcp/": "MCP servers: configuration, processes, calls, results, pinned arguments, rules, approvals; no MLX",
    "agent/": "the loop (pure) and its driver, limits, chat models that plan and answer, transcripts, replay",
    "evaluation/": "right server, right tool, whole call",
    "demo/": "the embedded example: recipe, workspace, pinned servers",
    "cli/": "click commands: parse, call, print; no logic",
    "benchmarks/": "one script a claim: `dualtune bench NAME` (top level; imports as `dualtune_mlx.benchmarks`)",
    "__main__.py": "`python -m dualtune_mlx`",
}
"""Every room with what it holds. A room imports only rooms above it in this list."""

BEGIN, END = "| room | what it holds |\n| --- | --- |\n", "\n\n"


def name_of(room: str) -> str:
    return room.rstrip("/").removesuffix(".py")


def modules(root: Path = ROOT) -> list[tuple[str, Path]]:
    """(room, file) of every module; the package's own ``__init__`` is left out: it only offers names."""
    package = root / "dualtune_mlx"
    inside = [(name_of(path.relative_to(package).parts[0]), path) for path in package.rglob("*.py")]
    beside = [(room, path) for room in BESIDE for path in (root / room).rglob("*.py")]
    return sorted((room, path) for room, path in inside + beside if room != "__init__")


def imported_rooms(source: str, inside: str = "") -> Iterator[str]:
    """The rooms a module imports, wherever in it the import stands; ``inside`` is the module's own room."""
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            names = [f"dualtune_mlx.{inside}"]
        elif isinstance(node, ast.ImportFrom) and node.module == "dualtune_mlx":
            names = [f"dualtune_mlx.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            package, _, rest = name.partition(".")
            if package == "dualtune_mlx" and rest:
                room = rest.partition(".")[0]
                yield OFFERED.get(room, "tools") if room[0].isupper() else room


def arrows(root: Path = ROOT) -> dict[str, set[str]]:
    """For each room the other rooms that it imports."""
    graph: dict[str, set[str]] = {}
    for room, path in modules(root):
        graph.setdefault(room, set()).update(imported_rooms(path.read_text(encoding="utf-8"), room))
    return {room: targets - {room} for room, targets in graph.items()}


def listed(root: Path = ROOT) -> list[str]:
    """The rooms in the order of CONTRIBUTING.md's list; a row may name several."""
    text = (root / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = text.partition(BEGIN)[2].partition(END)[0].splitlines()
    return [name_of(room) for row in rows for room in re.findall(r"`([^` ]+)`", row.split("|")[1]) if room[0] != "."]


def circles(graph: Mapping[str, set[str]]) -> list[set[str]]:
    """The sets of rooms that reach each other."""
    reach = {room: set(targets) for room, targets in graph.items()}
    for middle in graph:
        for room in graph:
            if middle in reach[room]:
                reach[room] |= reach[middle]
    found = {frozenset({room, *(r for r in reach[room] if room in reach.get(r, ()))}) for room in graph}
    return [set(rooms) for rooms in found if len(rooms) > 1]


def floors(graph: Mapping[str, set[str]]) -> int:
    """The longest way from a room down to the ground, in rooms; only where there is no circle."""
    heights: dict[str, int] = {}

    def height(room: str) -> int:
        if room not in heights:
            heights[room] = 1 + max(map(height, graph.get(room, ())), default=0)
        return heights[room]

    return max(map(height, graph))


def measured(root: Path) -> str:
    graph, order = arrows(root), listed(root)
    place = {room: number for number, room in enumerate(order)}
    pairs = [(room, target) for room, targets in sorted(graph.items()) for target in sorted(targets)]
    upward = [f"{room} -> {target}" for room, target in pairs if place.get(target, -1) > place.get(room, len(place))]
    rings = circles(graph)
    lines = [
        f"rooms {len(graph)}",
        f"floors {floors(graph) if not rings else 'none: there are circles'}",
        f"arrows {len(pairs)}",
        f"upward arrows {len(upward)} {', '.join(upward)}",
        f"circles {len(rings)} {'; '.join(', '.join(sorted(ring)) for ring in rings)}",
    ]
    return "\n".join(line.rstrip() for line in lines)


def contributing(text: str) -> str:
    """CONTRIBUTING.md with the list of rooms as it is here."""
    before, begin, rest = text.partition(BEGIN)
    rows = "\n".join(f"| `{room}` | {holds} |" for room, holds in ROOMS.items())
    return f"{before}{begin}{rows}{END}{rest.partition(END)[2]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT)
    parser.add_argument("--write", action="store_true", help="write the list in CONTRIBUTING.md")
    given = parser.parse_args()
    if given.write:
        file = ROOT / "CONTRIBUTING.md"
        file.write_text(contributing(file.read_text(encoding="utf-8")), encoding="utf-8")
    print(measured(given.folder))


if __name__ == "__main__":
    main()
