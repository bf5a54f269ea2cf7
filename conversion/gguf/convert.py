"""GGUF to an MLX model folder: weights, tokenizer, chat template and configuration.

    dualtune convert from-gguf MODEL.gguf FOLDER

The folder loads with ``mlx_lm.load`` like any other model. The conversion is exact, or the file is refused by name of
what is not known.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

from dualtune_mlx.conversion.gguf.architecture import Architecture, architecture_of, model_config
from dualtune_mlx.conversion.gguf.file import GGUFFile
from dualtune_mlx.conversion.gguf.tokenizer import ConvertedTokenizer, read_tokenizer
from dualtune_mlx.conversion.gguf.weights import Quantization, Weight, plan_weights, write_weights
from dualtune_mlx.files import atomic_folder

DTYPES = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}


@dataclass(frozen=True)
class ConversionPlan:
    """What a conversion will write: everything is known but the weights' values."""

    gguf: GGUFFile
    architecture: Architecture
    tokenizer: ConvertedTokenizer
    config: dict[str, Any]
    weights: list[Weight]

    def write(self, destination: Path, done: Callable[[int, int, str], None] = lambda *_: None) -> None:
        """Write the model folder as a whole; ``done`` is told the number of tensors done, their total, and the last.

        Raises:
            UsageError: when the destination exists already.
            ConversionError: when a weight is not a finite number.
        """
        with atomic_folder(destination) as folder:
            self.tokenizer.write(folder)
            (folder / "config.json").write_text(json.dumps(self.config, indent=2) + "\n")
            written = write_weights(self.gguf, self.architecture, self.config, self.weights, folder)
            for number, weight in enumerate(written, 1):
                done(number, len(self.weights), weight.source)


def plan_conversion(
    source: str | Path, dtype: str = "float32", quantization: Quantization | None = None
) -> ConversionPlan:
    """Read a GGUF file's description, and find out what becomes of it.

    Args:
        source: the file, of a llama, qwen2, qwen3 or gemma3 model.
        dtype: the type of the weights, one of ``DTYPES``; of quantised ones, that of their scales.
        quantization: MLX's, for linear layers and embeddings.

    Raises:
        ConversionError: for anything in the file that is damaged or not known, by name.
        UsageError: when no weight can be quantised like that.
    """
    gguf = GGUFFile(Path(source))
    architecture = architecture_of(gguf)
    gguf.check_tensors()
    tokenizer = read_tokenizer(gguf)
    config = model_config(gguf, architecture, tokenizer.size)
    weights = plan_weights(gguf, architecture, config, DTYPES[dtype], quantization)
    config["eos_token_id"] = tokenizer.ends if len(tokenizer.ends) > 1 else tokenizer.ends[0]
    config["torch_dtype"] = dtype
    return ConversionPlan(
        gguf, architecture, tokenizer, config | (quantization.entry() if quantization else {}), weights
    )


def from_gguf(source: str | Path, destination: str | Path, dtype: str = "float32") -> Path:
    """Convert a GGUF file to a model folder; the destination must not exist yet.

    Nothing is written unless everything converts.

    Raises:
        ConversionError: for anything in the file that is damaged or not known, by name.
    """
    plan_conversion(source, dtype).write(Path(destination))
    return Path(destination)
