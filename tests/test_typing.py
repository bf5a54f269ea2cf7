"""A program that embeds the package passes mypy --strict, whichever way the package is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROGRAM = """
import asyncio
from collections.abc import Mapping
from typing import Any

from dualtune_mlx import DualTune, Message, Tool, ToolCall
from dualtune_mlx.adapters import AdapterBank
from dualtune_mlx.benchmarks.common import main
from dualtune_mlx.conversion.gguf import from_gguf
from dualtune_mlx.engine.events import ArgumentText, Done
from dualtune_mlx.mcp import connect, read_config

tools = [Tool("read", "Read.", {"type": "object", "properties": {"path": {"type": "string"}}})]
dicts: list[Mapping[str, Any]] = [tool.to_dict() for tool in tools]


def use(dualtune: DualTune) -> ToolCall:
    call = dualtune.call([{"role": "user", "content": "show a.txt"}], dicts, top_k=2, abstain=0.5)
    cost: float = call.usage.seconds + call.usage.stages["selector"].seconds
    tokens: int = call.usage.prefilled_tokens
    again = dualtune.call([Message("user", "show a.txt"), call_message(call), result(call)], tools)
    changes = dualtune.compare_tools(tools)
    if changes:
        print(changes.describe(), [tool.name for tool in changes.untrained], cost, tokens)
    for event in dualtune.stream("show a.txt", tools):
        if isinstance(event, ArgumentText):
            print(event.text.upper())
        elif isinstance(event, Done):
            print(event.call.arguments)
    return again


def call_message(call: ToolCall) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": [call.to_dict()]}


def result(call: ToolCall) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call.id, "content": "text"}


async def use_on_a_loop() -> ToolCall:
    with await DualTune.aload("bundle", memory_budget=2**30) as dualtune:
        return await dualtune.acall("show a.txt", tools)


with connect(read_config("mcp.json")) as toolbox:
    print(toolbox.execute(asyncio.run(use_on_a_loop())).text.upper(), main, from_gguf, AdapterBank)
"""
WRONG = """
from dualtune_mlx import DualTune
from dualtune_mlx.conversion.gguf import from_gguf

DualTune.load("bundle", memory_budget="2GB").call("show a.txt", [], topk=3).usage.tokens
from_gguf(1, 2)
"""
ERRORS = ('"load" of "DualTune"', '"topk"', '"tokens"', '"from_gguf"')


@pytest.mark.processes
@pytest.mark.parametrize("options", [["-e"], []], ids=["editable", "as a copy"])
def test_a_program_is_checked_against_the_installed_package(tmp_path, options):
    source = shutil.copytree(ROOT, tmp_path / "source", symlinks=True, ignore=shutil.ignore_patterns(".*", "build"))
    python = tmp_path / "venv" / "bin" / "python"
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", *options, source)
    if not options:
        shutil.rmtree(source)
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "wrong.py").write_text(WRONG)
    check = [sys.executable, "-m", "mypy", "--strict", "--config-file", os.devnull, "--python-executable", python]
    good = subprocess.run([*check, "program.py"], cwd=tmp_path, capture_output=True, text=True)
    assert good.returncode == 0, good.stdout + good.stderr
    wrong = subprocess.run([*check, "wrong.py"], cwd=tmp_path, capture_output=True, text=True)
    assert [error in wrong.stdout for error in ERRORS] == [True] * len(ERRORS), wrong.stdout


def run(*command: object) -> None:
    ran = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
