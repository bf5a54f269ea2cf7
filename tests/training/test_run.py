"""A run in a bundle: its files, going on, and the jobs that a data set is good for."""

from __future__ import annotations

import resource
import shutil
from dataclasses import replace

import mlx.core as mx
import pytest
import yaml

from dualtune_mlx import DualTune
from dualtune_mlx.bundle import Bundle
from dualtune_mlx.engine.events import StageBegins
from dualtune_mlx.errors import CheckpointError, DataError, TrainingError, UsageError
from dualtune_mlx.prompts import PromptRenderer, Template
from dualtune_mlx.tools import Message, Trajectory
from dualtune_mlx.training import Job, RunSetup, TrainingRun, TrainOptions, all_jobs
from dualtune_mlx.training import run as run_module
from dualtune_mlx.training.checkpoints import Checkpoints
from dualtune_mlx.training.log import Log, read_log
from dualtune_mlx.training.run import NO_ENDS, hold_out
from tests import tiny
from tests.training.data import TOOLS, divided, trajectories

SELECTOR = Job("selector")
OPTIONS = TrainOptions(
    steps=6, batch_size=4, rank=4, layers="all", learning_rate=1e-2, validate_every=3, checkpoint_every=2
)


@pytest.fixture(scope="module")
def base():
    return tiny.model()


LONG = Trajectory((Message("user", "x" * 500), trajectories(1)[0].messages[1]), TOOLS)


def make_run(base, bundle, job=SELECTOR, options=OPTIONS, train=None, valid=None, start=None):
    renderer = PromptRenderer(Template("chatml"), base.tokenizer, "name")
    train = trajectories(20) if train is None else train
    setup = RunSetup(base, renderer, train, trajectories(6) if valid is None else valid, bundle)
    return TrainingRun(job, options, setup, start=start)


@pytest.mark.parametrize("stage", ["router", "selector", "arguments"])
def test_a_run_leaves_an_adapter_and_all_its_files(base, tmp_path, stage):
    run = make_run(base, tmp_path, Job(stage))
    assert not run.is_finished
    finished = run.train(config={"data": "there"})
    assert {path.name for path in run.folder.iterdir()} == {".lock", "config.yaml", "log.jsonl", "report.html"}
    assert yaml.safe_load((run.folder / "config.yaml").read_text()) == {"data": "there"}
    assert read_log(run.folder / "log.jsonl") == finished.trained.history
    entry, adapter = Bundle.open(tmp_path).find_adapter(stage)
    assert adapter.content_hash == finished.trained.adapter.content_hash
    assert entry.training["ended"] == "all steps were taken"
    assert (finished.accuracy is None) == (stage == "arguments")
    assert base.bank.active is None
    assert not base.bank.resident
    assert make_run(base, tmp_path, Job(stage)).is_finished
    assert not make_run(base, tmp_path, Job(stage), replace(OPTIONS, seed=1)).is_finished


def test_a_planner_learns_to_divide_requests_into_words_of_theirs(base, tmp_path):
    options = replace(OPTIONS, steps=60, learning_rate=2e-2, rank=8)
    run = make_run(base, tmp_path, Job("planner"), options, divided(12), divided(6))
    assert run.training.counts == {"plan": 12}
    finished = run.train()
    assert finished.accuracy is None
    entry = Bundle.open(tmp_path).stages["planner", ""]
    assert entry.grounding == {"/plan": {"parts[]": ()}}
    with DualTune.load(tmp_path, base) as dualtune:
        assert dualtune.divides
        parts = dualtune.plan("list a, then read b.txt", max_tokens=200)
        assert all(part in "list a, then read b.txt" for part in parts), "whatever it has learned so far"
        surely = list(dualtune.planning("list a, then read b.txt", max_tokens=200, grounding="auto"))
        assert sum(isinstance(event, StageBegins) for event in surely) == 2, "unsure of its words, it is held to them"
        assert surely[-1].subtasks == parts
        *_, planned = dualtune.planning("list a, then read b.txt", max_tokens=200)
        assert planned.subtasks == parts and planned.usage.stages["planner"].adapter == "planner"


def test_without_parts_there_is_no_planner(base, tmp_path):
    with pytest.raises(DataError, match='requests with "parts"'):
        make_run(base, tmp_path, Job("planner"))
    assert all_jobs(divided(3), 99)[0] == Job("planner")
    assert Job("planner") not in all_jobs(trajectories(3), 1)


def test_the_end_of_a_part_is_learned_as_respond(base, tmp_path):
    run = make_run(base, tmp_path, SELECTOR, train=divided(2), valid=divided(2))
    assert run.training.counts == {"fs/list": 2, "fs/read": 2, "respond": 4}
    texts = [base.tokenizer.decode(list(example.tokens)) for example in run.training.examples]
    assert sum("Now: list old0<" in text.rpartition("user\n")[2] for text in texts) == 2


def test_a_run_goes_on_from_an_adapter(base, tmp_path):
    first = make_run(base, tmp_path / "first").train().trained.adapter
    run = make_run(base, tmp_path / "second", start=first)
    began = run.trainer().initial_state().weights
    assert all(mx.array_equal(began[name]["b"], layer.b) for name, layer in first.layers.items())
    assert not mx.array_equal(next(iter(began.values()))["b"], 0)
    new = make_run(base, tmp_path / "new").train()
    gone_on = run.train()
    assert gone_on.trained.history[0].loss < new.trained.history[0].loss
    assert Bundle.open(tmp_path / "second").stages["selector", ""].training["start"] == first.content_hash
    assert make_run(base, tmp_path / "second", start=first).is_finished
    assert not make_run(base, tmp_path / "second").is_finished
    other = make_run(base, tmp_path / "other", options=replace(OPTIONS, rank=8), start=first)
    with pytest.raises(UsageError, match="not what the options describe") as raised:
        other.train()
    assert (raised.value.where, raised.value.got, raised.value.expected) == ("rank", 4, 8)
    assert not (tmp_path / "other").exists()


def test_a_start_of_16_bits_is_trained_in_32(base, tmp_path):
    first = make_run(base, tmp_path / "first").train().trained.adapter.astype(mx.float16)
    began = make_run(base, tmp_path / "second", start=first).trainer().initial_state().weights
    for name, layer in first.layers.items():
        assert layer.b.dtype == mx.float16 and began[name]["b"].dtype == mx.float32
        assert mx.array_equal(began[name]["b"], layer.b.astype(mx.float32))


def test_the_accuracy_is_what_the_engine_chooses(base, tmp_path):
    finished = make_run(base, tmp_path, options=replace(OPTIONS, steps=40, checkpoint_every=0)).train()
    with DualTune.load(tmp_path, base) as dualtune:
        chosen = [dualtune.select(t.messages[:1], t.tools, top_k=1)[0][0].name for t in trajectories(6)]
    right = sum(name == t.messages[1].tool_calls[0].name for name, t in zip(chosen, trajectories(6), strict=True))
    assert finished.accuracy == (right, 6)
    assert right > 0


def test_a_resumed_run_goes_on_and_its_log_is_whole(base, tmp_path):
    whole = make_run(base, tmp_path / "whole").train()

    def interrupted(progress):
        if progress.step == 5:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        make_run(base, tmp_path / "killed").train(interrupted)
    with pytest.raises(CheckpointError, match="another run"):
        make_run(base, tmp_path / "killed", options=replace(OPTIONS, learning_rate=1e-3)).train(resume=True)
    run = make_run(base, tmp_path / "killed")
    finished = run.train(resume=True)
    assert [progress.step for progress in finished.trained.history] == [5, 6]
    assert [progress.step for progress in read_log(run.folder / "log.jsonl")] == [1, 2, 3, 4, 5, 6]
    assert finished.trained.adapter.content_hash == whole.trained.adapter.content_hash
    assert make_run(base, tmp_path / "killed", options=replace(OPTIONS, keep=5)).key == run.key
    assert make_run(base, tmp_path / "killed").train().trained.history[0].step == 1


def test_a_run_that_was_stopped_while_it_was_judged_is_not_trained_again(base, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    options = replace(OPTIONS, checkpoint_every=0, patience=1, learning_rate=1.0, validate_every=1)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("dualtune_mlx.training.run.selection_accuracy", interrupted)
        make_run(base, tmp_path, options=options).train()
    run = make_run(base, tmp_path, options=options)
    taken = len(read_log(run.folder / "log.jsonl"))
    finished = run.train(resume=True)
    assert finished.trained.history == []
    assert "no better validation loss" in finished.trained.stop_reason
    assert 1 < taken == len(read_log(run.folder / "log.jsonl")) < OPTIONS.steps


def at_step(step, do):
    """A callback that does something after a step."""
    return lambda progress: do() if progress.step == step else None


def leftovers(folder):
    return [str(path) for path in folder.rglob(".tmp-*")]


@pytest.mark.parametrize(
    ("removed", "step", "file", "hint"),
    [
        ("", 2, "checkpoints", "no checkpoint is left"),
        ("", 3, "log.jsonl", "no checkpoint is left"),
        ("log.jsonl", 4, "log.jsonl", "resuming goes on after step 4"),
    ],
)
def test_a_run_whose_files_are_removed_meanwhile_ends_in_words(base, tmp_path, removed, step, file, hint):
    run = make_run(base, tmp_path)

    def remove():
        (run.folder / removed).unlink() if removed else shutil.rmtree(run.folder)

    with pytest.raises(UsageError, match="cannot be written") as raised:
        run.train(at_step(step, remove))
    assert raised.value.where == run.folder / file
    assert "No such file" in raised.value.got and hint in raised.value.fix
    assert run.folder.exists() == bool(removed)
    assert not (run.folder / "log.jsonl").exists() and not leftovers(tmp_path)


@pytest.fixture(scope="module")
def whole(base, tmp_path_factory) -> str:
    """The adapter of an undisturbed run."""
    return make_run(base, tmp_path_factory.mktemp("whole")).train().trained.adapter.content_hash


@pytest.mark.parametrize(
    ("where", "name"),
    [
        (TrainingRun, "_open_files"),
        (Log, "__call__"),
        (Checkpoints, "save"),
        (run_module, "selection_accuracy"),
        (Bundle, "write"),
        (run_module, "make_report"),
    ],
)
def test_a_run_whose_disk_is_full_says_so_and_goes_on_later(base, whole, tmp_path, monkeypatch, where, name):
    run, call = make_run(base, tmp_path), getattr(where, name)
    calls = []

    def call_on_a_full_disk(*given, **named):
        calls.append(name)
        if len(calls) == 3 or name not in ("__call__", "save"):
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
        return call(*given, **named)

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    monkeypatch.setattr(where, name, call_on_a_full_disk)
    try:
        with pytest.raises(UsageError, match="cannot be written") as raised:
            run.train()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        monkeypatch.undo()
    kept = {"_open_files": None, "__call__": 2, "save": 4}.get(name, 6)
    hint = f"resuming goes on after step {kept}" if kept else "no checkpoint is left"
    assert "File too large" in raised.value.got and f"make room on that disk; {hint}" in raised.value.fix
    assert not leftovers(tmp_path)
    assert make_run(base, tmp_path).train(resume=True).trained.adapter.content_hash == whole
    assert [progress.step for progress in read_log(run.folder / "log.jsonl")] == [1, 2, 3, 4, 5, 6]


def test_a_log_that_is_removed_while_a_run_is_judged_leaves_the_adapter(base, tmp_path, monkeypatch):
    run, judge = make_run(base, tmp_path), run_module.selection_accuracy

    def remove_first(*given, **named):
        (run.folder / "log.jsonl").unlink()
        return judge(*given, **named)

    monkeypatch.setattr(run_module, "selection_accuracy", remove_first)
    with pytest.raises(TrainingError, match="log was removed"):
        run.train()
    assert make_run(base, tmp_path).is_finished


def test_a_resumed_run_whose_log_was_removed_says_so(base, tmp_path):
    def stop():
        raise KeyboardInterrupt

    run = make_run(base, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run.train(at_step(4, stop))
    (run.folder / "log.jsonl").unlink()
    notes = make_run(base, tmp_path).train(resume=True).notes
    assert notes[-1] == "the log has only 2 of 6 steps: it was removed meanwhile"


def test_two_runs_in_one_folder_are_refused(base, tmp_path):
    def second():
        make_run(base, tmp_path).train()

    with pytest.raises(UsageError, match="another process trains") as raised:
        make_run(base, tmp_path).train(at_step(1, second))
    assert raised.value.where == tmp_path / "runs" / "selector"
    assert make_run(base, tmp_path).train().trained.history


@pytest.mark.parametrize(
    ("validate_every", "steps", "noted"), [(50, 4, True), (4, 4, True), (2, 4, False), (3, 4, False), (0, 4, False)]
)
def test_a_single_measurement_is_said_to_choose_nothing(base, tmp_path, validate_every, steps, noted):
    finished = make_run(base, tmp_path, options=replace(OPTIONS, validate_every=validate_every, steps=steps)).train()
    found = [note for note in finished.notes if f"measure more often than every {validate_every} steps" in note]
    assert bool(found) == noted
    assert ("none were chosen" in (tmp_path / "runs" / "selector" / "report.html").read_text()) == noted


def test_only_arguments_have_a_scope():
    with pytest.raises(UsageError, match="only argument adapters"):
        Job("selector", "fs")


@pytest.mark.parametrize(("window", "limit"), [(0, 400), (300, 300), (500, 400)])
def test_no_window_is_longer_than_the_model_s(base, tmp_path, monkeypatch, window, limit):
    monkeypatch.setattr(type(base), "context_length", 400)
    run = make_run(base, tmp_path, options=replace(OPTIONS, window=window), train=[*trajectories(3), LONG])
    assert [f"exceeds {limit}" in note for note in run.notes if "dropped" in note] == [True]


def without_results(trajectory):
    """The trajectory as lines are that end with their calls."""
    return replace(
        trajectory, messages=tuple(one for one in trajectory.messages if one.tool_calls or one.role == "user")
    )


def without_end(trajectory):
    """The trajectory with a result, and an answer to it that is not learned."""
    return replace(trajectory, messages=(*trajectory.messages, Message("tool", "ok"), replace(DONE, weight=0)))


DONE = Message("assistant", "Done.")


@pytest.mark.parametrize("stage", ["selector", "router", "planner", "arguments"])
def test_data_without_an_end_behind_a_result_is_told(base, tmp_path, stage):
    lines = [without_results(one) for one in [*divided(4), *trajectories(6)]]
    told = [] if stage == "arguments" else [NO_ENDS]
    assert list(make_run(base, tmp_path, Job(stage), train=lines, valid=divided(6)).notes) == told
    lines.append(without_end(trajectories(1)[0]))
    assert list(make_run(base, tmp_path, Job(stage), train=lines, valid=divided(6)).notes) == told
    lines.append(divided(1)[0])
    assert make_run(base, tmp_path, Job(stage), train=lines, valid=divided(6)).notes == ()


def test_a_scope_takes_its_own_calls_and_holds_some_out_where_none_are_for_validation(base, tmp_path):
    run = make_run(base, tmp_path, Job("arguments", "fs/read"), valid=trajectories(12)[1:2])
    assert run.training.counts == {"fs/read": 6}
    assert run.validation.counts == {"fs/read": 1}
    assert "held out" in run.notes[0]
    run.train()
    assert Bundle.open(tmp_path).find_adapter("arguments", "fs/read")
    assert Bundle.open(tmp_path).find_adapter("arguments", "fs/list") is None
    with pytest.raises(DataError, match="no example(?s:.*)clock"):
        make_run(base, tmp_path, Job("arguments", "clock"))


def test_every_tenth_conversation_is_held_out(base, tmp_path):
    run = make_run(base, tmp_path)
    rest, held_out = hold_out(run.training)
    assert [item.conversation for item in held_out.examples] == [0, 10]
    assert len(rest.examples) == 18
    one = replace(run.training, examples=run.training.examples[:1])
    assert hold_out(one)[0].examples == hold_out(one)[1].examples == one.examples


@pytest.mark.parametrize(
    ("least", "own"), [(1, ["fs/list", "fs/read"]), (7, ["fs/list", "fs/read"]), (8, []), (99, [])]
)
def test_all_trains_what_there_is_data_for(least, own):
    train = trajectories(20)
    jobs = all_jobs(train, least)
    assert jobs == [Job("selector"), *(Job("arguments", scope) for scope in own), Job("arguments")]
    elsewhere = tuple(replace(tool, server="copy") for tool in TOOLS)
    jobs = all_jobs([*train, *(replace(t, tools=elsewhere) for t in train)], 99)
    assert jobs == [Job("selector"), Job("arguments", "copy"), Job("arguments", "fs"), Job("arguments")]


def test_a_router_needs_two_servers(base, tmp_path):
    one = [replace(trajectory, tools=TOOLS[:2]) for trajectory in trajectories(2)]
    with pytest.raises(DataError, match="tools of at least two servers"):
        make_run(base, tmp_path, Job("router"), train=one, valid=one)


def test_data_without_a_call_has_no_arguments(base, tmp_path):
    talk = [Trajectory((Message("user", "hi"), Message("assistant", "hello")), TOOLS)]
    with pytest.raises(DataError, match="no example for the stage 'arguments'"):
        make_run(base, tmp_path, Job("arguments"), train=talk, valid=talk)


def test_a_run_beyond_its_memory_budget_is_refused_before_it_starts(base, tmp_path):
    run = make_run(base, tmp_path, options=replace(OPTIONS, memory_budget=1e-4))
    with pytest.raises(TrainingError, match="more memory than its budget"):
        run.train()
    assert not run.folder.exists()
