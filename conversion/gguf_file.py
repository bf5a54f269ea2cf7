"""Read a GGUF file (versions 2 and 3): metadata and tensors as float32 NumPy arrays.

Only the tensor types listed in ``DECODERS`` are read; any other is refused by name, because a
tensor that is decoded wrongly still looks like a tensor.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dualtune_mlx.errors import ConversionError

TYPE_NAMES = dict(
    enumerate(
        """F32 F16 Q4_0 Q4_1 Q4_2 Q4_3 Q5_0 Q5_1 Q8_0 Q8_1 Q2_K Q3_K Q4_K Q5_K Q6_K Q8_K IQ2_XXS IQ2_XS IQ3_XXS
        IQ1_S IQ4_NL IQ3_S IQ2_S IQ4_XS I8 I16 I32 I64 F64 IQ1_M BF16""".split()  # noqa: SIM905 (a list is longer)
    )
)
SCALARS = {0: "B", 1: "b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "?", 10: "<Q", 11: "<q", 12: "<d"}
STRING, ARRAY = 8, 9


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies: its shape (row-major), its type id and its first byte in the file."""

    shape: tuple[int, ...]
    type_id: int
    start: int


def _halves(blocks: np.ndarray, start: int) -> np.ndarray:
    return np.ascontiguousarray(blocks[:, start : start + 2]).view("<f2").astype(np.float32)


def _nibbles(blocks: np.ndarray, start: int) -> np.ndarray:
    packed = blocks[:, start : start + 16]
    return np.concatenate([packed & 0x0F, packed >> 4], axis=1).astype(np.float32)


def _q4_0(blocks: np.ndarray) -> np.ndarray:
    return _halves(blocks, 0) * (_nibbles(blocks, 2) - 8.0)


def _q4_1(blocks: np.ndarray) -> np.ndarray:
    return _halves(blocks, 0) * _nibbles(blocks, 4) + _halves(blocks, 2)


def _q8_0(blocks: np.ndarray) -> np.ndarray:
    return _halves(blocks, 0) * blocks[:, 2:34].view(np.int8).astype(np.float32)


@dataclass(frozen=True)
class Decoder:
    """How a tensor type is stored: values and bytes a block, and the blocks' decoding."""

    values: int
    size: int
    decode: Callable[[np.ndarray], np.ndarray]


DECODERS = {
    "F32": Decoder(1, 4, lambda blocks: blocks.view("<f4")),
    "F16": Decoder(1, 2, lambda blocks: blocks.view("<f2").astype(np.float32)),
    "Q4_0": Decoder(32, 18, _q4_0),
    "Q4_1": Decoder(32, 20, _q4_1),
    "Q8_0": Decoder(32, 34, _q8_0),
}


class _Cursor:
    """Reads values from a buffer in order."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.position = 0

    def bytes(self, count: int) -> bytes:
        end = self.position + count
        if count < 0 or end > len(self.data):
            raise struct.error(f"{count} bytes wanted at offset {self.position}, file ends at {len(self.data)}")
        chunk = self.data[self.position : end]
        self.position = end
        return chunk

    def number(self, format_: str) -> Any:
        return struct.unpack(format_, self.bytes(struct.calcsize(format_)))[0]

    def string(self) -> str:
        return self.bytes(self.number("<Q")).decode("utf-8", errors="replace")

    def value(self, type_id: int) -> Any:
        if type_id == STRING:
            return self.string()
        if type_id == ARRAY:
            item, count = self.number("<I"), self.number("<Q")
            if item in SCALARS:
                width = struct.calcsize(SCALARS[item])
                return np.frombuffer(self.bytes(count * width), dtype=SCALARS[item]).tolist()
            return [self.value(item) for _ in range(count)]
        if type_id not in SCALARS:
            raise struct.error(f"metadata type {type_id} is unknown")
        return self.number(SCALARS[type_id])


class GGUFFile:
    """A GGUF file, mapped into memory: ``metadata`` and ``tensors`` (name to ``TensorInfo``).

    Raises:
        ConversionError: when the file is missing, truncated, or not GGUF.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise ConversionError("a GGUF file cannot be opened", where=path, got=error) from error
        try:
            self.metadata, self.tensors = self._read_header(_Cursor(self._data))
        except (struct.error, RecursionError, OverflowError) as error:
            raise ConversionError("a GGUF file is damaged", where=path, got=error, fix="download it again") from error

    def _read_header(self, cursor: _Cursor) -> tuple[dict[str, Any], dict[str, TensorInfo]]:
        magic, version = cursor.bytes(4), cursor.number("<I")
        if magic != b"GGUF" or version not in (2, 3):
            raise ConversionError(
                "this is not a GGUF file of a known version",
                where=self.path,
                got=f"magic {magic!r}, version {version}",
                expected="magic b'GGUF', version 2 or 3",
            )
        tensor_count, key_count = cursor.number("<Q"), cursor.number("<Q")
        metadata: dict[str, Any] = {}
        for _ in range(key_count):
            key = cursor.string()
            metadata[key] = cursor.value(cursor.number("<I"))
        infos = []
        for _ in range(tensor_count):
            name = cursor.string()
            shape = tuple(cursor.number("<Q") for _ in range(cursor.number("<I")))[::-1]
            infos.append((name, shape, cursor.number("<I"), cursor.number("<Q")))
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment <= 0 or alignment % 8:
            raise struct.error(f"general.alignment is {alignment!r}, not a multiple of 8")
        base = -(-cursor.position // alignment) * alignment
        return metadata, {name: TensorInfo(shape, kind, base + offset) for name, shape, kind, offset in infos}

    def check_types(self) -> None:
        """Refuse the file when a tensor has a type that is not decoded here."""
        names = {info.type_id: TYPE_NAMES.get(info.type_id, f"type {info.type_id}") for info in self.tensors.values()}
        bad = sorted(set(names.values()) - set(DECODERS))
        if bad:
            raise ConversionError(
                "the GGUF file holds tensor types that are not supported",
                where=self.path,
                got=", ".join(bad),
                expected=", ".join(DECODERS),
                fix="use a file in one of these types, e.g. the Q8_0 or F16 export of the same model",
            )

    def tensor(self, name: str) -> np.ndarray:
        """The tensor as float32, in row-major shape (the reverse of GGUF's order of dimensions)."""
        info = self.tensors[name]
        decoder = DECODERS[TYPE_NAMES[info.type_id]]
        values = int(np.prod(info.shape, dtype=object))
        size = values // decoder.values * decoder.size
        if values % decoder.values or info.start + size > len(self._data):
            raise ConversionError(
                "a GGUF tensor lies outside the file",
                where=f"{self.path}: {name}",
                got=f"{size} bytes at {info.start} for shape {info.shape}",
                expected=f"at most {len(self._data)} bytes in the file",
                fix="download the file again",
            )
        raw = np.frombuffer(self._data, dtype=np.uint8, count=size, offset=info.start)
        return decoder.decode(raw.reshape(-1, decoder.size)).reshape(info.shape)
