"""A training run's configuration: the preset, under a YAML file, under the file's section of the stage, under flags.

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

from dualtune_mlx.errors import UsageError
from dualtune_mlx.prompts import CARD_KINDS
from dualtune_mlx.tools.hierarchy import ROUTINGS
from dualtune_mlx.training.examples import STAGES
from dualtune_mlx.training.options import PRESETS, TrainOptions

SHARDS = ("examples", "adapters")
"""What several processes share: every step's examples, or the adapters that are to be trained."""
OPTIONS: Mapping[str, type] = {field.name: type(field.default) for field in fields(TrainOptions)}
REQUIRED = ("model", "data", "bundle")
SETTINGS: Mapping[str, type] = {
    **dict.fromkeys(REQUIRED, str),
    "start": str,
    "template": str,
    "cards": str,
    "routing": str,
    "min_examples": int,
    "shard": str,
}
ANYWHERE: Mapping[str, type] = {**SETTINGS, "preset": str, **OPTIONS}
"""What may stand at a file's top level and on the command line."""
ALTERNATIVES = {"steps": "epochs", "epochs": "steps"}
FORMS = {
    str: "a text (a date, yes, no or a number needs quotation marks)",
    int: "a whole number",
    float: "a finite number",
    bool: "true or false",
    tuple: "a list of texts",
}


@dataclass(frozen=True)
class TrainConfig:
    """All that ``dualtune train`` is told but which stage; ``stages`` has the options of each.

    ``data``, ``bundle`` and ``start``, the bundle whose adapters are gone on from, are folders as seen from where the
    command runs.
    """

    model: str
    data: str
    bundle: str
    stages: Mapping[str, TrainOptions]
    template: str = "chatml"
    cards: str = "signature"
    routing: str = "auto"
    min_examples: int = 50
    shard: str = "examples"
    start: str = ""

    def __post_init__(self) -> None:
        for name, choices in (("cards", CARD_KINDS), ("routing", ROUTINGS), ("shard", SHARDS)):
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
        """The configuration as a file's content: what the stages have in common stands at the top level."""
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
class Layer:
    """Some of the settings and options, and where they were given."""

    where: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class ConfigFile:
    """A YAML file's top level and its sections of stages, checked for unknown keys and wrong types."""

    top: Layer
    sections: Mapping[str, Layer]

    @classmethod
    def read(cls, path: str | Path) -> ConfigFile:
        """Read a configuration file.

        Raises:
            UsageError: when it is missing, is not YAML, or holds a key or a type of value that is not known there.
        """
        value = _mapping(_parse(Path(path)), str(path))
        top = {key: item for key, item in value.items() if key not in STAGES}
        sections = {stage: value[stage] for stage in STAGES if value.get(stage) is not None}
        return cls(
            _check_layer(top, ANYWHERE, str(path), STAGES),
            {
                stage: _check_layer(_mapping(section, f"{path}, section {stage}"), OPTIONS, f"{path}, section {stage}")
                for stage, section in sections.items()
            },
        )


def merge_config(file: ConfigFile | None, flags: Mapping[str, Any]) -> TrainConfig:
    """The configuration that a file, if there is one, and the command line's flags make together.

    Where ``steps`` is given over an earlier layer's ``epochs``, or the other way round, the earlier one gives way.

    Raises:
        UsageError: when a value is of the wrong type or out of range, or the model, data or bundle is missing.
    """
    file = file or ConfigFile(Layer("", {}), {})
    given = _check_layer(flags, ANYWHERE, "the command line")
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
            [Layer(f"preset {preset}", PRESETS[preset]), file.top, file.sections.get(stage, Layer("", {})), given]
        )
        for stage in STAGES
    }
    return TrainConfig(stages=stages, **{name: top[name] for name in SETTINGS if name in top})


def _options(layers: Sequence[Layer]) -> TrainOptions:
    """The options that layers make together, each over those before it."""
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
    """Refuses a key that stands in a mapping twice; PyYAML's own takes the last one and says nothing."""

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
        raise UsageError("the configuration cannot be read", where=path, got=error.strerror) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise UsageError(
            "the configuration is not YAML as it should be",
            where=f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else path,
            got=getattr(error, "problem", None) or error,
            fix="mend the file at that place",
        ) from error
    except ValueError as error:  # bytes that are not UTF-8, or a date that does not exist
        raise UsageError("the configuration is not YAML as it should be", where=path, got=error) from error


def _mapping(value: Any, where: str) -> Mapping[Any, Any]:
    if not isinstance(value, dict):
        raise UsageError(
            "the configuration is not a list of keys with their values",
            where=where,
            got="nothing" if value is None else type(value).__name__,
            expected='lines such as "learning_rate: 5e-4"',
        )
    return value


def _check_layer(values: Mapping[Any, Any], kinds: Mapping[str, type], where: str, more: Sequence[str] = ()) -> Layer:
    """A layer whose keys are known and whose values have the right type; ``more`` keys are named in messages only."""
    unknown = [str(key) for key in values if key not in kinds]
    if unknown:
        raise UsageError(
            "the configuration has an unknown key",
            where=where,
            got=", ".join(unknown),
            expected=", ".join([*kinds, *more]),
            fix="; ".join(_hint(key, [*kinds, *more]) for key in unknown),
        )
    return Layer(where, {key: _convert(key, value, kinds[key], where) for key, value in values.items()})


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
    """A number as a float. YAML reads 5e-4, which has no dot, as a text; it is meant as a number."""
    if isinstance(value, bool):
        return value
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return value


def _to_texts(value: Any) -> Any:
    """A list of texts, or one with commas between them, as a tuple."""
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list | tuple) or not all(isinstance(item, str) for item in listed):
        return value
    return tuple(part.strip() for item in listed for part in item.split(","))


def _check_choice(name: str, value: str, choices: Sequence[str] | Mapping[str, Any]) -> None:
    if value not in choices:
        raise UsageError("a training setting is unknown", where=name, got=value, expected=", ".join(choices))
