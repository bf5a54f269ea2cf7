"""An adapter's configuration: written and read, also in its older form, and refused with the reason."""

from __future__ import annotations

import json

import mlx.core as mx
import pytest

from dualtune_mlx.adapters import Adapter, AdapterConfig, LoRAUpdate
from dualtune_mlx.errors import AdapterError
from tests.adapters.adapters import Q, reconfigure

OLD_CONFIG = {
    "fine_tune_type": "lora",
    "num_layers": 16,
    "lora_parameters": {"rank": 2, "scale": 1.5, "dropout": 0.0, "keys": ["mlp.up_proj", "self_attn.q_proj"]},
    "dualtune": {"format": 1, "activation": "turn"},
}
OLD_CONTENT = "92e12174bc47a5396fcf1441da8803ae02c1bf7621b2058763fbd19c2aa1c25c"
"""What the version that knew only the last layers made of that configuration and the arrays below (e46bd73)."""


def make_config(layers) -> dict:
    return {"dualtune": {"format": 1, "activation": "all", "layers": layers}}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fine_tune_type": "full"}, ["not supported", "full", "expected: lora or dora, format 1"]),
        ({"fine_tune_type": ["lora"]}, ["not supported", "['lora']"]),
        ({"dualtune": {"format": 2, "activation": "turn"}}, ["not supported", "format 2", "format 1"]),
        ({"dualtune": {"activation": "turn"}}, ["not supported", "format None"]),
        ({"dualtune": {"format": 1}}, ["lacks a field", "activation"]),
        ({"dualtune": {"format": 1, "activation": "always"}}, ["activation", "always", "invocation, turn, all"]),
        ({"dualtune": 1}, ["not supported"]),
        ({"lora_parameters": {"rank": 4}}, ["lacks a field", "scale"]),
        ({"lora_parameters": {"rank": "four", "scale": 1.0}}, ["four"]),
        ({"num_layers": None}, ["lacks a field"]),
        ({"num_layers": float("inf")}, ["another form"]),
        ({"lora_parameters": {"rank": 4, "scale": float("nan")}}, ["another form", "the number nan"]),
        ({"lora_parameters": {"rank": 4, "scale": float("inf")}}, ["another form", "the number inf"]),
        ({"lora_parameters": {"rank": 4, "scale": 1.0, "dropout": float("nan")}}, ["another form", "the number nan"]),
        (
            {"dualtune": {"format": 1, "activation": "all", "layers": [0, 1], "scales": {Q: float("nan")}}},
            ["another form", "the number nan"],
        ),
        (make_config(3), ["of another form", "TypeError"]),
        (make_config([0]), ["of another form", "TypeError"]),
        (make_config([2, 2]), ["of another form", "layers 2 to 2"]),
        (make_config([-1, 2]), ["of another form", "layers -1 to 2"]),
    ],
)
def test_a_configuration_that_cannot_be_used_says_why(saved, changes, words):
    reconfigure(saved, **changes)
    with pytest.raises(AdapterError) as caught:
        Adapter.load(saved)
    for word in [*words, "adapter_config.json"]:
        assert word in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "\udcff"])
def test_a_configuration_that_is_no_json_object_is_refused(saved, text):
    (saved / "adapter_config.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(AdapterError, match="configuration(?s:.*)adapter_config.json"):
        Adapter.load(saved)


@pytest.mark.parametrize(
    ("layers", "num_layers", "covered"),
    [
        ((-2, None), 2, [28, 29]),
        ((-40, None), 40, [*range(30)]),
        ((0, None), -1, [*range(30)]),
        ((0, 2), -1, [0, 1]),
        ((3, 5), -1, [3, 4]),
    ],
)
@pytest.mark.parametrize(("kind", "dropout"), [("lora", 0.0), ("dora", 0.25)])
def test_a_configuration_comes_back(tmp_path, layers, num_layers, covered, kind, dropout):
    config = AdapterConfig(3, 0.5, "turn", layers, ("mlp.up_proj",), kind, dropout)
    value = config.to_dict()
    assert AdapterConfig.from_dict(json.loads(json.dumps(value)), tmp_path) == config
    assert (value["num_layers"], value["fine_tune_type"]) == (num_layers, kind)
    assert list(config.decoder_layers(30)) == covered


def test_a_configuration_written_before_ranges_means_the_last_layers_and_keeps_its_content(tmp_path):
    config = AdapterConfig.from_dict(OLD_CONFIG, tmp_path)
    assert config == AdapterConfig(2, 1.5, "turn", (-16, None), ("mlp.up_proj", "self_attn.q_proj"))
    update = LoRAUpdate(mx.arange(8).reshape(4, 2) / 8, mx.arange(6).reshape(2, 3) / 4, 1.5)
    adapter = Adapter.from_layers(config, {Q: update})
    assert adapter.content_hash == OLD_CONTENT
    adapter.save(tmp_path / "a")
    assert json.loads((tmp_path / "a" / "adapter_config.json").read_text()) == OLD_CONFIG
