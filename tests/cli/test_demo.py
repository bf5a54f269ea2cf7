"""The demo's parts, with the real model and the real servers, on a recipe of a few steps."""

import io
import json

import pytest
from rich.console import Console

from dualtune_mlx.cli import train
from dualtune_mlx.cli.demo import Demo
from dualtune_mlx.demo import Recipe

SMALL = Recipe(
    train=29,
    valid=4,
    test=4,
    selector=("--steps", "2"),
    arguments=("--steps", "2"),
    requests=("What have I written down in notes/todo.txt?", "Which files are modified?"),
)

pytestmark = [pytest.mark.model, pytest.mark.servers]


def test_the_demo_measures_trains_calls_and_reuses_what_is_there(tmp_path, monkeypatch):
    out = io.StringIO()
    value = Demo(tmp_path / "demo", SMALL, Console(file=out)).run()
    assert set(value) == {"accuracy", "bundle", "seconds", "calls"}
    assert {name: set(scores) for name, scores in value["accuracy"].items()} == {
        "base": {"tool", "call"},
        "trained": {"tool", "call"},
    }
    assert [call["request"] for call in value["calls"]] == list(SMALL.requests)
    for call in value["calls"]:
        if "error" in call:  # two steps of training do not always write arguments that fit
            continue
        assert call["usage"]["stages"]["selector"]["adapter"] == "selector"
        assert call["name"] == "respond" or "text" in call["result"]
    manifest = json.loads((tmp_path / "demo" / "bundle" / "dualtune.json").read_text())
    assert len(manifest["tools"]) == 28
    assert "$ dualtune train selector" in out.getvalue()

    monkeypatch.setattr(train, "Run", lambda *_: pytest.fail("trained again"))
    again = Demo(tmp_path / "demo", SMALL, Console(file=io.StringIO())).run()
    assert again["accuracy"] == value["accuracy"]
