from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dualtune_mlx import DualTune
from dualtune_mlx.adapters import Adapter
from dualtune_mlx.bundle import Bundle
from dualtune_mlx.bundle.assemble import AdapterSource, assemble
from dualtune_mlx.bundle.verify import find_problems
from dualtune_mlx.errors import AdapterError, ConversionError, DualTuneError, ModelError, PromptError, UsageError
from dualtune_mlx.models import load_model
from dualtune_mlx.prompts import Template
from dualtune_mlx.tools import Tool, ToolCall, as_messages
from tests import agentflux, tiny
from tests.adapters.adapters import adapter_for
from tests.bundle.test_manifest import change

SHORT = {"type": "object", "properties": {"path": {"type": "string", "maxLength": 4}}, "required": ["path"]}
TOOLS = tuple(replace(tool, parameters=SHORT) if tool.takes_arguments else tool for tool in agentflux.TOOLS)
SELECTOR, ARGUMENTS = "agentflux-selector", "agentflux-arguments"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny.save(folder, kind="qwen2", vocab_size=len(agentflux.tokenizer()))
    agentflux.tokenizer().save_pretrained(str(folder))
    return str(folder)


@pytest.fixture(scope="module")
def adapters(model, tmp_path_factory) -> Path:
    """Adapters of ours: four that act on all tokens, one from PEFT's own tokens on, and one for another model."""
    folder, bank = tmp_path_factory.mktemp("adapters"), load_model(model).bank
    for seed, name in enumerate(("selector", "read", "delete", "shared"), 1):
        adapter_for(bank, seed).save(folder / name)
    tokens = adapter_for(bank, 9)
    Adapter.from_layers(replace(tokens.config, activation="tokens", tokens=(1,)), tokens.layers).save(folder / "alora")
    adapter_for(tiny.model(kind="llama", layers=3).bank, 1).save(folder / "foreign")
    return folder


@pytest.fixture
def sources(adapters) -> list[AdapterSource]:
    return [
        AdapterSource("selector", "", str(adapters / "selector"), SELECTOR),
        AdapterSource("arguments", "files/read_file", str(adapters / "read"), ARGUMENTS),
        AdapterSource("arguments", "files/delete_file", str(adapters / "delete"), ARGUMENTS),
    ]


def test_the_parts_are_a_bundle_with_a_template_each(model, sources, tmp_path):
    bundle = assemble(tmp_path / "b", model=model, tools=TOOLS, sources=sources, template="chatml", cards="signature")
    assert bundle == Bundle.open(tmp_path / "b")
    assert (bundle.model, bundle.template, bundle.tools) == (model, "chatml", TOOLS)
    for one in sources:
        entry, adapter = bundle.find_adapter(one.stage, one.scope)
        if one.stage == "selector":
            assert bundle.load_template(entry.template).source == Template(SELECTOR).source
            continue
        assert adapter.content_hash == Adapter.load(one.source).content_hash
        assert bundle.load_template(entry.template).source == Template(ARGUMENTS).source
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b"]


def test_each_stage_runs_under_its_own_template(model, sources, tmp_path):
    assemble(tmp_path / "b", model=model, tools=TOOLS, sources=sources, template="chatml", cards="signature")
    with DualTune.load(tmp_path / "b") as dualtune:
        renderer = dualtune.stage("arguments", TOOLS[0]).renderer
        assert renderer.argument_frame(TOOLS[0]) == (" ", "}<|eot_id|><|")
        stream = renderer.render(as_messages("Read a."), TOOLS, ToolCall("read_file", {}, "files"))
        text = agentflux.arguments_text(TOOLS, "Read a.")
        rendered = dualtune.renderer.encoder.decode(list(stream.tokens))
        assert rendered.startswith("<|start_header_id|>system")
        assert text.split("Given")[0] in rendered
        written = dualtune.arguments("Read a.", TOOLS[0], TOOLS)
        assert set(written) == {"path"} and len(written["path"]) <= 4
        ranked = dualtune.select("Read a.", TOOLS, top_k=9)
        assert {tool.name for tool, _ in ranked} == {"read_file", "delete_file", "now", "respond"}
        assert sum(share for _, share in ranked) == pytest.approx(1)


def test_text_comes_without_its_frame_and_together_as_one_by_one(model, sources, tmp_path):
    assemble(tmp_path / "b", model=model, tools=TOOLS[:2], sources=sources, template="chatml", cards="signature")
    with DualTune.load(tmp_path / "b") as dualtune:
        requests = ["Read a.", "Delete b.", "What?"]
        alone = [dualtune.call(request, TOOLS[:2]) for request in requests]
        together = dualtune.call_many(requests, TOOLS[:2])
        assert [(c.name, c.arguments) for c in together] == [(c.name, c.arguments) for c in alone]
        called = next(call for call in alone if not call.is_respond)
        events = list(dualtune.stream(requests[alone.index(called)], TOOLS[:2]))
        text = "".join(event.text for event in events if type(event).__name__ == "ArgumentText")
        assert text.startswith('{"path": "') and text.endswith('"}')
        unsure = dualtune.arguments("Read a.", TOOLS[0], TOOLS, grounding="auto")
        assert set(unsure) == {"path"}


def test_a_stage_s_template_of_the_user_s_lies_in_the_bundle(model, adapters, tmp_path):
    own = tmp_path / "mine.jinja"
    own.write_text(Template(SELECTOR).source.replace("helpful assistant", "careful assistant"))
    source = own.read_text()
    sources = [AdapterSource("selector", "", str(adapters / "selector"), str(own))]
    bundle = assemble(tmp_path / "b", model=model, tools=TOOLS, sources=sources, template="chatml", cards="signature")
    own.unlink()
    entry = bundle.stages["selector", ""]
    assert Bundle.open(tmp_path / "b").load_template(entry.template).source == source
    assert find_problems(tmp_path / "b") == []
    next((tmp_path / "b").glob("template-*.jinja")).write_text(source.replace("careful", "careless"))
    assert [problem.part for problem in find_problems(tmp_path / "b")] == ["template of selector"]


def replace_source(sources: list[AdapterSource], number: int, **changes: str) -> list[AdapterSource]:
    return [replace(one, **changes) if i == number else one for i, one in enumerate(sources)]


@pytest.mark.parametrize(
    ("number", "changes", "kind", "words"),
    [
        (1, {"scope": "files/nothing"}, UsageError, "files/nothing(?s:.*)files/read_file"),
        (1, {"scope": "files/now"}, UsageError, "takes arguments"),
        (1, {"scope": "files/delete_file"}, UsageError, "given twice"),
        (1, {"source": "{adapters}/nowhere"}, DualTuneError, "nowhere"),
        (1, {"source": "{adapters}/foreign"}, AdapterError, "does not fit the model(?s:.*)where: \\S+foreign"),
        (1, {"source": "{adapters}/alora"}, AdapterError, "tokens of its own(?s:.*)got: activation tokens"),
        (1, {"template": SELECTOR}, PromptError, "does not mark a span"),
        (0, {"template": "nowhere.jinja"}, PromptError, "cannot be read"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_written(model, adapters, sources, tmp_path, number, changes, kind, words):
    changes = {key: value.format(adapters=adapters) for key, value in changes.items()}
    with pytest.raises(kind, match=words):
        assemble(
            tmp_path / "b",
            model=model,
            tools=TOOLS,
            sources=replace_source(sources, number, **changes),
            template="chatml",
            cards="signature",
        )
    assert list(tmp_path.iterdir()) == []


def test_no_adapters_no_model_and_no_room_are_refused(model, sources, tmp_path):
    with pytest.raises(UsageError, match="no adapters"):
        assemble(tmp_path / "b", model=model, tools=TOOLS, sources=[], template="chatml", cards="signature")
    with pytest.raises(ModelError, match="no model"):
        assemble(
            tmp_path / "b", model=str(tmp_path), tools=TOOLS, sources=sources, template="chatml", cards="signature"
        )
    (tmp_path / "b").mkdir()
    with pytest.raises(UsageError, match="exists already"):
        assemble(tmp_path / "b", model=model, tools=TOOLS, sources=sources, template="chatml", cards="signature")
    assert list((tmp_path / "b").iterdir()) == []


def test_a_peft_adapter_that_cannot_be_converted_is_refused(model, sources, tmp_path):
    (tmp_path / "peft").mkdir()
    (tmp_path / "peft" / "adapter_config.json").write_text('{"peft_type": "IA3"}')
    with pytest.raises(ConversionError):
        assemble(
            tmp_path / "b",
            model=model,
            tools=TOOLS,
            sources=replace_source(sources, 1, source=str(tmp_path / "peft")),
            template="chatml",
            cards="signature",
        )
    assert not (tmp_path / "b").exists()


@pytest.fixture
def whole(model, sources, adapters, tmp_path) -> Path:
    shared = AdapterSource("arguments", "", str(adapters / "shared"))
    assemble(tmp_path / "b", model=model, tools=TOOLS, sources=[*sources, shared], template="chatml", cards="signature")
    assert find_problems(tmp_path / "b") == []
    return tmp_path / "b"


def test_every_problem_is_found_and_named(whole):
    entries = Bundle.open(whole).stages
    (whole / entries["arguments", ""].path / "adapters.safetensors").write_bytes(b"x" * 99)
    Adapter.load(whole / entries["selector", ""].path).save(whole / entries["arguments", "files/read_file"].path)
    change(whole, "prompt", "hash", value="0" * 64)
    change(whole, "base", "fingerprint", value="1" * 64)
    change(whole, "tools", 0, "function", "parameters", value={"type": "object", "properties": {"x": {}}})
    change(whole, "stages", "selector", "", "prompt", "hash", value="2" * 64)
    found = {problem.part: problem.message for problem in find_problems(whole)}
    assert "read_file" in found["tools"]
    assert "chatml" in found["template"] and "000000000000" in found["template"]
    assert "not the bundle's" in found["model"] and "111111111111" in found["model"]
    assert "not the one that the bundle's manifest" in found["arguments/files/read_file"]
    assert "cannot be read" in found["arguments"]
    assert "222222222222" in found["template of selector"]
    assert found.keys() == {
        "tools",
        "template",
        "model",
        "arguments/files/read_file",
        "arguments",
        "template of selector",
        "template of arguments",
    }


@pytest.mark.parametrize(
    ("keys", "value", "part", "words"),
    [
        (("format",), 2, "manifest", "unknown format"),
        (("base", "model"), "nowhere", "model", "not found"),
        (("stages", "selector", "", "prompt"), {"template": "mine", "hash": "../x"}, "template of selector", "hash"),
        (("stages", "selector", "", "path"), "../elsewhere", "selector", "unexpected path"),
        (("stages", "selector", "", "prompt"), 5, "manifest", "another form"),
    ],
)
def test_a_damaged_manifest_is_a_problem(whole, keys, value, part, words):
    change(whole, *keys, value=value)
    found = find_problems(whole)
    assert [problem.part for problem in found] == [part]
    assert words in found[0].message


def test_a_missing_bundle_is_a_problem(tmp_path):
    assert [problem.part for problem in find_problems(tmp_path)] == ["manifest"]


def test_another_model_is_a_problem_and_the_right_one_elsewhere_none(whole, model, tmp_path):
    change(whole, "base", "model", value="moved")
    assert find_problems(whole, model) == []
    other = tiny.save(tmp_path / "other", kind="qwen2", layers=3, vocab_size=len(agentflux.tokenizer()))
    agentflux.tokenizer().save_pretrained(str(other))
    found = {problem.part: problem.message for problem in find_problems(whole, str(other))}
    assert "not the bundle's" in found["model"]


def test_tools_may_be_plain_dictionaries_of_no_server(model, adapters, tmp_path):
    tools = [Tool("read_file", "", SHORT)]
    sources = [AdapterSource("arguments", "/read_file", str(adapters / "read"), ARGUMENTS)]
    bundle = assemble(tmp_path / "b", model=model, tools=tools, sources=sources, template="chatml", cards="signature")
    assert bundle.find_adapter("arguments", "/read_file") is not None
