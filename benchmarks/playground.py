"""A scratch folder with something of everything, six real MCP servers confined to it, and what lies around it.

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

from dualtune_mlx.benchmarks.world import DATABASE, GIT_ENVIRONMENT, MEMORY, STORE, World, git, look
from dualtune_mlx.demo.servers import npm_server, program, python_server, require_python_servers
from dualtune_mlx.files import write_json

NPM_VERSION = "2026.8.31"
SQLITE = ("mcp-server-sqlite==2025.4.25", "mcp==1.30.0")
"""It needs an older ``mcp`` than this package."""
COMMITTED = {
    ".gitignore": f"{STORE}/\n",
    "README.md": "# Allotment 12\n\nBeds, seeds and harvests of the year.\n",
    "src/beds.py": "def area(width, length):\n    return width * length\n",
    "notes/2025.md": "# 2025\n\nToo many courgettes, too few beans.\n",
    "notes/gate.txt": "The gate opens with 4471 until October\n",
    "notes/todo.txt": "mend the fence\norder compost\n",
    "data/harvest.csv": "plant,kilos\nbean,4\ncourgette,31\n",
}
CHANGED = {"src/beds.py": "def area(width, length):\n    return round(width * length, 1)\n"}
"""Not committed yet."""
TABLES = """
CREATE TABLE seeds (name TEXT PRIMARY KEY, packets INTEGER, supplier TEXT);
INSERT INTO seeds VALUES ('Carrot', 3, 'Larkfield'), ('Kale', 5, 'Morrow & Sons'), ('Basil', 2, 'Hill Farm Seeds');
CREATE TABLE beds (bed INTEGER PRIMARY KEY, plant TEXT);
INSERT INTO beds VALUES (1, 'Carrot'), (2, 'Kale'), (3, NULL);
"""
REMEMBERED: tuple[dict[str, Any], ...] = (
    {"type": "entity", "name": "Greta", "entityType": "person", "observations": ["keeps the key of the gate"]},
    {"type": "entity", "name": "Tool Shed", "entityType": "place", "observations": ["stands behind bed 3"]},
    {"type": "entity", "name": "Garden Club", "entityType": "group", "observations": ["meets on Mondays"]},
    {"type": "relation", "from": "Greta", "to": "Garden Club", "relationType": "leads"},
)
PRIVATE = rf"(?is)(?!(.*/)?(\.git|{re.escape(STORE)})(/|$)).*"
"""Paths that do not lead into the folders of git, the database and the memory: these have servers of their own."""
WRITES = r"(?is)\s*(insert|update|create\s+table)\b.*"
"""SQL cannot leave its database by these, as it can by ATTACH and VACUUM INTO."""
PATHS = ["path", "paths", "source", "destination"]


@dataclass(frozen=True)
class Playground:
    """A folder with the scratch folder, what should never change, and the servers' configuration.

    ``start`` is the scratch folder's world when it was made.
    """

    folder: Path
    start: World

    @property
    def scratch(self) -> Path:
        return self.folder / "scratch"

    @property
    def config(self) -> Path:
        return self.folder / "mcp.json"

    def world(self) -> World:
        return look(self.scratch)

    def outside(self) -> dict[str, str]:
        """The fingerprint of everything but the scratch folder: what each name is, or the hash of what is in it."""
        return {
            str(path.relative_to(self.folder)): _kind(path)
            for path in self.folder.rglob("*")
            if not path.is_relative_to(self.scratch)
        }


def new_playground(folder: Path) -> Playground:
    """Make a playground in an empty or new folder; its servers are installed if they are not.

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
    write_json(folder / "mcp.json", {"mcpServers": servers(folder)})
    return Playground(folder, look(scratch))


def servers(folder: Path) -> dict[str, Any]:
    """The ``mcpServers`` of a playground.

    What servers call destructive runs only where a task needs it. The repository, the database and the memory are
    changed by their own servers alone.
    """
    require_python_servers()
    scratch, environment = str(folder / "scratch"), {"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp")}
    below = {"below": scratch}
    node, python = program("node"), {"command": sys.executable, "cwd": scratch}
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
            "dualtune": {"rules": [{"arguments": ["query"], "tools": ["write_query"], "pattern": WRITES}]},
        },
        "everything": {
            "command": program("env"),
            "args": [*bare, node, str(npm_server("server-everything", NPM_VERSION))],
            "cwd": scratch,
            "dualtune": {"approve": "ask", "trust_hints": True},
        },
    }


def _make_repository(scratch: Path) -> None:
    _write(scratch, COMMITTED)
    git(scratch, "init", "--initial-branch=main")
    git(scratch, "config", "user.name", "Gardener")
    git(scratch, "config", "user.email", "gardener@example.invalid")
    for message, path in (("Begin the plan", "README.md"), ("Add code, notes and harvests", ".")):
        git(scratch, "add", path)
        git(scratch, "commit", "--message", message)
    _write(scratch, CHANGED)


def _make_store(scratch: Path) -> None:
    (scratch / STORE).mkdir()
    with closing(sqlite3.connect(scratch / DATABASE)) as connection:
        connection.executescript(TABLES)
    (scratch / MEMORY).write_text("\n".join(json.dumps(entry) for entry in REMEMBERED))


def _write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)


def _kind(path: Path) -> str:
    if path.is_symlink():
        return f"link to {path.readlink()}"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
