"""A configuration of mlx-lm's: refused with the lines that mean the same here."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from mlx_lm.lora import CONFIG_DEFAULTS

from dualtune_mlx.errors import UsageError
from dualtune_mlx.training import ConfigFile, TrainOptions, merge_config
from dualtune_mlx.training.config import ANYWHERE
from dualtune_mlx.training.mlx_lm import KEYS, lines_instead

NIGHT = """
train: true
fine_tune_type: dora
optimizer: adamw
optimizer_config: {adamw: {weight_decay: 0.1}}
num_layers: 8
iters: 1000
grad_accumulation_steps: 4
steps_per_eval: 200
save_every: 100
max_seq_length: 2048
adapter_path: adapters
lora_parameters: {keys: [self_attn.q_proj, mlp.up_proj], rank: 8, scale: 20.0, dropout: 0.1}
lr_schedule: {name: cosine_decay, warmup: 100, arguments: [1e-5, 1000]}
"""


def test_every_key_of_mlx_lm_s_is_ours_or_has_its_lines():
    assert set(CONFIG_DEFAULTS) <= {*KEYS, *ANYWHERE}
    assert not set(KEYS) & set(ANYWHERE)


def test_the_lines_mean_the_same(tmp_path):
    """They are YAML that is read, and give mlx-lm's values."""
    lines = lines_instead(yaml.safe_load(NIGHT))
    (tmp_path / "night.yaml").write_text("model: m\ndata: d\n" + "\n".join(lines))
    config = merge_config(ConfigFile.read(tmp_path / "night.yaml"), {})
    expected = {
        "steps": 250,
        "accumulate": 4,
        "validate_every": 50,
        "checkpoint_every": 25,
        "window": 2048,
        "layers": "last:8",
        "rank": 8,
        "alpha": 160.0,
        "dropout": 0.1,
        "dora": True,
        "targets": ("self_attn.q_proj", "mlp.up_proj"),
        "weight_decay": 0.1,
        "learning_rate": 1e-5,
        "schedule": "cosine",
        "warmup": 100,
    }
    options = config.stages["selector"]
    assert {name: getattr(options, name) for name in expected} == expected
    assert options.scale == 20.0
    assert config.bundle == "adapters"
    unchanged = {field.name for field in fields(TrainOptions)} - expected.keys()
    assert all(getattr(options, name) == getattr(TrainOptions(), name) for name in unchanged)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("num_layers: -1", "layers: all  # instead of num_layers"),
        ("num_layers: 0", "layers: all"),
        ("iters: 600", "steps: 600"),
        ("{iters: 7, grad_accumulation_steps: 2}", "steps: 4"),
        ("fine_tune_type: lora", "# fine_tune_type: remove it"),
        ("fine_tune_type: full", "# fine_tune_type: no such training"),
        ("optimizer: adam", "weight_decay: 0.0"),
        ("optimizer: muon", "# optimizer: no such optimiser"),
        ("lora_parameters: {rank: 4, alpha: 8}", "# lora_parameters: alpha is none of mlx-lm's"),
        ("lora_parameters: {rank: 4, odd: 8}", "# lora_parameters: odd: no such parameter"),
        ("lora_parameters: 4", "# lora_parameters: mlx-lm itself could not read 4"),
        ("lr_schedule: {name: step_decay, arguments: [1e-4, 0.1, 5]}", "# lr_schedule: no schedule step_decay"),
        ("lr_schedule: {name: cosine_decay, arguments: [1e-4, 5, 1e-6]}", "# lr_schedule: 5, 1e-06: a schedule falls"),
        ("lr_schedule: ", "schedule: constant"),
        ("mask_prompt: true", "# mask_prompt: remove it: the calls alone are learned"),
        ("resume_adapter_file: a.safetensors", "dualtune bundle assemble"),
        ("iters: many", "# iters: mlx-lm itself could not read 'many'"),
    ],
)
def test_a_key_is_refused_with_the_line_to_write(tmp_path, text, line):
    path: Path = tmp_path / "night.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match="keys of mlx-lm's") as error:
        ConfigFile.read(path)
    assert error.value.where == str(path)
    assert line in error.value.fix
