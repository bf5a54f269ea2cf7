"""PEFT's ``LoraConfig``, field by field: which fields are carried over, are irrelevant at inference, or are refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import regex  # type: ignore[import-untyped]

from dualtune_mlx.conversion.peft.names import WRAPPER
from dualtune_mlx.errors import ConversionError
from dualtune_mlx.files import require_file

CONFIG = "adapter_config.json"
LARGEST = 2**24
"""The most bytes of a JSON file."""
PATTERN_SECONDS = 1.0
"""The most seconds that matching a pattern may take."""
EMPTY_VALUES: tuple[Any, ...] = (None, False, [], {}, "")
"""The values of a field that is off. A field that is not in the table may have no other value."""
CARRIED, IRRELEVANT, REFUSED = "carried over", "irrelevant", "refused"


class Field(NamedTuple):
    """What becomes of a field of PEFT's configuration."""

    verdict: str
    """``CARRIED``, ``IRRELEVANT`` or ``REFUSED``."""
    default: Any
    """PEFT's default."""
    reason: str
    """Why."""
    fix: str | None = None
    """What the user can do, where it is refused."""


BY_TENSORS = "which modules have an update is said by the tensors' names"
TRAINING = "only for training"
PLAIN = "train a plain LoRA adapter instead"
MERGE = "merge it into the base model with PEFT, and convert that"

FIELDS: Mapping[str, Field] = {
    "peft_type": Field(CARRIED, "LORA", "other methods are no low-rank updates"),
    "task_type": Field(CARRIED, None, "None or CAUSAL_LM: other tasks have another head"),
    "auto_mapping": Field(CARRIED, None, "the class of the base is compared with the model's"),
    "peft_version": Field(IRRELEVANT, None, "the files say what they hold"),
    "base_model_name_or_path": Field(CARRIED, None, "noted in the plan; a folder's configuration is compared"),
    "revision": Field(CARRIED, None, "noted in the plan"),
    "inference_mode": Field(IRRELEVANT, False, TRAINING),
    "runtime_config": Field(IRRELEVANT, None, "where PEFT computes, not what"),
    "r": Field(CARRIED, 8, "the rank of the layers that rank_pattern does not name"),
    "rank_pattern": Field(CARRIED, {}, "ranks of single layers"),
    "lora_alpha": Field(CARRIED, 8, "with the rank, the scale"),
    "alpha_pattern": Field(CARRIED, {}, "alphas of single layers"),
    "use_rslora": Field(CARRIED, False, "the scale is alpha / sqrt(r)"),
    "use_dora": Field(CARRIED, False, "the adapter's kind is dora"),
    "alora_invocation_tokens": Field(CARRIED, None, "the activation is tokens, with these"),
    "trainable_token_indices": Field(CARRIED, None, "rows of the embedding and the head"),
    "modules_to_save": Field(CARRIED, None, "modules with whole weights of their own"),
    "target_parameters": Field(CARRIED, None, "the parameters of experts that have an update"),
    "lora_dropout": Field(CARRIED, 0.0, "noted; nothing is dropped at inference"),
    "target_modules": Field(CARRIED, None, BY_TENSORS),
    "exclude_modules": Field(CARRIED, None, BY_TENSORS),
    "layers_to_transform": Field(CARRIED, None, BY_TENSORS),
    "layers_pattern": Field(CARRIED, None, BY_TENSORS),
    "fan_in_fan_out": Field(IRRELEVANT, False, "A and B are stored alike, however the base's weight is"),
    "init_lora_weights": Field(
        CARRIED, True, "those that leave the base's weights alone only set where training began"
    ),
    "eva_config": Field(IRRELEVANT, None, TRAINING),
    "corda_config": Field(IRRELEVANT, None, TRAINING),
    "lora_ga_config": Field(IRRELEVANT, None, TRAINING),
    "loftq_config": Field(IRRELEVANT, {}, TRAINING),
    "qalora_group_size": Field(IRRELEVANT, 16, "only with use_qalora"),
    "megatron_core": Field(IRRELEVANT, "megatron.core", "only with megatron_config"),
    "bias": Field(REFUSED, "none", "the base's biases were trained, and act also where the adapter does not", MERGE),
    "velora_config": Field(REFUSED, None, "it stores tensors that are no update", MERGE),
    "lora_bias": Field(REFUSED, False, "the update has a bias", MERGE),
    "use_qalora": Field(REFUSED, False, "it pools the inputs in groups", PLAIN),
    "use_bdlora": Field(REFUSED, None, "its A or B is block-diagonal, stored in blocks", PLAIN),
    "arrow_config": Field(
        REFUSED, None, "it routes between several adapters", "convert the routed adapters one by one"
    ),
    "kasa_config": Field(REFUSED, None, "it changes the base's weights", MERGE),
    "monteclora_config": Field(REFUSED, None, "it samples weights", PLAIN),
    "layer_replication": Field(REFUSED, None, "it repeats layers of the base", MERGE),
    "megatron_config": Field(REFUSED, None, "it is for Megatron's parallel layers", "save it without Megatron"),
    "ensure_weight_tying": Field(
        REFUSED, False, "the head shares what is trained of the embedding", "save it with ensure_weight_tying=False"
    ),
}
"""Every field of ``LoraConfig`` in PEFT 0.21.2, and ``runtime_config``, which older files have."""

KEEPING_THE_BASE = (True, False, None, "gaussian", "eva", "orthogonal", "mica")
CHANGING_THE_BASE = "save it with save_pretrained(…, path_initial_model_for_weight_conversion=…), as plain LoRA"


@dataclass(frozen=True)
class PeftConfig:
    """A checked LoRA configuration of PEFT."""

    where: Path
    """Its file."""
    r: int
    """The rank of the layers that ``rank_pattern`` does not name."""
    alpha: float
    """The alpha of the layers that ``alpha_pattern`` does not name."""
    rank_pattern: Mapping[str, int]
    """Ranks by a pattern of layer names."""
    alpha_pattern: Mapping[str, float]
    """Alphas by a pattern of layer names."""
    rslora: bool
    """Whether the scale is alpha / sqrt(r)."""
    dora: bool
    """Whether it is DoRA."""
    dropout: float
    """What training used."""
    tokens: tuple[int, ...]
    """The invocation of an activated adapter."""
    token_rows: Mapping[str, tuple[int, ...]]
    """``trainable_token_indices``: token ids by module name; "" where no module is named."""
    saved_modules: tuple[str, ...]
    """``modules_to_save``."""
    parameters: tuple[str, ...]
    """``target_parameters``."""
    base: str | None
    """The name of the base model."""
    base_class: str | None
    """The class of the base model."""

    @classmethod
    def read(cls, path: Path) -> PeftConfig:
        """Read a PEFT adapter's ``adapter_config.json``.

        Raises:
            ConversionError: when it cannot be read, or has a field that cannot be converted exactly.
        """
        try:
            value = read_json(path)
        except (OSError, ValueError, RecursionError) as error:
            raise ConversionError(
                "a PEFT adapter's configuration cannot be read",
                where=path,
                got=error,
                fix="copy adapter_config.json again from where the adapter was saved",
            ) from error
        if not isinstance(value, dict):
            raise ConversionError(
                "a PEFT adapter's configuration is not a JSON object",
                where=path,
                fix="copy adapter_config.json again from where the adapter was saved",
            )
        refuse_mlx(value, path)
        check_fields(value, path)
        get = _FieldReader(value, path)
        auto = get("auto_mapping", lambda v: dict(v or {}), "an object")
        return cls(
            where=path,
            r=get("r", _parse_positive, "a positive integer"),
            alpha=get("lora_alpha", _parse_number, "a number"),
            rank_pattern=get("rank_pattern", partial(_parse_table, _parse_positive), "an object of positive integers"),
            alpha_pattern=get("alpha_pattern", partial(_parse_table, _parse_number), "an object of numbers"),
            rslora=get("use_rslora", _parse_flag, "true or false"),
            dora=get("use_dora", _parse_flag, "true or false"),
            dropout=get("lora_dropout", _parse_number, "a number"),
            tokens=get("alora_invocation_tokens", _parse_ids, "a list of token ids"),
            token_rows=get("trainable_token_indices", _parse_rows, "a list of token ids, or an object of such lists"),
            saved_modules=get("modules_to_save", _parse_names, "a list of names"),
            parameters=get("target_parameters", _parse_names, "a list of names"),
            base=get("base_model_name_or_path", _parse_text, "a name"),
            base_class=_parse_text(auto.get("base_model_class")),
        )

    def rank_of(self, name: str) -> int:
        """The rank of the module or parameter at a path of PEFT's, without ``base_model.model.``."""
        return self.rank_pattern[key] if (key := self._key(self.rank_pattern, name)) else self.r

    def scale_of(self, name: str, rank: int) -> float:
        """The scale alpha / r, or alpha / sqrt(r) with rsLoRA (arXiv 2312.03732), computed as PEFT does."""
        alpha = self.alpha_pattern[key] if (key := self._key(self.alpha_pattern, name)) else self.alpha
        return alpha / math.sqrt(rank) if self.rslora else alpha / rank

    def _key(self, patterns: Mapping[str, Any], name: str) -> str | None:
        """The first pattern that matches a path, as PEFT matches it."""
        for pattern in patterns:
            try:
                if regex.match(rf"(.*\.)?({WRAPPER.sub('', pattern)})$", name, timeout=PATTERN_SECONDS):
                    return pattern
            except (regex.error, TimeoutError) as error:
                raise ConversionError(
                    "a pattern of layer names cannot be used",
                    where=self.where,
                    got=f"{pattern!r}: {error}",
                    expected="a regular expression that matches in no time",
                    fix="write the layers' names out",
                ) from error
        return None


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        OSError, ValueError, RecursionError: when it is missing, too large, too deep, or not JSON.
    """
    if path.stat().st_size > LARGEST:
        raise ValueError(f"more than {LARGEST} bytes")
    return json.loads(require_file(path).read_text(encoding="utf-8"))


def refuse_mlx(value: Mapping[str, Any], where: Path) -> None:
    """Refuse an adapter in MLX, which needs no conversion.

    Raises:
        ConversionError: with what to do.
    """
    if "peft_type" in value or not value.keys() & {"fine_tune_type", "lora_parameters", "dualtune"}:
        return
    weights = where.parent / "adapters.safetensors"
    use = "use it as it is: dualtune bundle assemble, or AdapterBank(model).load(FOLDER) in Python"
    if value.get("fine_tune_type") == "full":
        use = "make a model of these whole weights with mlx_lm.fuse, and give that as the base model"
    raise ConversionError(
        "this is an adapter in MLX, of dualtune's or mlx-lm's",
        where=where,
        got=f"fine_tune_type {value.get('fine_tune_type')}, no peft_type",
        expected="an adapter of PEFT's",
        fix=use if weights.is_file() else f"name its last checkpoint {weights.name}, and {use}",
    )


def check_fields(value: Mapping[str, Any], where: Path) -> None:
    """Refuse a configuration with a field that cannot be converted exactly.

    Raises:
        ConversionError: with the field's name.
    """
    if value.get("peft_type") != "LORA":
        raise ConversionError(
            "this kind of PEFT adapter is not supported",
            where=where,
            got=repr(value.get("peft_type")),
            expected="LORA",
            fix=PLAIN,
        )
    if value.get("task_type") not in (None, "CAUSAL_LM"):
        raise ConversionError(
            "the adapter is for another task", where=where, got=value["task_type"], expected="CAUSAL_LM, or none"
        )
    for key, got in value.items():
        field = FIELDS.get(key)
        if field is None and got not in EMPTY_VALUES:
            raise ConversionError(
                "the configuration has a field that is not known",
                where=f"{where}: {key}",
                got=repr(got),
                expected="a field of PEFT's LoraConfig, or nothing in it",
                fix="remove it, if it does not matter at inference",
            )
        if field is not None and field.verdict == REFUSED and got != field.default and got not in EMPTY_VALUES:
            raise ConversionError(
                f"{key} cannot be converted exactly: {field.reason}",
                where=where,
                got=repr(got),
                expected=repr(field.default),
                fix=field.fix,
            )
    init = value.get("init_lora_weights", True)
    if not any(init is kept or (isinstance(init, str) and init == kept) for kept in KEEPING_THE_BASE):
        raise ConversionError(
            "init_lora_weights cannot be converted exactly: this initialisation changes the base's weights",
            where=where,
            got=repr(init),
            expected=", ".join(map(repr, KEEPING_THE_BASE)),
            fix=CHANGING_THE_BASE,
        )


class _FieldReader:
    """Reads fields of a configuration: each has a default, and is checked."""

    def __init__(self, value: Mapping[str, Any], where: Path) -> None:
        self.value = value
        self.where = where

    def __call__(self, key: str, parse: Callable[[Any], Any], expected: str) -> Any:
        got = self.value.get(key, FIELDS[key].default)
        try:
            return parse(got)
        except (AttributeError, TypeError, ValueError, OverflowError) as error:
            raise ConversionError(
                "a field of a PEFT adapter's configuration has another form",
                where=f"{self.where}: {key}",
                got=repr(got),
                expected=expected,
            ) from error


def _parse_positive(value: Any) -> int:
    if type(value) is not int or not 0 < value < 2**20:
        raise ValueError
    return value


def _parse_number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError
    number: float = value
    return number


def _parse_flag(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError
    return value


def _parse_text(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError
    return value or None


def _parse_names(value: Any) -> tuple[str, ...]:
    if value is not None and not (isinstance(value, list) and all(isinstance(name, str) and name for name in value)):
        raise ValueError
    return tuple(value or ())


def _parse_ids(value: Any) -> tuple[int, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not value or not all(type(one) is int and 0 <= one < 2**31 for one in value):
        raise ValueError
    return tuple(value)


def _parse_rows(value: Any) -> dict[str, tuple[int, ...]]:
    if isinstance(value, dict):
        return {str(name): _parse_ids(ids) for name, ids in value.items()}
    return {"": _parse_ids(value)} if value is not None else {}


def _parse_table(parse: Callable[[Any], Any], value: Any) -> dict[str, Any]:
    return {str(key): parse(number) for key, number in (value or {}).items()}
