"""The layers of a training configuration: which one wins, what is refused, and that what is saved says it all."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from dualtune_mlx.errors import UsageError
from dualtune_mlx.training import PRESETS, STAGES, ConfigFile, TrainConfig, TrainOptions, merge_config

NEEDED = {"model": "m", "data": "d", "bundle": "b"}


def write_config(folder: Path, text: str) -> Path:
    path = folder / "night.yaml"
    path.write_text(text)
    return path


def config(folder: Path, text: str, **flags: Any) -> TrainConfig:
    return merge_config(ConfigFile.read(write_config(folder, text)), {**NEEDED, **flags})


@pytest.mark.parametrize(
    ("text", "flags", "ranks"),
    [
        ("seed: 1", {}, (16, 16, 16, 16)),
        ("preset: paper", {}, (32, 32, 32, 32)),
        ("rank: 2", {}, (2, 2, 2, 2)),
        ("{preset: paper, rank: 2}", {}, (2, 2, 2, 2)),
        ("{rank: 2, arguments: {rank: 3}}", {}, (2, 2, 2, 3)),
        ("{rank: 2, arguments: {rank: 3}, router: }", {}, (2, 2, 2, 3)),
        ("{rank: 2, arguments: {rank: 3}}", {"rank": 4}, (4, 4, 4, 4)),
        ("{preset: paper, arguments: {rank: 3}}", {"preset": "default"}, (16, 16, 16, 3)),
    ],
)
def test_a_later_layer_wins(tmp_path, text, flags, ranks):
    stages = config(tmp_path, text, **flags).stages
    assert tuple(stages[stage].rank for stage in STAGES) == ranks


@pytest.mark.parametrize(
    ("text", "flags", "expected"),
    [
        ("seed: 1", {}, (200, 0.0)),
        ("preset: paper", {}, (0, 4.0)),
        ("epochs: 2", {}, (0, 2.0)),
        ("{preset: paper, steps: 30}", {}, (30, 0.0)),
        ("{steps: 30, selector: {epochs: 2}}", {}, (0, 2.0)),
        ("{epochs: 2, selector: {steps: 30}}", {}, (30, 0.0)),
        ("{selector: {epochs: 2}}", {"steps": 5}, (5, 0.0)),
        ("{selector: {steps: 30, epochs: 0}}", {}, (30, 0.0)),
        ("{selector: {steps: 0, epochs: 3}}", {}, (0, 3.0)),
        ("{steps: 30}", {"epochs": 0.5}, (0, 0.5)),
    ],
)
def test_steps_and_epochs_replace_each_other(tmp_path, text, flags, expected):
    options = config(tmp_path, text, **flags).stages["selector"]
    assert (options.steps, options.epochs) == expected


def test_presets_hold_options_only_and_default_is_the_dataclass():
    names = {field.name for field in fields(TrainOptions)}
    assert all(set(preset) <= names for preset in PRESETS.values())
    assert merge_config(None, NEEDED).stages == dict.fromkeys(STAGES, TrainOptions())
    assert merge_config(None, {**NEEDED, "preset": "paper"}).stages["router"] == TrainOptions(**PRESETS["paper"])


def test_settings_of_a_file_give_way_to_flags(tmp_path):
    path = write_config(tmp_path, "{model: theirs, data: d, bundle: b, cards: name, min_examples: 3, template: gemma}")
    found = merge_config(ConfigFile.read(path), {"model": "ours", "shard": "adapters"})
    assert (found.model, found.cards, found.min_examples, found.template) == ("ours", "name", 3, "gemma")
    assert (found.data, found.bundle, found.shard) == ("d", "b", "adapters")


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("learning_rate: 5e-4", "learning_rate", 5e-4),
        ("learning_rate: '1E-3'", "learning_rate", 1e-3),
        ("learning_rate: 1", "learning_rate", 1.0),
        ("alpha: 64", "alpha", 64.0),
        ("dora: yes", "dora", True),
        ("targets: [self_attn.*, mlp.up_proj]", "targets", ("self_attn.*", "mlp.up_proj")),
        ("targets: self_attn.*, mlp.up_proj", "targets", ("self_attn.*", "mlp.up_proj")),
    ],
)
def test_values_mean_what_they_look_like(tmp_path, text, name, value):
    found = getattr(config(tmp_path, text).stages["selector"], name)
    assert found == value
    assert type(found) is type(value)


def test_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "c.yaml").write_text("\ufeffmodel: m\n")
    assert ConfigFile.read(tmp_path / "c.yaml").top.values == {"model": "m"}


def test_merge_keys_of_yaml_work(tmp_path):
    stages = config(tmp_path, "selector: &s {rank: 3, seed: 1}\narguments:\n  <<: *s\n  seed: 2\n").stages
    assert (stages["arguments"].rank, stages["arguments"].seed, stages["selector"].seed) == (3, 2, 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("learning-rate: 1", ["unknown key", "night.yaml", "got: learning-rate", "did you mean learning_rate"]),
        ("scale: 4", ["unknown key", "got: scale", "alpha"]),
        ("{ranks: 4, sede: 0}", ["got: ranks, sede", "mean rank", "mean seed"]),
        ("selecter: {rank: 4}", ["got: selecter", "did you mean selector"]),
        ("selector: {lr: 1}", ["unknown key", "section selector", "got: lr", "remove lr"]),
        ("selector: {model: m}", ["section selector", "model belongs at the top level"]),
        ("selector: {preset: paper}", ["preset belongs at the top level"]),
        ("selector: {arguments: {rank: 1}}", ["arguments belongs at the top level"]),
        ("7: 8", ["unknown key", "got: 7"]),
        ("selector: 3", ["not a list of keys", "section selector", "got: int"]),
        ("selector: [rank, 3]", ["not a list of keys", "got: list"]),
        ("", ["not a list of keys", "got: nothing"]),
        ("just words", ["not a list of keys", "got: str"]),
        ("rank: many", ["wrong type", "rank, in", "night.yaml", "got: 'many'", "a whole number"]),
        ("rank: 4.5", ["rank", "got: 4.5", "a whole number"]),
        ("rank: '4'", ["rank", "got: '4'"]),
        ("rank: true", ["rank", "got: True"]),
        ("rank:", ["rank", "got: None"]),
        ("alpha: high", ["alpha", "got: 'high'", "a finite number"]),
        ("alpha: .inf", ["alpha", "got: inf", "a finite number"]),
        ("alpha: .nan", ["alpha", "got: nan"]),
        ("alpha: true", ["alpha", "got: True"]),
        ("dora: 1", ["dora", "got: 1", "true or false"]),
        ("targets: [1]", ["targets", "got: [1]", "a list of texts"]),
        ("targets: []", ["out of range", "targets, in", "night.yaml"]),
        ("data: 2026-11-22", ["data", "datetime.date", "quotation marks"]),
        ("min_examples: 0", ["min_examples", "got: 0", "1 or more"]),
        ("cards: pretty", ["cards", "got: pretty", "signature"]),
        ("shard: layers", ["shard", "got: layers", "examples, adapters"]),
        ("preset: papre", ["preset", "got: papre", "default, paper"]),
        ("rank: 0", ["out of range", "rank, in", "night.yaml", "got: 0"]),
        ("arguments: {dropout: 1}", ["dropout, in", "section arguments", "got: 1.0", "below 1"]),
        ("{steps: 3, epochs: 2}", ["epochs, in", "night.yaml", "the other one 0"]),
        ("schedule: stairs", ["schedule", "got: stairs", "cosine"]),
        ("rank: 1\nrank: 2", ["line 2, column 1", "'rank' stands there twice"]),
        ("selector: {rank: 1, rank: 2}", ["'rank' stands there twice"]),
        ("rank: [1", ["not valid YAML", "line 1"]),
        ("rank:\n\t- 1", ["not valid YAML", "line 2, column 1"]),
        ("data: 2026-13-45", ["not valid YAML", "month"]),
        ("data: !!python/name:os.system", ["not valid YAML", "python/name:os.system"]),
        ("data: \x00", ["not valid YAML"]),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, words):
    with pytest.raises(UsageError) as caught:
        config(tmp_path, text)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"learning_rate": float("inf")}, ["learning_rate, in the command line", "finite"]),
        ({"steps": 0}, ["epochs, in the command line", "the other one 0"]),
        ({"rank": 0}, ["rank, in the command line", "got: 0"]),
        ({"model": None}, ["model"]),
    ],
)
def test_a_wrong_flag_is_named(flags, words):
    with pytest.raises(UsageError) as caught:
        merge_config(None, {**NEEDED, **flags})
    for word in words:
        assert word in str(caught.value)


def test_all_that_is_missing_is_named():
    with pytest.raises(UsageError, match="--model, --bundle"):
        merge_config(None, {"data": "d"})


@pytest.mark.parametrize(("content", "words"), [(None, "cannot be read"), (b"data: \xff", "not valid YAML")])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content, words):
    path = tmp_path / "night.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=words) as caught:
        ConfigFile.read(path)
    assert "night.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("seed: 1", {}),
        ("preset: paper", {"learning_rate": 5e-6, "min_examples": 7}),
        ("{targets: [self_attn.*], selector: {epochs: 2}, arguments: {steps: 9, dora: true}}", {"cards": "name"}),
        ("{preset: paper, router: {steps: 5}, selector: {steps: 5}}", {"shard": "adapters", "template": "own.jinja"}),
        ("{epochs: 3, selector: {epochs: 4, weight_decay: 1e-30}}", {"model": "2026-01-01", "data": "no"}),
    ],
)
def test_what_is_saved_gives_the_same_run(tmp_path, text, flags):
    found = config(tmp_path, text, **flags)
    saved = yaml.safe_dump(found.to_dict(), sort_keys=False, allow_unicode=True)
    again = merge_config(ConfigFile.read(write_config(tmp_path, saved)), {})
    assert again == found
    for stage in STAGES:  # also in their types: a run is known by what its options look like in JSON
        assert repr(again.stages[stage]) == repr(found.stages[stage])


def test_what_the_stages_share_is_saved_once(tmp_path):
    saved = config(tmp_path, "{rank: 2, arguments: {rank: 3}}").to_dict()
    assert "rank" not in saved
    assert (saved["seed"], saved["selector"], saved["arguments"]) == (0, {"rank": 2}, {"rank": 3})
    assert set(merge_config(None, NEEDED).to_dict()).isdisjoint(STAGES)
