"""Hugging Face PEFT adapters to ours, and back."""

from dualtune_mlx.conversion.peft.base import BaseCheckpoint
from dualtune_mlx.conversion.peft.from_peft import from_peft, read_peft
from dualtune_mlx.conversion.peft.summary import summarize_adapter
from dualtune_mlx.conversion.peft.to_peft import to_peft

__all__ = ["BaseCheckpoint", "from_peft", "read_peft", "summarize_adapter", "to_peft"]
