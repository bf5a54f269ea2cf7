"""Rotary positions: what ``config.json`` says of them, under the names of either generation, as mlx-lm reads it.

transformers 4 writes ``rope_theta`` and ``rope_scaling``, transformers 5 writes both as ``rope_parameters``. mlx-lm
reads the old names, and of a scaling only some entries.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dualtune_mlx.errors import ModelError

ORIGINAL = "original_max_position_embeddings"
SCALINGS: Mapping[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", ORIGINAL),
    "yarn": ("factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate", ORIGINAL),
    "longrope": ("factor", "short_factor", "long_factor", ORIGINAL),
}
"""The scalings that mlx-lm computes as transformers does, each with its entries."""
SCALINGS_OF = {
    **dict.fromkeys(("phi", "mixtral", "olmoe", "qwen2_moe"), ("default",)),
    "phi3": ("default", "longrope"),
}
"""The scalings of the kinds of models that mlx-lm computes fewer of."""
MINISTRAL = ("llama_4_scaling_beta", "max_position_embeddings")
"""Entries of Ministral 3's that are no part of its scaling."""
PARTIAL = ("phi", "phi3")
"""The kinds of models of which mlx-lm can rotate a part of each head."""
OBJECTS, NUMBERS = ("rope_parameters", "rope_scaling"), ("rope_theta", "rope_local_base_freq", "partial_rotary_factor")
NAMES = (*OBJECTS, *NUMBERS)
"""The entries about rotary positions, of both generations."""
LAYER_TYPES = ("full_attention", "sliding_attention")


def read_rope(kind: str, raw: Mapping[str, Any], read: Any, where: object) -> dict[str, Any]:
    """The entries about rotary positions that mlx-lm's model of a kind takes.

    Args:
        kind: mlx-lm's name of the language model.
        raw: its configuration as it is in the file.
        read: its configuration as transformers reads it.
        where: the file, for messages.

    Raises:
        ModelError: when mlx-lm cannot compute these positions.
    """
    parameters = dict(read.rope_parameters or {})
    if kind == "gemma3_text":
        return _read_by_layer(parameters, where)
    if any(isinstance(value, Mapping) for value in parameters.values()):
        raise _refusal(where, "separate positions for kinds of layers", "the same positions in all layers")
    if kind == "ministral3":
        own = {name: parameters[name] for name in MINISTRAL if name in parameters}
        scaling = _to_scaling(kind, {name: value for name, value in parameters.items() if name not in own}, read, where)
        both = {**(scaling or {}), **own, "rope_theta": parameters["rope_theta"]}
        return {} if _canonical(raw.get("rope_parameters")) == _canonical(both) else {"rope_parameters": both}
    entries: dict[str, Any] = {"rope_theta": parameters["rope_theta"]}
    part = parameters.get("partial_rotary_factor") or 1.0
    if kind in PARTIAL:
        entries["partial_rotary_factor"] = part
    elif part != 1:
        raise _refusal(where, f"partial_rotary_factor {part}", "1: all of a head is rotated")
    entries["rope_scaling"] = _to_scaling(kind, parameters, read, where)
    if _canonical(raw.get("rope_scaling")) == _canonical(entries["rope_scaling"]):
        entries["rope_scaling"] = raw.get("rope_scaling")
    if "longrope" in (parameters.get("rope_type"), parameters.get("type")):
        entries |= {ORIGINAL: parameters[ORIGINAL], "max_position_embeddings": read.max_position_embeddings}
    return entries


def exact_rope_length(read: Any) -> int | None:
    """The longest sequence whose positions are the short ones of LongRoPE; None where the length does not matter."""
    parameters = read.rope_parameters or {}
    if parameters.get("rope_type") != "longrope" or parameters["short_factor"] == parameters["long_factor"]:
        return None
    return int(parameters[ORIGINAL])


def without_old_names(raw: Mapping[str, Any], where: object) -> dict[str, Any]:
    """A configuration whose scaling stands under one name, so that transformers reads nothing but ``rope_parameters``.

    Raises:
        ModelError: when the old names and the new one say different things, or a value is impossible.
    """
    for name in NAMES:
        _check_value(name, raw.get(name), where)
    new, old = raw.get("rope_parameters"), raw.get("rope_scaling") or {}
    if not new:
        return dict(raw)
    full, local = new.get(LAYER_TYPES[0], new), new.get(LAYER_TYPES[1], {})
    pairs = [
        ("rope_theta", raw.get("rope_theta"), full.get("rope_theta", raw.get("rope_theta"))),
        (
            "rope_local_base_freq",
            raw.get("rope_local_base_freq"),
            local.get("rope_theta", raw.get("rope_local_base_freq")),
        ),
        *(
            (f"rope_scaling.{name}", value, full.get(name))
            for name, value in old.items()
            if name not in ("type", "rope_type")
        ),
        ("rope_scaling.rope_type", _type_of(old) if old else None, _type_of(full)),
    ]
    differing = [
        f"{name} {ours}, but {theirs} in rope_parameters" for name, ours, theirs in pairs if ours not in (None, theirs)
    ]
    if differing:
        raise ModelError(
            "a model's configuration says two things about its rotary positions",
            where=where,
            got="; ".join(differing),
            expected="the same under the names of transformers 4 and 5, or one of them",
            fix="remove the entries that are wrong from config.json",
        )
    return {name: value for name, value in raw.items() if name != "rope_scaling"}


def _check_value(name: str, value: Any, where: object) -> None:
    """Refuse a value that an entry cannot have, at any depth."""
    if name in (*OBJECTS, *LAYER_TYPES):
        sound, expected = isinstance(value, Mapping), "an object"
        for key, inner in value.items() if sound else ():
            _check_value(key, inner, where)
    elif name in ("type", "rope_type"):
        sound, expected = isinstance(value, str), "a name"
    elif name == "truncate":
        sound, expected = isinstance(value, bool), "true or false"
    else:
        least = -1.0 if name.startswith(("mscale", "llama_4")) else 0.0
        numbers = value if isinstance(value, list) else [value]
        sound = all(type(number) in (int, float) and least < number < math.inf for number in numbers)
        expected = "a number above 0"
    if not sound and value is not None:
        raise ModelError(
            "a model's configuration has an impossible value about its rotary positions",
            where=where,
            got=f"{name} {value!r}",
            expected=expected,
            fix="download the model again",
        )


def _read_by_layer(parameters: Mapping[str, Any], where: object) -> dict[str, Any]:
    """Gemma 3's: layers with a window have positions of their own."""
    full, local = (parameters[name] for name in LAYER_TYPES)
    if _type_of(local) != "default":
        raise _refusal(where, f"rope_type {_type_of(local)} in layers with a window", "default there")
    return {
        "rope_theta": full["rope_theta"],
        "rope_local_base_freq": local["rope_theta"],
        "rope_scaling": _to_scaling("gemma3_text", full, None, where),
    }


def _to_scaling(kind: str, parameters: Mapping[str, Any], read: Any, where: object) -> dict[str, Any] | None:
    """A scaling as mlx-lm computes it; None where positions are not scaled."""
    name = _type_of(parameters)
    known = SCALINGS_OF.get(kind, tuple(SCALINGS))
    if name not in known:
        raise _refusal(where, f"rope_type {name}", ", ".join(known))
    not_scaling = ("rope_theta", "partial_rotary_factor", "rope_type", "type")
    values = {key: value for key, value in parameters.items() if key not in not_scaling and value is not None}
    unknown = [f"{key} {value}" for key, value in values.items() if key not in SCALINGS[name]]
    if unknown or not values.pop("truncate", True):
        raise _refusal(where, f"rope_type {name} with {', '.join(unknown) or 'truncate false'}", "nothing of that")
    if name == "yarn" and not (values.get("mscale") and values.get("mscale_all_dim")):
        values = {key: value for key, value in values.items() if not key.startswith("mscale")}  # one alone does nothing
    if name == "longrope":
        values = _to_short(values, read, where)
    return {"rope_type": name, **values} if name != "default" else None


def _to_short(values: dict[str, Any], read: Any, where: object) -> dict[str, Any]:
    """LongRoPE's short positions alone; mlx-lm would take the long ones, which are for longer sequences."""
    factor = read.max_position_embeddings / values[ORIGINAL]
    if values.pop("factor", factor) != factor:
        raise _refusal(where, "rope_type longrope with another factor", f"{factor}, as its lengths say")
    return {**values, "long_factor": values["short_factor"], "type": "longrope"}


def _type_of(parameters: Mapping[str, Any]) -> str:
    name = str(parameters.get("rope_type") or parameters.get("type") or "default")
    return "longrope" if name == "su" else name


def _canonical(parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    """What parameters say, whatever names their type has."""
    said = {
        key: value
        for key, value in (parameters or {}).items()
        if value is not None and key not in ("type", "rope_type")
    }
    return {**said, "rope_type": _type_of(parameters or {})}


def _refusal(where: object, got: str, expected: str) -> ModelError:
    return ModelError(
        "this model's way of scaling its rotary positions is not supported",
        where=where,
        got=got,
        expected=expected,
        fix="use a model with other positions",
    )
