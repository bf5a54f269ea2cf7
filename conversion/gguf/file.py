"""Read a GGUF file (versions 2 and 3): metadata, and tensors as float32 NumPy arrays.

The file is mapped into memory. Nothing in it is trusted: every count, length, offset and name is checked against the
file's size before it is used.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dualtune_mlx.conversion.gguf.types import EXTRA, PLAIN, TensorType, has_package, tensor_type, type_name
from dualtune_mlx.errors import ConversionError
from dualtune_mlx.files import require_file

SCALARS = {0: "B", 1: "b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "?", 10: "<Q", 11: "<q", 12: "<d"}
STRING, ARRAY = 8, 9
SMALLEST_STRING, SMALLEST_FIELD, SMALLEST_TENSOR = 8, 13, 24
"""The least bytes of a string, a metadata field and a tensor's description."""
DIMENSIONS = 4
"""The most dimensions of a tensor."""


@dataclass(frozen=True)
class TensorInfo:
    """The description of a tensor."""

    shape: tuple[int, ...]
    """Row-major: the reverse of GGUF's order of dimensions."""
    type_id: int
    """GGUF's number of its type."""
    start: int
    """Its first byte in the file."""


class _DamagedFile(ValueError):
    """The file is damaged; the message says how."""


class _Cursor:
    """Reads values from a buffer in order."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.position = 0

    def bytes(self, count: int) -> bytes:
        end = self.position + count
        if end > len(self.data):
            raise _DamagedFile(f"{count} bytes wanted at offset {self.position}, the file ends at {len(self.data)}")
        chunk = self.data[self.position : end]
        self.position = end
        return chunk

    def number(self, format_: str) -> Any:
        return struct.unpack(format_, self.bytes(struct.calcsize(format_)))[0]

    def count(self, what: str, smallest: int) -> int:
        """Read how many things follow. The rest of the file must have room for them."""
        count: int = self.number("<Q")
        if count * smallest > len(self.data) - self.position:
            raise _DamagedFile(f"{count} {what} announced at offset {self.position}, the file ends at {len(self.data)}")
        return count

    def string(self) -> str:
        start = self.position
        try:
            return self.bytes(self.count("characters", 1)).decode("utf-8")
        except UnicodeDecodeError as error:
            raise _DamagedFile(f"the text at offset {start} is not UTF-8") from error

    def value(self, type_id: int) -> Any:
        if type_id == STRING:
            return self.string()
        if type_id == ARRAY:
            return self.array(self.number("<I"))
        if type_id not in SCALARS:
            raise _DamagedFile(f"metadata of type {type_id} at offset {self.position}")
        return self.number(SCALARS[type_id])

    def array(self, item: int) -> list[Any]:
        if item == STRING:
            return [self.string() for _ in range(self.count("texts", SMALLEST_STRING))]
        if item not in SCALARS:
            raise _DamagedFile(f"an array of metadata of type {item} at offset {self.position}")
        width = struct.calcsize(SCALARS[item])
        items = np.frombuffer(self.bytes(self.count("numbers", width) * width), dtype=SCALARS[item])
        values: list[Any] = items.tolist()
        return values


class GGUFFile:
    """A GGUF file, mapped into memory: its ``metadata`` by key, and its ``tensors``' descriptions by name.

    Raises:
        ConversionError: when the file is missing, truncated, or not GGUF.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with require_file(path).open("rb") as file:
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise ConversionError(
                "a GGUF file cannot be opened", where=path, got=error, fix="check the path and its permissions"
            ) from error
        try:
            self.metadata, self.tensors = self._read_header(_Cursor(self._data))
        except _DamagedFile as error:
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
        tensor_count = cursor.count("tensors", SMALLEST_TENSOR)
        metadata: dict[str, Any] = {}
        for _ in range(cursor.count("metadata fields", SMALLEST_FIELD)):
            key = cursor.string()
            if key in metadata:
                raise _DamagedFile(f"the metadata field {key!r} stands there twice")
            metadata[key] = cursor.value(cursor.number("<I"))
        tensors: dict[str, TensorInfo] = {}
        for _ in range(tensor_count):
            name = cursor.string()
            if name in tensors:
                raise _DamagedFile(f"the tensor {name!r} stands there twice")
            tensors[name] = _read_tensor_info(cursor, name)
        return metadata, _to_file_offsets(tensors, cursor.position, metadata.get("general.alignment", 32))

    def check_tensors(self) -> None:
        """Refuse the file when a tensor cannot be decoded, or does not lie completely inside it.

        Raises:
            ConversionError: with the types that cannot be decoded, or the first tensor that lies outside.
        """
        bad = sorted({type_name(i.type_id) for i in self.tensors.values() if tensor_type(i.type_id) is None})
        if bad:
            plain = ", ".join(kind.name for kind in PLAIN.values())
            install = f"pip install 'dualtune-mlx[{EXTRA}]'"
            raise ConversionError(
                "the GGUF file holds tensor types that cannot be decoded"
                + ("" if has_package() else f" without the package {EXTRA}"),
                where=self.path,
                got=", ".join(bad),
                expected=f"{plain}, or another that the package {EXTRA} decodes",
                fix="use another export of the same model, e.g. the Q8_0 or F16 one" if has_package() else install,
            )
        for name in self.tensors:
            self._raw_rows(name)

    def tensor(self, name: str) -> np.ndarray:
        """Decode a tensor to float32, in row-major shape."""
        kind, rows = self._raw_rows(name)
        with np.errstate(all="ignore"):  # of damaged blocks; the weights are checked for finite numbers later
            return kind.decode(rows).reshape(self.tensors[name].shape)

    def _raw_rows(self, name: str) -> tuple[TensorType, np.ndarray]:
        """A tensor's type, and its bytes (rows, bytes per row) as a view of the file."""
        info = self.tensors[name]
        kind = tensor_type(info.type_id)
        assert kind is not None, "check_tensors comes first"
        *outer, width = info.shape
        if width % kind.values:
            raise ConversionError(
                "a GGUF tensor's rows are not whole blocks",
                where=f"{self.path}: {name}",
                got=f"rows of {width} values",
                expected=f"a multiple of {kind.values}, which is a block of {kind.name}",
            )
        row = width // kind.values * kind.size
        size = math.prod(outer) * row
        if info.start + size > len(self._data):
            raise ConversionError(
                "a GGUF tensor lies outside the file",
                where=f"{self.path}: {name}",
                got=f"{size} bytes at {info.start} for shape {info.shape}",
                expected=f"at most {len(self._data)} bytes in the file",
                fix="download the file again",
            )
        return kind, np.frombuffer(self._data, dtype=np.uint8, count=size, offset=info.start).reshape(-1, row)


def _read_tensor_info(cursor: _Cursor, name: str) -> TensorInfo:
    dimensions = cursor.number("<I")
    if not 1 <= dimensions <= DIMENSIONS:
        raise _DamagedFile(f"the tensor {name!r} has {dimensions} dimensions")
    shape = tuple(cursor.number("<Q") for _ in range(dimensions))[::-1]
    if 0 in shape:
        raise _DamagedFile(f"the tensor {name!r} is empty, its shape is {shape}")
    return TensorInfo(shape, cursor.number("<I"), cursor.number("<Q"))


def _to_file_offsets(tensors: dict[str, TensorInfo], header: int, alignment: Any) -> dict[str, TensorInfo]:
    """The tensors with offsets from the start of the file. GGUF counts them from the end of the header."""
    if type(alignment) is not int or alignment <= 0 or alignment % 8:
        raise _DamagedFile(f"general.alignment is {alignment!r}, not a multiple of 8")
    crooked = next((name for name, info in tensors.items() if info.start % alignment), None)
    if crooked is not None:
        raise _DamagedFile(f"the tensor {crooked!r} does not begin at a multiple of {alignment} bytes")
    data = -(-header // alignment) * alignment
    return {name: TensorInfo(i.shape, i.type_id, data + i.start) for name, i in tensors.items()}
