"""A program that is killed at any change of a file leaves the old or the new, and the next start tidies up."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

import mlx.core as mx
import pytest

from dualtune_mlx import DualTune, Tool
from dualtune_mlx.adapters import Adapter
from dualtune_mlx.agent.events import RunEnded, Spoken
from dualtune_mlx.agent.transcript import Recorder, read_transcript
from dualtune_mlx.bundle import Bundle
from dualtune_mlx.data.checking import check_data
from dualtune_mlx.data.importing import import_data
from dualtune_mlx.data.lines import iter_lines
from dualtune_mlx.data.splitting import split_data
from dualtune_mlx.data.writing import append_line
from dualtune_mlx.decoding import Evidence
from dualtune_mlx.engine.warm import open_store, warm
from dualtune_mlx.files import atomic_files, atomic_folder, remove_leftovers, whole_folder, write_text
from dualtune_mlx.models import loading
from dualtune_mlx.prompts import Template
from dualtune_mlx.synthesis.options import SynthesisOptions
from dualtune_mlx.synthesis.synthesize import synthesize
from dualtune_mlx.training.checkpoints import Checkpoints, TrainState
from tests import tiny
from tests.adapters.adapters import adapter_for
from tests.bundle.test_words import make as make_words
from tests.conversion.gguf.writer import tiny_gguf
from tests.data.checking.planted import clean_line, encode, write
from tests.failing_files import Crash, crash_everywhere, failing_files

READ = Tool("read", "Read.", {"type": "object", "properties": {"path": {"type": "string"}}}, "fs")


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def check_crashes(
    folder: Path, begin: Callable[[Path], Any], work: Callable[[Path], Any], read: Callable[[Path], Any], least: int
) -> None:
    """Check that all that is ever read is the old or the new, first the old, and that nothing else is left."""
    (folder / "old").mkdir()
    begin(folder / "old")
    old, old_names = read(folder / "old"), names(folder / "old")
    (folder / "crashes").mkdir()
    seen = [(read(place), names(place)) for place in crash_everywhere(folder / "crashes", begin, work)]
    new, new_names = seen[-1]
    assert new != old
    values = [value for value, _ in seen]
    turn = values.index(new)
    assert turn > 0
    assert values == [old] * turn + [new] * (len(values) - turn)
    assert [found for _, found in seen] == [old_names] * turn + [new_names] * (len(values) - turn)
    assert len(seen) > least


def test_a_file(tmp_path):
    def read(folder):
        remove_leftovers(folder)
        return (folder / "a.txt").read_text()

    check_crashes(tmp_path, lambda f: write_text(f / "a.txt", "old"), lambda f: write_text(f / "a.txt", "new"), read, 4)


def write_folder(folder: Path, text: str) -> None:
    with atomic_folder(folder / "a", replace=True) as temporary:
        for name in ("one", "two"):
            (temporary / name).write_text(text)


def test_a_folder(tmp_path):
    def read(folder):
        value = {path.name: path.read_text() for path in whole_folder(folder / "a").iterdir()}
        remove_leftovers(folder)
        assert {path.name: path.read_text() for path in (folder / "a").iterdir()} == value
        return value

    check_crashes(tmp_path, lambda f: write_folder(f, "old"), lambda f: write_folder(f, "new"), read, 8)


def test_files_together(tmp_path):
    def write(folder, text):
        with atomic_files(folder) as temporary:
            for name in ("one", "two", "three"):
                (temporary / name).write_text(text)

    def read(folder):
        remove_leftovers(folder)
        return {path.name: path.read_text() for path in folder.iterdir()}

    check_crashes(tmp_path, lambda f: write(f, "old"), lambda f: write(f, "new"), read, 8)


@pytest.fixture(scope="module")
def base():
    return tiny.model()


@pytest.fixture(scope="module")
def begun(base, tmp_path_factory):
    """A bundle with a selector, arguments and words, to be copied."""
    folder = tmp_path_factory.mktemp("begun") / "b"
    bundle = Bundle(folder, base.name, base.fingerprint, "chatml", Template("chatml").hash, "signature")
    for seed, stage in enumerate(("selector", "arguments"), 1):
        bundle = bundle.add_adapter(stage, "", adapter_for(base.bank, seed, "turn"), training={}, tools=[READ])
    bundle.set_words(make_words(32), Evidence())
    return folder


def read_bundle(folder: Path) -> Any:
    """What a bundle holds, for one who can only read; then, for one who tidies up, the same."""
    found = []
    for opened in (Bundle._read(folder / "b"), Bundle.open(folder / "b")):
        adapters = {key: opened.load_adapter(*key).content_hash for key in opened.stages}
        found.append((opened.to_dict()["stages"], adapters, opened.load_words().weights.tobytes()))
    assert found[0] == found[1]
    return found[1]


@pytest.mark.parametrize("stage", ["selector", "arguments"])
def test_replacing_an_adapter(base, begun, tmp_path, stage):
    adapter = adapter_for(base.bank, 9, "turn")

    def work(folder):
        Bundle.open(folder / "b").add_adapter(stage, "", adapter, training={"steps": 9}, tools=[READ])

    check_crashes(tmp_path, lambda f: copytree(begun, f / "b"), work, read_bundle, 25)


def test_a_bundle_s_first_adapter(base, tmp_path):
    """Until there is a bundle there is none; the next start makes it, and nothing else is left."""
    adapter = adapter_for(base.bank, 9, "turn")
    new = Bundle(Path(), base.name, base.fingerprint, "chatml", Template("chatml").hash, "signature")

    def work(folder):
        replace(new, folder=folder / "b").add_adapter("selector", "", adapter, training={}, tools=[READ])

    for place in crash_everywhere(tmp_path, lambda folder: None, work):
        if (place / "b" / "dualtune.json").exists():
            assert Bundle.open(place / "b").load_adapter("selector").content_hash == adapter.content_hash
        work(place)
        assert names(place / "b") == [
            *(".lock", "dualtune.json", "selector/adapter_config.json", "selector/adapters.safetensors")
        ]


def test_replacing_the_words(begun, tmp_path):
    def work(folder):
        Bundle.open(folder / "b").set_words(make_words(width=33), Evidence())

    check_crashes(tmp_path, lambda f: copytree(begun, f / "b"), work, read_bundle, 15)


def test_replacing_an_adapter_without_a_bundle(base, tmp_path):
    one, other = (adapter_for(base.bank, seed, "turn") for seed in (1, 2))

    def read(folder):
        found = Adapter.load(folder / "a").content_hash
        remove_leftovers(folder)
        assert Adapter.load(folder / "a").content_hash == found
        return found

    check_crashes(tmp_path, lambda f: one.save(f / "a"), lambda f: other.save(f / "a"), read, 12)


def test_a_checkpoint(tmp_path):
    def state(step):
        weights = {"layer": {"a": mx.ones((2, 2)) * step}}
        return TrainState(step, weights, {"m": mx.zeros((2,))}, step, 0.5, weights)

    def begin(folder):
        for step in (1, 2):
            Checkpoints(folder / "c", "run", keep=1).save(state(step))

    def read(folder):
        return Checkpoints(folder / "c", "run", keep=1).latest().step

    for number, step in enumerate((2, 3)):  # the step that is there again, and the next one
        (tmp_path / f"{step}").mkdir()

        def work(folder, step=step):
            Checkpoints(folder / "c", "run", keep=1).save(replace(state(step), stale=7))

        def read_all(folder):
            latest = Checkpoints(folder / "c", "run", keep=1).latest()
            return latest.step, latest.stale, latest.weights["layer"]["a"].tolist()

        check_crashes(tmp_path / f"{step}", begin, work, read_all, 12 + number)


def test_removing_checkpoints(tmp_path):
    weights = {"layer": {"a": mx.ones((2, 2))}}

    def begin(folder):
        for step in (1, 2):
            state = TrainState(step, weights, {"m": mx.zeros((2,))}, step, 0.5, weights)
            Checkpoints(folder / "c", "run", keep=2).save(state)

    def read(folder):
        remove_leftovers(folder)
        latest = Checkpoints(folder / "c", "run", keep=2).latest()
        return latest and latest.step

    check_crashes(tmp_path, begin, lambda f: Checkpoints(f / "c", "run", keep=2).clear(), read, 6)


def test_warming(base, begun, tmp_path):
    def work(folder):
        with DualTune.load(folder / "b", model=base) as dualtune:
            warm(dualtune)

    def read(folder):
        with DualTune.load(folder / "b", model=base), warnings.catch_warnings():
            warnings.simplefilter("error")  # a file that is ignored would be told
            return len(open_store(Bundle.open(folder / "b"), base).files)

    (tmp_path / "old").mkdir()
    copytree(begun, tmp_path / "old" / "b")
    old = names(tmp_path / "old")
    (tmp_path / "crashes").mkdir()
    seen = [
        (read(f), names(f)) for f in crash_everywhere(tmp_path / "crashes", lambda f: copytree(begun, f / "b"), work)
    ]
    new = seen[-1]
    assert new[0] == 1 and len(new[1]) == len(old) + 1
    turn = seen.index(new)
    assert turn > 8 and seen == [(0, old)] * turn + [new] * (len(seen) - turn)


def test_converting(tmp_path, monkeypatch):
    source = tiny_gguf(tmp_path / "model.gguf")
    (tmp_path / "cache").mkdir()

    def start(folder):
        monkeypatch.setattr(loading, "cache_folder", lambda: folder)
        return loading.resolve(str(source))

    whole = {path.name: path.read_bytes() for path in start(tmp_path / "whole").iterdir()}
    for place in crash_everywhere(tmp_path / "cache", lambda folder: None, start):
        for folder in (place / "models").glob("gguf-*"):
            assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole
        start(place)
        assert not list((place / "models").glob(".tmp-*"))
        (folder,) = (place / "models").glob("gguf-*")
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole


def test_a_start_with_another_model_removes_what_a_conversion_left(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "cache_folder", lambda: tmp_path)
    one, other = (str(tiny_gguf(tmp_path / name)) for name in ("one.gguf", "other.gguf"))
    loading.resolve(one)
    with failing_files(12), suppress(Crash):
        loading.resolve(other)
    assert len(list((tmp_path / "models").glob(".tmp-*"))) == 1
    loading.resolve(one)
    assert not list((tmp_path / "models").glob(".tmp-*"))


def to_line(text: str, tool: str = "read") -> str:
    call = {"type": "function", "function": {"name": tool, "arguments": {"path": text}}}
    messages = [{"role": "user", "content": f"{tool} {text}"}, {"role": "assistant", "tool_calls": [call]}]
    return json.dumps({"messages": messages, "tools": [READ.to_dict()]})


def read_data(folder: Path) -> dict[str, str]:
    """What is read of a data folder, which are all files that are there."""
    remove_leftovers(folder)
    for path in sorted(folder.glob("*.jsonl")):
        list(iter_lines(path))
    return {path.name: path.read_text() for path in sorted(folder.iterdir()) if path.is_file()}


def test_dividing_data(tmp_path):
    write(tmp_path / "source", {"requests": [encode(clean_line("train", n)) for n in range(30)]})

    def divide(seed):
        return lambda folder: split_data(
            [tmp_path / "source" / "requests.jsonl"], folder, valid=0.3, test=0.3, seed=seed, replace=True
        )

    check_crashes(tmp_path, divide(0), divide(5), read_data, 12)


def test_taking_lines_out_of_data(tmp_path):
    def begin(folder):
        (folder / "train.jsonl").write_text(f"{to_line('a')}\nno line\n{to_line('b')}\n")

    def work(folder):
        with check_data(folder, fix=True):
            pass

    check_crashes(tmp_path, begin, work, read_data, 8)


@pytest.mark.parametrize("wrong", ["", "no record\n"])
def test_importing_data(tmp_path, wrong):
    (tmp_path / "source.jsonl").write_text(f"{to_line('a')}\n{wrong}")

    def work(folder):
        import_data([tmp_path / "source.jsonl"], folder, form="openai")

    check_crashes(tmp_path, lambda folder: None, work, read_data, 8)


def test_making_requests(tmp_path):
    pytest.importorskip("datasketch", reason="needs the extra synth")

    def work(seed):
        return lambda folder: synthesize([READ], folder, SynthesisOptions(requests=6, seed=seed))

    check_crashes(tmp_path, work(0), work(1), read_data, 12)


def test_writing_a_split_and_appending_a_line(tmp_path):
    def work(folder):
        append_line(folder / "train.jsonl", json.loads(to_line("b")))

    check_crashes(tmp_path, lambda f: append_line(f / "train.jsonl", json.loads(to_line("a"))), work, read_data, 5)


def test_a_transcript(tmp_path):
    """A transcript grows line by line; what is read of it is always whole lines."""
    texts = ("one", "two")

    def work(folder):
        with Recorder(folder / "t" / "a.jsonl", {"messages": []}) as recorder:
            for text in texts:
                recorder.record(Spoken("answer", text, "base", 9))
            recorder.record(RunEnded("answered", "two", 0, "", ""))

    read = []
    for place in crash_everywhere(tmp_path, lambda folder: None, work):
        remove_leftovers(place / "t")
        assert names(place) in ([], ["t/a.jsonl"])
        if names(place):
            found = read_transcript(place / "t" / "a.jsonl")
            read.append((found.answer and found.answer.text, found.reason))
            assert (place / "t" / "a.jsonl").stat().st_mode & 0o777 == 0o600
    expected = [(None, "interrupted"), ("one", "interrupted"), ("two", "interrupted"), ("two", "answered")]
    assert list(dict.fromkeys(read)) == expected
