"""``dualtune train``: one stage or all, configured by a file, interrupted and resumed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
import yaml
from click.testing import Result

from dualtune_mlx.adapters import Adapter
from dualtune_mlx.bundle import Bundle
from dualtune_mlx.cli import train
from dualtune_mlx.cli.output import console
from dualtune_mlx.decoding import Evidence
from dualtune_mlx.models import BaseModel
from dualtune_mlx.training import STAGES, Job, Trainer, checkpoints, run, session
from dualtune_mlx.training.config import OPTIONS, SHARDS
from dualtune_mlx.training.log import Log
from dualtune_mlx.training.session import RunStarted
from tests.cli.conftest import SMALL, dualtune, line

STEPS = [*SMALL, "--steps", "4", "--validate-every", "2"]


@pytest.fixture
def where(model, data, tmp_path) -> list[object]:
    return ["--model", model, "--data", data, "--bundle", tmp_path / "bundle"]


def good(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.output


def stages(bundle: Path) -> dict[str, Any]:
    return json.loads((bundle / "dualtune.json").read_text())["stages"]


def adapters(bundle: Path) -> dict[str, bytes]:
    return {str(file.parent.relative_to(bundle)): file.read_bytes() for file in bundle.rglob("adapters.safetensors")}


def load_adapters(bundle: Path) -> dict[str, dict[str, mx.array]]:
    files = bundle.rglob("adapters.safetensors")
    return {str(file.parent.relative_to(bundle)): mx.load(str(file)) for file in files}


def interrupt_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    said = train.words

    def words(state: Any) -> str:
        if state.step == step:
            monkeypatch.setattr(train, "words", said)
            raise KeyboardInterrupt
        return said(state)

    monkeypatch.setattr(train, "words", words)


@pytest.fixture
def divided(model, data, tmp_path) -> list[object]:
    """The data with a request of two parts."""
    folder = tmp_path / "divided"
    shutil.copytree(data, folder)
    user = {"role": "user", "content": "list b, then show a", "parts": ["list b", "show a"]}
    calls = [
        {"role": "assistant", "part": part, "tool_calls": [{"function": {"name": name, "arguments": {"path": path}}}]}
        for part, name, path in (("list b", "list_dir", "b"), ("show a", "read_file", "a"))
    ]
    done = {"role": "tool", "content": "ok"}
    messages = [user, calls[0], done, calls[1], done, {"role": "assistant", "content": "Done."}]
    for split in ("train", "valid"):
        with (folder / f"{split}.jsonl").open("a") as file:
            file.write(json.dumps({"messages": messages}) + "\n")
    return ["--model", model, "--data", folder, "--bundle", tmp_path / "bundle"]


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_trains_and_leaves_its_run(divided, tmp_path, stage):
    said = good(dualtune("train", stage, *divided, *SMALL))
    assert f"{stage}: validation loss" in said
    assert ("choices right" in said) == (stage in ("router", "selector"))
    (facts,) = (entry["training"] for entry in stages(tmp_path / "bundle")[stage].values())
    assert facts["steps"] == 2
    (report,) = (tmp_path / "bundle" / "runs").rglob("report.html")
    assert str(report) in said
    assert len((report.parent / "log.jsonl").read_text().splitlines()) == 2


def test_all_begins_with_a_planner_where_requests_have_parts(divided, where, tmp_path):
    assert "planner" in good(dualtune("train", "all", *divided, *SMALL))
    assert next(iter(stages(tmp_path / "bundle"))) == "planner"
    good(dualtune("bundle", "verify", "--bundle", tmp_path / "bundle"))
    assert "plan: " in good(dualtune("warm", "--bundle", tmp_path / "bundle"))
    inspected = dualtune("inspect", *divided[:2], "--data", divided[3] / "train.jsonl", "--limit", 9, "--json")
    shown = json.loads(inspected.stdout)
    plans = ["".join(value["tokens"]) for value in shown if value["stage"] == "planner"]
    assert '{"parts": ["list b", "show a"]}' in plans[-1] and '{"parts": []}' in plans[0]
    where[-1] = tmp_path / "whole"
    good(dualtune("train", "all", *where, *SMALL))
    assert "planner" not in stages(tmp_path / "whole")


def test_the_saved_configuration_gives_the_same_adapter(where, tmp_path):
    extra = ["--seed", "3", "--learning-rate", "1e-2", "--targets", "q_proj,v_proj", "--target", "mlp.*", "--rslora"]
    good(dualtune("train", "selector", *where, *SMALL, *extra))
    saved = tmp_path / "bundle" / "runs" / "selector" / "config.yaml"
    assert yaml.safe_load(saved.read_text())["targets"] == ["q_proj", "v_proj", "mlp.*"]
    good(dualtune("train", "selector", "--config", saved, "--bundle", tmp_path / "again"))
    assert adapters(tmp_path / "again") == adapters(tmp_path / "bundle")


def test_flags_lie_over_the_file_and_sections_over_its_top(where, tmp_path):
    file = tmp_path / "night.yaml"
    file.write_text("steps: 2\nbatch_size: 2\nrank: 2\nlearning_rate: 5e-4\nselector:\n  rank: 3\n  seed: 5\n")
    good(dualtune("train", "selector", *where, "--config", file, "--seed", "6"))
    facts = stages(tmp_path / "bundle")["selector"][""]["training"]
    assert [facts[name] for name in ("steps", "rank", "seed", "learning_rate")] == [2, 3, 6, 5e-4]


def test_what_is_known_before_a_run_and_after_it_is_said_once(where):
    result = dualtune("train", "selector", *where, *SMALL, "--validate-every", "50")
    warnings = [said for said in result.stderr.splitlines() if said.startswith("Warning: ")]
    assert sum("none were chosen" in said for said in warnings) == 1
    assert len(warnings) == len(set(warnings))


PHASES = {
    "reading the data": (session, "read_split", 2),
    "loading the model": (session, "load_model", 1),
    "computing the prefixes": (BaseModel, "snapshot", 1),
    "estimating the memory": (Trainer, "measure_step", 2),
    "the first step": (Trainer, "gradients", 3),
    "a step": (Trainer, "gradients", 5),
    "validating": (Trainer, "validation_loss", 2),
    "writing the log": (Log, "__call__", 3),
    "writing a checkpoint": (checkpoints, "_sha256", 2),
    "judging": (run, "selection_accuracy", 1),
    "writing the adapter": (Adapter, "save", 1),
    "writing the bundle": (Bundle, "write", 1),
    "writing the report": (run, "make_report", 1),
    "removing the checkpoints": (checkpoints.Checkpoints, "clear", 2),
}


UNDER_A_BUDGET = [*STEPS, "--checkpoint-every", "1", "--memory-budget", "4"]


@pytest.fixture(scope="module")
def undisturbed(model, data, tmp_path_factory) -> dict[str, bytes]:
    bundle = tmp_path_factory.mktemp("undisturbed")
    good(dualtune("train", "selector", "--model", model, "--data", data, "--bundle", bundle, *UNDER_A_BUDGET))
    return adapters(bundle)


@pytest.mark.parametrize("phase", PHASES)
def test_ctrl_c_in_any_phase_ends_with_130_and_resuming_gives_the_same_adapter(
    phase, where, undisturbed, tmp_path, monkeypatch
):
    owner, name, nth = PHASES[phase]
    call, calls = getattr(owner, name), []

    def interrupted(*given, **named):
        calls.append(name)
        if len(calls) == nth:
            raise KeyboardInterrupt
        return call(*given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, interrupted)
        result = dualtune("train", "selector", *where, *UNDER_A_BUDGET)
    assert result.exit_code == 130, result.output
    assert "Stopped" in result.output and "Traceback" not in result.output
    assert not list((tmp_path / "bundle").rglob(".tmp-*"))
    good(dualtune("train", "selector", *where, *UNDER_A_BUDGET, "--resume"))
    assert adapters(tmp_path / "bundle") == undisturbed
    log = tmp_path / "bundle" / "runs" / "selector" / "log.jsonl"
    assert [json.loads(entry)["step"] for entry in log.read_text().splitlines()] == [1, 2, 3, 4]


def test_an_argument_adapter_for_one_tool(where, tmp_path):
    said = good(dualtune("train", "arguments", "--scope", "fs/read_file", *where, *SMALL))
    assert "arguments · fs/read_file: validation loss" in said
    assert list(stages(tmp_path / "bundle")["arguments"]) == ["fs/read_file"]


def test_all_trains_what_the_data_is_good_for_once(where, tmp_path):
    bundle = tmp_path / "bundle"
    said = good(dualtune("train", "all", "--min-examples", 1, *where, *SMALL))
    found = stages(bundle)
    assert set(found) == {"selector", "arguments"}
    assert set(found["arguments"]) == {"", "fs/list_dir", "fs/read_file"}
    before = adapters(bundle)
    assert said.count("validation loss") >= len(before) == 4
    said = good(dualtune("train", "all", "--min-examples", 1, *where, *SMALL))
    assert said.count("finished before, skipped") == 4
    table = [row for row in said.splitlines() if row.startswith("│")]
    assert [row.split("│")[1].strip() for row in table if row.split("│")[2].strip()] == [
        *("selector", "arguments ·", "arguments ·", "arguments"),
    ], "the table shows what was trained before"
    assert adapters(bundle) == before
    said = good(dualtune("train", "all", "--min-examples", 2, *where, *SMALL, "--seed", "9"))
    assert "skipped" not in said, "other options are another run"


def test_all_gives_each_server_an_adapter_where_there_are_several(model, data, tmp_path):
    many = tmp_path / "data"
    many.mkdir()
    tools = json.loads((data / "tools.json").read_text())
    tools[2]["inputSchema"] = tools[0]["inputSchema"]
    (many / "tools.json").write_text(json.dumps(tools))
    for split in ("train", "valid"):
        lines = [line("show a", "read_file", path="a"), line("b?", "now", path="b")]
        (many / f"{split}.jsonl").write_text("".join(lines))
    options = ["--model", model, "--data", many, "--bundle", tmp_path / "bundle", *SMALL, "--shard", "adapters"]
    good(dualtune("train", "all", *options))
    assert set(stages(tmp_path / "bundle")["arguments"]) == {"", "clock", "fs"}


def test_ctrl_c_keeps_the_run_and_resume_finishes_it_as_if_nothing_had_been(where, tmp_path, monkeypatch):
    interrupt_at(3, monkeypatch)
    result = dualtune("train", "selector", *where, *STEPS)
    assert result.exit_code == 130
    assert "dualtune train selector … --resume" in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "bundle" / "dualtune.json").exists()

    said = good(dualtune("train", "selector", *where, *STEPS, "--resume"))
    assert "4/4" in said
    assert "3/4" not in said, "three steps were taken already"
    assert good(dualtune("train", "selector", *where, *STEPS, "--resume")).endswith("finished before, skipped\n")

    whole = [*where[:-1], tmp_path / "whole"]
    good(dualtune("train", "selector", *whole, *STEPS))
    assert adapters(tmp_path / "whole") == adapters(tmp_path / "bundle")


def test_all_goes_on_where_it_was_stopped(where, tmp_path, monkeypatch):
    good(dualtune("train", "selector", *where, *STEPS))
    interrupt_at(2, monkeypatch)
    result = dualtune("train", "all", *where, *STEPS)
    assert result.exit_code == 130
    assert "selector: finished before, skipped" in result.stdout
    said = good(dualtune("train", "all", *where, *STEPS, "--resume"))
    assert "4/4" in said
    assert "1/4" not in said
    assert set(stages(tmp_path / "bundle")) == {"selector", "arguments"}


def test_without_resume_a_stage_is_trained_anew(where, monkeypatch):
    interrupt_at(3, monkeypatch)
    assert dualtune("train", "selector", *where, *STEPS).exit_code == 130
    for _ in range(2):
        assert "1/4" in good(dualtune("train", "selector", *where, *STEPS))
    assert "1/4" in good(dualtune("train", "arguments", *where, *STEPS, "--resume")), "none to go on from"


def test_a_checkpoint_of_other_options_is_not_gone_on_from(where, monkeypatch):
    interrupt_at(3, monkeypatch)
    assert dualtune("train", "selector", *where, *STEPS).exit_code == 130
    result = dualtune("train", "selector", *where, *STEPS, "--resume", "--rank", "3")
    assert result.exit_code == 1
    assert "belongs to another run" in result.stderr


def test_training_goes_on_from_another_bundle(where, tmp_path):
    good(dualtune("train", "arguments", *where, *SMALL))
    old = tmp_path / "bundle"
    evidence = Bundle.open(old).set_evidence(Evidence(weight=5.0)).evidence
    where[-1] = newer = tmp_path / "newer"
    good(dualtune("train", "arguments", "--scope", "fs/read_file", *where, *SMALL, "--start", old))
    before = stages(old)["arguments"][""]["content"]
    assert stages(newer)["arguments"]["fs/read_file"]["training"]["start"] == before
    assert Bundle.open(newer).evidence == evidence
    lacking = dualtune("train", "selector", *where, *SMALL, "--start", old)
    assert lacking.exit_code == 2
    assert "no adapter for this" in lacking.stderr and "selector" in lacking.stderr
    missing = dualtune("train", "selector", *where, *SMALL, "--start", tmp_path / "nowhere")
    assert missing.exit_code == 1 and "nowhere" in missing.stderr
    itself = dualtune("train", "arguments", *where, *SMALL, "--start", newer)
    assert itself.exit_code == 2 and "goes on from" in itself.stderr


def test_what_learned_along_a_hierarchy_goes_on_along_it(where, tmp_path):
    for stage in ("router", "selector"):
        good(dualtune("train", stage, *where, *SMALL, "--routing", "always"))
    good(dualtune("train", "selector", *where[:-1], tmp_path / "newer", *SMALL, "--start", tmp_path / "bundle"))
    assert stages(tmp_path / "newer")["selector"][""]["training"]["hierarchical"] is True


def test_notes_are_warnings_and_not_endless(model, data, tmp_path, monkeypatch):
    lonely = tmp_path / "data"
    shutil.copytree(data, lonely)
    (lonely / "valid.jsonl").write_text(line("time?", "now"))
    where = ["--model", model, "--data", lonely, "--bundle", tmp_path / "bundle", *SMALL, "--validate-every", 1]
    result = dualtune("train", "arguments", *where)
    assert result.stderr.startswith("Warning: the validation data has no example of this")
    monkeypatch.setattr(train, "NOTES", 0)
    assert dualtune("train", "arguments", *where).stderr == "… and 1 more, in the report\n"


def test_notes_are_told_before_the_first_step(capsys):
    with train.TrainPrinter("bundle", console(None)) as show:
        show(RunStarted(Job("selector"), ("nothing ends",)))
        assert capsys.readouterr().err.startswith("Warning: nothing ends\n")


def test_data_that_ends_with_its_calls_is_told_with_the_way_out(where):
    assert '{"role": "tool"' in dualtune("train", "selector", *where, *SMALL).stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("learning-rate: 1", ["unknown key", "did you mean learning_rate"]),
        ("selector: {rnak: 1}", ["section selector", "did you mean rank"]),
        ("rank: [", ["not valid YAML", "line 1"]),
        ("rank: much", ["rank", "a whole number"]),
        ("rank: -1", ["out of range", "rank"]),
    ],
)
def test_a_bad_file_is_a_wrong_call(where, tmp_path, text, words):
    file = tmp_path / "night.yaml"
    file.write_text(text)
    result = dualtune("train", "selector", *where, "--config", file)
    assert result.exit_code == 2
    for word in [*words, "night.yaml"]:
        assert word in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["selector", "--scope", "fs"], ["--scope", "train arguments"]),
        (["all", "--scope", "fs"], ["--scope", "train arguments"]),
        (["selector", "--min-examples", "3"], ["--min-examples", "train all"]),
        (["selector", "--shard", "adapters"], ["--shard", "train all"]),
        (["selector", "--config", "nowhere.yaml"], ["cannot be read", "nowhere.yaml"]),
        (["selector", "--preset", "quick"], ["quick", "paper"]),
        (["selector", "--steps", "3", "--epochs", "2"], ["epochs", "the command line", "the other one 0"]),
        (["selector", "--scale", "4"], ["--scale"]),
    ],
)
def test_a_wrong_call_is_refused_before_anything_is_read(arguments, words):
    result = dualtune("train", *arguments, "--model", "m", "--data", "d", "--bundle", "b")
    assert result.exit_code == 2
    for word in words:
        assert word in result.stderr


def test_every_option_has_its_flag_and_shows_its_default():
    said = " ".join(good(dualtune("train", "--help")).split())
    for name in OPTIONS:
        assert f"--{name.replace('_', '-')}" in said
    for shown in ("[default: 200]", "[default: 0.0005]", "[default: last:16]", "[default: no-dora]", "[default: *]"):
        assert shown in said


@pytest.mark.processes
@pytest.mark.parametrize("shard", SHARDS)
def test_two_processes_leave_what_one_leaves(where, tmp_path, shard):
    """Whichever they share, every adapter is there; shared examples add up in another order, adapters do not."""
    options = [*STEPS, "--min-examples", "1", "--learning-rate", "1e-5"]
    good(dualtune("train", "all", *where, *options))
    command = [sys.executable, "-m", "dualtune_mlx", "train", "all", *where[:-1], tmp_path / "two", *options]
    launch = [Path(sys.executable).with_name("mlx.launch"), "-n", "2", "--backend", "ring", "--"]
    done = subprocess.run([str(part) for part in [*launch, *command, "--shard", shard]], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    one, two = (load_adapters(tmp_path / name) for name in ("bundle", "two"))
    assert one.keys() == two.keys()
    assert len(one) > 2
    for name, tensors in one.items():
        difference = max(mx.abs(tensor - two[name][key]).max().item() for key, tensor in tensors.items())
        assert difference <= (1e-6 if shard == "examples" else 0), name
