"""``dualtune warm``: prefixes computed once, found again, mended, and never mistaken for others."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from dualtune_mlx.bundle import Bundle
from dualtune_mlx.cli.warm import show
from dualtune_mlx.engine.warm import WarmPrefix, WarmReport, open_store, tool_sets
from dualtune_mlx.kv import PrefixCache
from dualtune_mlx.models import load_model
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.hierarchy import hierarchy
from tests import tiny
from tests.cli.conftest import SMALL, TOOLS, dualtune
from tests.mcp.conftest import SERVERS


@pytest.fixture
def warm_bundle(bundle, tmp_path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "bundle"))


def run_warm(folder: Path, *arguments: object, told: str = "") -> dict:
    """What the command printed; ``told`` is what it warned of."""
    result = dualtune("warm", "--bundle", folder, *arguments, "--json")
    assert result.exit_code == 0, result.output
    assert told in result.stderr
    assert ("Warning: " in result.stderr) == bool(told)
    return json.loads(result.stdout)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "prefixes").iterdir()}


def test_the_bundle_s_own_tools_are_warmed_once(warm_bundle):
    first = run_warm(warm_bundle)
    assert [prefix["name"] for prefix in first["prefixes"]] == ["all tools", "server fs", "server clock"]
    assert all(prefix["seconds"] > 0 and prefix["tokens"] > 50 for prefix in first["prefixes"])
    written = files(warm_bundle)
    assert {prefix["file"] for prefix in first["prefixes"]} == set(written)
    assert first["bytes"] == sum(map(len, written.values())) == sum(prefix["bytes"] for prefix in first["prefixes"])
    assert first["folder"] == str(warm_bundle / "prefixes")

    again = run_warm(warm_bundle)
    assert [prefix["seconds"] for prefix in again["prefixes"]] == [None] * 3
    assert (again["seconds"], again["saved_seconds"], again["removed"]) == (0, 0, [])
    assert files(warm_bundle) == written
    text = dualtune("warm", "--bundle", warm_bundle).output
    assert "Nothing to do" in text
    assert "was there" in text


def test_it_says_what_it_did_and_what_it_saves(warm_bundle):
    text = dualtune("warm", "--bundle", warm_bundle).output
    for word in ("all tools", "server clock", "tokens", "MiB", " s ", "A later start"):
        assert word in text


def test_what_it_wrote_is_what_a_call_begins_with(warm_bundle, model, data):
    """The selector's prefix, to the token."""
    prefixes = run_warm(warm_bundle)["prefixes"]
    base = load_model(str(model))
    store = open_store(Bundle.open(warm_bundle), base)
    usage = json.loads(
        dualtune("call", "--bundle", warm_bundle, "--tools", data / "tools.json", "--json", "-", "show a").stdout
    )["usage"]
    selector = usage["stages"]["selector"]
    assert prefixes[0]["tokens"] == selector["prefilled_tokens"] + selector["reused_tokens"]
    for entry in store.files:
        cache = PrefixCache(store.fingerprint)
        cache.attach(store.folder, store.compute_snapshot)
        assert cache.find_longest((*entry.tokens, 1))[1] == len(entry.tokens)


def test_tools_may_be_others(warm_bundle, tmp_path):
    (tmp_path / "tools.json").write_text(json.dumps(TOOLS[:2]))
    (only,) = run_warm(warm_bundle, "--tools", tmp_path / "tools.json")["prefixes"]
    assert only["name"] == "all tools", "of one server: that is all of them"
    both = run_warm(warm_bundle)["prefixes"]
    assert [prefix["seconds"] is None for prefix in both] == [False, True, False], "its own set is server fs there"


def test_groups_that_share_a_label_are_warmed_each():
    tools = tuple(
        Tool(f"{server}_{name}", server=server, group=group)
        for server in ("a", "b")
        for name, group in (("read", "reading"), ("list", "reading"), ("write", ""), ("delete", ""))
    )
    sets = tool_sets(SimpleNamespace(tree=hierarchy, divides=True), tools)
    assert [name for name, _ in sets] == [
        "plan",
        "all servers",
        "a",
        "reading",
        "other tools",
        "b",
        "reading",
        "other tools",
    ]


@pytest.mark.servers
def test_tools_may_be_those_of_running_servers(warm_bundle, tmp_path):
    import sys

    servers = {name: {"command": sys.executable, "args": [str(SERVERS / "good.py")]} for name in ("one", "two")}
    (tmp_path / "mcp.json").write_text(json.dumps({"mcpServers": servers}))
    names = [prefix["name"] for prefix in run_warm(warm_bundle, "--mcp", tmp_path / "mcp.json")["prefixes"]]
    assert names == ["all tools", "server one", "server two"]


def test_a_damaged_file_is_computed_again(warm_bundle):
    run_warm(warm_bundle)
    written = files(warm_bundle)
    for path in (warm_bundle / "prefixes").iterdir():
        path.write_bytes(path.read_bytes()[:-7])
    value = run_warm(warm_bundle, told="Warning: a prefix file is ignored: it is damaged")
    assert all(prefix["seconds"] is not None for prefix in value["prefixes"])
    assert files(warm_bundle).keys() == {prefix["file"] for prefix in value["prefixes"]}
    assert files(warm_bundle) == written, "the same content under the same name"
    run_warm(warm_bundle)


def test_files_that_no_longer_serve_are_removed_and_others_stay(warm_bundle):
    folder = warm_bundle / "prefixes"
    folder.mkdir()
    (folder / f"{'0' * 32}.safetensors").write_bytes(b"old")
    (folder / "mine.safetensors").write_bytes(b"not ours")
    value = run_warm(warm_bundle, told="Warning: a prefix file is ignored")
    assert value["removed"] == [f"{'0' * 32}.safetensors"]
    assert (folder / "mine.safetensors").exists()
    assert len(files(warm_bundle)) == 4


def test_an_adapter_that_acts_on_every_token_has_a_prefix_of_its_own(model, data, tmp_path):
    folder = tmp_path / "classic"
    for stage, activation in (("selector", "all"), ("arguments", "turn")):
        where = ["--model", model, "--data", data, "--bundle", folder]
        assert dualtune("train", stage, *where, *SMALL, "--activation", activation).exit_code == 0
    value = run_warm(folder)["prefixes"]
    assert [prefix["name"] for prefix in value][-1] == "all tools under selector"
    assert [bool(prefix["adapter"]) for prefix in value] == [False, False, False, True]
    assert value[0]["tokens"] == value[3]["tokens"]
    assert len({prefix["file"] for prefix in value}) == 4
    assert [prefix["seconds"] for prefix in run_warm(folder)["prefixes"]] == [None] * 4


def test_where_all_stages_act_on_every_token_the_base_needs_none(model, data, tmp_path):
    folder = tmp_path / "classic"
    where = ["--model", model, "--data", data, "--bundle", folder]
    assert dualtune("train", "selector", *where, *SMALL, "--activation", "all").exit_code == 0
    assert [prefix["name"] for prefix in run_warm(folder)["prefixes"]] == ["all tools under selector"]


def test_a_wrong_call_says_what_is_wrong(warm_bundle, tmp_path):
    for code, words, arguments in (
        (2, "not both", ["--bundle", warm_bundle, "--tools", "a", "--mcp", "b"]),
        (2, "--bundle", []),
        (2, "cannot be read", ["--bundle", warm_bundle, "--tools", tmp_path / "nowhere"]),
        (1, "no bundle", ["--bundle", tmp_path / "nowhere"]),
        (1, "another base model", ["--bundle", warm_bundle, "--model", tiny.save(tmp_path / "other", seed=7)]),
    ):
        result = dualtune("warm", *arguments)
        assert (result.exit_code, words in result.stderr) == (code, True), result.output
    assert not (warm_bundle / "prefixes").exists()


def test_tools_beyond_the_context_are_an_error(warm_bundle, tmp_path):
    short = tiny.save(tmp_path / "short", max_position_embeddings=60)
    result = dualtune("warm", "--bundle", warm_bundle, "--model", short)
    assert result.exit_code == 2
    assert "longer than the model's context" in result.stderr
    assert "at most 60" in result.stderr


def test_a_bundle_without_tools_needs_some(warm_bundle):
    replace(Bundle.open(warm_bundle), tools=()).write()
    result = dualtune("warm", "--bundle", warm_bundle)
    assert result.exit_code == 2
    assert "no tools to warm" in result.stderr


def test_computed_under_an_adapter_differs_from_the_base_s(model):
    from tests.adapters.adapters import adapter_for
    from tests.kv.fakes import same

    base = load_model(str(model))
    adapter = base.bank.load(adapter_for(base.bank, 1))
    tokens = tuple(range(20))
    assert same(base.snapshot(tokens, ""), base.snapshot(tokens))
    assert not same(base.snapshot(tokens, adapter.content_hash), base.snapshot(tokens))


@pytest.mark.parametrize(("read", "says"), [(0.5, "saves 0.50 s"), (1.04, "is no faster"), (0.9999, "is no faster")])
def test_a_start_that_is_no_faster_saves_nothing(read, says):
    report = WarmReport(Path("b"), (WarmPrefix("all tools", "", 9, 2**20, 1.0, read, "f"),), ())
    out = Console(file=io.StringIO(), width=200)
    show(out, report)
    assert f"A later start {says}" in out.file.getvalue()
    assert "-0" not in out.file.getvalue()
