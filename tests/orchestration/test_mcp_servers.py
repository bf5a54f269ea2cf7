"""Against two real servers, as users have them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dualtune_mlx.orchestration import connected, read_config
from dualtune_mlx.tools import ToolCall

pytestmark = pytest.mark.servers


def test_time_and_git(tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@example.invalid", "-C", str(repo)]
    subprocess.run(["git", "init", "-q", str(repo)], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "the first commit"], check=True)
    servers = {
        "time": {"command": sys.executable, "args": ["-m", "mcp_server_time"]},
        "git": {
            "command": sys.executable,
            "args": ["-m", "mcp_server_git"],
            "dualtune": {"pinned": {"repo_path": str(repo)}, "exclude": ["git_reset"]},
        },
    }
    file = tmp_path / "mcp.json"
    file.write_text(json.dumps({"mcpServers": servers}))
    with connected(read_config(file)) as toolbox:
        tools = {tool.name: tool for server in toolbox.servers for tool in server.tools}
        assert {"get_current_time", "convert_time", "git_log"} <= set(tools) and "git_reset" not in tools
        assert not any("repo_path" in tool.parameters["properties"] for tool in tools.values())
        assert "the first commit" in toolbox.execute(ToolCall("git_log", {"max_count": 1}, "git")).text
        time = toolbox.execute(ToolCall("get_current_time", {"timezone": "Europe/Paris"}, "time"))
        assert json.loads(time.text)["timezone"] == "Europe/Paris" and not time.is_error
        assert toolbox.execute(ToolCall("get_current_time", {"timezone": "Mars/Olympus"}, "time")).is_error
