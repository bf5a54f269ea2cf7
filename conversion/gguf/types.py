"""GGUF's tensor types: how their blocks are stored and decoded.

The plain types are decoded here. All others need llama.cpp's package ``gguf``, which is an extra.
Layouts: https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec

import numpy as np

EXTRA = "gguf"
"""The extra, and the package in it."""
NAMES = dict(
    enumerate(
        """F32 F16 Q4_0 Q4_1 Q4_2 Q4_3 Q5_0 Q5_1 Q8_0 Q8_1 Q2_K Q3_K Q4_K Q5_K Q6_K Q8_K IQ2_XXS IQ2_XS IQ3_XXS
        IQ1_S IQ4_NL IQ3_S IQ2_S IQ4_XS I8 I16 I32 I64 F64 IQ1_M BF16""".split()  # noqa: SIM905 (a list is longer)
    )
)


@dataclass(frozen=True)
class TensorType:
    """A tensor type."""

    name: str
    """llama.cpp's name for it."""
    values: int
    """Values per block."""
    size: int
    """Bytes per block."""
    decode: Callable[[np.ndarray], np.ndarray]
    """Decodes rows of bytes to rows of float32."""


@cache
def tensor_type(type_id: int) -> TensorType | None:
    """The type with this id; None where it cannot be decoded."""
    return PLAIN.get(type_id) or _package_type(type_id)


def type_name(type_id: int) -> str:
    """llama.cpp's name for a type."""
    known = tensor_type(type_id)
    return known.name if known else NAMES.get(type_id, f"type {type_id}")


def has_package() -> bool:
    """Whether the extra is installed."""
    return find_spec(EXTRA) is not None


def _package_type(type_id: int) -> TensorType | None:
    if not has_package():
        return None
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import dequantize

    try:
        kind = GGMLQuantizationType(type_id)
        values, size = GGML_QUANT_SIZES[kind]
        dequantize(np.zeros((1, size), np.uint8), kind)  # it lists more types than it decodes
    except (ValueError, NotImplementedError):
        return None
    return TensorType(kind.name, values, size, partial(dequantize, qtype=kind))


def _blockwise(decode: Callable[[np.ndarray], np.ndarray], size: int) -> Callable[[np.ndarray], np.ndarray]:
    """Make a function that decodes rows of one that decodes blocks (blocks, bytes)."""
    return lambda rows: decode(rows.reshape(-1, size)).reshape(len(rows), -1)


def _float16_column(blocks: np.ndarray, start: int) -> np.ndarray:
    return np.ascontiguousarray(blocks[:, start : start + 2]).view("<f2").astype(np.float32)


def _nibbles(blocks: np.ndarray, start: int) -> np.ndarray:
    packed = blocks[:, start : start + 16]
    return np.concatenate([packed & 0x0F, packed >> 4], axis=1).astype(np.float32)


def _q4_0(blocks: np.ndarray) -> np.ndarray:
    return _float16_column(blocks, 0) * (_nibbles(blocks, 2) - 8.0)


def _q4_1(blocks: np.ndarray) -> np.ndarray:
    return _float16_column(blocks, 0) * _nibbles(blocks, 4) + _float16_column(blocks, 2)


def _q8_0(blocks: np.ndarray) -> np.ndarray:
    return _float16_column(blocks, 0) * blocks[:, 2:34].view(np.int8).astype(np.float32)


PLAIN = {
    0: TensorType("F32", 1, 4, lambda rows: rows.view("<f4")),
    1: TensorType("F16", 1, 2, lambda rows: rows.view("<f2").astype(np.float32)),
    2: TensorType("Q4_0", 32, 18, _blockwise(_q4_0, 18)),
    3: TensorType("Q4_1", 32, 20, _blockwise(_q4_1, 20)),
    8: TensorType("Q8_0", 32, 34, _blockwise(_q8_0, 34)),
    30: TensorType("BF16", 1, 2, lambda rows: (rows.view("<u2").astype("<u4") << 16).view("<f4")),
}
