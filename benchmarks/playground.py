"""A scratch folder with files, a repository, a database and a memory, and six real MCP servers confined to it.

Not a benchmark itself; for ``tasks.py``. The servers' home and temporary folder lie beside the scratch folder, with a
canary: what a server leaves anywhere but in the scratch folder is seen.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualtune_mlx.benchmarks.world import DATABASE, GIT_ENVIRONMENT, MEMORY, STORE, World, git, read_world
from dualtune_mlx.demo.servers import find_program, npm_server, python_server, require_python_servers
from dualtune_mlx.files import write_json

NPM_VERSION = "2026.8.31"
SQLITE = ("mcp-server-sqlite==2025.4.25", "mcp==1.30.0")
"""The sqlite server needs an older ``mcp`` than this package."""
COMMITTED_FILES = {
    ".gitignore": f"{STORE}/\n",
    "README.md": "# Allotment 12\n\nBeds, seeds and harvests of the year.\n",
    "src/beds.py": "def area(width, length):\n    return width * length\n",
    "notes/2025.md": "# 2025\n\nToo many courgettes, too few beans.\n",
    "notes/gate.txt": "The gate opens with 4471 until October\n",
    "notes/todo.txt": "mend the fence\norder compost\n",
    "data/harvest.csv": "plant,kilos\nbean,4\ncourgette,31\n",
}
CHANGED_FILES = {"src/beds.py": "def area(width, length):\n    return round(width * length, 1)\n"}
"""Changes that are not committed yet."""
TABLES = """
CREATE TABLE seeds (name TEXT PRIMARY KEY, packets INTEGER, supplier TEXT);
INSERT INTO seeds VALUES ('Carrot', 3, 'Larkfield'), ('Kale', 5, 'Morrow & Sons'), ('Basil', 2, 'Hill Farm Seeds');
CREATE TABLE beds (bed INTEGER PRIMARY KEY, plant TEXT);
INSERT INTO beds VALUES (1, 'Carrot'), (2, 'Kale'), (3, NULL);
"""
MEMORY_ENTRIES: tuple[dict[str, Any], ...] = (
    {"type": "entity", "name": "Greta", "entityType": "person", "observations": ["keeps the key of the gate"]},
    {"type": "entity", "name": "Tool Shed", "entityType": "place", "observations": ["stands behind bed 3"]},
    {"type": "entity", "name": "Garden Club", "entityType": "group", "observations": ["meets on Mondays"]},
    {"type": "relation", "from": "Greta", "to": "Garden Club", "relationType": "leads"},
)
PRIVATE = rf"(?is)(?!(.*/)?(\.git|{re.escape(STORE)})(/|$)).*"
"""Matches paths outside the folders of git, the database and the memory, which have servers of their own."""
WRITES = r"(?is)\s*(insert|update|create\s+table)\b.*"
"""Matches SQL that stays within its database; ATTACH and VACUUM INTO would not."""
PATHS = ["path", "paths", "source", "destination"]


@dataclass(frozen=True)
class Playground:
    """A folder with the scratch folder, the servers' configuration, and files that must never change."""

    folder: Path
    start: World
    """The world of the scratch folder when it was made."""

    @property
    def scratch(self) -> Path:
        """The folder that the servers work in."""
        return self.folder / "scratch"

    @property
    def config(self) -> Path:
        """The ``mcpServers`` file."""
        return self.folder / "mcp.json"

    def read_world(self) -> World:
        """The world of the scratch folder as it is now."""
        return read_world(self.scratch)

    def outside_state(self) -> dict[str, str]:
        """The state of everything outside the scratch folder: for each path its kind, or the hash of its content."""
        return {
            str(path.relative_to(self.folder)): _state(path)
            for path in self.folder.rglob("*")
            if not path.is_relative_to(self.scratch)
        }


def new_playground(folder: Path) -> Playground:
    """Make a playground in an empty or new folder, and install its servers where they are missing.

    Raises:
        ServerError: when a server or a program it needs cannot be found or installed.
    """
    folder = folder.resolve()
    scratch = folder / "scratch"
    for name in ("scratch", "home", "tmp", "canary"):
        (folder / name).mkdir(parents=True)
    (folder / "canary" / "letter.txt").write_text("Nobody has anything to do here.\n")
    _make_repository(scratch)
    _make_store(scratch)
    write_json(folder / "mcp.json", {"mcpServers": server_config(folder)})
    return Playground(folder, read_world(scratch))


def server_config(folder: Path) -> dict[str, Any]:
    """The ``mcpServers`` of a playground.

    A destructive tool may run only where a task needs it. The repository, the database and the memory can be changed by
    their own servers alone.
    """
    require_python_servers()
    scratch, environment = str(folder / "scratch"), {"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp")}
    below = {"below": scratch}
    node, python = find_program("node"), {"command": sys.executable, "cwd": scratch}
    sqlite = ["-c", "from mcp_server_sqlite import main; main()", "--db-path", str(folder / "scratch" / DATABASE)]
    # Its tool get-env tells what it finds in its environment, and gzip-file-as-resource fetches from anywhere.
    bare = ["-i", *(f"{name}={value}" for name, value in environment.items()), "GZIP_ALLOWED_DOMAINS=none.invalid"]
    return {
        "filesystem": {
            "command": node,
            "args": [str(npm_server("server-filesystem", NPM_VERSION)), scratch],
            "cwd": scratch,
            "env": environment,
            "dualtune": {
                "allow": ["write_file", "edit_file", "move_file"],
                "rules": [{"arguments": PATHS, **below}, {"arguments": PATHS, "pattern": PRIVATE}],
            },
        },
        "git": {
            **python,
            "args": ["-m", "mcp_server_git", "--repository", scratch],
            "env": {**environment, **GIT_ENVIRONMENT},
            "dualtune": {"pinned": {"repo_path": scratch}, "rules": [{"arguments": ["files"], **below}]},
        },
        "time": {**python, "args": ["-m", "mcp_server_time", "--local-timezone", "UTC"], "env": environment},
        "memory": {
            "command": node,
            "args": [str(npm_server("server-memory", NPM_VERSION))],
            "cwd": scratch,
            "env": {**environment, "MEMORY_FILE_PATH": str(folder / "scratch" / MEMORY)},
            "dualtune": {"allow": ["delete_entities"]},
        },
        "sqlite": {
            "command": str(python_server(*SQLITE)),
            "args": sqlite,
            "cwd": scratch,
            "env": environment,
            "dualtune": {
                "trust_unhinted": True,  # it gives no hints; what it may write is ruled here
                "rules": [{"arguments": ["query"], "tools": ["write_query"], "pattern": WRITES}],
            },
        },
        "everything": {
            "command": find_program("env"),
            "args": [*bare, node, str(npm_server("server-everything", NPM_VERSION))],
            "cwd": scratch,
            "dualtune": {"approve": "ask", "trust_hints": True},
        },
    }


def _make_repository(scratch: Path) -> None:
    _write_files(scratch, COMMITTED_FILES)
    git(scratch, "init", "--initial-branch=main")
    git(scratch, "config", "user.name", "Gardener")
    git(scratch, "config", "user.email", "gardener@example.invalid")
    for message, path in (("Begin the plan", "README.md"), ("Add code, notes and harvests", ".")):
        git(scratch, "add", path)
        git(scratch, "commit", "--message", message)
    _write_files(scratch, CHANGED_FILES)


def _make_store(scratch: Path) -> None:
    (scratch / STORE).mkdir()
    with closing(sqlite3.connect(scratch / DATABASE)) as connection:
        connection.executescript(TABLES)
    (scratch / MEMORY).write_text("\n".join(json.dumps(entry) for entry in MEMORY_ENTRIES))


def _write_files(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)


def _state(path: Path) -> str:
    if path.is_symlink():
        return f"link to {path.readlink()}"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
