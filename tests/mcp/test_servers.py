"""Against real servers, as users have them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from dualtune_mlx.demo.servers import find_program, npm_server
from dualtune_mlx.mcp import ServerConfig, connect, read_config
from dualtune_mlx.tools import ToolCall
from tests.mcp.conftest import until_listening

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
    with connect(read_config(file)) as toolbox:
        tools = {tool.name: tool for tool in toolbox.tools}
        assert {"get_current_time", "convert_time", "git_log"} <= set(tools) and "git_reset" not in tools
        assert not any("repo_path" in tool.parameters["properties"] for tool in tools.values())
        assert "the first commit" in toolbox.execute(ToolCall("git_log", {"max_count": 1}, "git")).text
        time = toolbox.execute(ToolCall("get_current_time", {"timezone": "Europe/Paris"}, "time"))
        assert json.loads(time.text)["timezone"] == "Europe/Paris" and not time.is_error
        assert toolbox.execute(ToolCall("get_current_time", {"timezone": "Mars/Olympus"}, "time")).is_error


@pytest.mark.parametrize("way", ["stdio", "streamableHttp"])
def test_everything(way: str, free_port: int) -> None:
    command = (find_program("node"), str(npm_server("server-everything", "2026.8.31")), way)
    with ExitStack() as stack:
        if way == "stdio":
            config = ServerConfig("everything", command[0], command[1:])
        else:
            process = subprocess.Popen(command, env={**os.environ, "PORT": str(free_port)}, stderr=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.kill)
            until_listening(free_port, process)
            config = ServerConfig("everything", url=f"http://127.0.0.1:{free_port}/mcp")
        toolbox = stack.enter_context(connect([config]))
        picture = toolbox.execute(ToolCall("get-tiny-image"))
        assert picture.images[0].data.startswith(b"\x89PNG") and "[image: image/png, " in picture.for_model(1000)
        weather = toolbox.execute(ToolCall("get-structured-content", {"location": "New York"}))
        assert set(weather.structured) == {"temperature", "conditions", "humidity"}
        reference = toolbox.execute(ToolCall("get-resource-reference", {"resourceType": "Blob", "resourceId": 1}))
        assert reference.resources[0].data
        (echo,) = (tool for tool in toolbox.servers[0].tools if tool.name == "echo")
        assert echo.annotations["readOnlyHint"] is True
