"""A scratch folder with some files and a git repository, and the three MCP servers that work in it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualtune_mlx.demo.servers import find_program, npm_server, require_python_servers, run_program
from dualtune_mlx.files import atomic_folder, write_json

FILESYSTEM = ("server-filesystem", "2026.8.31")
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
    """The scratch folder."""

    @property
    def config(self) -> Path:
        """The ``mcpServers`` file, beside the scratch folder."""
        return self.folder.with_name("mcp.json")

    def prepare(self) -> None:
        """Make the files and the repository, unless they are there, and write the configuration.

        Raises:
            ServerError: when a server or a program it needs cannot be found or installed.
        """
        require_python_servers()
        entry = npm_server(*FILESYSTEM)
        if not self.folder.exists():
            with atomic_folder(self.folder) as folder:
                _make_files(folder)
        write_json(self.config, {"mcpServers": self._servers(entry)})

    def _servers(self, entry: Path) -> dict[str, Any]:
        folder = str(self.folder.resolve())
        git = {"command": sys.executable, "args": ["-m", "mcp_server_git", "--repository", folder]}
        return {
            "filesystem": {"command": find_program("node"), "args": [str(entry), folder], "cwd": folder},
            "git": {**git, "dualtune": {"pinned": {"repo_path": folder}}},
            "time": {"command": sys.executable, "args": ["-m", "mcp_server_time", "--local-timezone", "UTC"]},
        }


def _make_files(folder: Path) -> None:
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git = [find_program("git"), "-c", "user.name=Demo", "-c", "user.email=demo@example.invalid"]
    for message, names in (("Start", ["README.md"]), ("Add notes", ["notes"]), ("Add the planner", ["src"])):
        if message == "Start":
            run_program([*git, "init", "--quiet", "--initial-branch=main"], folder)
        run_program([*git, "add", *names], folder)
        run_program([*git, "commit", "--quiet", "-m", message], folder)
    with (folder / "notes/todo.txt").open("a") as todo:
        todo.write("repot the basil\n")
