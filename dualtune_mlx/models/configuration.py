"""A model's ``config.json``: what it says to transformers, in the entries that mlx-lm reads.

transformers writes the file, so its reader decides what an entry means, and what the lack of one. mlx-lm reads some
entries under older names, has defaults of its own, and passes over others. What it would read otherwise is given to it
here; what it cannot compute is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import MISSING, dataclass, field, fields
from importlib import import_module
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import CONFIG_MAPPING
from transformers.utils import logging

from dualtune_mlx.errors import DualTuneError, ModelError
from dualtune_mlx.files import parse_json, read_text
from dualtune_mlx.models.rope import exact_rope_length, read_rope, without_old_names
from dualtune_mlx.models.support import CONVERTED, KINDS, LIBRARY, WRAPPERS

CONFIG = "config.json"
TEXT = "text_config"
"""The entry of a multimodal checkpoint for its language model."""
WITH_WINDOWS = ("llama", "ministral3")
"""The kinds of models to whose layers mlx-lm gives a window where ``layer_types`` says so."""
SILU, GELU = ("silu", "swish"), ("gelu_pytorch_tanh", "gelu_new")
ACTIVATIONS = {"gemma3_text": GELU, "phi": GELU}
"""What mlx-lm computes, whatever ``hidden_act`` says; ``SILU`` in all other kinds."""
NEVER = ("attn_logit_softcapping", "final_logit_softcapping", "use_bidirectional_attention")
"""Entries that mlx-lm passes over."""
NOT_FILLED = ("max_position_embeddings", "head_dim", "rope_parameters")
"""Entries that mlx-lm can do without: weights say how wide a head is, and an unknown context stays unknown."""


@dataclass(frozen=True)
class ModelConfig:
    """What mlx-lm has to know of a model's configuration."""

    entries: Mapping[str, Any] = field(default_factory=dict)
    """Entries that are given to mlx-lm in place of the file's; none where it reads the file as transformers does."""
    exact_length: int | None = None
    """The longest sequence, in tokens, that mlx-lm computes as transformers does; None where it does always."""


def read_model_config(folder: Path) -> ModelConfig:
    """Read a model folder's ``config.json``. A kind that is not supported is left to mlx-lm, and refused later.

    Raises:
        ModelError: when it cannot be read, contradicts itself, or says what mlx-lm cannot compute.
    """
    where = folder / CONFIG
    raw = _read_json(where)
    kind = raw["model_type"]
    if kind not in (*KINDS, *CONVERTED, *WRAPPERS, "mistral"):
        return ModelConfig()
    raw_text = raw.get(TEXT) if kind in WRAPPERS else raw
    if not isinstance(raw_text, Mapping):
        raise _damaged(where, f"{TEXT} {raw_text!r}")
    one_name = without_old_names(raw_text, where)
    read = _read_with_transformers(kind, {**raw, TEXT: one_name} if kind in WRAPPERS else one_name, where)
    text = read.get_text_config()
    inner = "llama" if text.model_type == "mistral" else text.model_type
    if inner not in (*KINDS, *CONVERTED):
        return ModelConfig()
    _check_entries(inner, text, where)
    entries = _find_entries(inner, raw_text, text, where)
    lengths = (exact_rope_length(text), _unkept_window(inner, raw_text, text))
    if kind in WRAPPERS:
        entries = _wrap_entries(kind, raw, text, entries)
    return ModelConfig(entries, min((length for length in lengths if length), default=None))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = parse_json(read_text(path), "a model's configuration cannot be loaded", path)
    except DualTuneError as error:
        raise _damaged(path, str(error.got)) from error
    if not isinstance(value, dict) or not isinstance(value.get("model_type"), str):
        raise _damaged(path, "no model_type" if isinstance(value, dict) else type(value).__name__)
    return value


def _read_with_transformers(kind: str, raw: Mapping[str, Any], where: Path) -> Any:
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # what it warns of is refused here, or computed as it computes it
    try:
        return CONFIG_MAPPING[kind].from_dict(deepcopy(dict(raw)))
    except (StrictDataclassError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError) as error:
        raise _damaged(where, " ".join(str(error).split())) from error
    finally:
        logging.set_verbosity(verbosity)


def _damaged(where: Path, got: str) -> ModelError:
    return ModelError(
        "a model's configuration cannot be loaded",
        where=where,
        got=got,
        expected="the config.json of a model, as transformers writes it",
        fix="download the model again",
    )


def _check_entries(kind: str, text: Any, where: Path) -> None:
    """Refuse what mlx-lm would pass over."""
    expected = ACTIVATIONS.get(kind, SILU)
    name = "hidden_activation" if hasattr(text, "hidden_activation") else "hidden_act"
    odd = [f"{name} {getattr(text, name)}"] if getattr(text, name) not in expected else []
    odd += [f"{name} {getattr(text, name)}" for name in NEVER if getattr(text, name, None)]
    if odd:
        raise ModelError(
            "mlx-lm does not compute what a model's configuration says",
            where=where,
            got=", ".join(odd),
            expected=f"{name} {' or '.join(expected)}, and none of {', '.join(NEVER)}",
            fix="use another model",
        )


def _find_entries(kind: str, raw: Mapping[str, Any], text: Any, where: Path) -> dict[str, Any]:
    """The entries that mlx-lm would read otherwise than transformers."""
    said = read_rope(kind, raw, text, where)
    if kind == "gemma3_text":
        said["sliding_window_pattern"] = _find_period(text.layer_types, where)
    entries = {}
    for each in fields(import_module(f"{LIBRARY}{kind}").ModelArgs):
        default = None if each.default is MISSING else each.default
        needed = each.name not in NOT_FILLED or each.default is MISSING
        if needed and raw.get(each.name) is None and getattr(text, each.name, None) is not None:
            said.setdefault(each.name, getattr(text, each.name))
        if each.name in said and said[each.name] != raw.get(each.name, default):
            entries[each.name] = said[each.name]
    return entries


def _find_period(layer_types: Sequence[str], where: Path) -> int:
    """Every how many layers of Gemma 3 there is one without a window, which is how mlx-lm counts them."""
    full = [number for number, name in enumerate(layer_types, 1) if name == "full_attention"]
    if not full or full != list(range(full[0], len(layer_types) + 1, full[0])):
        raise ModelError(
            "mlx-lm cannot give a model's layers the windows that its configuration says",
            where=where,
            got=f"layers without a window: {', '.join(map(str, full)) or 'none'} of {len(layer_types)}",
            expected="every n-th layer without one",
            fix="use another model",
        )
    return full[0]


def _unkept_window(kind: str, raw: Mapping[str, Any], text: Any) -> int | None:
    """The window, in tokens, of layers to which mlx-lm gives none; up to it, it makes no difference."""
    if kind == "gemma3_text" or (kind in WITH_WINDOWS and raw.get("layer_types")):
        return None
    windowed = "sliding_attention" in (getattr(text, "layer_types", None) or ["sliding_attention"])
    return getattr(text, "sliding_window", None) if windowed else None


def _wrap_entries(kind: str, raw: Mapping[str, Any], text: Any, entries: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a wrapper around a language model with these ones."""
    wrapped = {TEXT: {**raw[TEXT], **entries}} if entries else {}
    for each in fields(import_module(f"{LIBRARY}{kind}").ModelArgs):  # Gemma 3's has the vocabulary's size once more
        if each.name == "vocab_size" and raw.get("vocab_size", each.default) != text.vocab_size:
            wrapped["vocab_size"] = text.vocab_size
    return wrapped
