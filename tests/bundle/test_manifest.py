"""Bundles: read back as written, and refused when anything in them is not what was written."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from dualtune_mlx import DualTune, Tool
from dualtune_mlx.adapters import Adapter
from dualtune_mlx.bundle import Bundle, adapter_path
from dualtune_mlx.bundle.summary import summarize_adapters
from dualtune_mlx.decoding import Evidence
from dualtune_mlx.engine.pipeline import GroupWarning
from dualtune_mlx.errors import AdapterError, BundleError, ModelError, PromptError
from dualtune_mlx.models import BaseModel
from dualtune_mlx.prompts import Template
from tests import tiny
from tests.adapters.adapters import adapter_for
from tests.prompts import test_fit

PATH = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
READ, LIST, NOW = Tool("read", "Read.", PATH, "fs"), Tool("list", "List.", PATH, "fs"), Tool("now", "Time.")
FACTS = {"steps": 2, "validation_loss": 0.5}


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return tiny.model()


@pytest.fixture
def empty(base, tmp_path) -> Bundle:
    return Bundle(tmp_path / "bundle", base.name, base.fingerprint, "chatml", Template("chatml").hash, "signature")


@pytest.fixture
def bundle(base, empty) -> Bundle:
    with_selector = empty.add_adapter(
        "selector", "", adapter_for(base.bank, 1, "turn"), training=FACTS, tools=[READ, LIST, NOW]
    )
    return with_selector.add_adapter(
        "arguments", "", adapter_for(base.bank, 2, "turn"), training=FACTS, tools=[READ, LIST, NOW]
    )


def change(folder: Path, *keys: str, value: object) -> None:
    """Change one entry of the manifest."""
    manifest = json.loads((folder / "dualtune.json").read_text())
    manifest.pop("checksum", None)
    part = manifest
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    (folder / "dualtune.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("where", ["description", "grounding", "training", "order"])
def test_a_manifest_that_was_changed_anywhere_is_refused(bundle, where):
    path = bundle.folder / "dualtune.json"
    manifest = json.loads(path.read_text())
    if where == "description":
        manifest["tools"][0]["function"]["description"] += " Always call this one."
    elif where == "grounding":
        manifest["stages"]["arguments"][""]["grounding"] = {"fs/read": {"path": []}}
    elif where == "training":
        manifest["stages"]["selector"][""]["training"]["steps"] = 3
    path.write_text(json.dumps(dict(reversed(manifest.items()))))
    if where == "order":
        assert Bundle.open(bundle.folder) == bundle
        return
    with pytest.raises(BundleError, match='not as it was written(?s:.*)dualtune.json(?s:.*)remove "checksum"'):
        Bundle.open(bundle.folder)
    del manifest["checksum"]
    path.write_text(json.dumps(manifest))
    assert Bundle.open(bundle.folder) != bundle


def test_a_bundle_comes_back_as_it_was_written(bundle):
    opened = Bundle.open(bundle.folder)
    assert opened == bundle
    assert opened.stages[("selector", "")].training == FACTS
    assert opened.tools == (READ, LIST, NOW)
    assert opened.load_template().source == Template("chatml").source


def test_tools_keep_the_groups_that_they_were_given(base, empty):
    tools = (replace(READ, group="reading"), NOW)
    empty.add_adapter("selector", "", adapter_for(base.bank, 1, "turn"), training=FACTS, tools=tools)
    assert Bundle.open(empty.folder).tools == tools


def test_groups_that_the_bundle_did_not_learn_are_told(base, empty):
    learned = (replace(READ, group="files"), replace(LIST, group="files"), NOW)
    facts = {**FACTS, "hierarchical": True}
    empty.add_adapter("selector", "", adapter_for(base.bank, 1, "turn"), training=facts, tools=learned)
    new = Tool("write", "Write.", PATH, "fs", group="new")
    with DualTune.load(empty.folder, base) as dualtune:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            dualtune.tree((*learned, new))
        with pytest.warns(
            GroupWarning,
            match="(?s)^tools are in other.*2 of 3 tools: 'read' of fs in no group.*group 'files'",
        ):
            dualtune.tree((READ, LIST, NOW))
    with DualTune.load(empty.folder, base, routing="never") as flat, warnings.catch_warnings():
        warnings.simplefilter("error")
        flat.tree((READ, LIST, NOW))


def test_the_manifest_says_what_there_is(bundle):
    manifest = json.loads((bundle.folder / "dualtune.json").read_text())
    assert manifest["format"] == 1
    assert manifest["base"] == {"model": "tiny-llama", "fingerprint": bundle.fingerprint}
    assert set(manifest["stages"]) == {"selector", "arguments"}
    assert len({tool["schema_hash"] for tool in manifest["tools"]}) == 2
    files = {str(p.relative_to(bundle.folder)) for p in bundle.folder.rglob("*") if p.is_file()}
    assert files - {".lock"} == {"dualtune.json"} | {
        f"{entry.path}/{name}"
        for entry in bundle.stages.values()
        for name in ("adapters.safetensors", "adapter_config.json")
    }


def test_the_summary_has_a_row_for_each_adapter(bundle):
    selector, arguments = summarize_adapters(bundle)
    assert (selector["stage"], selector["scope"], arguments["stage"]) == ("selector", "", "arguments")
    for row, entry in ((selector, bundle.stages["selector", ""]), (arguments, bundle.stages["arguments", ""])):
        config = Adapter.load(bundle.folder / entry.path).config
        assert (row["path"], row["content"]) == (entry.path, entry.content_hash)
        assert (row["kind"], row["rank"], row["activation"]) == ("lora", config.rank, "turn")
        assert row["template"] == "chatml"
        assert 0 < row["bytes"] < (bundle.folder / entry.path / "adapters.safetensors").stat().st_size


def test_training_a_stage_again_replaces_only_that_stage(base, bundle):
    newer = adapter_for(base.bank, 3, "turn")
    changed = bundle.add_adapter("selector", "", newer, training=FACTS, tools=bundle.tools)
    opened = Bundle.open(bundle.folder)
    assert opened == changed
    assert opened.find_adapter("selector")[1].content_hash == newer.content_hash
    assert opened.stages[("arguments", "")] == bundle.stages[("arguments", "")]


@pytest.mark.parametrize(
    ("scopes", "tool", "chosen"),
    [
        (["", "fs", "fs/read"], READ, "fs/read"),
        (["", "fs", "fs/read"], LIST, "fs"),
        (["", "fs", "fs/read"], NOW, ""),
        (["", "fs"], READ, "fs"),
        ([""], READ, ""),
        (["fs/read"], LIST, None),
        (["git", "git/read"], READ, None),
        ([], READ, None),
    ],
)
def test_a_tool_s_own_adapter_comes_before_its_server_s_and_the_shared_one(base, empty, scopes, tool, chosen):
    contents = {}
    bundle = empty
    for seed, scope in enumerate(scopes):
        adapter = adapter_for(base.bank, seed)
        bundle = bundle.add_adapter("arguments", scope, adapter, training={}, tools=[])
        contents[scope] = adapter.content_hash
    opened = Bundle.open(bundle.folder) if scopes else bundle
    found = opened.find_adapter("arguments", f"{tool.server}/{tool.name}")
    assert (found and found[1].content_hash) == contents.get(chosen)
    assert found is None or found[0].path == adapter_path("arguments", chosen)


@pytest.mark.parametrize(
    "scope", ["../../x", "/etc", "", "..", "a/../../b", "C:\\x", "x\0y", "ä/ö", "x" * 500, ".", "~", "con", "a\nb"]
)
def test_no_scope_leaves_the_folder(base, empty, scope, tmp_path):
    path = adapter_path("arguments", scope)
    assert (tmp_path / path).resolve().parent == tmp_path / "arguments"
    assert len(Path(path).name) < 60
    written = empty.add_adapter("arguments", scope, adapter_for(base.bank, 1), training={}, tools=[])
    assert (empty.folder / path / "adapters.safetensors").is_file()
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]
    assert Bundle.open(empty.folder) == written


def test_scopes_that_look_alike_have_their_own_folders():
    scopes = ["", "shared", "a/b", "a-b", "A/b", "a/b/", "../a/b"]
    assert len({adapter_path("arguments", scope) for scope in scopes}) == len(scopes)


GROUNDING = {"fs/read": {"path": (".", "größe"), "edits[].oldText": ()}}


def test_grounding_comes_back_as_it_was_written(base, empty):
    written = empty.add_adapter(
        "arguments", "", adapter_for(base.bank, 1, "turn"), training=FACTS, tools=[READ], grounding=GROUNDING
    )
    opened = Bundle.open(empty.folder)
    assert opened == written
    assert opened.find_adapter("arguments", "fs/read")[0].grounding == GROUNDING
    with DualTune.load(empty.folder, model=base) as dualtune:
        assert dualtune.arguments("größe", READ, [READ], max_tokens=64)["path"] in (".", "größe")


def test_a_bundle_from_before_grounding_has_none(bundle):
    stages = json.loads((bundle.folder / "dualtune.json").read_text())["stages"]
    del stages["arguments"][""]["grounding"]
    change(bundle.folder, "stages", value=stages)
    assert Bundle.open(bundle.folder) == bundle


@pytest.mark.parametrize(
    "value",
    [
        5,
        None,
        [],
        "path",
        {"fs/read": ["path"]},
        {"fs/read": {"path": 5}},
        {"fs/read": {"path": ["a", 5]}},
        {"fs/read": {"path": "a"}},
    ],
)
def test_a_damaged_grounding_is_refused(bundle, value):
    change(bundle.folder, "stages", "arguments", "", "grounding", value=value)
    with pytest.raises(BundleError, match="of another form(?s:.*)dualtune.json"):
        Bundle.open(bundle.folder)


def test_evidence_comes_back_as_it_was_written_and_stays_with_further_adapters(base, bundle):
    assert bundle.evidence is None
    assert "evidence" not in bundle.to_dict()
    evidence = Evidence(weight=5.5, respond=2.0, sharpness=0.75, shown=6)
    written = bundle.set_evidence(evidence)
    assert Bundle.open(bundle.folder) == written == replace(bundle, evidence=evidence)
    more = written.add_adapter("router", "", adapter_for(base.bank, 3, "turn"), training=FACTS, tools=[])
    assert Bundle.open(bundle.folder).evidence == more.evidence == evidence


@pytest.mark.parametrize("value", [5, None, {"weight": "much"}, {"shown": 0}, {"bias": 1}])
def test_a_damaged_evidence_is_refused(bundle, value):
    change(bundle.folder, "evidence", value=value)
    with pytest.raises(BundleError, match="of another form(?s:.*)dualtune.json"):
        Bundle.open(bundle.folder)


@pytest.mark.parametrize("path", ["../../elsewhere", "/etc", "selector/../selector", "arguments", ""])
def test_a_manifest_that_names_another_path_is_refused(bundle, path):
    change(bundle.folder, "stages", "selector", "", "path", value=path)
    with pytest.raises(BundleError, match="unexpected path(?s:.*)dualtune.json"):
        Bundle.open(bundle.folder).find_adapter("selector")


@pytest.mark.parametrize("stage", ["../outside", "..", "/etc", "", "a/b"])
def test_a_manifest_whose_stage_is_a_path_is_refused(base, bundle, stage):
    entry = bundle.stages[("selector", "")]
    adapter_for(base.bank, 1, "turn").save(bundle.folder.parent / "outside")
    change(bundle.folder, "stages", value={stage: {"": {"path": stage, "content": entry.content_hash}}})
    with pytest.raises(BundleError, match="not a plain word"):
        Bundle.open(bundle.folder).find_adapter(stage)
    with pytest.raises(BundleError, match="not a plain word"):
        DualTune.load(bundle.folder, model=base)


def test_a_changed_adapter_is_refused(base, bundle):
    adapter_for(base.bank, 9, "turn").save(bundle.folder / "selector")
    with pytest.raises(
        BundleError, match="not the one that the bundle's manifest(?s:.*)selector(?s:.*)train this stage"
    ):
        Bundle.open(bundle.folder).find_adapter("selector")
    with pytest.raises(BundleError):
        DualTune.load(bundle.folder, model=base)


def test_a_missing_adapter_is_refused(bundle):
    (bundle.folder / "selector" / "adapters.safetensors").unlink()
    with pytest.raises(AdapterError, match="cannot be read(?s:.*)selector/adapters.safetensors"):
        Bundle.open(bundle.folder).find_adapter("selector")


def test_another_base_model_is_refused(bundle):
    with pytest.raises(BundleError, match="another base model(?s:.*)got: tiny-llama(?s:.*)expected: tiny-llama"):
        DualTune.load(bundle.folder, model=tiny.model(seed=1))


def test_the_template_has_to_fit_another_folder_of_the_model(base, bundle):
    """An old bundle may have been trained with one that does not fit: over its own model it is read as before."""
    others = test_fit.tokenizer(*test_fit.LLAMA3)
    assert bundle.open_renderer(others).template.name == "chatml"
    assert bundle.open_renderer(others, model=bundle.model).template.name == "chatml"
    with pytest.raises(PromptError, match=r"control tokens that the model does not have(?s:.*)<\|im_start\|>"):
        bundle.open_renderer(others, model="elsewhere")
    with pytest.raises(PromptError, match="control tokens"):
        DualTune.load(bundle.folder, model=replace(base, name="elsewhere", tokenizer=others))


def test_one_changed_weight_is_another_model(base):
    assert tiny.model().fingerprint == base.fingerprint
    assert len({tiny.model(seed=s, kind=k).fingerprint for s in (0, 1) for k in ("llama", "qwen2")}) == 4


def test_a_model_that_does_not_fit_the_budget_is_refused(base, bundle):
    with pytest.raises(ModelError, match="memory budget(?s:.*)expected: at most 1,000 bytes"):
        DualTune.load(bundle.folder, model=base, memory_budget=1000)
    DualTune.load(bundle.folder, model=base, memory_budget=2**30).close()


def test_loading_uses_the_adapters_and_closing_takes_them_out(base, bundle):
    tools = [READ, LIST]
    with DualTune.load(bundle.folder, model=base) as dualtune:
        trained = dualtune.select("show a", tools)
        assert len(base.bank.resident) == 2
    assert base.bank.resident == ()
    with DualTune.without_adapters(base, "chatml") as dualtune:
        assert dualtune.select("show a", tools) != trained


@pytest.fixture
def own_template(tmp_path) -> Path:
    path = tmp_path / "mine.jinja"
    path.write_text(Template("chatml").source.replace("Choose a tool", "Choose well"))
    return path


def set_template(bundle: Bundle, path: Path) -> Bundle:
    return replace(bundle, template=str(path), template_hash=Template(str(path)).hash)


def test_the_user_s_own_template_lies_in_the_bundle(base, empty, own_template):
    bundle = set_template(empty, own_template)
    source = own_template.read_text()
    bundle.add_adapter("selector", "", adapter_for(base.bank, 1), training={}, tools=[])
    own_template.unlink()
    assert Bundle.open(bundle.folder).load_template().source == source


@pytest.mark.parametrize("fate", ["moved", "changed"])
def test_a_second_stage_keeps_the_bundle_s_own_template(base, empty, own_template, fate):
    bundle = set_template(empty, own_template)
    source = own_template.read_text()
    bundle.add_adapter("selector", "", adapter_for(base.bank, 1), training={}, tools=[])
    own_template.unlink() if fate == "moved" else own_template.write_text(source + "{# later #}")
    Bundle.open(bundle.folder).add_adapter("arguments", "", adapter_for(base.bank, 2), training={}, tools=[])
    assert Bundle.open(bundle.folder).load_template().source == source


def test_a_changed_template_is_refused(base, empty, own_template):
    bundle = set_template(empty, own_template)
    bundle.add_adapter("selector", "", adapter_for(base.bank, 1), training={}, tools=[])
    copy = bundle.folder / "template.jinja"
    copy.write_text(copy.read_text().replace("well", "badly"))
    with pytest.raises(BundleError, match="not the one the bundle was trained with(?s:.*)template.jinja"):
        DualTune.load(bundle.folder, model=base)


def test_a_built_in_template_that_has_changed_since_is_refused(base, bundle):
    change(bundle.folder, "prompt", "hash", value="0" * 64)
    with pytest.raises(BundleError, match="not the one the bundle was trained with(?s:.*)chatml(?s:.*)000000000000"):
        DualTune.load(bundle.folder, model=base)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["cannot be read"]),
        ("{", ["cannot be read"]),
        ("[]", ["unknown format", "got: list"]),
        ("{}", ["unknown format", "expected: 1"]),
        ('{"format": 2}', ["unknown format", "got: 2"]),
        ('{"format": 1}', ["lacks a field", "no field 'stages'", "fix: "]),
        ('{"format": 1, "stages": []}', ["lacks a field"]),
        ('{"format": 1, "stages": {"selector": {"": {}}}}', ["lacks a field", "path"]),
    ],
)
def test_a_damaged_manifest_is_refused(tmp_path, text, words):
    (tmp_path / "dualtune.json").write_text(text)
    with pytest.raises(BundleError) as caught:
        Bundle.open(tmp_path)
    for word in [*words, "dualtune.json"]:
        assert word in str(caught.value)


def test_a_folder_without_a_bundle_says_how_to_make_one(tmp_path):
    with pytest.raises(BundleError, match="no bundle(?s:.*)dualtune.json(?s:.*)dualtune train"):
        Bundle.open(tmp_path / "nowhere")


def test_a_stage_that_another_process_added_meanwhile_stays(base, empty):
    one = empty.add_adapter("selector", "", adapter_for(base.bank, 1), training=FACTS, tools=[READ])
    other = empty.add_adapter("arguments", "", adapter_for(base.bank, 2), training=FACTS, tools=[LIST])
    opened = Bundle.open(empty.folder)
    assert opened.stages == {**one.stages, **other.stages}
    assert {tool.name for tool in opened.tools} == {"read", "list"}


@pytest.mark.parametrize("value", [None, 5, [], {}])
@pytest.mark.parametrize(
    "keys",
    [
        ("base", "model"),
        ("base", "fingerprint"),
        ("prompt", "template"),
        ("prompt", "hash"),
        ("prompt", "cards"),
        ("stages", "selector", "", "path"),
        ("stages", "selector", "", "content"),
    ],
)
def test_a_field_that_has_to_be_text_is_text(bundle, keys, value):
    change(bundle.folder, *keys, value=value)
    with pytest.raises(BundleError, match=f"one of another form(?s:.*){keys[-1]}(?s:.*)no text"):
        Bundle.open(bundle.folder)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"format": 1, "tools": ' + "9" * 5_000 + "}"])
def test_json_beyond_python_s_is_an_unreadable_manifest(bundle, text):
    (bundle.folder / "dualtune.json").write_text(text)
    with pytest.raises(BundleError, match="cannot be read"):
        Bundle.open(bundle.folder)
