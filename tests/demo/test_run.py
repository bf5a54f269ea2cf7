"""The demo's parts, with the real model and the real servers, on a recipe of a few steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dualtune_mlx.demo import Recipe, run_demo
from dualtune_mlx.demo.run import CallFailed, CallFinished, CommandStarted, DemoEvent, EvaluationFinished
from dualtune_mlx.training.session import RunFinished, StepTaken

SMALL = Recipe(
    train=29,
    valid=4,
    test=4,
    selector=("--steps", "2"),
    arguments=("--steps", "2"),
    requests=("What have I written down in notes/todo.txt?", "Which files are modified?"),
)

pytestmark = [pytest.mark.model, pytest.mark.servers]


class Recorder:
    """Keeps all events; stops the demo at the first event of one type."""

    def __init__(self, stop_at: type | None = None) -> None:
        self.events: list[DemoEvent] = []
        self.stop_at = stop_at

    def __call__(self, event: DemoEvent) -> None:
        self.events.append(event)
        if self.stop_at and isinstance(event, self.stop_at):
            raise KeyboardInterrupt

    def count(self, *kinds: type) -> int:
        return sum(isinstance(event, kinds) for event in self.events)

    @property
    def commands(self) -> list[str]:
        return [" ".join(event.arguments[:2]) for event in self.events if isinstance(event, CommandStarted)]


def test_the_demo_measures_trains_calls_and_reuses_what_is_there(tmp_path: Path) -> None:
    folder, seen = tmp_path / "demo", Recorder()
    value = run_demo(folder, SMALL, report=seen)
    assert set(value) == {"accuracy", "bundle", "seconds", "calls"}
    assert {name: set(scores) for name, scores in value["accuracy"].items()} == {
        "base": {"tool", "call"},
        "trained": {"tool", "call"},
    }
    assert [call["request"] for call in value["calls"]] == list(SMALL.requests)
    for number, call in enumerate(value["calls"], 1):
        if "error" in call:  # two steps of training do not always write arguments that fit
            continue
        assert call["usage"]["stages"]["selector"]["adapter"] == "selector"
        assert call["name"] == "respond" or "text" in call["result"]
        assert {"request": call["request"], **json.loads((folder / f"calls/{number}.json").read_text())} == call
    manifest = json.loads((folder / "bundle" / "dualtune.json").read_text())
    assert len(manifest["tools"]) == 28
    bundle = f"--bundle {folder / 'bundle'}".split()
    calls = [f"call {bundle[0]}"] * 2
    assert seen.commands == ["eval --base", "train selector", "train arguments", f"eval {bundle[0]}", *calls]
    assert (seen.count(EvaluationFinished), seen.count(RunFinished)) == (2, 2)
    assert seen.count(CallFinished, CallFailed) == 2

    seen = Recorder()
    again = run_demo(folder, SMALL, report=seen)
    assert seen.commands == calls
    assert again["accuracy"] == value["accuracy"]


def test_a_stopped_demo_continues_where_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    with pytest.raises(KeyboardInterrupt):
        run_demo(folder, SMALL, report=Recorder(StepTaken))
    assert (folder / "base.json").exists() and not (folder / "bundle" / "dualtune.json").exists()

    seen = Recorder(EvaluationFinished)
    with pytest.raises(KeyboardInterrupt):
        run_demo(folder, SMALL, report=seen)
    assert seen.commands == ["train selector", "train arguments", "eval --bundle"]
    assert [event.progress.step for event in seen.events if isinstance(event, StepTaken)] == [2, 1, 2]
    assert (folder / "trained.json").exists()


def test_results_of_another_recipe_are_deleted(tmp_path: Path) -> None:
    (tmp_path / "recipe").write_text("another")
    (tmp_path / "base.json").write_text("{}")
    (tmp_path / "bundle").mkdir()
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(KeyboardInterrupt):
        run_demo(tmp_path, SMALL, report=Recorder(CommandStarted))
    assert not (tmp_path / "base.json").exists() and not (tmp_path / "bundle").exists()
    assert (tmp_path / "recipe").read_text() == SMALL.key
    assert (tmp_path / "mine.txt").read_text() == "kept"
