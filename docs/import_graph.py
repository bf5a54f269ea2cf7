"""The rooms of the package, from the ground up, and the imports between them.

python docs/import_graph.py              counts rooms, floors, arrows, upward arrows and circles
python docs/import_graph.py FOLDER       counts those of another checkout, by the list in its CONTRIBUTING.md
python docs/import_graph.py --write      writes the list of rooms in CONTRIBUTING.md

A room is a module or a folder of the package, or a folder beside it that is imported as a part of it. An arrow goes
from a room to each other room that it imports. An upward arrow goes to a room that stands further down in the list than
the importing one. A circle is a set of rooms that import each other. Floors are the rooms on the longest way along the
arrows.
"""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
BESIDE = ("conversion", "benchmarks")
EXPORTED = {"DualTune": "engine"}
"""The rooms of the names that the package itself exports. Names that are not here come from ``tools``."""
ROOMS = {
    "errors.py": "errors and warnings: what is wrong, where, got, expected, fix",
    "linux.py": "what makes MLX fast on Linux: OpenBLAS, and memory that is kept",
    "paths.py": "folders of the user's machine",
    "addresses.py": "whether what is sent to an address can be read on the way",
    "files/": "users' files read as UTF-8 and strict JSON; ours written whole or not at all",
    "pages/": "reports as single HTML files: their one look, charts, marks for what cannot be seen",
    "concurrency.py": "turns at a model: one caller at a time, in order, from any threads",
    "tools/": "tools, calls, messages, trajectories, usage: plain frozen data, no MLX; schemas; the hierarchy of tools",
    "grammar/": "a tool's schema as a grammar: what may be written of a call's arguments; no MLX",
    "data/": "trajectory files: reading, checking, writing; the decisions in a trajectory",
    "prompts/": "templates, tool cards, encoding; conversations to token streams with spans",
    "adapters/": "low-rank layers, adapter files, the bank of resident adapters, fusion",
    "conversion/": "GGUF to MLX; PEFT's adapters to ours and back (top level; imports as `dualtune_mlx.conversion`)",
    "kv/": "snapshots of base-model KV, trees of tokens, the prefix cache in memory and on disk",
    "decoding/": "the choice among names; arguments under a grammar; grounding",
    "models/": "base models: found by name, loaded, known by their kind",
    "machine.py": "what this machine has and lacks",
    "bundle/": "what training writes and everything else reads: manifest, assembly, verification, summary, export",
    "engine/": "a call from request to arguments: `DualTune`, its pipeline and its stages; prefixes computed ahead",
    "chat/": "chat models, which write text: a local one, or one behind an OpenAI-compatible endpoint",
    "synthesis/": "training data from tools: values, requests in many wordings, chains of calls",
    "training/": "examples, batches, loss, trainer, checkpoints; the run of a stage, the session of all; the report",
    "start/": "adapters that know what tools are: they serve tools never seen, and training goes on from them",
    "mcp/": "MCP servers: configuration, processes, calls, results, pinned arguments, rules, approvals; no MLX",
    "agent/": "the loop (pure) and its driver, limits, chat models that plan and answer, transcripts, replay",
    "evaluation/": "right server, right tool, whole call",
    "learning/": "the road from a list of tools to a bundle that is measured; the user's own requests",
    "demo/": "the embedded example: recipe, workspace, pinned servers",
    "cli/": "click commands: parse, call, print; no logic",
    "benchmarks/": "one script a claim: `dualtune bench NAME` (top level; imports as `dualtune_mlx.benchmarks`)",
    "__main__.py": "`python -m dualtune_mlx`",
}
"""Each room with what it holds. A room imports only rooms above it in this list."""

BEGIN, END = "| room | what it holds |\n| --- | --- |\n", "\n\n"


def room_name(room: str) -> str:
    """A room's name in imports."""
    return room.rstrip("/").removesuffix(".py")


def list_modules(root: Path = ROOT) -> list[tuple[str, Path]]:
    """(room, file) of every module. The package's own ``__init__`` is left out, because it only exports names."""
    package = root / "dualtune_mlx"
    inside = [(room_name(path.relative_to(package).parts[0]), path) for path in package.rglob("*.py")]
    beside = [(room, path) for room in BESIDE for path in (root / room).rglob("*.py")]
    return sorted((room, path) for room, path in inside + beside if room != "__init__")


def find_imports(source: str, inside: str = "") -> Iterator[str]:
    """Yield the rooms that a module imports, wherever in it the import stands.

    Args:
        source: the module's text.
        inside: the module's own room.
    """
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
                yield EXPORTED.get(room, "tools") if room[0].isupper() else room


def build_graph(root: Path) -> dict[str, set[str]]:
    """Each room with the other rooms that it imports."""
    graph: dict[str, set[str]] = {}
    for room, path in list_modules(root):
        graph.setdefault(room, set()).update(find_imports(path.read_text(encoding="utf-8"), room))
    return {room: targets - {room} for room, targets in graph.items()}


def read_order(root: Path) -> list[str]:
    """The rooms in the order of the list in CONTRIBUTING.md. A row may name several."""
    text = (root / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = text.partition(BEGIN)[2].partition(END)[0].splitlines()
    return [room_name(room) for row in rows for room in re.findall(r"`([^` ]+)`", row.split("|")[1]) if room[0] != "."]


def find_circles(graph: Mapping[str, set[str]]) -> list[set[str]]:
    """The sets of rooms that reach each other along the arrows."""
    reach = {room: set(targets) for room, targets in graph.items()}
    for middle in graph:
        for room in graph:
            if middle in reach[room]:
                reach[room] |= reach[middle]
    found = {frozenset({room, *(r for r in reach[room] if room in reach.get(r, ()))}) for room in graph}
    return [set(rooms) for rooms in found if len(rooms) > 1]


def count_floors(graph: Mapping[str, set[str]]) -> int:
    """The rooms on the longest way along the arrows. The graph must have no circle."""
    heights: dict[str, int] = {}

    def height(room: str) -> int:
        if room not in heights:
            heights[room] = 1 + max(map(height, graph.get(room, ())), default=0)
        return heights[room]

    return max(map(height, graph))


def describe_graph(root: Path) -> str:
    """The counts of a checkout, one a line, with the upward arrows and the circles by name."""
    graph, order = build_graph(root), read_order(root)
    place = {room: number for number, room in enumerate(order)}
    pairs = [(room, target) for room, targets in sorted(graph.items()) for target in sorted(targets)]
    upward = [f"{room} -> {target}" for room, target in pairs if place.get(target, -1) > place.get(room, len(place))]
    circles = find_circles(graph)
    lines = [
        f"rooms {len(graph)}",
        f"floors {count_floors(graph) if not circles else 'none: there are circles'}",
        f"arrows {len(pairs)}",
        f"upward arrows {len(upward)} {', '.join(upward)}",
        f"circles {len(circles)} {'; '.join(', '.join(sorted(circle)) for circle in circles)}",
    ]
    return "\n".join(line.rstrip() for line in lines)


def replace_list(text: str) -> str:
    """The text of CONTRIBUTING.md with the list of rooms that stands here."""
    before, begin, rest = text.partition(BEGIN)
    rows = "\n".join(f"| `{room}` | {holds} |" for room, holds in ROOMS.items())
    return f"{before}{begin}{rows}{END}{rest.partition(END)[2]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT)
    parser.add_argument("--write", action="store_true", help="write the list in CONTRIBUTING.md")
    options = parser.parse_args()
    if options.write:
        file = ROOT / "CONTRIBUTING.md"
        file.write_text(replace_list(file.read_text(encoding="utf-8")), encoding="utf-8")
    print(describe_graph(options.folder))


if __name__ == "__main__":
    main()
