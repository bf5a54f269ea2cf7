"""The demo's parts, with the real model and the real servers, on a recipe of a few steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dualtune_mlx.demo import Recipe, run, run_demo
from dualtune_mlx.demo.run import CallFailed, CallFinished, DemoEvent
from dualtune_mlx.learning import road
from dualtune_mlx.learning.events import CommandStarted, Measured
from dualtune_mlx.training.session import RunFinished, RunSkipped, StepTaken
from tests.cli.conftest import dualtune

pytest.importorskip("datasketch", reason="needs the extra synth")
SMALL = Recipe(
    minutes=1,
    made=30,
    train=12,
    valid=4,
    test=2,
    requests=("What have I written down in notes/todo.txt?", "Which files are modified?"),
)
PARTS = ["data synthesize", "data split", "train selector", "train arguments", "bundle words"]

pytestmark = [pytest.mark.model, pytest.mark.servers]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(road._Road, "_choose_steps", lambda self, jobs: {"selector": 2, "arguments": 2})
    monkeypatch.setattr(road, "VALIDATED", 2)
    for module in (road, run):
        monkeypatch.setattr(module, "MOST_TOKENS", 48)


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


def test_the_demo_learns_measures_calls_and_reuses_what_is_there(tmp_path: Path) -> None:
    folder, seen = tmp_path / "demo", Recorder()
    value = run_demo(folder, SMALL, report=seen)
    assert set(value) == {"accuracy", "bundle", "seconds", "calls"}
    assert list(value["accuracy"]) == ["base", "start", "trained"]
    assert all(set(scores) == {"tool", "call"} for scores in value["accuracy"].values())
    assert [call["request"] for call in value["calls"]] == list(SMALL.requests)
    for number, call in enumerate(value["calls"], 1):
        if "error" in call:  # two steps of training do not always write arguments that fit
            continue
        assert call["usage"]["stages"]["selector"]["adapter"] == "selector"
        assert call["name"] == "respond" or "text" in call["result"]
        assert {"request": call["request"], **json.loads((folder / f"calls/{number}.json").read_text())} == call
    manifest = json.loads((folder / "bundle" / "dualtune.json").read_text())
    assert len(manifest["tools"]) == 28
    calls = ["call --bundle"] * 2
    assert seen.commands == ["learn --mcp", *PARTS, "eval --base", *calls]
    measured = [event for event in seen.events if isinstance(event, Measured)]
    assert [(event.name, event.value["n"]) for event in measured] == [("before", 2), ("after", 2), ("base", 2)]
    assert seen.count(CallFinished, CallFailed) == 2

    command = next(event.arguments for event in seen.events if isinstance(event, CommandStarted))
    said = dualtune(*command)
    assert said.exit_code == 0 and said.output.count("finished before") == 2, "the command that is named does the same"

    seen = Recorder()
    again = run_demo(folder, SMALL, report=seen)
    assert not seen.count(StepTaken, Measured) and seen.count(RunSkipped) == 2
    assert [one for one in seen.commands if one.startswith(("eval", "call"))] == calls
    assert again["accuracy"] == value["accuracy"]


def test_a_stopped_demo_continues_where_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    with pytest.raises(KeyboardInterrupt):
        run_demo(folder, SMALL, report=Recorder(StepTaken))
    (folder / "wordings.jsonl").read_text()
    assert not (folder / "bundle" / "dualtune.json").exists()

    seen = Recorder(Measured)
    with pytest.raises(KeyboardInterrupt):
        run_demo(folder, SMALL, report=seen)
    assert seen.commands == ["learn --mcp", *PARTS[1:]]
    assert [event.progress.step for event in seen.events if isinstance(event, StepTaken)] == [2, 1, 2]
    assert seen.count(RunFinished) == 2


def test_results_of_another_recipe_are_deleted(tmp_path: Path) -> None:
    (tmp_path / "recipe").write_text("another")
    for name in ("base-1.json", "wordings.jsonl", "mine.txt"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle/learn.json").write_text("{}")
    with pytest.raises(KeyboardInterrupt):
        run_demo(tmp_path, SMALL, report=Recorder(CommandStarted))
    assert not (tmp_path / "base-1.json").exists() and not (tmp_path / "bundle/learn.json").exists()
    assert len((tmp_path / "wordings.jsonl").read_text().splitlines()) == SMALL.train + SMALL.valid
    assert (tmp_path / "recipe").read_text() == SMALL.key
    assert (tmp_path / "mine.txt").read_text() == "{}"
