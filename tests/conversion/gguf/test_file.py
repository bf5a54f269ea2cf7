"""Reading GGUF files: what is in them, and everything that can be wrong with one."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from dualtune_mlx.conversion.gguf.file import GGUFFile
from dualtune_mlx.errors import ConversionError
from tests.conversion.gguf import writer as gguf
from tests.conversion.gguf.test_convert import check_refused

HEAD = b"GGUF" + struct.pack("<I", 3)


def header(tensors: int, fields: int, rest: bytes = b"") -> bytes:
    return HEAD + struct.pack("<QQ", tensors, fields) + rest


def field(value: bytes, key: str | bytes = "k") -> bytes:
    return header(0, 1, gguf.string(key) + value)


def describe_tensor(name: str, shape: tuple[int, ...], kind: int = gguf.F32, offset: int = 0) -> bytes:
    """A tensor's description."""
    dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *shape[::-1])
    return gguf.string(name) + dimensions + struct.pack("<IQ", kind, offset)


@pytest.mark.parametrize("version", [2, 3])
def test_metadata_of_every_kind_is_read(tmp_path, version):
    values = {"i": 7, "f": 0.5, "b": True, "s": "Ä", "ints": [1, 2], "texts": ["a", ""], "flags": [True, False]}
    values |= {"negative": -(2**40), "none": []}
    assert GGUFFile(gguf.write(tmp_path / "m.gguf", values, {}, version)).metadata == values


@pytest.mark.parametrize("kind", [gguf.F32, gguf.F16])
def test_plain_types_are_read_exactly_and_in_the_right_shape(tmp_path, kind):
    value = np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 8
    path = gguf.write(tmp_path / "m.gguf", {}, {"first": gguf.tensor(np.ones(5), kind), "t": gguf.tensor(value, kind)})
    np.testing.assert_array_equal(GGUFFile(path).tensor("t"), value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["cannot be opened"]),
        (b"GG", ["damaged", "4 bytes wanted at offset 0, the file ends at 2"]),
        (b"PK\x03\x04 a zip archive of a model", ["not a GGUF file", "magic b'PK"]),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), ["version 1", "version 2 or 3"]),
        (header(0, 2**60), ["1152921504606846976 metadata fields announced"]),
        (header(2**60, 0), ["1152921504606846976 tensors announced"]),
        (header(0, 1, struct.pack("<Q", 2**62) + bytes(8)), ["4611686018427387904 characters announced"]),
        (field(struct.pack("<IQ", 8, 2**63)), ["9223372036854775808 characters announced"]),
        (field(struct.pack("<I", 13)), ["metadata of type 13"]),
        (field(struct.pack("<IIQ", 9, 8, 2**59)), ["576460752303423488 texts announced"]),
        (field(struct.pack("<IIQ", 9, 4, 2**61)), ["2305843009213693952 numbers announced"]),
        (field(struct.pack("<IIQ", 9, 9, 1)), ["an array of metadata of type 9"]),
        (field(struct.pack("<IB", 7, 1), b"\xff\xfe"), ["the text at offset 24 is not UTF-8"]),
        (header(0, 2, 2 * (gguf.string("k") + struct.pack("<II", 4, 1))), ["field 'k' stands there twice"]),
        (header(2, 0, 2 * describe_tensor("t", (4,)) + bytes(32)), ["tensor 't' stands there twice"]),
        (header(1, 0, describe_tensor("t", (1,) * 5)), ["tensor 't' has 5 dimensions"]),
        (header(1, 0, describe_tensor("t", ()) + bytes(32)), ["tensor 't' has 0 dimensions"]),
        (header(1, 0, describe_tensor("t", (0, 4))), ["tensor 't' is empty", "(0, 4)"]),
        (header(1, 0, describe_tensor("t", (4,), offset=3)), ["'t' does not begin at a multiple of 32"]),
    ],
)
def test_what_is_damaged_is_refused_in_words(tmp_path, content, words):
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    check_refused(path, words)


@pytest.mark.parametrize("alignment", [0, 7, "thirty-two"])
def test_an_odd_alignment_is_refused(tmp_path, alignment):
    path = gguf.tiny_gguf(tmp_path / "m.gguf", **{"general.alignment": alignment})
    check_refused(path, ["damaged", f"general.alignment is {alignment!r}"])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConversionError, match="cannot be opened(?s:.*)nowhere.gguf"):
        GGUFFile(tmp_path / "nowhere.gguf")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (((64, 32000), gguf.F32, bytes(64)), ["outside the file", "8192000 bytes"]),
        (((2**60, 2**60), gguf.F32, bytes(64)), ["outside the file"]),
        (((64, 33), gguf.Q8_0, bytes(64)), ["not whole blocks", "rows of 33", "a multiple of 32"]),
        (((64, 32), 77, bytes(64)), ["cannot be decoded", "type 77"]),
        (((64, 32), 9, bytes(64)), ["cannot be decoded", "Q8_1", "F32, F16, Q4_0"]),
        (((64, 32), 26, bytes(64)), ["cannot be decoded", "I32"]),
    ],
)
def test_a_tensor_that_cannot_be_read_is_refused_by_name(tmp_path, value, words):
    tensors = {**gguf.tensors(), "blk.0.ffn_up.weight": value}
    name = [] if "cannot be decoded" in words else ["blk.0.ffn_up.weight"]
    check_refused(gguf.write(tmp_path / "m.gguf", gguf.fields(), tensors), [*words, *name])
