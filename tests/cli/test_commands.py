"""The commands on a tiny model: their JSON, their files, and that a seed decides everything."""

from __future__ import annotations

import importlib
import json
import shutil

import pytest

from dualtune_mlx.cli.main import COMMANDS
from tests.cli.conftest import PATH, SMALL, TOOLS, dualtune, line
from tests.conversion.gguf import writer

STAGE_USAGE = {
    "prefilled_tokens",
    "reused_tokens",
    "forwards",
    "decoded_tokens",
    "forced_tokens",
    "switches",
    "seconds",
}


def json_of(*arguments: object) -> object:
    result = dualtune(*arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_training_writes_a_bundle(bundle):
    manifest = json.loads((bundle / "dualtune.json").read_text())
    assert {stage: list(scopes) for stage, scopes in manifest["stages"].items()} == {
        "selector": [""],
        "arguments": [""],
    }
    for stage, examples in (("selector", 3), ("arguments", 2)):
        facts = manifest["stages"][stage][""]["training"]
        assert (facts["steps"], facts["rank"], facts["seed"], facts["examples"]) == (2, 2, 0, examples)
    assert [tool["function"]["name"] for tool in manifest["tools"]] == ["read_file", "list_dir", "now"]


def test_training_says_what_it_did(model, data, tmp_path):
    where = tmp_path / "new"
    result = dualtune("train", "selector", "--model", model, "--data", data, "--bundle", where, *SMALL)
    assert "validation loss" in result.output
    assert "2/2" in result.output
    assert where.name in result.output.replace("\n", "")


def test_training_and_show_say_which_arguments_are_copied_and_why_others_are_not(model, tmp_path):
    data, where, free = tmp_path / "data", tmp_path / "new", {**PATH, "properties": {"path": {"type": "string"}}}
    data.mkdir()
    (data / "tools.json").write_text(json.dumps([{**tool, "inputSchema": free} for tool in TOOLS[:2]]))
    lines = [line(f"show {c}", "read_file", path=c) for c in "abcdefgh"] + [line("list it", "list_dir", path="it")]
    for split in ("train", "valid"):
        (data / f"{split}.jsonl").write_text("".join(lines))
    trained = dualtune("train", "arguments", "--model", model, "--data", data, "--bundle", where, *SMALL).output
    shown = dualtune("bundle", "show", "--bundle", where).output
    report = next(where.rglob("report.html")).read_text()
    for what in ("held to the conversation: fs/read_file path", "free strings: fs/list_dir path (1 of the 8 examples"):
        assert what in trained
        assert what in shown
        assert what.partition(": ")[2] in report
    manifest = json.loads(dualtune("bundle", "show", "--bundle", where, "--json").stdout)
    entry = manifest["stages"]["arguments"][""]
    assert entry["grounding"] == {"fs/read_file": {"path": []}}
    assert entry["ungrounded"] == {"fs/list_dir": {"path": "1 of the 8 examples that it takes"}}
    scoped = dualtune(
        *("train", "arguments", "--scope", "fs/list_dir", "--model", model, "--data", data, "--bundle", where, *SMALL)
    ).output
    assert "free strings: fs/list_dir path" in scoped
    assert "held" not in scoped


@pytest.mark.parametrize("activation", ["invocation", "turn", "all"])
def test_the_same_seed_gives_the_same_adapter_bit_for_bit(model, data, tmp_path, activation):
    many = tmp_path / "data"
    many.mkdir()
    shutil.copy(data / "tools.json", many / "tools.json")
    for split in ("train", "valid"):
        (many / f"{split}.jsonl").write_text("".join(line(f"show {c}", "read_file", path=c) for c in "abcdefghijkl"))

    def adapter(name: str, seed: int) -> bytes:
        where = ["--model", model, "--data", many, "--bundle", tmp_path / name]
        more = ["--steps", 5, "--activation", activation, "--seed", seed]
        result = dualtune("train", "arguments", *where, *SMALL, *more)
        assert result.exit_code == 0, result.output
        (file,) = (tmp_path / name).rglob("adapters.safetensors")
        return file.read_bytes()

    assert adapter("one", 3) == adapter("again", 3) != adapter("other", 4)


def test_inspect_shows_tokens_masks_and_activation(model, data):
    values = json_of("inspect", "--model", model, "--data", data / "test.jsonl", "--json")
    assert [value["stage"] for value in values] == ["router"] * 3 + ["selector"] * 3 + ["arguments"] * 2
    for value in values:
        assert set(value) == {"stage", "tokens", "ids", "learned", "active"}
        assert len({len(value[key]) for key in ("tokens", "ids", "learned", "active")}) == 1
        for mask in (value["learned"], value["active"]):
            assert mask == sorted(mask), "a mask begins somewhere and holds to the end"
        assert 0 < sum(value["learned"]) < sum(value["active"]) < len(value["ids"])
    assert [learned(value) for value in values] == [
        *("fs\n", "fs\n", "clock\n"),
        *("read_file\n", "list_dir\n", "now\n"),
        *('{"path": "a"}<|im_end|>\n', '{"path": "b"}<|im_end|>\n'),
    ]


def learned(value: dict[str, list[object]]) -> str:
    """The text of all tokens of an inspected example that are learned."""
    return "".join(str(t) for t, on in zip(value["tokens"], value["learned"], strict=True) if on)


def test_inspect_shows_every_decision_of_a_turn_in_one_example(model, data, tmp_path):
    one, two = (json.loads(line("both", "read_file", path=path)) for path in "ab")
    one["messages"][1]["tool_calls"] += two["messages"][1]["tool_calls"]
    tools = [tool for tool in json.loads((data / "tools.json").read_text()) if tool["server"] == "fs"]
    (tmp_path / "tools.json").write_text(json.dumps(tools))
    (tmp_path / "both.jsonl").write_text(json.dumps(one))
    selector, *arguments = json_of("inspect", "--model", model, "--data", tmp_path / "both.jsonl", "--json")
    assert selector["stage"] == "selector", "one server: there is nothing to route"
    assert learned(selector) == "read_file\nread_file\n"
    assert "".join(learned(value) for value in arguments) == '{"path": "a"}<|im_end|>\n{"path": "b"}<|im_end|>\n'
    for value in (selector, *arguments):
        assert all(on for on, is_learned in zip(value["active"], value["learned"], strict=True) if is_learned)


@pytest.mark.parametrize(
    ("options", "shown"),
    [(["--stage", "selector"], 3), (["--stage", "arguments"], 2), (["--limit", "1"], 3)],
)
def test_inspect_shows_only_what_was_asked_for(model, data, options, shown):
    assert len(json_of("inspect", "--model", model, "--data", data / "test.jsonl", "--json", *options)) == shown


def test_inspect_shows_the_tools_that_a_stage_is_shown(model, data):
    options = ("--stage", "selector", "--limit", "1")
    flat, along = (
        json_of("inspect", "--model", model, "--data", data / "test.jsonl", "--json", *options, "--routing", routing)[0]
        for routing in ("never", "always")
    )
    assert len(along["ids"]) < len(flat["ids"])
    assert learned(along) == learned(flat)


def test_inspect_shows_where_each_activation_begins(model, data):
    active = {}
    for kind in ("invocation", "turn", "all"):
        options = ["--stage", "selector", "--limit", "1", "--activation", kind]
        (value,) = json_of("inspect", "--model", model, "--data", data / "test.jsonl", "--json", *options)
        active[kind] = "".join(t for t, on in zip(value["tokens"], value["active"], strict=True) if on)
    assert active["invocation"] == "<|im_start|>assistant\nread_file\n"
    assert active["turn"] == "<|im_start|>user\nshow a<|im_end|>\n" + active["invocation"]
    assert active["all"].endswith(active["turn"])
    assert active["all"].startswith("<|im_start|>system\n")


def test_inspect_in_colour_tells_the_same_story(model, data):
    result = dualtune("inspect", "--model", model, "--data", data / "test.jsonl", "--limit", "1")
    assert result.exit_code == 0
    for word in ("selector:", "arguments:", "learned tokens", "read_file"):
        assert word in result.stdout


@pytest.mark.parametrize("kind", ["bundle", "base"])
def test_eval_measures_a_bundle_or_a_base_model(model, data, bundle, kind, tmp_path):
    which = ["--bundle", bundle] if kind == "bundle" else ["--base", "--model", model]
    path = tmp_path / "result.json"
    result = dualtune("eval", *which, "--data", data / "test.jsonl", "--json", path)
    assert result.exit_code == 0, result.output
    assert "95% interval" in result.stdout
    value = json.loads(path.read_text())
    assert value["n"] == 3
    assert set(value) == {"n", "server", "tool", "call", "intervals", "unwritable", "examples"}
    assert value["server"] >= value["tool"] >= value["call"] >= 0
    for metric in ("server", "tool", "call"):
        low, high = value["intervals"][metric]
        assert 0 <= low <= value[metric] <= high <= 1
    assert [example["request"] for example in value["examples"]] == ["show a", "list b", "time?"]
    assert value["examples"][0]["gold"] == {"server": "fs", "name": "read_file", "arguments": {"path": "a"}}
    assert set(value["examples"][0]["predicted"]) == {"server", "name", "arguments", "confidence"}
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.parametrize(
    ("given", "owner"),
    [
        (["--bundle", "b", "--template", "chatml"], "--base"),
        (["--bundle", "b", "--cards", "name"], "--base"),
        (["--base", "--model", "m", "--grounding", "off"], "--bundle"),
    ],
)
def test_eval_refuses_an_option_that_would_do_nothing(given, owner, data):
    result = dualtune("eval", *given, "--data", data / "test.jsonl")
    assert result.exit_code == 2
    assert f"Option '{given[-2]}' goes with '{owner}' only" in result.stderr


def test_eval_prints_nothing_but_json_when_asked(data, bundle):
    assert json_of("eval", "--bundle", bundle, "--data", data / "test.jsonl", "--json")["n"] == 3


def test_call_gives_the_tool_its_arguments_and_what_it_cost(data, bundle):
    value = json_of("call", "--bundle", bundle, "--tools", data / "tools.json", "show a", "--json")
    assert set(value) == {"server", "name", "arguments", "unsaid", "confidence", "candidates", "usage", "tool_changes"}
    assert value["name"] in ("read_file", "list_dir", "now", "respond")
    assert len(value["candidates"]) == 3
    assert value["candidates"][0] == {
        "server": value["server"],
        "name": value["name"],
        "probability": value["confidence"],
    }
    assert set(value["usage"]) >= STAGE_USAGE | {"stages"}
    assert value["usage"]["prefilled_tokens"] > 0


@pytest.mark.parametrize("order", ["last", "before the request"])
def test_json_alone_may_stand_before_the_request_or_after_it(data, bundle, order):
    words = ["--json", "show a"] if order == "before the request" else ["show a", "--json"]
    plain = json_of("call", "--bundle", bundle, "--tools", data / "tools.json", "show a", "--json")
    value = json_of("call", "--bundle", bundle, "--tools", data / "tools.json", *words)
    assert (value["name"], value["arguments"]) == (plain["name"], plain["arguments"])


@pytest.mark.parametrize("words", [["show a.json"], ["show a.json", "--json"], ["--json", "-", "show a.json"]])
def test_a_request_may_end_in_the_name_of_a_json_file(data, bundle, words):
    result = dualtune("call", "--bundle", bundle, "--tools", data / "tools.json", *words)
    assert result.exit_code == 0, result.output


def test_call_writes_json_to_a_file_and_shows_the_rest(data, bundle, tmp_path):
    path = tmp_path / "call.json"
    result = dualtune("call", "--bundle", bundle, "--tools", data / "tools.json", "--json", path, "show a")
    assert result.exit_code == 0, result.output
    assert "show a" in result.stdout
    assert json.loads(path.read_text())["name"] in result.stdout


def test_call_goes_through_the_hierarchy_where_the_bundle_has_a_router_or_it_is_told_to(data, bundle, model, tmp_path):
    routed = shutil.copytree(bundle, tmp_path / "routed")
    trained = dualtune("train", "router", "--model", model, "--data", data, "--bundle", routed, *SMALL)
    assert trained.exit_code == 0, trained.output
    for folder, options, router in (
        (bundle, [], None),
        (bundle, ["--routing", "always"], "base"),
        (routed, [], "router"),
        (routed, ["--routing", "never"], None),
    ):
        value = json_of("call", "--bundle", folder, "--tools", data / "tools.json", *options, "show a", "--json")
        assert value["usage"]["stages"].get("router", {}).get("adapter") == router
    names = [prefix["name"] for prefix in json_of("warm", "--bundle", routed, "--json")["prefixes"]]
    assert names == ["all servers", "fs"], "the clock has one tool: nothing is to be chosen there"
    measured = json_of("eval", "--bundle", routed, "--data", data / "test.jsonl", "--json")
    assert measured["n"] == 3


def test_doctor_says_what_there_is():
    checks = json_of("doctor", "--json")
    assert {"machine", "MLX", "Metal", "BLAS", "MCP", "Node.js"} <= {check["what"] for check in checks}
    assert all(check["ok"] or check["fix"] for check in checks)


def test_convert_writes_a_model_folder(tmp_path):
    from dualtune_mlx.models import fingerprint, load_model

    path = writer.tiny_gguf(tmp_path / "m.gguf")
    result = dualtune("convert", "from-gguf", path, tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "converting 20/20" in result.output
    assert load_model(str(tmp_path / "out")).fingerprint == fingerprint(writer.network())


def test_convert_quantises_on_the_way(tmp_path):
    import mlx_lm

    path = writer.tiny_gguf(tmp_path / "m.gguf", "gemma3")
    result = dualtune("convert", "from-gguf", path, tmp_path / "out", "--quantize", "8:32", "--dtype", "bfloat16")
    assert result.exit_code == 0, result.output
    layer = mlx_lm.load(str(tmp_path / "out"))[0].layers[0].mlp.up_proj
    assert (layer.bits, layer.group_size) == (8, 32)


def test_convert_can_say_what_it_would_write(tmp_path):

    path = writer.tiny_gguf(tmp_path / "m.gguf", "qwen3")
    result = dualtune("convert", "from-gguf", path, tmp_path / "out", "--dry-run", "--quantize", "4:32")
    assert result.exit_code == 0, result.output
    (row,) = [line.split() for line in result.output.splitlines() if "ffn_up" in line]
    assert row[:7] == ["blk.*.ffn_up.weight", "2", "64", "x", "32", "F32", "4"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_s_own_help_begins_as_the_list_of_commands_has_it(name):
    command = importlib.import_module(f"dualtune_mlx.cli.{name}").command
    assert " ".join((command.help or "").split()).startswith(COMMANDS[name].removesuffix("."))
