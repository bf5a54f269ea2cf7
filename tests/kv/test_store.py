"""Prefixes on disk: bit for bit what was written, or ignored with a warning."""

from __future__ import annotations

import json
import pickle
import random
import shutil
import struct
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import pytest

from dualtune_mlx.errors import UsageError
from dualtune_mlx.kv import PrefixCache, PrefixStore, PrefixWarning, Snapshot
from dualtune_mlx.kv.store import FORMAT, HEADER_LIMIT, TOKENS_LIMIT
from tests.kv.fakes import fake, same
from tests.kv.test_prefix import streams

TOKENS = tuple((7 * i) % 250 for i in range(40))
ROOT = Path(__file__).parents[2]


def store(folder: Path, fingerprint: str = "model", compute_snapshot: Callable[..., Snapshot] = fake) -> PrefixStore:
    return PrefixStore(folder, fingerprint, compute_snapshot)


def make_cache(
    folder: Path, fingerprint: str = "model", compute_snapshot: Callable[..., Snapshot] = fake
) -> PrefixCache:
    cache = PrefixCache(fingerprint)
    cache.attach(folder, compute_snapshot)
    return cache


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "prefixes"


@pytest.fixture
def saved(folder) -> Path:
    """A sound file."""
    return store(folder).save(fake(TOKENS)).path


@pytest.fixture(autouse=True)
def silent():
    """Nothing warns where a test does not expect it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16], ids=str)
@pytest.mark.parametrize("heads", [1, 2])
def test_every_type_comes_back_bit_for_bit(folder, dtype, heads):
    def compute_snapshot(tokens, adapter):
        return fake(tokens, adapter, heads=heads, dtype=dtype)

    written = store(folder, compute_snapshot=compute_snapshot).save(compute_snapshot(TOKENS, ""))
    assert written.path.stat().st_size == written.nbytes
    later = store(folder, compute_snapshot=compute_snapshot)
    assert later.files == [written]
    assert same(later.read(written), compute_snapshot(TOKENS, ""))
    assert same(
        make_cache(folder, compute_snapshot=compute_snapshot).find_longest((*TOKENS, 1))[0],
        compute_snapshot(TOKENS, ""),
    )


def test_what_lies_in_several_pieces_or_in_larger_buffers_is_written_as_one(folder):
    cache = PrefixCache("model")
    for tokens in (TOKENS[:9], TOKENS, (*TOKENS, 1, 2)):
        cache.add(fake(tokens))
    found, _ = cache.find_longest(TOKENS)
    assert len(found.pieces) == 2
    entry = store(folder).save(found)
    assert entry.path == store(folder).save(fake(TOKENS)).path, "the name is the content's"
    assert same(store(folder).read(entry), fake(TOKENS))


def test_a_name_is_the_content_s(folder):
    files = store(folder)
    made = [files.save(fake(tokens, adapter), adapter) for tokens in ((1, 2), (1, 3)) for adapter in ("", "../../etc")]
    made.append(files.save(fake((1, 2), width=8)))
    files.fingerprint = "other"
    made.append(files.save(fake((1, 2))))
    assert len({entry.path for entry in made}) == len(made) == len(list(folder.iterdir()))
    for entry in made:
        assert entry.path == folder / f"{entry.checksum[:32]}.safetensors"


@pytest.mark.usefixtures("saved")
def test_looking_at_a_folder_reads_no_keys_and_values(folder, monkeypatch):
    monkeypatch.setattr(mx, "load", lambda *_, **__: pytest.fail("a file was read"))
    cache = make_cache(folder, compute_snapshot=lambda *_: pytest.fail("the model was asked"))
    assert cache.nbytes == 0
    assert cache.find_longest(TOKENS[:5]) == (None, 0), "too little of the file is of use"
    assert cache.find_longest((9, 9)) == (None, 0)
    assert cache.find_longest(TOKENS, "adapter") == (None, 0)


def test_a_file_is_read_once(folder, saved):
    cache = make_cache(folder)
    assert cache.find_longest((*TOKENS, 1))[1] == 40
    saved.unlink()
    assert cache.find_longest(TOKENS)[1] == 40
    cache.clear()
    with pytest.warns(PrefixWarning, match="is ignored: it is damaged"):
        assert cache.find_longest(TOKENS) == (None, 0)
    assert cache.find_longest(TOKENS) == (None, 0), "and it is no longer looked for"


@pytest.mark.usefixtures("saved")
@pytest.mark.parametrize(("length", "found"), [(40, 40), (30, 30), (20, 20), (19, 0)])
def test_a_file_is_read_where_half_of_it_is_news(folder, length, found):
    cache = make_cache(folder)
    assert cache.find_longest((*TOKENS[:length], 251))[1] == found


@pytest.mark.usefixtures("saved")
def test_what_is_known_counts_against_a_file(folder):
    cache = make_cache(folder)
    cache.add(fake(TOKENS[:21]))
    assert cache.find_longest(TOKENS)[1] == 21
    cache.clear()
    cache.add(fake(TOKENS[:20]))
    assert cache.find_longest(TOKENS)[1] == 40


def test_the_file_that_knows_most_wins(folder):
    for end in (40, 10, 30):
        store(folder).save(fake(TOKENS[:end]))
    assert make_cache(folder).find_longest(TOKENS[:35])[1] == 35
    assert make_cache(folder).find_longest((*TOKENS[:12], 251))[1] == 10


def test_a_file_that_the_budget_cannot_hold_is_not_read(folder, saved):
    cache = make_cache(folder)
    cache.budget = saved.stat().st_size - 1
    assert cache.find_longest(TOKENS) == (None, 0)


def test_a_folder_that_is_not_there_is_an_empty_one(folder):
    assert make_cache(folder).find_longest(TOKENS) == (None, 0)
    assert not folder.exists()


def test_half_written_files_and_other_files_are_not_looked_at(folder, saved):
    (folder / ".tmp-1.safetensors").write_bytes(saved.read_bytes()[:100])
    (folder / "notes.txt").write_text("hello")
    assert len(store(folder).files) == 1


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        store(tmp_path / "file").save(fake(TOKENS))


# Damaged and foreign files


def parts(path: Path) -> tuple[dict, bytes]:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def write(path: Path, header: dict, body: bytes) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def change_metadata(path: Path, **changes: str) -> None:
    header, body = parts(path)
    header["__metadata__"] |= changes
    write(path, header, body)


def flip_bit(path: Path, tensor: str, byte: int = 0) -> None:
    header, body = parts(path)
    changed = bytearray(body)
    changed[header[tensor]["data_offsets"][0] + byte] ^= 1
    write(path, header, bytes(changed))


def change_tensors(path: Path, **changes: mx.array | None) -> None:
    arrays, metadata = mx.load(str(path), return_metadata=True)
    mx.eval(arrays)
    arrays |= {name.replace("_", "."): array for name, array in changes.items()}
    mx.save_safetensors(str(path), {name: a for name, a in arrays.items() if a is not None}, metadata)


def replace_file(path: Path, snapshot: Snapshot, fingerprint: str = "model", adapter: str = "") -> None:
    """Another file, sound in itself, under the old one's name."""
    path.unlink()
    store(path.parent, fingerprint).save(snapshot, adapter).path.rename(path)


def empty_file(path: Path) -> None:
    path.write_bytes(b"")


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": empty_file,
    "cut in the header": lambda p: p.write_bytes(p.read_bytes()[:20]),
    "cut in the data": lambda p: p.write_bytes(p.read_bytes()[:-1]),
    "longer than it says": lambda p: p.write_bytes(p.read_bytes() + b"\0"),
    "noise": lambda p: p.write_bytes(random.Random(1).randbytes(5000)),
    "a pickle": lambda p: p.write_bytes(pickle.dumps({"tokens": TOKENS})),
    "a header without end": lambda p: p.write_bytes(struct.pack("<Q", 2**62) + p.read_bytes()[8:]),
    "a folder": replace_by_folder,
    "a bit of a key": lambda p: flip_bit(p, "layers.1.keys", 77),
    "the last bit of a value": lambda p: flip_bit(p, "layers.1.values", 40 * 2 * 4 * 4 - 1),
    "a bit of a late token": lambda p: flip_bit(p, "tokens", 4 * 39),
    "no metadata": lambda p: write(p, {k: v for k, v in parts(p)[0].items() if k != "__metadata__"}, parts(p)[1]),
    "another format": lambda p: change_metadata(p, format=FORMAT + "0"),
    "another fingerprint": lambda p: change_metadata(p, fingerprint="other"),
    "another checksum": lambda p: change_metadata(p, checksum="0" * 64),
    "an adapter's, relabelled": lambda p: (
        replace_file(p, fake(TOKENS, "a"), adapter="a"),
        change_metadata(p, adapter=""),
    ),
    "another model's, relabelled": lambda p: (
        replace_file(p, fake(TOKENS, "other"), "other"),
        change_metadata(p, fingerprint="model"),
    ),
    "another model's under the same fingerprint": lambda p: replace_file(p, fake(TOKENS, "other")),
    "not numbers": lambda p: replace_file(
        p, Snapshot(TOKENS, (tuple((k * mx.nan, v) for k, v in fake(TOKENS).layers),))
    ),
    "a layer more": lambda p: replace_file(p, fake(TOKENS, layers=3)),
    "a layer less": lambda p: replace_file(p, fake(TOKENS, layers=1)),
    "more heads": lambda p: replace_file(p, fake(TOKENS, heads=4)),
    "wider heads": lambda p: replace_file(p, fake(TOKENS, width=8)),
    "another type": lambda p: replace_file(p, fake(TOKENS, dtype=mx.bfloat16)),
    "whole numbers": lambda p: change_tensors(p, layers_0_keys=mx.zeros((1, 2, 40, 4), mx.int32)),
    "two dimensions": lambda p: change_tensors(p, layers_0_keys=mx.zeros((40, 8))),
    "a token less than keys": lambda p: change_tensors(p, tokens=mx.array(TOKENS[:-1], mx.int32)),
    "no tokens": lambda p: change_tensors(p, tokens=None),
    "tokens of another type": lambda p: change_tensors(p, tokens=mx.array(TOKENS, mx.float32)),
    "a tensor too many": lambda p: change_tensors(p, extra=mx.zeros((3,))),
    "a missing tensor": lambda p: change_tensors(p, layers_1_values=None),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_or_foreign_file_is_ignored_with_a_warning(folder, saved, kind):
    DAMAGE[kind](saved)
    with pytest.warns(PrefixWarning, match="a prefix file is ignored") as told:
        cache = make_cache(folder)
        assert cache.find_longest(TOKENS) == (None, 0)
        assert cache.find_longest((*TOKENS[:-1], TOKENS[-1] ^ 1)) == (None, 0)
    assert len(told) == 1, [str(one.message) for one in told]
    assert f"where: {saved}" in str(told[0].message)
    assert "fix: compute it again: dualtune warm" in str(told[0].message)
    cache.add(fake(TOKENS))
    assert same(cache.find_longest(TOKENS)[0], fake(TOKENS))


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_sound_file_beside_it_serves_nevertheless(folder, saved, kind):
    whole = saved.read_bytes()
    DAMAGE[kind](saved)
    (folder / "~sound.safetensors").write_bytes(whole)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PrefixWarning)
        assert same(make_cache(folder).find_longest(TOKENS)[0], fake(TOKENS))


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_file_that_changes_after_it_was_looked_at_is_not_trusted(folder, saved, kind):
    cache = make_cache(folder)
    DAMAGE[kind](saved)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        snapshot, length = cache.find_longest(TOKENS)
    if snapshot is not None:  # its content is still exactly what was written
        assert same(snapshot, fake(TOKENS))
        assert length == 40
    else:
        assert [one.category for one in told] == [PrefixWarning]


def test_limits():
    assert HEADER_LIMIT > 400 * 300, "400 layers at 300 bytes"
    assert TOKENS_LIMIT >= 10**6


def test_writing_again_replaces_the_damaged_file(folder, saved):
    flip_bit(saved, "layers.1.keys", 77)
    files = store(folder)
    (entry,) = files.files
    with pytest.warns(PrefixWarning):
        assert files.read(entry) is None
    assert files.files == []
    assert files.save(fake(TOKENS)).path == saved
    assert same(make_cache(folder).find_longest(TOKENS)[0], fake(TOKENS))


@pytest.mark.parametrize("seed", range(4))
def test_no_file_ever_serves_another_adapter_or_another_model(folder, seed):
    """Random streams of three models and four adapters, saved into one folder under mixed-up names."""
    chance, models = random.Random(seed), ("one", "two", "three")
    made = streams(seed, 40)
    folder.mkdir()
    for adapter, tokens in made:
        model = chance.choice(models)
        entry = store(folder.parent / "aside", model).save(fake(tokens, model + adapter), adapter)
        shutil.move(entry.path, folder / f"{chance.randrange(30)}.safetensors")
    served = 0
    for model in models:
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            cache = make_cache(folder, model, lambda tokens, adapter, model=model: fake(tokens, model + adapter))
            for adapter, tokens in streams(seed + 100, 40) + made:
                snapshot, length = cache.find_longest(tokens, adapter)
                if snapshot is not None:
                    served += 1
                    assert same(snapshot, fake(tokens[:length], model + adapter))
    assert served > 20


WRITER = """
import sys
from pathlib import Path
from dualtune_mlx.kv import PrefixStore, kv_fingerprint
from tests import tiny
base = tiny.model()
store = PrefixStore(Path(sys.argv[1]), kv_fingerprint(base.model, base.fingerprint), None)
print(store.save(base.snapshot(tuple(range(60)))).path.name)
"""


@pytest.mark.processes
def test_another_process_reads_what_one_wrote(folder):
    from dualtune_mlx.kv import kv_fingerprint
    from tests import tiny

    command = [sys.executable, "-c", WRITER, str(folder)]
    name = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()
    base, tokens = tiny.model(), tuple(range(60))
    cache = PrefixCache(kv_fingerprint(base.model, base.fingerprint))
    cache.attach(folder, lambda tokens, _: base.snapshot(tokens))
    found, length = cache.find_longest((*tokens, 7))
    assert (length, [path.name for path in folder.iterdir()]) == (60, [name])
    mine = base.snapshot(tokens)
    for one, other in zip(found.layers, mine.layers, strict=True):
        assert mx.allclose(one[0], other[0], rtol=1e-5, atol=1e-6).item()
        assert mx.allclose(one[1], other[1], rtol=1e-5, atol=1e-6).item()


@pytest.mark.usefixtures("saved")
def test_an_entry_of_another_file_is_refused(folder):
    files = store(folder)
    (entry,) = files.files
    changed = replace(entry, tokens=(*TOKENS[:-1], 3))
    files.files = [changed]
    with pytest.warns(PrefixWarning, match="not what was written"):
        assert files.read(changed) is None
