"""Against PEFT itself: each configuration into our format and back, with PEFT's logits in float32."""

from __future__ import annotations

import pytest

pytest.importorskip("peft", reason="needs the extra peft: make test-peft")

import itertools
import subprocess
import sys
from dataclasses import replace

import numpy as np
from peft import LoraConfig
from safetensors.numpy import load_file

from dualtune_mlx.adapters import Adapter, AdapterBank
from dualtune_mlx.conversion.peft import from_peft, to_peft, verify
from dualtune_mlx.conversion.peft.config import FIELDS, REFUSED
from dualtune_mlx.errors import ConversionError
from tests.adapters.adapters import adapter_for
from tests.conversion.peft import large
from tests.conversion.peft import peft_models as models
from tests.conversion.peft.files import write_adapter

pytestmark = pytest.mark.peft

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
ALL = [*ATTENTION, "gate_proj", "up_proj", "down_proj"]
EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
LARGEST = 2e-6
CASES = {
    "linear": ("llama", {"target_modules": ["q_proj", "v_proj"]}),
    "all seven": ("llama", {"target_modules": ALL, "r": 8, "lora_alpha": 16}),
    "all-linear": ("llama", {"target_modules": "all-linear"}),
    "a regular expression": ("llama", {"target_modules": r".*\.(?:0|2)\.self_attn\.[qk]_proj"}),
    "excluded": ("llama", {"target_modules": ALL, "exclude_modules": r".*\.1\.mlp\..*"}),
    "a list of excluded": ("llama", {"target_modules": ALL, "exclude_modules": ["k_proj", "layers.0.mlp.up_proj"]}),
    "some layers": ("llama", {"target_modules": ATTENTION, "layers_to_transform": [0, 2]}),
    "one layer by pattern": (
        "llama",
        {"target_modules": ["up_proj"], "layers_to_transform": 1, "layers_pattern": "layers"},
    ),
    "rsLoRA": ("llama", {"target_modules": ALL, "use_rslora": True, "r": 6, "lora_alpha": 7}),
    "ranks": ("llama", {"target_modules": ALL, "rank_pattern": {"q_proj": 2, r"model.layers.1.mlp.*": 8}}),
    "alphas": ("llama", {"target_modules": ALL, "alpha_pattern": {"v_proj": 3, r"layers.[02].self_attn.k_proj": 11}}),
    "ranks and alphas, rsLoRA": (
        "llama",
        {
            "target_modules": ALL,
            "use_rslora": True,
            "rank_pattern": {"^model.layers.0.self_attn.q_proj": 3, "down_proj": 5},
            "alpha_pattern": {"down_proj": 9, "layers.2.*": 5},
        },
    ),
    "DoRA": ("llama", {"target_modules": ALL, "use_dora": True}),
    "DoRA over biases, rsLoRA": ("qwen2", {"target_modules": ALL, "use_dora": True, "use_rslora": True, "r": 3}),
    "DoRA with ranks and the head": (
        "llama",
        {"target_modules": [*ATTENTION, "lm_head"], "use_dora": True, "rank_pattern": {"lm_head": 2}},
    ),
    "over biases": ("qwen2", {"target_modules": ALL}),
    "dropout": ("qwen2", {"target_modules": ["o_proj"], "lora_dropout": 0.3}),
    "fan_in_fan_out": ("qwen2", {"target_modules": ["o_proj"], "fan_in_fan_out": True}),
    "Gemma": ("gemma3", {"target_modules": "all-linear", "use_rslora": True}),
    "Gemma, embedding": ("gemma3", {"target_modules": ["embed_tokens", "q_proj"]}),
    "Gemma, DoRA and rows": (
        "gemma3",
        {"target_modules": ALL, "use_dora": True, "trainable_token_indices": [3, 17]},
    ),
    "embedding": ("llama", {"target_modules": ["embed_tokens"], "rank_pattern": {"embed_tokens": 3}}),
    "embedding and linear": ("llama", {"target_modules": ["embed_tokens", *ATTENTION]}),
    "a tied embedding": ("tied", {"target_modules": ["embed_tokens", "q_proj"]}),
    "the head": ("llama", {"target_modules": ["q_proj", "lm_head"]}),
    "a saved head": ("llama", {"target_modules": ATTENTION, "modules_to_save": ["lm_head"]}),
    "a saved embedding": ("llama", {"target_modules": ATTENTION, "modules_to_save": ["embed_tokens", "lm_head"]}),
    "a saved embedding, tied": ("tied", {"target_modules": ATTENTION, "modules_to_save": ["embed_tokens"]}),
    "saved norms": ("qwen2", {"target_modules": ["q_proj"], "modules_to_save": ["norm", "input_layernorm"]}),
    "saved norms of Gemma": ("gemma3", {"target_modules": ["q_proj"], "modules_to_save": ["post_attention_layernorm"]}),
    "a saved layer with a bias": ("qwen2", {"target_modules": ["q_proj"], "modules_to_save": ["k_proj"]}),
    "rows": ("llama", {"target_modules": ATTENTION, "trainable_token_indices": [17, 5, 80]}),
    "rows, tied": ("tied", {"target_modules": ATTENTION, "trainable_token_indices": [17, 5, 80]}),
    "rows of embedding and head": (
        "llama",
        {"target_modules": ["q_proj"], "trainable_token_indices": {"embed_tokens": [8, 2], "lm_head": [1, 90, 4]}},
    ),
    "experts": ("qwen2_moe", {"target_modules": [], "target_parameters": EXPERTS}),
    "experts' gate and up": ("qwen3_moe", {"target_modules": ["q_proj"], "target_parameters": EXPERTS[:1]}),
    "experts' down": ("qwen3_moe", {"target_modules": ["v_proj"], "target_parameters": EXPERTS[1:], "r": 3}),
    "experts, ranks and rsLoRA": (
        "qwen3_moe",
        {
            "target_modules": ATTENTION,
            "target_parameters": EXPERTS,
            "use_rslora": True,
            "rank_pattern": {"experts.down_proj": 2},
            "alpha_pattern": {r"layers.1.mlp.experts.gate_up_proj": 5},
        },
    ),
    "experts of Mixtral": ("mixtral", {"target_modules": ["q_proj"], "target_parameters": EXPERTS}),
    "a shared expert": ("qwen2_moe", {"target_modules": ["shared_expert.up_proj", "shared_expert_gate"]}),
    "routers": ("qwen2_moe", {"target_modules": ["q_proj"], "target_parameters": ["mlp.gate.weight"]}),
    "a router of Mixtral": (
        "mixtral",
        {"target_modules": ["q_proj"], "target_parameters": ["mlp.gate.weight"], "r": 2},
    ),
    "MiCA": ("llama", {"target_modules": ["q_proj"], "init_lora_weights": "mica"}),
    "started orthogonal": ("llama", {"target_modules": ["q_proj"], "init_lora_weights": "orthogonal"}),
}


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("peft")


def config_of(options):
    return LoraConfig(**{"r": 4, "lora_alpha": 8, "task_type": "CAUSAL_LM", **options})


def tensors_of(folder):
    return load_file(folder / "adapter_model.safetensors")


def kinds(warnings):
    return sorted(text.partition(":")[0] for text in warnings)


@pytest.mark.parametrize(("kind", "options"), CASES.values(), ids=CASES)
def test_a_configuration_acts_as_in_peft(root, tmp_path, kind, options):
    folder = models.model_folder(kind, root)
    peft = models.save_adapter(models.torch_model(folder), config_of(options), tmp_path / "peft")
    expected, plain = models.torch_logits(peft), models.torch_logits(models.torch_model(folder))
    base = models.mlx_base(folder)
    before = models.mlx_logits(base, None)
    from_peft(str(tmp_path / "peft"), tmp_path / "ours", base=base)
    assert np.abs(models.mlx_logits(base, tmp_path / "ours") - expected).max() <= LARGEST
    assert np.abs(expected - plain).max() > 1e-3
    assert np.array_equal(models.mlx_logits(base, None), before)

    to_peft(Adapter.load(tmp_path / "ours"), tmp_path / "back")
    again, warned = models.loaded(folder, tmp_path / "back")
    # PEFT has warnings for some of its own: a tied embedding that has an update, ranks of parameters.
    assert kinds(warned) == kinds(models.loaded(folder, tmp_path / "peft")[1])
    assert np.abs(models.torch_logits(again) - expected).max() <= LARGEST
    theirs, back = tensors_of(tmp_path / "peft"), tensors_of(tmp_path / "back")
    assert {name for name in theirs if ".base_layer.weight" not in name} == back.keys()
    for name, tensor in back.items():
        assert tensor.dtype == theirs[name].dtype and np.array_equal(tensor, theirs[name]), name


OPENER = (17, 30)
PROMPTS = {
    "once": (5, 8, 17, 30, 44, 12, 90),
    "several": (5, 17, 30, 8, 61, 17, 30, 44, 12, 17, 3),
    "at the very start": (17, 30, 8, 61, 5),
    "at the very end": (5, 8, 61, 17, 30),
    "none": (5, 17, 8, 30, 61, 44),
    "overlapping": (17, 17, 30, 17, 30, 30),
}


@pytest.mark.parametrize("tokens", PROMPTS.values(), ids=PROMPTS)
@pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma3"])
def test_an_activated_adapter_acts_from_its_invocation_on(root, tmp_path, kind, tokens):
    folder = models.model_folder(kind, root)
    config = config_of({"target_modules": ALL, "alora_invocation_tokens": list(OPENER), "rank_pattern": {"o_proj": 2}})
    peft = models.save_adapter(models.torch_model(folder), config, tmp_path / "peft")
    expected, plain = models.torch_logits(peft, tokens), models.torch_logits(models.torch_model(folder), tokens)
    base = models.mlx_base(folder)
    from_peft(str(tmp_path / "peft"), tmp_path / "ours", base=base)
    assert np.abs(models.mlx_logits(base, tmp_path / "ours", tokens) - expected).max() <= LARGEST
    assert (np.abs(expected - plain).max() > 1e-3) == (OPENER in itertools.pairwise(tokens))
    to_peft(Adapter.load(tmp_path / "ours"), tmp_path / "back")
    again, warned = models.loaded(folder, tmp_path / "back")
    assert (warned, again.peft_config["default"].alora_invocation_tokens) == ([], list(OPENER))
    assert np.array_equal(models.torch_logits(again, tokens), expected)


@pytest.mark.parametrize("activation", ["turn", "invocation"])
def test_an_adapter_of_ours_begins_at_its_opener_in_peft(root, tmp_path, activation):
    folder = models.model_folder("llama", root)
    base = models.mlx_base(folder)
    bank = AdapterBank(base.model)
    adapter = adapter_for(bank, 1, activation, rank=4, scale=0.5)
    to_peft(adapter, tmp_path / "peft", invocation=OPENER)
    model, warned = models.loaded(folder, tmp_path / "peft")
    assert warned == []
    tokens = PROMPTS["several"]
    at_tokens = replace(adapter.config, activation="tokens", tokens=OPENER)
    Adapter.from_layers(at_tokens, adapter.layers).save(tmp_path / "ours")
    ours = models.mlx_logits(base, tmp_path / "ours", tokens)
    assert np.abs(ours - models.torch_logits(model, tokens)).max() <= LARGEST
    from_peft(str(tmp_path / "peft"), tmp_path / "back", base=base)
    assert Adapter.load(tmp_path / "back").content_hash == adapter.content_hash


@pytest.mark.parametrize(
    ("kind", "block", "names"),
    [("qwen3_moe", "mlp", ("gate_proj", "up_proj", "down_proj")), ("mixtral", "block_sparse_moe", ("w1", "w3", "w2"))],
)
def test_experts_as_before_transformers_5_act_as_in_peft(root, tmp_path, kind, block, names):
    folder = models.model_folder(kind, root)
    width, inner = 32, 24 if kind == "qwen3_moe" else 48
    generator = np.random.default_rng(0)
    tensors = {}
    for layer, expert, name in itertools.product(range(3), range(4), names):
        inputs, outputs = (inner, width) if name == names[2] else (width, inner)
        place = f"base_model.model.model.layers.{layer}.{block}.experts.{expert}.{name}"
        tensors[f"{place}.lora_A.weight"] = generator.normal(0, 0.2, (4, inputs)).astype(np.float32)
        tensors[f"{place}.lora_B.weight"] = generator.normal(0, 0.2, (outputs, 4)).astype(np.float32)
    write_adapter(tmp_path / "peft", tensors, r=4, lora_alpha=6, target_modules=list(names))
    expected = models.torch_logits(models.loaded(folder, tmp_path / "peft")[0])
    base = models.mlx_base(folder)
    from_peft(str(tmp_path / "peft"), tmp_path / "ours", base=base)
    assert np.abs(models.mlx_logits(base, tmp_path / "ours") - expected).max() <= LARGEST
    to_peft(Adapter.load(tmp_path / "ours"), tmp_path / "back")
    again, warned = models.loaded(folder, tmp_path / "back")
    # PEFT warns of patterns that name parameters, and matches them all the same.
    assert all("pattern keys did not match any targeted module" in text for text in warned)
    assert np.abs(models.torch_logits(again) - expected).max() <= LARGEST
    from_peft(str(tmp_path / "back"), tmp_path / "again", base=base)
    assert np.abs(models.mlx_logits(base, tmp_path / "again") - expected).max() <= LARGEST


def test_every_field_of_peft_s_configuration_is_in_the_table():
    own = LoraConfig().to_dict() | {"runtime_config": None}
    assert own.keys() == FIELDS.keys()
    stated = {key: field.default for key, field in FIELDS.items()}
    assert {**own, "peft_version": None} == stated
    assert all(field.reason for field in FIELDS.values())
    assert all(field.fix for field in FIELDS.values() if field.verdict == REFUSED)


@pytest.mark.parametrize("activated", [False, True])
def test_logits_are_compared_before_anything_is_written(root, tmp_path, monkeypatch, activated):
    folder = models.model_folder("llama", root)
    own = {"alora_invocation_tokens": list(OPENER)} if activated else {"use_dora": True}
    models.save_adapter(models.torch_model(folder), config_of({"target_modules": ALL, **own}), tmp_path / "peft")
    base = models.mlx_base(folder)
    found = []
    adapter = from_peft(str(tmp_path / "peft"), tmp_path / "ours", base=base, on_verified=found.append)
    to_peft(adapter, tmp_path / "back", base=base, on_verified=found.append)
    assert len(found) == 2 and max(found) <= LARGEST
    ours = verify.mlx_logits
    monkeypatch.setattr(verify, "mlx_logits", lambda *arguments: ours(*arguments) * 1.01)
    with pytest.raises(ConversionError, match="not PEFT's(?s:.*)a difference of 0.0"):
        from_peft(str(tmp_path / "peft"), tmp_path / "wrong", base=base, on_verified=found.append)
    with pytest.raises(ConversionError, match="not PEFT's"):
        to_peft(adapter, tmp_path / "wrong", base=base, on_verified=found.append)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "ours", "peft"]


def test_an_adapter_of_7b_s_size_takes_seconds_and_less_than_2_gib(tmp_path):
    large.write(tmp_path / "peft")
    command = [sys.executable, "-m", "tests.conversion.peft.large", str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, mebibytes = map(float, ran.stdout.split())
    assert mebibytes < 2048
    assert seconds < 60
