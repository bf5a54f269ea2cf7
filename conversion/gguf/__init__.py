"""GGUF files to MLX model folders."""

from dualtune_mlx.conversion.gguf.convert import DTYPES, ConversionPlan, from_gguf, plan_conversion
from dualtune_mlx.conversion.gguf.summary import summarize_weights
from dualtune_mlx.conversion.gguf.weights import Quantization

__all__ = ["DTYPES", "ConversionPlan", "Quantization", "from_gguf", "plan_conversion", "summarize_weights"]
