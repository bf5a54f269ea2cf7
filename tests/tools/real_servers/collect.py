"""Collect the tools of real servers: their names, schemas and hints, without their texts.

    python -m tests.tools.real_servers.collect FOLDER [NAME ...]

Each package is installed into FOLDER and started with keys that are made up; it is asked for nothing but its tools.
With each tool come arguments that fit its schema, and some that do not. FOLDER/lists keeps the tools with their texts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from tests.tools.real_servers.examples import find_invalid, find_valid
from tests.tools.real_servers.packages import PACKAGES, Package

LISTS = Path(__file__).parent / "lists"
TEXTS = {"title", "description", "examples", "$comment", "markdownDescription", "enumDescriptions", "enumNames"}
NAMED = {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}
LONGEST_DEFAULT = 40
CLIENT = {"client_id": "x", "client_secret": "x", "redirect_uris": ["http://localhost"]}


def collect(name: str, folder: Path) -> None:
    """Write a server's list into ``LISTS``."""
    package = PACKAGES[name]
    program = install(package, folder / name)
    listed = list_tools(package, program, folder)
    (folder / "lists").mkdir(exist_ok=True)
    (folder / "lists" / f"{name}.json").write_text(json.dumps({"tools": listed}), "utf-8")
    tools = [skeleton(tool) for tool in listed]
    lines = ",\n".join(json.dumps(tool) for tool in tools)
    (LISTS / f"{name}.json").write_text(
        f'{{"package": {json.dumps(f"{package.registry}: {package.requirement}")}, "tools": [\n{lines}\n]}}\n', "utf-8"
    )
    print(f"{name}: {len(tools)} tools")


def install(package: Package, folder: Path) -> Path:
    """Install a package, unless it is there, and return its program."""
    if package.registry == "npm":
        program = folder / "node_modules" / ".bin" / package.program
        commands = [
            [
                "npm",
                "install",
                "--prefix",
                str(folder),
                "--no-audit",
                "--no-fund",
                "--ignore-scripts",
                package.requirement,
            ]
        ]
    else:
        program = folder / "bin" / package.program
        commands = [
            [sys.executable, "-m", "venv", str(folder)],
            [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", package.requirement],
        ]
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        for command in commands:
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return program


def list_tools(package: Package, program: Path, home: Path) -> list[dict[str, Any]]:
    """Start a server and ask for its tools, as it sends them: no client looks at them."""
    (home / "client.json").write_text(json.dumps({"installed": CLIENT}))
    given = {key: value.format(home=home) for key, value in package.env.items()}
    process = subprocess.Popen(
        [program, *package.args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=home,
        env={**os.environ, "HOME": str(home), **given},
    )
    assert process.stdin and process.stdout
    try:
        client = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "list", "version": "1"}}
        ask(process.stdin, process.stdout, 1, "initialize", client)
        send(process.stdin, {"method": "notifications/initialized"})
        return list(pages(process.stdin, process.stdout))
    finally:
        process.kill()


def pages(into: IO[str], out: IO[str]) -> Iterator[dict[str, Any]]:
    """The tools of all pages of the answer."""
    cursor, number = None, 2
    while cursor or number == 2:
        answer = ask(into, out, number, "tools/list", {"cursor": cursor} if cursor else {})
        yield from answer["tools"]
        cursor, number = answer.get("nextCursor"), number + 1


def ask(into: IO[str], out: IO[str], number: int, method: str, params: dict[str, Any]) -> dict[str, Any]:
    """Send a request, and return its result. Lines that are no answer are passed over."""
    send(into, {"id": number, "method": method, "params": params})
    for line in out:
        if line.startswith("{") and (message := json.loads(line)).get("id") == number and "result" in message:
            result: dict[str, Any] = message["result"]
            return result
    raise SystemExit(f"no answer to {method}")


def send(into: IO[str], message: dict[str, Any]) -> None:
    """Send a message of JSON-RPC."""
    into.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    into.flush()


def skeleton(tool: dict[str, Any]) -> dict[str, Any]:
    """A tool without its texts, with arguments that fit and that do not."""
    kept: dict[str, Any] = {"name": tool["name"], "inputSchema": strip_texts(tool.get("inputSchema"))}
    if tool.get("outputSchema"):
        kept["outputSchema"] = strip_texts(tool["outputSchema"])
    if hints := {key: value for key, value in (tool.get("annotations") or {}).items() if key != "title"}:
        kept["annotations"] = hints
    kept["valid"] = find_valid(kept["inputSchema"])
    kept["invalid"] = find_invalid(kept["inputSchema"], kept["valid"])
    return kept


def strip_texts(schema: Any) -> Any:
    """A schema without what is written for people. A property that is called ``title`` stays."""
    if isinstance(schema, list):
        return [strip_texts(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept: dict[str, Any] = {}
    for key, value in schema.items():
        if key in NAMED and isinstance(value, dict):
            kept[key] = {name: strip_texts(item) for name, item in value.items()}
        elif key in ("enum", "const", "required"):
            kept[key] = value
        elif key == "default":
            kept |= {key: value} if len(json.dumps(value)) <= LONGEST_DEFAULT else {}
        elif key not in TEXTS:
            kept[key] = strip_texts(value)
    return kept


if __name__ == "__main__":
    where = Path(sys.argv[1]).resolve()
    for each in sys.argv[2:] or PACKAGES:
        collect(each, where)
