"""Folders that are no model, or not all of one: each is refused with what is wrong in it."""

from __future__ import annotations

import ast
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dualtune_mlx.bundle.export import load_base
from dualtune_mlx.conversion.gguf import from_gguf
from dualtune_mlx.errors import ModelError
from dualtune_mlx.models import load_model, load_tokenizer, loading
from tests import tiny
from tests.conversion.gguf import writer

WEIGHTS = "model.safetensors"
ROOT = Path(__file__).parents[2]
INDEX = "model.safetensors.index.json"


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def only(name: str) -> Callable[[Path], Any]:
    return lambda folder: (empty(folder), (folder / name).write_text("{}"))


def write(name: str, text: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_text(text)


def change_config(**changes: Any) -> Callable[[Path], Any]:
    def apply(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return apply


def convert(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], Any]:
    def apply(folder: Path) -> None:
        weights = {name: change(value) for name, value in load_file(folder / WEIGHTS).items()}
        save_file(weights, folder / WEIGHTS, metadata={"format": "mlx"})

    return apply


def to_float8(folder: Path) -> None:
    """NumPy has no such type, so the header is written by hand."""
    header, end = {}, 0
    for name, value in load_file(folder / WEIGHTS).items():
        header[name] = {"dtype": "F8_E4M3", "shape": value.shape, "data_offsets": [end, end + value.size]}
        end += value.size
    text = json.dumps(header).encode()
    (folder / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))


def cut(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-20])


SHARDS = json.dumps({"weight_map": {"a": WEIGHTS, "b": "model-00002-of-00002.safetensors"}})
BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "empty": (empty, "got: an empty folder"),
    "an adapter": (only("adapter_config.json"), "fix: this is an adapter: give the base model"),
    "a bundle": (only("dualtune.json"), "fix: this is a bundle"),
    "a GGUF file": (only("model.gguf"), "fix: give the .gguf file itself"),
    "one folder too high": (
        lambda folder: (empty(folder), tiny.save(folder / "inside")),
        "fix: give the folder inside it",
    ),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), "the folder has no weights of a model"),
    "a pickle": (
        lambda folder: (folder / WEIGHTS).rename(folder / "pytorch_model.bin"),
        "fix: save it again with transformers' save_pretrained",
    ),
    "a missing shard": (write(INDEX, SHARDS), f"got: no model-00002-of-00002.safetensors, which {INDEX} names"),
    "an index that is no JSON": (write(INDEX, "x"), "an index of weights cannot be read"),
    "an index of another form": (write(INDEX, "[1]"), "an index of weights cannot be read"),
    "a weights file that was cut": (cut, "exceeding the size of the file"),
    "a pointer instead of weights": (write(WEIGHTS, "version https://git-lfs"), "the model cannot be loaded"),
    "float8": (to_float8, "uint8"),
    "int8": (convert(lambda value: np.ones(value.shape, np.int8)), "model.norm.weight: int8"),
    "float64": (convert(lambda value: value.astype(np.float64)), "F64"),
    "not finite": (convert(lambda value: value * np.float32("nan")), "weights are not finite numbers"),
    "no JSON": (write("config.json", "hello"), "a model's configuration cannot be loaded"),
    "no object": (write("config.json", "[]"), "got: list"),
    "no kind": (write("config.json", "{}"), "got: no model_type"),
    "a key twice": (write("config.json", '{"model_type": "llama", "model_type": "qwen2"}'), "stands there twice"),
    "a type that is wrong": (change_config(hidden_size="32"), "Field 'hidden_size' expected int"),
    "no heads": (change_config(num_attention_heads=0), "a model's configuration cannot be loaded"),
    "positions that are no number": (change_config(rope_theta="big"), "got: rope_theta 'big'"),
    "positions below zero": (change_config(rope_parameters={"rope_theta": -1.0}), "got: rope_theta -1.0"),
    "a scaling that is no object": (change_config(rope_scaling="linear"), "got: rope_scaling 'linear'"),
    "positions of layers": (change_config(rope_parameters={"full_attention": 3}), "got: full_attention 3"),
    "a factor of zero": (change_config(rope_scaling={"rope_type": "linear", "factor": 0}), "got: factor 0"),
    "layers without weights": (change_config(num_hidden_layers=3), "model.layers.2.input_layernorm.weight"),
    "an unknown kind": (change_config(model_type="bert"), "Model type bert not supported"),
    "a kind that is not its own": (change_config(model_type="mamba"), "the model cannot be loaded"),
    "a quantisation it does not have": (
        change_config(quantization_config={"quant_method": "gptq"}),
        "the model cannot be loaded",
    ),
}


@pytest.mark.parametrize(("destroy", "message"), BROKEN.values(), ids=BROKEN)
def test_a_folder_that_is_no_whole_model_is_refused(tmp_path, destroy, message):
    folder = tiny.save(tmp_path / "model")
    destroy(folder)
    with pytest.raises(ModelError) as error:
        load_model(str(folder))
    assert message in str(error.value)
    assert str(folder) in str(error.value) or message == BROKEN["not finite"][1]


@pytest.mark.parametrize(
    ("name", "text"), [("tokenizer.json", "{"), ("tokenizer.json", "[]"), ("tokenizer_config.json", "[]")]
)
def test_a_damaged_tokenizer_is_refused(tmp_path, name, text):
    folder = tiny.save(tmp_path / "model")
    (folder / name).write_text(text)
    for load in (load_model, load_tokenizer):
        with pytest.raises(ModelError, match="the tokenizer cannot be loaded"):
            load(str(folder))


def test_the_code_of_a_tokenizer_is_neither_run_nor_asked_for(tmp_path, monkeypatch):
    folder = tiny.save(tmp_path / "model")
    code = f"from pathlib import Path; Path({str(tmp_path / 'ran')!r}).touch()\nclass OwnTokenizer: pass\n"
    (folder / "own.py").write_text(code)
    config = {"tokenizer_class": "OwnTokenizer", "auto_map": {"AutoTokenizer": [None, "own.OwnTokenizer"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("the user was asked"))
    for load in (load_model, load_tokenizer):
        with pytest.raises(ModelError, match="the tokenizer cannot be loaded(?s:.*)custom code"):
            load(str(folder))
    assert not (tmp_path / "ran").exists()


def test_the_code_of_a_model_is_refused(tmp_path):
    folder = tiny.save(tmp_path / "model")
    change_config(model_file="own.py")(folder)
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ModelError, match="the model cannot be loaded(?s:.*)own.py"):
        load_model(str(folder))
    assert not (tmp_path / "ran").exists()


LOADS = {"from_pretrained", "mlx_lm.load", "mlx_lm.utils.load_tokenizer"}


def list_loading_calls(path: Path) -> Iterator[str]:
    """The calls that load a tokenizer or a model, also those by way of ``partial``."""
    for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
        names = [ast.unparse(part) for part in (call.func, *call.args[:1])]
        if any(name == one or name.endswith(f".{one}") for name in names for one in LOADS):
            yield ast.unparse(call)


@pytest.mark.skipif(not (ROOT / "dualtune_mlx").is_dir(), reason="only the package is here, without its sources")
def test_no_code_is_trusted_wherever_something_is_loaded():
    folders = ("dualtune_mlx", "conversion", "benchmarks", "examples")
    sources = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    calls = [call for path in sources for call in list_loading_calls(path)]
    loads = [call for call in calls if "PeftModel" not in call]  # an adapter has no code
    assert len(loads) >= 7
    assert [call for call in loads if "NO_CODE" not in call and "trust_remote_code=False" not in call] == []


@pytest.mark.parametrize("name", ["config.json", WEIGHTS, "tokenizer.json"])
def test_pipes_and_devices_are_not_read(tmp_path, name):
    folder = tiny.save(tmp_path / "model")
    (folder / name).unlink()
    (folder / "config.json").touch()
    for spoil in (os.mkfifo, lambda path: Path(path).symlink_to("/dev/zero")):
        (folder / name).unlink(missing_ok=True)
        spoil(folder / name)
        for load in (load_model, load_tokenizer):
            with pytest.raises(ModelError, match=f"no file, but a pipe|no model(?s:.*){name}"):
                load(str(folder))


def test_a_file_of_a_model_stands_for_its_folder(tmp_path):
    folder = tiny.save(tmp_path / "model")
    with pytest.raises(ModelError, match=f"was not found(?s:.*)fix: give its folder: {folder}"):
        load_model(str(folder / WEIGHTS))


def test_what_ends_an_answer_may_stand_with_the_language_model(tmp_path):
    folder = tiny.save(tmp_path / "model", kind="gemma3")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["eos_token_id"] = [7, config.pop("eos_token_id")]
    (folder / "config.json").write_text(json.dumps(config))
    assert load_model(str(folder)).tokenizer.eos_token_ids == {7, 258}


def test_another_model_s_tokenizer_is_refused(tmp_path):
    folder = tiny.save(tmp_path / "model", vocab_size=200)
    with pytest.raises(ModelError, match=r"tokenizer is not the model's(?s:.*)256 tokens, and an embedding of 200"):
        load_model(str(folder))
    assert load_model(str(tiny.save(tmp_path / "fewer", vocab_size=260))).vocabulary == 260  # added ones without


def test_conversions_need_no_tokenizer(tmp_path):
    folder = tiny.save(tmp_path / "model")
    for path in folder.glob("tokenizer*"):
        path.unlink()
    assert load_base(str(folder)).fingerprint() == tiny.model().fingerprint
    with pytest.raises(ModelError, match="the tokenizer cannot be loaded"):
        load_model(str(folder))


def test_two_first_starts_at_once_convert_a_file_once(tmp_path, monkeypatch):
    source = writer.tiny_gguf(tmp_path / "model.gguf")
    monkeypatch.setenv("DUALTUNE_CACHE", str(tmp_path / "cache"))
    converted, meeting = [], threading.Barrier(2)

    def convert(file: Path, folder: Path) -> None:
        converted.append(file)
        time.sleep(0.2)
        from_gguf(file, folder)

    def start(_: int) -> Path:
        meeting.wait()
        return loading._convert_once(source)

    monkeypatch.setattr(loading, "from_gguf", convert)
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(start, range(2))
    assert one == other and converted == [source]
