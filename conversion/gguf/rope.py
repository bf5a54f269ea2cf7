"""Rotary positions: the scaling that GGUF's fields and frequency factors describe, as mlx-lm's ``rope_scaling``."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm.models.rope_utils import Llama3RoPE

from dualtune_mlx.conversion.gguf.fields import Fields
from dualtune_mlx.conversion.gguf.file import GGUFFile
from dualtune_mlx.errors import ConversionError

FACTORS = "rope_freqs.weight"
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
"""What llama.cpp's factors do not say. It is the same in Llama 3.1, 3.2 and 3.3."""
TOLERANCE = 1e-5
"""The relative difference between the factors in a file and those that are computed."""


def read_rope_scaling(gguf: GGUFFile, fields: Fields, base: float, width: int) -> dict[str, Any] | None:
    """Read the entry ``rope_scaling`` for heads of this width; None where positions are not scaled.

    Raises:
        ConversionError: when mlx-lm has no scaling that gives the same positions.
    """
    kind = fields.text("rope.scaling.type", "linear")  # llama.cpp's default, with a factor of 1
    factor = fields.number("rope.scaling.factor", 1.0)
    trained = fields.integer("rope.scaling.original_context_length", None)
    fields.flag("rope.scaling.finetuned", None)
    if FACTORS in gguf.tensors:
        if kind == "yarn" or (kind == "linear" and factor != 1):
            raise fields.refusal("the GGUF model scales its positions twice", "rope.scaling.type", f"no {FACTORS}")
        return _llama3_scaling(gguf, base, width)
    if kind == "none" or (kind == "linear" and factor == 1):
        return None
    if kind == "linear":
        return {"rope_type": "linear", "factor": factor}
    if kind == "yarn" and trained:
        return {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": trained}
    raise fields.refusal(
        "the GGUF model scales its positions in a way that is not supported",
        "rope.scaling.type",
        f"none, linear, yarn with an original context length, or Llama 3's factors in {FACTORS}",
    )


def _llama3_scaling(gguf: GGUFFile, base: float, width: int) -> dict[str, Any] | None:
    """Llama 3's scaling, if it gives the factors in the file, one for each pair of a head's dimensions."""
    factors = gguf.tensor(FACTORS).reshape(-1)
    if np.all(factors == 1):
        return None
    scaling = {"rope_type": "llama3", "factor": float(factors.max()), **LLAMA3}
    if factors.shape == (width // 2,) and np.isfinite(factors).all() and factors.max() > 1:
        wavelengths = np.array(Llama3RoPE(width, base=base, scaling_config=scaling)._freqs)
        unscaled = np.array(base ** (mx.arange(0, width, 2) / width))
        if np.allclose(wavelengths, unscaled * factors, rtol=TOLERANCE, atol=0):
            return scaling
    raise ConversionError(
        "the GGUF model scales its positions in a way that is not supported",
        where=f"{gguf.path}: {FACTORS}",
        got=f"{factors.size} factors from {factors.min():g} to {factors.max():g}",
        expected=f"the {width // 2} factors of Llama 3's scaling",
        fix="load the model's original folder instead",
    )
