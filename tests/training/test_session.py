"""A session in Python: all adapters of a data set, one alone, ended or stopped by the callback, and resumed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from dualtune_mlx.bundle import Bundle
from dualtune_mlx.data import write_split, write_tools
from dualtune_mlx.errors import DataError, PromptError, TrainingError, UsageError
from dualtune_mlx.tools import Message, ToolCall, Trajectory
from dualtune_mlx.training import Group, Job, TrainConfig, TrainingSession, estimate_training, merge_config, train_all
from dualtune_mlx.training.log import read_log
from dualtune_mlx.training.session import AllFinished, RunFailed, RunFinished, RunSkipped, RunStarted, StepTaken
from tests import tiny
from tests.prompts import test_fit
from tests.training.data import TOOLS, trajectories

OPTIONS = {"steps": 4, "batch_size": 4, "rank": 2, "layers": "all", "validate_every": 2, "cards": "name"}
SELECTOR, ARGUMENTS = Job("selector"), Job("arguments")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A model and data, which all tests read."""
    folder = tmp_path_factory.mktemp("session")
    tiny.save(folder / "model")
    write_split(folder / "data", "train", trajectories(12))
    write_split(folder / "data", "valid", trajectories(6))
    write_tools(folder / "data", TOOLS)
    return folder


def config(folder: Path, bundle: Path, **given: object) -> TrainConfig:
    where = {"model": str(folder / "model"), "data": str(folder / "data"), "bundle": str(bundle)}
    return merge_config(None, {**where, **OPTIONS, **given})


def adapters(bundle: Path) -> dict[tuple[str, str], str]:
    return {key: entry.content_hash for key, entry in Bundle.open(bundle).stages.items()}


def kinds(events: list[object]) -> list[tuple[type, Job]]:
    """What happened but for the steps."""
    return [(type(event), event.job) for event in events if hasattr(event, "job") and not isinstance(event, StepTaken)]


def test_all_adapters_are_trained_once(folder, tmp_path):
    events: list[object] = []
    results = train_all(config(folder, tmp_path, min_examples=4), events.append)
    jobs = [SELECTOR, Job("arguments", "fs/list"), Job("arguments", "fs/read"), ARGUMENTS]
    assert [result.job for result in results] == jobs
    assert kinds(events) == [(kind, job) for job in jobs for kind in (RunStarted, RunFinished)]
    assert [event.progress.step for event in events if isinstance(event, StepTaken)] == [1, 2, 3, 4] * len(jobs)
    assert events[-1] == AllFinished(tuple(jobs), {})
    assert adapters(tmp_path) == {(r.job.stage, r.job.scope): r.trained.adapter.content_hash for r in results}
    assert all((event.folder / "report.html").exists() for event in events if isinstance(event, RunFinished))

    events.clear()
    assert train_all(config(folder, tmp_path, min_examples=4), events.append) == []
    assert kinds(events) == [(RunSkipped, job) for job in jobs]


def test_what_a_finished_run_has_left_is_removed(folder, tmp_path):
    """Its program ended when the adapter was in the bundle, and the states were still there."""
    train_all(config(folder, tmp_path, min_examples=99))
    run = tmp_path / "runs" / "selector"
    before = sorted(path.name for path in run.iterdir())
    (run / "checkpoints" / "step-000004").mkdir(parents=True)
    (run / ".tmp-dualtune-12345678").mkdir()
    events: list[object] = []
    train_all(config(folder, tmp_path, min_examples=99), events.append)
    assert (RunSkipped, SELECTOR) in kinds(events)
    assert sorted(path.name for path in run.iterdir()) == before


def test_a_template_that_does_not_fit_the_model_is_refused_and_auto_finds_one(folder, tmp_path):
    model = shutil.copytree(folder / "model", tmp_path / "model")
    test_fit.tokenizer(*test_fit.CHATML).save_pretrained(str(model))
    given = {"model": str(model), "steps": 1}
    with pytest.raises(PromptError, match=r"where: llama3\n(?s:.*)<\|eot_id\|>(?s:.*)--template auto"):
        train_all(config(folder, tmp_path / "bundle", template="llama3", **given))
    assert not (tmp_path / "bundle").exists()
    train_all(config(folder, tmp_path / "bundle", template="auto", **given))
    assert Bundle.open(tmp_path / "bundle").template == "chatml"


def test_arguments_that_could_never_be_written_end_the_session_before_its_first_run(folder, tmp_path):
    undeclared = ToolCall("now", {"zone": "UTC"}, "clock")
    bad = Trajectory((Message("user", "time?"), Message("assistant", "", (undeclared,))), TOOLS)
    write_split(tmp_path / "data", "train", trajectories(4))
    write_split(tmp_path / "data", "valid", [*trajectories(3), bad])
    write_tools(tmp_path / "data", TOOLS)
    events: list[object] = []
    with pytest.raises(DataError, match=r"could never write(?s:.*)valid.jsonl:4, decision 1(?s:.*)clock/now at \$"):
        train_all(config(folder, tmp_path / "bundle", data=str(tmp_path / "data")), events.append)
    assert events == []
    assert not (tmp_path / "bundle").exists()


def test_the_callback_can_end_a_run_and_the_next_one_follows(folder, tmp_path):
    def report(event: object) -> bool:
        return isinstance(event, StepTaken) and event.job == SELECTOR and event.progress.step == 2

    first, second = train_all(config(folder, tmp_path), report)
    assert (len(first.trained.history), first.trained.stop_reason) == (2, "stopped by the caller")
    assert (len(second.trained.history), second.trained.stop_reason) == (4, "all steps were taken")
    assert set(adapters(tmp_path)) == {("selector", ""), ("arguments", "")}


def test_an_interrupt_from_the_callback_stops_the_session_and_resume_continues(folder, tmp_path):
    def interrupt(event: object) -> None:
        if isinstance(event, StepTaken) and event.job == ARGUMENTS and event.progress.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_all(config(folder, tmp_path / "stopped"), interrupt)
    assert set(adapters(tmp_path / "stopped")) == {("selector", "")}

    events: list[object] = []
    (result,) = train_all(config(folder, tmp_path / "stopped"), events.append, resume=True)
    assert kinds(events) == [(RunSkipped, SELECTOR), (RunStarted, ARGUMENTS), (RunFinished, ARGUMENTS)]
    assert [progress.step for progress in result.trained.history] == [4]
    (run,) = [event.folder for event in events if isinstance(event, RunFinished)]
    assert [progress.step for progress in read_log(run / "log.jsonl")] == [1, 2, 3, 4]
    train_all(config(folder, tmp_path / "whole"))
    assert adapters(tmp_path / "stopped") == adapters(tmp_path / "whole")


def test_a_run_that_fails_leaves_the_others_and_is_told(folder, tmp_path):
    given = config(folder, tmp_path)
    stages = {**given.stages, "selector": replace(given.stages["selector"], memory_budget=1e-4)}
    events: list[object] = []
    with pytest.raises(TrainingError, match="some adapters could not be trained(?s:.*)where: selector"):
        train_all(replace(given, stages=stages), events.append)
    (failed,) = [event for event in events if isinstance(event, RunFailed)]
    assert failed.job == SELECTOR and "memory" in failed.error.what
    assert isinstance(events[-1], AllFinished) and events[-1].failed == {SELECTOR: failed.error}
    assert set(adapters(tmp_path)) == {("arguments", "")}


def test_one_adapter_alone(folder, tmp_path):
    session = TrainingSession(config(folder, tmp_path / "bundle"))
    read = Job("arguments", "fs/read")
    result = session.train_one(read)
    assert result is not None and result.job == read
    assert session.train_one(read, skip=True) is None
    again = session.train_one(read)
    assert again is not None and again.trained.adapter.content_hash == result.trained.adapter.content_hash
    with pytest.raises(DataError, match="no example"):
        session.train_one(Job("arguments", "clock"))

    onwards = TrainingSession(config(folder, tmp_path / "onwards", start=str(tmp_path / "bundle")))
    assert onwards.train_one(read) is not None
    with pytest.raises(UsageError, match="no adapter for this"):
        onwards.train_one(SELECTOR)
    cards = {"cards": "signature", "argument_card": "prefix"}
    otherwise = TrainingSession(config(folder, tmp_path / "otherwise", start=str(tmp_path / "bundle"), **cards))
    assert otherwise.train_one(read) is not None


def test_processes_that_share_adapters_train_each_once(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(Group, "wait", lambda group: None)  # the other process is not there
    trained = []
    for rank in range(2):
        session = TrainingSession(config(folder, tmp_path, min_examples=4, shard="adapters"), Group(rank, 2))
        trained.append([result.job for result in session.train_all()])
    assert trained == [[SELECTOR, Job("arguments", "fs/read")], [Job("arguments", "fs/list"), ARGUMENTS]]
    assert len(adapters(tmp_path)) == 4


def test_what_training_will_need_is_measured_without_a_bundle(folder, tmp_path):
    measured: list[str] = []
    given = config(folder, tmp_path / "bundle", memory_budget=0.5)
    estimates = estimate_training(given, measured.append)
    assert measured == [estimate.stage for estimate in estimates] == ["selector", "arguments"]
    assert [(estimate.examples, estimate.steps) for estimate in estimates] == [(12, 4), (8, 4)]
    for estimate in estimates:
        value = estimate.to_dict()
        assert value["budget"] == 2**29
        assert 0 < value["memory_per_example"] < value["peak_memory"]
        assert estimate.prefix_tokens > 50
    assert not (tmp_path / "bundle").exists()
