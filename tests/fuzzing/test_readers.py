"""Whatever a file or a server holds, it is read, or refused by an error of ours that can be shown.

Few examples are tried by default. ``DUALTUNE_FUZZ=1000`` tries so many of each, other ones each time.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dualtune_mlx import Tool
from dualtune_mlx.adapters import Adapter
from dualtune_mlx.agent.transcript import read_transcript
from dualtune_mlx.bundle import Bundle
from dualtune_mlx.bundle.summary import summarize_adapters
from dualtune_mlx.chat.endpoint import Endpoint, _Reading
from dualtune_mlx.conversion.gguf.convert import plan_conversion
from dualtune_mlx.data.reading import read_tools, read_trajectories
from dualtune_mlx.errors import DualTuneError
from dualtune_mlx.kv import PrefixStore
from dualtune_mlx.mcp import read_config
from dualtune_mlx.mcp.config import ServerConfig
from dualtune_mlx.mcp.lines import read_line
from dualtune_mlx.mcp.listing import Listing
from dualtune_mlx.mcp.results import read_result
from dualtune_mlx.mcp.tools_file import read_listings
from dualtune_mlx.models.loading import _read_tokenizer
from dualtune_mlx.prompts import Template
from dualtune_mlx.prompts.parameters import tool_sheet
from dualtune_mlx.tools.schemas import check_arguments
from dualtune_mlx.training.checkpoints import ARRAYS, FACTS, Checkpoints, TrainState
from tests import tiny
from tests.adapters.adapters import adapter_for
from tests.conversion.gguf import writer
from tests.fuzzing.hostile import damaged, documents
from tests.kv.fakes import fake

EXAMPLES = int(os.environ.get("DUALTUNE_FUZZ", "40"))
fuzzed = settings(
    max_examples=EXAMPLES,
    derandomize="DUALTUNE_FUZZ" not in os.environ,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
SCHEMA = {
    "type": "object",
    "properties": {
        "path": {"type": "string", "pattern": "^[a-z]{2,}$", "description": "Where."},
        "mode": {"enum": ["copy", 1, None], "default": "copy"},
        "items": {"type": "array", "items": {"$ref": "#/$defs/item"}, "minItems": 1, "maxItems": 3},
        "size": {"type": "number", "minimum": 0, "multipleOf": 0.5},
        "when": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
    },
    "required": ["path"],
    "additionalProperties": False,
    "allOf": [{"not": {"required": ["mode", "size"]}}],
    "$defs": {"item": {"type": "object", "properties": {"name": {"const": "x"}}, "required": ["name"]}},
}
LISTED = {"name": "move", "description": "Move it.", "inputSchema": SCHEMA, "annotations": {"readOnlyHint": True}}
ARGUMENTS = {"path": "ab", "items": [{"name": "x"}], "size": 1.5}
CALL = {"type": "function", "function": {"name": "move", "arguments": ARGUMENTS}, "server": "fs"}
TOOL = Tool.from_dict({**LISTED, "server": "fs"}).to_dict()
LINE = {
    "messages": [
        {"role": "user", "content": "move ab"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "done"},
        {"role": "assistant", "content": "It is done."},
    ],
    "tools": [TOOL],
}


@contextmanager
def only_our_errors() -> Iterator[None]:
    """Let nothing else out of the body; and what comes out can be shown."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except DualTuneError as error:
            str(error).encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Path:
    base = tiny.model()
    path = folder / "bundle"
    written = Bundle(path, base.name, base.fingerprint, "chatml", Template("chatml").hash, "signature")
    for seed, stage in enumerate(("selector", "arguments"), 1):
        adapter = adapter_for(base.bank, seed, "turn")
        written = written.add_adapter(stage, "", adapter, training={"steps": 2}, tools=[Tool.from_dict(TOOL)])
    return path


def read_bundle(path: Path) -> None:
    opened = Bundle.open(path)
    opened.load_template()
    summarize_adapters(opened)
    list(opened.load_adapters())
    opened.load_words()
    list(opened.find_regrouped(opened.tools))
    json.dumps(opened.to_dict())


@fuzzed
@given(data=st.data())
def test_a_manifest(bundle: Path, data: st.DataObject) -> None:
    manifest = bundle / "dualtune.json"
    sound = manifest.read_text()
    try:
        manifest.write_text(data.draw(documents(json.loads(sound))))
        with only_our_errors():
            read_bundle(bundle)
    finally:
        manifest.write_text(sound)


@fuzzed
@given(data=st.data())
def test_an_adapter(bundle: Path, folder: Path, data: st.DataObject) -> None:
    copy = folder / "adapter"
    shutil.copytree(bundle / "selector", copy, dirs_exist_ok=True)
    config, weights = copy / "adapter_config.json", copy / "adapters.safetensors"
    if data.draw(st.booleans()):
        config.write_text(data.draw(documents(json.loads(config.read_text()))))
    else:
        weights.write_bytes(data.draw(damaged(weights.read_bytes())))
    with only_our_errors():
        Adapter.load(copy)


@fuzzed
@given(data=st.data())
def test_a_prefix_file(folder: Path, data: st.DataObject) -> None:
    prefixes = folder / "prefixes"
    shutil.rmtree(prefixes, ignore_errors=True)
    path = PrefixStore(prefixes, "model", fake).save(fake(tuple(range(40)))).path
    path.write_bytes(data.draw(damaged(path.read_bytes())))
    with only_our_errors():
        store = PrefixStore(prefixes, "model", fake)
        for file in list(store.files):
            store.read(file)


@fuzzed
@given(data=st.data())
def test_a_checkpoint(folder: Path, data: st.DataObject) -> None:
    weights = {"model.layers.0.self_attn.q_proj.lora_a": mx.ones((2, 2))}
    Checkpoints(folder / "run", "key", 2).save(TrainState(3, weights, {"step": mx.array(3)}, 2, 0.5, weights))
    (step,) = (folder / "run").iterdir()
    if data.draw(st.booleans()):
        (step / FACTS).write_text(data.draw(documents(json.loads((step / FACTS).read_text()))))
    else:
        (step / ARRAYS).write_bytes(data.draw(damaged((step / ARRAYS).read_bytes())))
    with only_our_errors():
        Checkpoints(folder / "run", "key", 2).latest()


TRANSCRIPT = (
    {"event": "begin", "version": 1, "messages": LINE["messages"][:1], "model": "tiny", "time": 1.0},
    {"event": "tools", "tools": [TOOL]},
    {"event": "parts", "parts": ["move ab"]},
    {
        "event": "call",
        "server": "fs",
        "name": "move",
        "arguments": ARGUMENTS,
        "confidence": 0.5,
        "part": "move ab",
        "candidates": [{"server": "fs", "name": "move", "probability": 0.5}],
    },
    {"event": "approval", "action": "run", "by": "user", "why": ""},
    {"event": "result", "text": "done", "is_error": False, "seconds": 0.5, "details": ""},
    {"event": "answer", "text": "It is done.", "by": "base model", "max_tokens": 5},
    {"event": "end", "reason": "answered"},
)


@fuzzed
@given(data=st.data())
def test_a_transcript(folder: Path, data: st.DataObject) -> None:
    lines = [json.dumps(line) for line in TRANSCRIPT]
    number = data.draw(st.integers(0, len(lines) - 1))
    lines[number] = data.draw(documents(TRANSCRIPT[number]))
    text = ("\n".join(lines) + "\n").encode()
    path = folder / "run.jsonl"
    path.write_bytes(data.draw(damaged(text)) if data.draw(st.integers(0, 3)) == 0 else text)
    with only_our_errors():
        read_transcript(path)


@fuzzed
@given(data=st.data())
def test_a_line_of_data(folder: Path, data: st.DataObject) -> None:
    path = folder / "train.jsonl"
    text = data.draw(documents(LINE)).encode()
    path.write_bytes(data.draw(damaged(text)) if data.draw(st.integers(0, 3)) == 0 else text)
    with only_our_errors():
        for trajectory in read_trajectories(path):
            json.dumps([message.to_data() for message in trajectory.messages]).encode()


CONFIG = {
    "mcpServers": {
        "fs": {"command": "x", "args": ["a"], "env": {"A": "${HOME}"}, "cwd": "/", "timeout": 5, "disabled": False},
        "web": {
            "url": "http://localhost/mcp",
            "headers": {"K": "v"},
            "dualtune": {
                "pinned": {"path": "ab"},
                "exclude": ["x"],
                "approve": "ask",
                "timeout": 5,
                "groups": {"g": ["move"]},
                "rules": [{"tools": ["move"], "arguments": ["path"], "below": ["/"]}],
                "allow": ["move"],
                "output_limit": 1000,
            },
        },
    }
}


@fuzzed
@given(data=st.data())
def test_a_configuration_of_servers(folder: Path, data: st.DataObject) -> None:
    path = folder / "mcp.json"
    path.write_text(data.draw(documents(CONFIG)))
    with only_our_errors():
        read_config(path)


PARTS = (
    *("{% block system %}", "{% endblock %}", "{% block call %}", '{% span "selector" %}', "{% endspan %}", "text"),
    *("{{ system }}", "{{ content * 9999999999 }}", "{{ 'a' * 8e9 }}", "{{ ['a'] * 9999999999 }}", "{{ 9**9**9**9 }}"),
    *("{% for i in range(99999) %}", "{% for j in range(99999) %}", "x", "{% endfor %}", "{{ range(10**9)|list }}"),
    *("{% set x = 'a' %}", "{{ x.__class__ }}", "{{ none.a.b }}", "{{ 1 / 0 }}", "{% include 'x' %}", "{{ f() }}"),
    *("{{ '%999999999d'|format(1) }}", "{{ 'a'.ljust(9999999999) }}", "{{ lipsum(n=99999) }}", "{{ cycler() }}"),
    *("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "{{ '{:>999999999}'.format(1) }}", "{{ tools|tojson }}"),
    *("{% extends 'x' %}", "{#", "{{", "%}", "\ud800".encode("utf-8", "replace").decode(), "<|im_end|>", "\0"),
    *(
        "{{ content|indent(99999999999) }}",
        "{{ content|batch(0)|list }}",
        "{{ [1]|slice(0)|list }}",
        "{{ x|center(9**9) }}",
    ),
)
SOUND = "".join(f"{{% block {name} %}}{{{{ {name} }}}}{{% endblock %}}" for name in ("user", "assistant", "tool"))


@fuzzed
@given(parts=st.lists(st.sampled_from(PARTS), max_size=8), block=st.sampled_from(("system", "call", "user")))
def test_a_template(folder: Path, parts: list[str], block: str) -> None:
    others = "".join(f"{{% block {name} %}}{{% endblock %}}" for name in ("system", "call") if name != block)
    body = SOUND if block == "user" else f"{SOUND}{{% block {block} %}}{''.join(parts)}{{% endblock %}}"
    path = folder / "template.jinja"
    path.write_text(body + others + ("".join(parts) if block == "user" else ""), encoding="utf-8")
    with only_our_errors():
        template = Template(str(path))
        template.render(block, system="s", content="c", user="u", tools=[], x=1)


@fuzzed
@given(data=st.data())
def test_a_gguf_file(folder: Path, data: st.DataObject) -> None:
    path = folder / "model.gguf"
    path.write_bytes(data.draw(damaged(sound_gguf(folder))))
    with only_our_errors(), suppress(MemoryError):
        plan_conversion(path, "float32")


def sound_gguf(folder: Path) -> bytes:
    path = folder / "sound.gguf"
    if not path.exists():
        writer.tiny_gguf(path)
    return path.read_bytes()


@fuzzed
@given(data=st.data())
def test_a_tokenizer(folder: Path, data: st.DataObject) -> None:
    from transformers import AutoTokenizer

    model = folder / "model"
    if not model.exists():
        tiny.save(model)
    file = model / data.draw(st.sampled_from(("tokenizer.json", "tokenizer_config.json")))
    sound = file.read_text()
    try:
        file.write_text(data.draw(documents(json.loads(sound))))
        with only_our_errors():
            _read_tokenizer(model, AutoTokenizer.from_pretrained)
    finally:
        file.write_text(sound)


def use_listed(listed: Any) -> None:
    """Take a tool from a server, with an argument pinned, and do with it what a prompt and a call do."""
    for config in (ServerConfig("fs", command="x"), ServerConfig("fs", command="x", pinned={"mode": "copy"})):
        listing = Listing(config)
        listing.add(listed)
        for why in listing.set_aside.values():
            str(why).encode()
        for tool in (*listing.tools, *listing.shown):
            for use in (tool_sheet, lambda one: check_arguments(ARGUMENTS, one)):
                with only_our_errors():
                    use(tool)
        with only_our_errors():
            listing.check_configuration()


@fuzzed
@given(text=documents(LISTED))
def test_a_tool_that_a_server_lists(text: str) -> None:
    with suppress(ValueError, RecursionError), only_our_errors():
        use_listed(json.loads(text))


@fuzzed
@given(data=st.data())
def test_files_of_tools(folder: Path, data: st.DataObject) -> None:
    path = folder / "tools.json"
    path.write_text(data.draw(documents({"tools": [LISTED, {**LISTED, "name": "copy"}], "server": "fs"})))
    for read in (read_tools, read_listings):
        with only_our_errors():
            read(path)


RESULT = {
    "content": [
        {"type": "text", "text": "a"},
        {"type": "image", "data": "aaaa", "mimeType": "image/png"},
        {"type": "resource", "resource": {"uri": "a", "blob": "aaaa"}},
        {"type": "resource_link", "uri": "a", "name": "b"},
    ],
    "structuredContent": {"a": [1, None]},
    "isError": False,
}


@fuzzed
@given(text=documents({"jsonrpc": "2.0", "id": 5, "result": RESULT}), limit=st.sampled_from((200, 4_000)))
def test_an_answer_of_a_server(text: str, limit: int) -> None:
    message = read_line(text.encode(errors="replace"))
    if hasattr(message, "result"):
        result = read_result("s", "t", message.result, 0.0)
        assert len(result.for_model(limit)) <= limit
        json.dumps(result.to_record(), allow_nan=False).encode()
        assert result.images is not None and result.resources is not None


EVENT = {
    "choices": [{"delta": {"content": "a"}, "finish_reason": None}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2},
}


@fuzzed
@given(text=documents(EVENT))
def test_an_event_of_an_endpoint(text: str) -> None:
    with only_our_errors():
        for piece in _Reading(Endpoint("http://h/v1", "m"), 100).read(text):
            piece.text.encode()


def test_other_errors_come_through() -> None:
    def broken() -> Callable[[], None]:
        raise KeyError("no error of ours")

    with pytest.raises(KeyError), only_our_errors():
        broken()
