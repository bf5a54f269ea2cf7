"""The configuration of training: a preset, then a YAML file, its section for the stage, and flags, each over the last.

model: smollm2-135m
data: data
bundle: bundle
preset: default
learning_rate: 5e-4        # any field of TrainOptions, for all stages
arguments:                 # … or for one stage
  epochs: 2
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from math import isfinite
from pathlib import Path
from typing import Any

import yaml

from dualtune_mlx.engine.stage import STAGES
from dualtune_mlx.errors import UsageError
from dualtune_mlx.prompts import ARGUMENT_CARDS, CARD_KINDS
from dualtune_mlx.tools.hierarchy import ROUTINGS
from dualtune_mlx.training.mlx_lm import KEYS, lines_instead
from dualtune_mlx.training.options import PRESETS, TrainOptions

SHARDS = ("examples", "adapters")
"""What several processes share: the examples of every step, or the adapters that are to be trained."""
OPTIONS: Mapping[str, type] = {field.name: type(field.default) for field in fields(TrainOptions)}
"""The options of a stage, each with its type."""
REQUIRED = ("model", "data", "bundle")
SETTINGS: Mapping[str, type] = {
    **dict.fromkeys(REQUIRED, str),
    "start": str,
    "template": str,
    "cards": str,
    "argument_card": str,
    "routing": str,
    "min_examples": int,
    "shard": str,
}
ANYWHERE: Mapping[str, type] = {**SETTINGS, "preset": str, **OPTIONS}
"""All keys of a file's top level and of the command line."""
ALTERNATIVES = {"steps": "epochs", "epochs": "steps"}
"""Options that replace each other."""
FORMS = {
    str: "a text (a date, yes, no or a number needs quotation marks)",
    int: "a whole number",
    float: "a finite number",
    bool: "true or false",
    tuple: "a list of texts",
}


_CHOICES = {"cards": CARD_KINDS, "argument_card": ARGUMENT_CARDS, "routing": ROUTINGS, "shard": SHARDS}


@dataclass(frozen=True)
class TrainConfig:
    """The model, the data and all options of training. Relative folders are seen from the current one.

    Raises:
        UsageError: when a value is unknown or out of range, or ``start`` is the same folder as ``bundle``.
    """

    model: str
    """A folder, a hub id, a .gguf file, or the embedded model's name."""
    data: str
    """The folder with train.jsonl and valid.jsonl."""
    bundle: str
    """The folder of the bundle that the adapters are put into; made when missing."""
    stages: Mapping[str, TrainOptions]
    """The options of each stage."""
    template: str = "chatml"
    """The prompt template: a built-in one's name, a file, or auto: the model's own form."""
    cards: str = "signature"
    """How tools are written in the prompt."""
    argument_card: str = "none"
    """What the arguments are written from, beside the conversation: one of ``ARGUMENT_CARDS``."""
    routing: str = "auto"
    """When a stage is shown the tools of one node of their hierarchy: auto, always or never."""
    min_examples: int = 50
    """How many calls of a tool give it an argument adapter of its own."""
    shard: str = "examples"
    """What several processes share: the examples of every step, or the adapters."""
    start: str = ""
    """The folder of a bundle whose adapters training continues from; empty for new adapters."""

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            _check_choice(name, getattr(self, name), choices)
        if self.min_examples < 1:
            raise UsageError(
                "a training setting is out of range", where="min_examples", got=self.min_examples, expected="1 or more"
            )
        if self.start and Path(self.start).resolve() == Path(self.bundle).resolve():
            raise UsageError(
                "training cannot write into the bundle that it goes on from",
                where="start",
                got=self.start,
                expected="another folder than the bundle's",
                fix="name a new folder with --bundle",
            )

    def to_dict(self) -> dict[str, Any]:
        """The configuration as the content of a file; what all stages have in common stands at the top level."""
        options = {stage: self.stages[stage].to_dict() for stage in STAGES}
        first = options[STAGES[0]]
        common = {name: value for name, value in first.items() if all(o[name] == value for o in options.values())}
        own = {
            stage: {name: value for name, value in given.items() if name not in common}
            for stage, given in options.items()
        }
        settings = {name: getattr(self, name) for name in SETTINGS}
        return {**settings, **common, **{stage: section for stage, section in own.items() if section}}


@dataclass(frozen=True)
class ConfigLayer:
    """Settings and options that were given at one place."""

    where: str
    """The place, for messages."""
    values: Mapping[str, Any]


@dataclass(frozen=True)
class ConfigFile:
    """A YAML file: its top level and its sections for stages. Keys and types of values are checked."""

    top: ConfigLayer
    sections: Mapping[str, ConfigLayer]

    @classmethod
    def read(cls, path: str | Path) -> ConfigFile:
        """Read a YAML file.

        Raises:
            UsageError: when it is missing or is not YAML, or when a key is unknown or a value has the wrong type.
        """
        value = _mapping(_parse(Path(path)), str(path))
        _refuse_mlx_lm(value, str(path))
        top = {key: item for key, item in value.items() if key not in STAGES}
        sections = {stage: value[stage] for stage in STAGES if value.get(stage) is not None}
        return cls(
            _make_layer(top, ANYWHERE, str(path), STAGES),
            {
                stage: _make_layer(_mapping(section, f"{path}, section {stage}"), OPTIONS, f"{path}, section {stage}")
                for stage, section in sections.items()
            },
        )


def merge_config(file: ConfigFile | None, flags: Mapping[str, Any]) -> TrainConfig:
    """Lay flags over a file's values, and these over a preset's.

    ``steps`` replaces ``epochs`` of a lower layer, and the other way round.

    Args:
        file: the configuration file, where there is one.
        flags: values by key, as the command line gives them.

    Raises:
        UsageError: when a value is of the wrong type or out of range, or the model, data or bundle is missing.
    """
    file = file or ConfigFile(ConfigLayer("", {}), {})
    given = _make_layer(flags, ANYWHERE, "the command line")
    top = {**file.top.values, **given.values}
    missing = [name for name in REQUIRED if not top.get(name)]
    if missing:
        raise UsageError(
            "something is missing that training needs",
            where=", ".join(f"--{name}" for name in missing),
            expected="it as an option, or in the file that --config names",
        )
    preset = top.get("preset", "default")
    _check_choice("preset", preset, PRESETS)
    stages = {
        stage: _options(
            [
                ConfigLayer(f"preset {preset}", PRESETS[preset]),
                file.top,
                file.sections.get(stage, ConfigLayer("", {})),
                given,
            ]
        )
        for stage in STAGES
    }
    return TrainConfig(stages=stages, **{name: top[name] for name in SETTINGS if name in top})


def _options(layers: Sequence[ConfigLayer]) -> TrainOptions:
    """Lay layers over each other, the last one on top."""
    values: dict[str, Any] = {}
    for layer in layers:
        own = {name: value for name, value in layer.values.items() if name in OPTIONS}
        reset = {other: OPTIONS[other]() for name, other in ALTERNATIVES.items() if own.get(name)}
        values = {**values, **reset, **own}
    try:
        return TrainOptions(**values)
    except UsageError as error:
        names = {error.where, ALTERNATIVES.get(str(error.where))}
        source = next((layer.where for layer in reversed(layers) if names & set(layer.values)), layers[0].where)
        raise UsageError(
            error.what, where=f"{error.where}, in {source}", got=error.got, expected=error.expected, fix=error.fix
        ) from error


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands in a mapping twice; PyYAML's own loader silently takes the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value]
        for index, (key, _) in enumerate(node.value):
            if key.value in names[:index]:
                problem = f"the key {key.value!r} stands there twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
        return super().construct_mapping(node, deep)


def _parse(path: Path) -> Any:
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise UsageError(
            "the configuration cannot be read", where=path, got=error.strerror, fix="check the path and its permissions"
        ) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise UsageError(
            "the configuration is not valid YAML",
            where=f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else path,
            got=getattr(error, "problem", None) or error,
            fix="mend the file at that place",
        ) from error
    except ValueError as error:  # bytes that are not UTF-8, or a date that does not exist
        raise UsageError(
            "the configuration is not valid YAML", where=path, got=error, fix="mend the file at the place that is named"
        ) from error


def _mapping(value: Any, where: str) -> Mapping[Any, Any]:
    if not isinstance(value, dict):
        raise UsageError(
            "the configuration is not a list of keys with their values",
            where=where,
            got="nothing" if value is None else type(value).__name__,
            expected='lines such as "learning_rate: 5e-4"',
        )
    return value


def _make_layer(
    values: Mapping[Any, Any], kinds: Mapping[str, type], where: str, more: Sequence[str] = ()
) -> ConfigLayer:
    """Make a layer of known keys with values of the right type. Keys of ``more`` are only named in messages."""
    unknown = [str(key) for key in values if key not in kinds]
    if unknown:
        raise UsageError(
            "the configuration has an unknown key",
            where=where,
            got=", ".join(unknown),
            expected=", ".join([*kinds, *more]),
            fix="; ".join(_hint(key, [*kinds, *more]) for key in unknown),
        )
    return ConfigLayer(where, {key: _convert(key, value, kinds[key], where) for key, value in values.items()})


def _refuse_mlx_lm(values: Mapping[Any, Any], where: str) -> None:
    lines = lines_instead(values)
    if lines:
        raise UsageError(
            "the configuration has keys of mlx-lm's",
            where=where,
            got=", ".join(key for key in values if key in KEYS),
            expected="the keys of dualtune train",
            fix="\n    ".join(["write instead:", *lines]),
        )


def _hint(key: str, known: Sequence[str]) -> str:
    if key in ANYWHERE or key in STAGES:
        return f"{key} belongs at the top level of the file"
    close = get_close_matches(key, known)
    return f"did you mean {' or '.join(close)}?" if close else f"remove {key}"


def _convert(key: str, value: Any, kind: type, where: str) -> Any:
    if kind is float:
        value = _to_float(value)
    elif kind is tuple:
        value = _to_texts(value)
    right = type(value) is kind
    if not right or (kind is float and not isfinite(value)):
        raise UsageError(
            "the configuration has a value of the wrong type",
            where=f"{key}, in {where}",
            got=repr(value),
            expected=FORMS[kind],
        )
    return value


def _to_float(value: Any) -> Any:
    """A number, or a text that is one, as a float. YAML reads 5e-4, which has no dot, as a text."""
    if isinstance(value, bool):
        return value
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return value


def _to_texts(value: Any) -> Any:
    """A list of texts, or one text with commas between them, as a tuple."""
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list | tuple) or not all(isinstance(item, str) for item in listed):
        return value
    return tuple(part.strip() for item in listed for part in item.split(","))


def _check_choice(name: str, value: str, choices: Sequence[str] | Mapping[str, Any]) -> None:
    if value not in choices:
        raise UsageError("a training setting is unknown", where=name, got=value, expected=", ".join(choices))
