"""PEFT's names: what the key of a tensor says, and the path of its module in mlx-lm's model."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

PREFIX = "base_model.model."
_ANYWHERE = "_orig_mod|_checkpoint_wrapped_module|_fsdp_wrapped_module"
WRAPPER = re.compile(rf"(?<![\w.])(?:(?:module|{_ANYWHERE})\\?\.)+|\b(?:{_ANYWHERE})\\?\.")
"""What torch.compile, checkpointing, sharding and DataParallel add to paths, and to patterns of them.

It says nothing of the module. DataParallel's ``module.`` stands at the beginning.
"""
BEGINNINGS = ("model.", "language_model.", "lm_head")
"""How the paths of modules begin in transformers' language models."""
KEY = re.compile(
    r"(?P<module>.+?)\.(?:"
    r"(?P<part>lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector)(?:\.(?!bias$)[^.]+?)??(?:\.weight)?"
    r"|token_adapter\.(?P<rows>trainable_tokens_delta)(?:\.[^.]+)?"
    r"|(?:modules_to_save\.[^.]+\.)?(?P<own>weight|bias)"
    r")"
)
"""A module's path and a part. The adapter's own name may stand behind the part."""
PARTS = {
    "lora_A": "a",
    "lora_B": "b",
    "lora_embedding_A": "a",
    "lora_embedding_B": "b",
    "lora_magnitude_vector": "m",
    "trainable_tokens_delta": "rows",
}
EXPERT = re.compile(r"(?P<experts>.+\.experts)\.(?P<number>\d{1,5})\.(?P<name>\w+)")
"""A linear layer of one expert, as in transformers before version 5."""
STACK = re.compile(r"(?P<experts>.+\.experts)(?P<inner>(?:\.base_layer)*)")
"""A stack of parameters of all experts. PEFT wraps the update of a second parameter around that of the first."""
MIXTRAL = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}
RENAMED = (
    (re.compile(r"^model\.language_model\."), "language_model.model."),
    (re.compile(r"^model\.language_model\."), "model."),
    (re.compile(r"^language_model\.model\."), "model."),
    (re.compile(r"^(?=model\.|lm_head)"), "language_model."),
)
"""Where transformers and mlx-lm put the language model of a multimodal checkpoint."""
BLOCKS = ((re.compile(r"\.mlp\."), ".block_sparse_moe."), (re.compile(r"\.block_sparse_moe\."), ".mlp."))
"""The two names of Mixtral's block of experts."""


class TensorKey(NamedTuple):
    """What the key of a tensor says."""

    module: str
    """The module's path without PEFT's prefix."""
    part: str
    """One of ``PARTS``' values, "weight" or "bias"."""
    is_embedding: bool = False
    """Whether the module is an embedding."""


def parse_key(key: str) -> TensorKey | None:
    """Read the key of a tensor, with PEFT's prefix and wrappers' names or without. An unknown key gives None."""
    key = WRAPPER.sub("", key)
    while key.startswith(PREFIX):
        key = WRAPPER.sub("", key.removeprefix(PREFIX))
    match = KEY.fullmatch(key)
    if match is None or (match["own"] and "lora_" in match["module"]):
        return None
    part = match["part"] or match["rows"] or match["own"]
    return TensorKey(match["module"], PARTS.get(part, part), part.startswith("lora_embedding"))


def mlx_path(path: str, modules: Collection[str] | None) -> str:
    """The path of a module in mlx-lm's model.

    Args:
        path: its path in transformers' model.
        modules: the paths of mlx-lm's modules. A path that fits none of them comes back as it is. Without them, the
            result is where the module usually lies.
    """
    if modules is None:
        return RENAMED[0][0].sub(RENAMED[0][1], path)
    for pattern, replacement in ((re.compile("^"), ""), *RENAMED):
        moved = pattern.sub(replacement, path)
        for candidate in (moved, *(block.sub(name, moved) for block, name in BLOCKS)):
            if candidate in modules:
                return candidate
    return path


def peft_path(path: str) -> str:
    """The path of a module in transformers' model, version 5."""
    if path == "language_model.lm_head":
        return "lm_head"
    path = path.replace(".block_sparse_moe.", ".mlp.")
    return re.sub(r"^language_model\.model\.", "model.language_model.", path)
