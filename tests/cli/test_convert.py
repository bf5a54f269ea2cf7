"""``dualtune convert from-peft`` and ``to-peft``: what is said, written, and refused."""

from __future__ import annotations

import json

import pytest

from dualtune_mlx.adapters import Adapter, AdapterBank
from dualtune_mlx.conversion.peft import read_peft
from tests import tiny
from tests.adapters.adapters import adapter_for
from tests.cli.conftest import dualtune
from tests.conversion.peft.files import CONFIG, WEIGHTS, linear_tensors, write_adapter


@pytest.fixture
def source(tmp_path):
    return write_adapter(tmp_path / "peft", linear_tensors())


def test_an_adapter_is_converted_and_its_plan_shown(tmp_path, source, model):
    result = dualtune("convert", "from-peft", source, tmp_path / "ours", "--model", model)
    assert result.exit_code == 0, result.output
    for word in ("model.layers.*.self_attn.q_proj", "lora", "every token", "written to"):
        assert word in result.stdout
    assert Adapter.load(tmp_path / "ours").config.layers == (-2, None)


def test_a_dry_run_shows_the_plan_and_writes_nothing(tmp_path, source):
    result = dualtune("convert", "from-peft", source, tmp_path / "ours", "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    value = json.loads(result.stdout)
    assert value["activation"] == "all"
    row = {"count": 2, "kind": "lora", "rank": 4, "scale": 2.0}
    assert value["modules"] == [
        {"modules": "model.layers.*.self_attn.q_proj", **row, "parameters": 2 * 4 * 64},
        {"modules": "model.layers.*.self_attn.v_proj", **row, "parameters": 2 * 4 * 48},
    ]
    assert not (tmp_path / "ours").exists()


def test_an_activation_is_named(tmp_path):
    source = write_adapter(tmp_path / "peft", linear_tensors(), alora_invocation_tokens=[5, 6])
    result = dualtune("convert", "from-peft", source, tmp_path / "ours")
    assert "from the last [5, 6] on" in result.stdout


@pytest.mark.parametrize(
    ("fields", "options", "words"),
    [
        ({"bias": "all"}, [], ["bias cannot be converted", "merge"]),
        ({"r": 5}, [], ["rank is not the one"]),
        ({}, ["--verify"], ["only be compared over an unquantised model", "--model"]),
        ({}, ["--model", "nowhere"], ["was not found", "nowhere"]),
    ],
)
def test_a_refusal_is_one_message(tmp_path, fields, options, words):
    source = write_adapter(tmp_path / "peft", linear_tensors(), **fields)
    result = dualtune("convert", "from-peft", source, tmp_path / "ours", *options)
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    for word in words:
        assert word in result.stderr
    assert not (tmp_path / "ours").exists()


def test_an_adapter_goes_out(tmp_path, model):
    adapter = adapter_for(AdapterBank(tiny.unwrapped()), 1)
    adapter.save(tmp_path / "ours")
    result = dualtune("convert", "to-peft", tmp_path / "ours", tmp_path / "peft", "--model", model)
    assert result.exit_code == 0, result.output
    assert {path.name for path in (tmp_path / "peft").iterdir()} == {CONFIG, WEIGHTS}
    assert json.loads((tmp_path / "peft" / CONFIG).read_text())["base_model_name_or_path"] == str(model)


def test_an_activated_adapter_goes_out_with_its_template(tmp_path, model):
    adapter_for(AdapterBank(tiny.unwrapped()), 1, "turn").save(tmp_path / "ours")
    result = dualtune("convert", "to-peft", tmp_path / "ours", tmp_path / "peft")
    assert result.exit_code == 1
    assert "--template" in result.stderr
    result = dualtune(
        "convert", "to-peft", tmp_path / "ours", tmp_path / "peft", "--model", model, "--template", "chatml"
    )
    assert result.exit_code == 0, result.output
    tokens = json.loads((tmp_path / "peft" / CONFIG).read_text())["alora_invocation_tokens"]
    assert tiny.tokenizer().decode(tokens) == "<|im_start|>user\n"


def test_an_adapter_of_another_model_does_not_go_out(tmp_path, model):
    adapter_for(AdapterBank(tiny.unwrapped(layers=3)), 1).save(tmp_path / "ours")
    result = dualtune("convert", "to-peft", tmp_path / "ours", tmp_path / "peft", "--model", model)
    assert result.exit_code == 1
    assert "does not fit" in result.stderr
    assert not (tmp_path / "peft").exists()


def test_all_adapters_of_a_bundle_go_out_at_once(tmp_path, bundle):
    result = dualtune("convert", "to-peft", bundle, tmp_path / "peft")
    assert result.exit_code == 0, result.output
    manifest = json.loads((bundle / "dualtune.json").read_text())
    paths = [entry["path"] for scopes in manifest["stages"].values() for entry in scopes.values()]
    assert len(paths) == 2
    for path in paths:
        back = read_peft(str(tmp_path / "peft" / path))
        ours = Adapter.load(bundle / path)
        assert back.config.activation == ours.config.activation == "turn"
        assert all(
            one.content_hash == two.content_hash for one, two in [(ours, Adapter.from_layers(ours.config, back.layers))]
        )


def test_a_bundle_goes_out_whole_or_not_at_all(tmp_path, bundle, monkeypatch):
    import dualtune_mlx.bundle.export as exchange
    from dualtune_mlx.errors import ConversionError

    done = []

    def second_fails(*arguments, **options):
        if done:
            raise ConversionError("the second one cannot be converted")
        done.append(exchange_to_peft(*arguments, **options))

    exchange_to_peft = exchange.to_peft
    monkeypatch.setattr(exchange, "to_peft", second_fails)
    result = dualtune("convert", "to-peft", bundle, tmp_path / "peft")
    assert (result.exit_code, len(done)) == (1, 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", [["--verify"], ["--template", "chatml"]])
def test_some_options_need_a_model(tmp_path, source, option):
    result = dualtune("convert", "to-peft", source, tmp_path / "peft", *option)
    assert result.exit_code == 2
    assert "--model" in result.stderr


def test_a_template_is_for_single_adapters_that_begin_at_an_opener(tmp_path, bundle, model):
    options = ["--model", model, "--template", "chatml"]
    result = dualtune("convert", "to-peft", bundle, tmp_path / "peft", *options)
    assert (result.exit_code, "which has its own" in result.stderr) == (2, True)
    adapter_for(AdapterBank(tiny.unwrapped()), 1).save(tmp_path / "ours")
    result = dualtune("convert", "to-peft", tmp_path / "ours", tmp_path / "peft", *options)
    assert (result.exit_code, "no tokens open this activation" in result.stderr) == (1, True)
    assert not (tmp_path / "peft").exists()
