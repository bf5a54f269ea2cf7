"""GGUF to an MLX model folder: weights, tokenizer, chat template and configuration.

    dualtune convert from-gguf MODEL.gguf FOLDER

The folder loads with ``mlx_lm.load`` like any other model. The conversion is exact, or the file is refused: the error
names what is not known.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

from dualtune_mlx.conversion.gguf.architecture import Architecture, read_architecture, read_model_config
from dualtune_mlx.conversion.gguf.file import GGUFFile
from dualtune_mlx.conversion.gguf.tokenizer import ConvertedTokenizer, read_tokenizer
from dualtune_mlx.conversion.gguf.weights import Quantization, WeightPlan, plan_weights, write_weights
from dualtune_mlx.files import atomic_folder

DTYPES = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}
"""The types that weights may be converted to."""


@dataclass(frozen=True)
class ConversionPlan:
    """What a conversion is going to write. Everything is known but the weights' values."""

    gguf: GGUFFile
    """The source."""
    architecture: Architecture
    """The kind of model."""
    tokenizer: ConvertedTokenizer
    """The tokenizer's files."""
    config: dict[str, Any]
    """``config.json``."""
    weights: list[WeightPlan]
    """What becomes of each tensor."""

    def write(self, destination: Path, progress: Callable[[int, int, str], None] = lambda *_: None) -> None:
        """Write the model folder, completely or not at all.

        Args:
            destination: the new folder.
            progress: called with the number of tensors done, their total, and the last one's name.

        Raises:
            UsageError: when the destination exists already.
            ConversionError: when a weight is not a finite number.
        """
        with atomic_folder(destination) as folder:
            self.tokenizer.write(folder)
            (folder / "config.json").write_text(json.dumps(self.config, indent=2) + "\n")
            written = write_weights(self.gguf, self.architecture, self.config, self.weights, folder)
            for number, weight in enumerate(written, 1):
                progress(number, len(self.weights), weight.source)


def plan_conversion(
    source: str | Path, dtype: str = "float32", quantization: Quantization | None = None
) -> ConversionPlan:
    """Read everything of a GGUF file but its weights, and plan the conversion.

    Args:
        source: the file of a llama, qwen2, qwen3 or gemma3 model.
        dtype: the type of the weights, one of ``DTYPES``; of quantised weights, the type of their scales.
        quantization: how to quantise linear layers and embeddings; by default they are not.

    Raises:
        ConversionError: when anything in the file is damaged or unknown; the error names it.
        UsageError: when no weight can be quantised like this.
    """
    gguf = GGUFFile(Path(source))
    architecture = read_architecture(gguf)
    gguf.check_tensors()
    tokenizer = read_tokenizer(gguf)
    config = read_model_config(gguf, architecture, tokenizer.size)
    weights = plan_weights(gguf, architecture, config, DTYPES[dtype], quantization)
    ends = tokenizer.eos_token_ids
    config["eos_token_id"] = ends if len(ends) > 1 else ends[0]
    config["torch_dtype"] = dtype
    return ConversionPlan(
        gguf, architecture, tokenizer, config | (quantization.to_config() if quantization else {}), weights
    )


def from_gguf(source: str | Path, destination: str | Path, dtype: str = "float32") -> Path:
    """Convert a GGUF file to a model folder. Nothing is written unless everything converts.

    Raises:
        ConversionError: when anything in the file is damaged or unknown; the error names it.
        UsageError: when the destination exists already.
    """
    plan_conversion(source, dtype).write(Path(destination))
    return Path(destination)
