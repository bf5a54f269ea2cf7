"""A folder in which the examples of the documents run: every file that they name is there, and tiny."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from dualtune_mlx.adapters import AdapterBank
from dualtune_mlx.models import load_model
from tests import agentflux, tiny
from tests.adapters.adapters import adapter_for
from tests.cli.conftest import SMALL, dualtune
from tests.conversion.gguf.writer import tiny_gguf
from tests.conversion.peft.files import linear_tensors, write_adapter

SERVER = Path(__file__).parents[1] / "mcp" / "servers" / "from_file.py"
MODEL, PLANNER, QWEN = "path/to/model", "path/to/reasoning-model", "Qwen/Qwen2.5-7B-Instruct"
PEFT = ("path/to/peft-adapter", *(f"finetune_serve/{name}" for name in ("classifier", "read_file", "write_file")))
WORD = {"type": "string", "maxLength": 6}
CHAT = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"


def tool(server: str, name: str, **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    function = {"name": name, "description": f"Does {name}.", "parameters": parameters}
    return {"type": "function", "server": server, "function": function}


# What is written is short by its schema: a random model does not end a string by itself.
TOOLS = [
    tool("git", "git_log", max_count={"type": "integer", "minimum": 1, "maximum": 9}),
    tool("git", "git_add", files={"type": "array", "items": WORD, "maxItems": 1}),
    tool("git", "git_commit", message=WORD),
    tool("filesystem", "read_file", path=WORD),
    tool("filesystem", "write_file", path=WORD),
]


def user(request: str, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": request, **more}


def calls(name: str, *, part: str = "", **arguments: Any) -> dict[str, Any]:
    more = {"part": part} if part else {}
    return {"role": "assistant", "tool_calls": [{"function": {"name": name, "arguments": arguments}}], **more}


FINE, ANSWER = {"role": "tool", "content": "fine"}, {"role": "assistant", "content": "Done."}
CONVERSATIONS = [
    [user("last 3 commits"), calls("git_log", max_count=3), FINE, ANSWER],
    [user("read a.txt"), calls("read_file", path="a.txt"), FINE, ANSWER],
    [user("write b.txt"), calls("write_file", path="b.txt"), FINE, ANSWER],
    [user("hello"), ANSWER],
    [
        user("add a, commit b", parts=["add a", "commit b"]),
        calls("git_add", part="add a", files=["a"]),
        FINE,
        calls("git_commit", part="commit b", message="b"),
        FINE,
        ANSWER,
    ],
]


def make_world(folder: Path) -> None:
    """Write all of it into the folder, which is the current one: names in bundles are relative."""
    for name in (MODEL, PLANNER):
        tiny.save(folder / name)
    settings = folder / PLANNER / "tokenizer_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "chat_template": CHAT}))
    tiny.save(folder / QWEN, kind="qwen2", vocab_size=len(agentflux.tokenizer()))
    agentflux.tokenizer().save_pretrained(str(folder / QWEN))
    tiny_gguf(folder / "model.gguf")
    for name in PEFT:
        write_adapter(folder / name, linear_tensors())
    for name in ("path/to/adapter", "path/to/selector"):
        adapter_for(AdapterBank(tiny.unwrapped()), 1).save(folder / name)
    _write_data(folder / "data")
    shutil.copy("data/tools.json", "tools.json")
    result = dualtune("train", "all", "--model", MODEL, "--data", "data", "--bundle", "bundle", *SMALL)
    assert result.exit_code == 0, result.output
    shutil.copytree("bundle", "build/demo/bundle")
    for path in ("mcp.json", "build/demo/mcp.json"):
        (folder / path).write_text(json.dumps({"mcpServers": {name: _server(name) for name in ("git", "filesystem")}}))
    _write_transcript(folder / "transcript.jsonl")


def _write_data(folder: Path) -> None:
    folder.mkdir()
    (folder / "tools.json").write_text(json.dumps(TOOLS))
    lines = "".join(json.dumps({"messages": messages}) + "\n" for messages in CONVERSATIONS)
    for split in ("train", "valid", "test"):
        (folder / f"{split}.jsonl").write_text(lines)


def _server(name: str) -> dict[str, Any]:
    return {"command": sys.executable, "args": [str(SERVER), "tools.json", name]}


def _write_transcript(path: Path) -> None:
    """A run of one call that succeeded."""
    name, arguments = "git_log", {"max_count": 3}
    end = {"reason": "answered", "message": "", "answer": "Done.", "steps": 1, "tokens": 1, "seconds": 1.0}
    call = {"part": "", "confidence": 0.9, "candidates": [], "usage": None}
    events = [
        {
            "event": "begin",
            "version": 1,
            "messages": [{"role": "user", "content": "last 3 commits"}],
            "bundle": "bundle",
            "model": MODEL,
            "fingerprint": load_model(MODEL).fingerprint,
            "decoding": {"max_tokens": 512, "temperature": 0.0, "seed": 0, "draft": True, "grounding": "data"},
            "routing": "auto",
            "planned": True,
        },
        {"event": "tools", "tools": TOOLS},
        {"event": "call", "step": 1, "server": "git", "name": name, "arguments": arguments, **call},
        {"event": "approval", "action": "run", "by": "user", "why": "asked"},
        {"event": "result", "text": "a1b2c3 Start", "is_error": False, "seconds": 0.1, "details": ""},
        {"event": "call", "step": 2, "server": "", "name": "respond", "arguments": {}, **call},
        {"event": "end", **end},
    ]
    path.write_text("".join(json.dumps({**event, "time": 0.0}) + "\n" for event in events))
