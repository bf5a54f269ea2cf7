"""Where an adapter of the activation "tokens" begins, and how its configuration says so."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from dualtune_mlx.adapters import Adapter, invocation_start
from dualtune_mlx.errors import AdapterError
from tests.adapters.adapters import adapter_for, reconfigure


@pytest.mark.parametrize(
    ("tokens", "start"),
    [
        ((1, 2, 3), 0),
        ((5, 1, 2), 1),
        ((1, 2, 9, 1, 2, 9, 1), 3),
        ((1, 1, 2, 2), 1),
        ((1, 9, 2), 3),
        ((1,), 1),
        ((), 0),
    ],
)
def test_it_is_the_last_occurrence_or_nowhere(tokens, start):
    assert invocation_start(tokens, (1, 2)) == start


def test_the_tokens_come_back_from_the_files(bank, tmp_path):
    adapter = adapter_for(bank, 1)
    config = replace(adapter.config, activation="tokens", tokens=(5, 6))
    Adapter.from_layers(config, adapter.layers).save(tmp_path / "a")
    assert Adapter.load(tmp_path / "a").config == config


@pytest.mark.parametrize(("activation", "tokens"), [("tokens", []), ("turn", [5]), ("all", [5])])
def test_tokens_go_with_their_activation_alone(bank, tmp_path, activation, tokens):
    adapter_for(bank, 1).save(tmp_path / "a")
    ours = json.loads((tmp_path / "a" / "adapter_config.json").read_text())["dualtune"]
    reconfigure(tmp_path / "a", dualtune={**ours, "activation": activation, "tokens": tokens})
    with pytest.raises(AdapterError, match="do not go together(?s:.*)adapter_config.json"):
        Adapter.load(tmp_path / "a")
