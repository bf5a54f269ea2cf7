"""Files that an earlier version wrote: read, and used with the same results to the last token."""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from pathlib import Path

import mlx.core as mx
import mlx_lm
import numpy as np
import pytest
from click.testing import CliRunner

from dualtune_mlx import DualTune
from dualtune_mlx.adapters import Adapter
from dualtune_mlx.agent.replay import replay
from dualtune_mlx.agent.transcript import read_transcript
from dualtune_mlx.bundle import Bundle
from dualtune_mlx.cli import main
from dualtune_mlx.data import read_split, read_tools
from dualtune_mlx.decoding import Decoding
from dualtune_mlx.errors import DualTuneWarning
from dualtune_mlx.models import load_model
from dualtune_mlx.training.log import read_log

WRITTEN = Path(__file__).parent / "fixtures" / "written_before"
REQUESTS = (
    ("read c.txt", ""),
    ("write hi to b.txt", ""),
    ("time?", ""),
    ("read d.txt, then time?", "read d.txt"),
)
DECODING = Decoding(max_tokens=200)
TOKENS = tuple((7 * i) % 250 for i in range(24))
TOLERANCE = 1e-5


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of the files, and the folder to be in: the names in them are relative."""
    copy = tmp_path / "written_before"
    shutil.copytree(WRITTEN, copy)
    monkeypatch.chdir(copy)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DualTuneWarning)  # that a prefix file is ignored is one
        yield copy


@pytest.fixture
def expected(folder):
    return json.loads((folder / "expected.json").read_text(encoding="utf-8"))


# What is compared; the earlier version wrote ``expected.json`` with these same functions.


def command(*arguments, exit_code=0):
    """Run the command; what it printed as JSON, where it was asked for."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="dualtune")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == exit_code, result.output
    return json.loads(result.stdout) if "--json" in arguments else None


def base_model():
    """The model; no adapter is fused, which would depend on what the machine is fast at."""
    base = load_model("base")
    base.limit_fused(0)
    return base


def logits(base):
    return np.array(base.model(mx.array([TOKENS]))[0, -1].astype(mx.float32))


def bits(base):
    """Tells machines apart that compute the same numbers from those that only come near."""
    return hashlib.sha256(logits(base).tobytes()).hexdigest()


def manifest():
    """What the bundle's manifest says, and what its adapters are when they are read."""
    bundle = Bundle.open("bundle")
    return {
        "model": bundle.model,
        "fingerprint": bundle.fingerprint,
        "template": [bundle.template, bundle.template_hash, bundle.load_template().hash],
        "cards": bundle.cards,
        "hierarchical": bundle.hierarchical,
        "tools": [tool.to_dict() for tool in bundle.tools],
        "stages": [
            {
                "stage": stage,
                "scope": scope,
                "path": entry.path,
                "content": entry.content_hash,
                "read": bundle.load_adapter(stage, scope).content_hash,
                "grounding": json.loads(json.dumps(entry.grounding)),
                "template": [entry.template.name, entry.template.hash] if entry.template else None,
                "own": bundle.load_template(entry.template).source if entry.template else None,
                "run": entry.training["run"],
                "validation_loss": entry.training["validation_loss"],
            }
            for (stage, scope), entry in bundle.stages.items()
        ],
    }


def as_json(call):
    """A call without the seconds that it took."""
    stages = call.usage.to_dict()["stages"]
    for stage in stages.values():
        del stage["seconds"]
    return {
        "name": call.name,
        "server": call.server,
        "arguments": dict(call.arguments),
        "confidence": call.confidence,
        "candidates": [[tool.name, probability] for tool, probability in call.candidates],
        "usage": stages,
    }


def use_bundle():
    """What the bundle's engine does, the calls first: they count what is found in the prefix files."""
    tools = read_tools("data/tools.json")
    read, write, _ = tools
    with DualTune.load("bundle", base_model(), decoding=DECODING) as dualtune:
        return {
            "calls": [as_json(dualtune.call(text, tools, top_k=3, subtask=part)) for text, part in REQUESTS],
            "select": [
                [[tool.name, probability] for tool, probability in dualtune.select(text, tools, subtask=part)]
                for text, part in REQUESTS
            ],
            "divides": dualtune.divides,
            "plans": [list(dualtune.plan(text, tools)) for text, _ in REQUESTS],
            "arguments": [dualtune.arguments("write you to c.txt", tool, tools) for tool in (read, write)],
            "free": dualtune.arguments("write you to c.txt", write, tools, grounding="off"),
            "sampled": dualtune.arguments("write you to c.txt", write, tools, temperature=1.0, seed=3),
            "together": [
                [call.name, dict(call.arguments), call.confidence]
                for call in dualtune.call_many([text for text, _ in REQUESTS], tools)
            ],
            "answer": "".join(piece.text for piece in dualtune.answer("hi", max_tokens=6)),
        }


def warm():
    """Which prefixes the bundle is to have: their names, tokens, and the file of those that are there."""
    value = command("warm", "--bundle", "bundle", "--json")
    assert value["removed"] == []
    return [
        [one["name"], one["adapter"], one["tokens"], one["file"] if one["seconds"] is None else None]
        for one in value["prefixes"]
    ]


def lone_adapter():
    """The adapter that lies in no bundle, and what the model gives under it."""
    base = base_model()
    adapter = Adapter.load("adapter")
    bare = logits(base)
    resident = base.bank.load(adapter)
    base.bank.activate(resident)
    under = logits(base)
    base.bank.activate(None)
    assert np.array_equal(logits(base), bare)
    return {
        "content": adapter.content_hash,
        "config": adapter.config.to_dict(),
        "shapes": {
            f"{name}.{part}": list(array.shape)
            for name, update in sorted(adapter.layers.items())
            for part, array in update.parts.items()
        },
        "bare": bare[:8].tolist(),
        "under": under[:8].tolist(),
        "sum": float(np.abs(under).sum()),
    }


def resume():
    """The run that was interrupted goes on with its own configuration; what it came to."""
    runs = Path("unfinished/runs/selector")
    (before,) = (runs / "checkpoints").iterdir()
    begun = json.loads((before / "state.json").read_text(encoding="utf-8"))
    steps = [progress.step for progress in read_log(runs / "log.jsonl")]
    command("train", "selector", "--config", runs / "config.yaml", "--resume")
    bundle = Bundle.open("unfinished")
    entry, adapter = bundle.find_adapter("selector")
    log = read_log(runs / "log.jsonl")
    assert not (runs / "checkpoints").exists()
    return {
        "begun": {name: begun[name] for name in ("format", "run", "step", "best_step", "stale")},
        "steps_before": steps,
        "training": dict(entry.training),
        "log": [[one.step, one.steps, one.loss, one.learning_rate, one.validation_loss] for one in log],
        "content": adapter.content_hash,
    }, adapter


def transcript():
    """What the transcript says, what a replay of it gives, and what is learned from it."""
    read = read_transcript("transcript.jsonl")
    rows = command("replay", "transcript.jsonl", "--json")
    with DualTune.load("bundle", base_model(), decoding=Decoding(**read.header["decoding"])) as dualtune:
        assert {row.what: row.same for row in replay(read, dualtune)} == {row["what"]: row["same"] for row in rows}
    assert command("replay", "transcript.jsonl", "--train", "learned", "--json")["added"]
    return {
        "task": [message.to_data() for message in read.task],
        "parts": list(read.subtasks),
        "reason": read.reason,
        "answer": [read.answer.text, read.answer.by, read.answer.max_tokens],
        "steps": [
            {
                "messages": [message.to_data() for message in step.messages],
                "tools": [tool.name for tool in step.tools],
                "call": step.call.to_data(),
                "confidence": step.call.confidence,
                "candidates": [[tool.name, probability] for tool, probability in step.call.candidates],
                "part": step.subtask,
                "result": [step.result.text, step.result.is_error, step.result.details] if step.result else None,
            }
            for step in read.steps
        ],
        "replay": [{name: row[name] for name in ("what", "before", "now", "same")} for row in rows],
        "learned": [trajectory.to_dict() for trajectory in read_split("learned", "train")],
    }


def data():
    """The conversations of the data folder, and the first example of each stage as token ids."""
    shown = command("inspect", "--model", "base", "--data", "data/train.jsonl", "--limit", 1, "--json")
    found = {split: read_split("data", split) for split in ("train", "valid")}
    tools = [[tool.to_dict() for tool in one.tools] for trajectories in found.values() for one in trajectories]
    lines = {split: [one.to_dict(with_tools=False) for one in each] for split, each in found.items()}
    return {
        "lines": {split: len(each) for split, each in lines.items()},
        "digest": {split: hashlib.sha256(json.dumps(each).encode()).hexdigest() for split, each in lines.items()},
        "some": [*lines["train"][:2], *lines["train"][-2:]],
        "tools": [each for number, each in enumerate(tools) if each not in tools[:number]],
        "examples": [
            {
                "stage": one["stage"],
                "ids": one["ids"],
                "learned": "".join(map(str, one["learned"])),
                "active": "".join(map(str, one["active"])),
            }
            for one in shown
        ],
    }


def assert_alike(given, expected, where=""):
    """Equal, but for numbers with a point, which only have to come near."""
    if isinstance(expected, float) and isinstance(given, float):
        assert given == pytest.approx(expected, abs=TOLERANCE, rel=TOLERANCE), where
    elif isinstance(expected, dict) and isinstance(given, dict):
        assert list(given) == list(expected), where
        for name in expected:
            assert_alike(given[name], expected[name], f"{where}/{name}")
    elif isinstance(expected, list) and isinstance(given, list):
        assert len(given) == len(expected), where
        for number, (one, other) in enumerate(zip(given, expected, strict=True)):
            assert_alike(one, other, f"{where}/{number}")
    else:
        assert (type(given), given) == (type(expected), expected), where


# The tests


def test_the_bundle_is_read(folder, expected):
    assert_alike(manifest(), expected["manifest"])
    written = json.loads((folder / "bundle" / "dualtune.json").read_text(encoding="utf-8"))
    assert json.loads(json.dumps(Bundle.open("bundle").to_dict())) == written
    assert command("bundle", "verify", "--bundle", "bundle", "--json")["problems"] == []


@pytest.mark.usefixtures("folder")
def test_the_bundle_makes_the_same_calls(expected):
    if mlx_lm.__version__ != expected["mlx_lm"]:
        pytest.skip(f"the prefix files are of mlx-lm {expected['mlx_lm']}, and rightly ignored with another")
    given = use_bundle()
    assert_alike(given, expected["uses"])
    usages = [usage for call in given["calls"] for usage in call["usage"].values()]
    assert all(usage["prefilled_tokens"] == 0 < usage["reused_tokens"] for usage in usages)


def test_without_its_prefix_files_it_computes_the_same(folder, expected):
    shutil.rmtree(folder / "bundle" / "prefixes")
    given = use_bundle()
    assert given["calls"][0]["usage"]["selector"]["prefilled_tokens"] > 0
    for each in (given, expected["uses"]):
        for call in each["calls"]:
            del call["usage"]
    assert_alike(given, expected["uses"])


@pytest.mark.usefixtures("folder")
def test_its_prefix_files_need_not_be_computed_again(expected):
    if mlx_lm.__version__ != expected["mlx_lm"]:
        pytest.skip(f"the prefix files are of mlx-lm {expected['mlx_lm']}, and rightly ignored with another")
    assert_alike(warm(), expected["warm"])


@pytest.mark.usefixtures("folder")
def test_an_adapter_without_a_bundle_acts_the_same(expected):
    assert_alike(lone_adapter(), expected["adapter"])


@pytest.mark.usefixtures("folder")
def test_an_interrupted_run_goes_on_to_the_same_end(expected):
    given, adapter = resume()
    before = Adapter.load("resumed")
    assert before.content_hash == expected["resumed"]["content"]
    assert adapter.config == before.config and adapter.layers.keys() == before.layers.keys()
    for name, update in before.layers.items():
        for part, array in update.parts.items():
            assert mx.allclose(adapter.layers[name].parts[part], array, rtol=0, atol=TOLERANCE).item(), (name, part)
    if bits(base_model()) != expected["bits"]:  # another machine rounds in other ways
        given["content"] = before.content_hash
    assert_alike(given, expected["resumed"])


@pytest.mark.usefixtures("folder")
def test_the_transcript_is_read_and_replayed(expected):
    given = transcript()
    assert_alike(given, expected["transcript"])
    assert all(row["same"] for row in given["replay"])


@pytest.mark.usefixtures("folder")
def test_the_data_is_read_and_tokenized_the_same(expected):
    assert_alike(data(), expected["data"])
