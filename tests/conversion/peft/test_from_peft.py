"""PEFT adapters without torch: names and files in all their forms, and everything that is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.tuner.utils import load_adapters
from mlx_lm.utils import load_model
from safetensors.numpy import save_file

from dualtune_mlx.adapters import Adapter, AdapterBank, SavedModule, TrainedTokenRows
from dualtune_mlx.conversion.peft import BaseCheckpoint, files, from_peft
from dualtune_mlx.conversion.peft import base as peft_base
from dualtune_mlx.conversion.peft import config as peft_config
from dualtune_mlx.conversion.peft.names import mlx_path, parse_key, peft_path
from dualtune_mlx.errors import AdapterError, ConversionError, DualTuneError, UsageError
from tests import tiny
from tests.conversion.peft.files import CONFIG, PREFIX, WEIGHTS, linear_tensors, write_adapter

TOKENS = mx.array([[7, 30, 12, 99, 4, 51]])
Q = f"{PREFIX}model.layers.0.self_attn.q_proj"
V = f"{PREFIX}model.layers.1.self_attn.v_proj"
EMBEDDING, HEAD = f"{PREFIX}model.embed_tokens", f"{PREFIX}lm_head"
SHARD = "adapter_model-0000{}-of-00002.safetensors"
INDEX = "adapter_model.safetensors.index.json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("model") / "tiny", tie_word_embeddings=False)


def base_for(folder, fingerprint="weights") -> BaseCheckpoint:
    network, config = load_model(folder)
    return BaseCheckpoint(str(folder), network, {**config, "architectures": ["LlamaForCausalLM"]}, lambda: fingerprint)


@pytest.fixture
def base(folder) -> BaseCheckpoint:
    return base_for(folder)


def convert(tmp_path, base=None) -> Adapter:
    from_peft(str(tmp_path / "peft"), tmp_path / "ours", base=base)
    return Adapter.load(tmp_path / "ours")


def same(left: Adapter, right: Adapter) -> bool:
    return left.content_hash == right.content_hash


@pytest.mark.parametrize("given", [True, False], ids=["with its model", "alone"])
def test_a_and_b_are_transposed_and_the_scale_is_alpha_over_r(tmp_path, base, given):
    tensors = linear_tensors()
    write_adapter(tmp_path / "peft", tensors, lora_alpha=6)
    adapter = convert(tmp_path, base if given else None)
    assert (adapter.config.rank, adapter.config.scale, adapter.config.activation) == (4, 1.5, "all")
    assert adapter.config.keys == ("self_attn.q_proj", "self_attn.v_proj")
    assert adapter.config.layers == ((-2, None) if given else (0, 2))
    assert not adapter.config.lists_paths
    update = adapter.layers["model.layers.0.self_attn.q_proj"]
    assert np.array_equal(update.a, tensors[f"{Q}.lora_A.weight"].T)
    assert np.array_equal(update.b, tensors[f"{Q}.lora_B.weight"].T)


def test_an_adapter_of_one_rank_and_scale_also_loads_in_mlx_lm(tmp_path, folder, base):
    write_adapter(tmp_path / "peft", linear_tensors())
    adapter = convert(tmp_path, base)
    bank = AdapterBank(base.model)
    bank.activate(bank.load(adapter))
    theirs = load_adapters(load_model(folder)[0], str(tmp_path / "ours"))
    assert mx.allclose(base.model(TOKENS), theirs(TOKENS), atol=1e-6).item()


def test_mlx_lm_refuses_one_of_several_scales(tmp_path, folder):
    write_adapter(tmp_path / "peft", linear_tensors(), alpha_pattern={"q_proj": 3})
    adapter = convert(tmp_path)
    assert adapter.config.lists_paths
    assert {name.rpartition(".")[2]: scale for name, scale in adapter.config.scales.items()} == {
        "q_proj": 0.75,
        "v_proj": 2.0,
    }
    with pytest.raises(TypeError):
        load_adapters(load_model(folder)[0], str(tmp_path / "ours"))


@pytest.mark.parametrize(
    "rename",
    [
        lambda key: key.removeprefix(PREFIX),
        lambda key: PREFIX + key,
        lambda key: key.replace(".weight", ".default.weight"),
        lambda key: key.replace(".weight", ".my-adapter.weight").removeprefix(PREFIX),
        lambda key: key.removesuffix(".weight"),
        lambda key: key.replace(f"{PREFIX}model.", f"{PREFIX}model.language_model."),
        lambda key: key.replace(f"{PREFIX}model.", f"{PREFIX}language_model.model."),
    ],
    ids=["no prefix", "twice", "adapter's name", "name, no prefix", "no weight", "multimodal", "older multimodal"],
)
def test_the_names_of_other_writers_say_the_same(tmp_path, base, rename):
    tensors = linear_tensors()
    write_adapter(tmp_path / "plain", tensors)
    from_peft(str(tmp_path / "plain"), tmp_path / "expected", base=base)
    write_adapter(tmp_path / "peft", {rename(key): value for key, value in tensors.items()})
    assert same(convert(tmp_path, base), Adapter.load(tmp_path / "expected"))


def test_an_adapter_fits_the_language_model_of_a_wrapper(tmp_path):
    folder = tiny.save(tmp_path / "wrapped", kind="mistral3")
    tensors = {key.replace("model.layers", "model.language_model.layers"): v for key, v in linear_tensors().items()}
    write_adapter(tmp_path / "peft", tensors)
    adapter = convert(tmp_path, base_for(folder))
    assert all(path.startswith("language_model.model.layers.") for path in adapter.layers)
    assert same(adapter, Adapter.from_layers(adapter.config, adapter.layers))


def test_unsloth_s_configuration_is_read(tmp_path, base):
    write_adapter(
        tmp_path / "peft",
        linear_tensors(),
        target_modules=r"(?:.*?(?:language|text).*?(?:self_attn|mlp).*?(?:q_proj|v_proj).*?)|(?:\bmodel\.layers.*)",
        base_model_name_or_path="unsloth/tiny-bnb-4bit",
        auto_mapping={"base_model_class": "LlamaForCausalLM", "parent_library": "transformers", "unsloth_fixed": True},
        loftq_config=None,
        eva_config=None,
        rank_pattern=None,
        alpha_pattern=None,
        unsloth_version=None,
    )
    assert convert(tmp_path, base).config.rank == 4


def write_shards(folder: Path, tensors, listed=None) -> Path:
    write_adapter(folder, {})
    (folder / WEIGHTS).unlink()
    keys, names = sorted(tensors), (SHARD.format(1), SHARD.format(2))
    halves = [{key: tensors[key] for key in keys[:4]}, {key: tensors[key] for key in keys[4:]}]
    for name, half in zip(names, halves, strict=True):
        save_file(half, folder / name, metadata={"format": "pt"})
    weight_map = {key: name for name, half in zip(names, halves, strict=True) for key in half}
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map if listed is None else listed}))
    return folder


def test_shards_are_one_adapter(tmp_path, base):
    tensors = linear_tensors()
    write_shards(tmp_path / "peft", tensors)
    write_adapter(tmp_path / "whole", tensors)
    from_peft(str(tmp_path / "whole"), tmp_path / "expected", base=base)
    assert same(convert(tmp_path, base), Adapter.load(tmp_path / "expected"))


def test_a_hub_id_is_downloaded_without_pickles(tmp_path, monkeypatch):
    write_adapter(tmp_path / "snapshot", linear_tensors())
    asked = []

    def download(repository, allow_patterns):
        asked.append((repository, allow_patterns))
        return str(tmp_path / "snapshot")

    monkeypatch.setattr(files, "snapshot_download", download)
    from_peft("someone/adapter", tmp_path / "ours")
    ((repository, patterns),) = asked
    assert repository == "someone/adapter"
    assert all(pattern.endswith((".json", ".safetensors")) for pattern in patterns)


def test_ranks_and_alphas_are_those_of_the_first_pattern_that_matches(tmp_path):
    tensors = linear_tensors(("q_proj",), rank=2) | linear_tensors(("v_proj",), rank=3)
    write_adapter(
        tmp_path / "peft",
        tensors,
        r=9,
        use_rslora=True,
        rank_pattern={"proj": 7, r".*q_proj": 2, "q_proj": 5, r"layers\.\d\.self_attn\.v_proj": 3},
        alpha_pattern={"^model.layers.1.self_attn.q_proj": 5, "q_proj": 6},
    )
    scales = convert(tmp_path).config.scales
    assert scales["model.layers.0.self_attn.q_proj"] == 6 / 2**0.5
    assert scales["model.layers.1.self_attn.q_proj"] == 5 / 2**0.5
    assert scales["model.layers.1.self_attn.v_proj"] == 8 / 3**0.5


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16, mx.float32])
def test_the_tensors_types_stay(tmp_path, dtype):
    tensors = {key: mx.array(value).astype(dtype) for key, value in linear_tensors().items()}
    folder = write_adapter(tmp_path / "peft", {})
    mx.save_safetensors(str(folder / WEIGHTS), tensors)
    adapter = convert(tmp_path)
    assert {array.dtype for update in adapter.layers.values() for array in update.parts.values()} == {dtype}
    assert mx.array_equal(adapter.layers["model.layers.0.self_attn.q_proj"].a, tensors[f"{Q}.lora_A.weight"].T).item()


def test_saved_modules_and_rows_are_swapped_in_and_out(tmp_path, base):
    generator = np.random.default_rng(0)
    head, norm = generator.normal(size=(272, 32)).astype(np.float32), np.full(32, 2, np.float32)
    rows = generator.normal(size=(2, 32)).astype(np.float32)
    write_adapter(
        tmp_path / "peft",
        {
            **linear_tensors(),
            f"{HEAD}.weight": head,
            f"{PREFIX}model.norm.modules_to_save.default.weight": norm,
            f"{EMBEDDING}.token_adapter.trainable_tokens_delta": rows,
        },
        modules_to_save=["lm_head", "norm"],
        trainable_token_indices=[30, 7],
    )
    adapter = convert(tmp_path, base)
    assert {path: type(own) for path, own in adapter.modules.items()} == {
        "lm_head": SavedModule,
        "model.norm": SavedModule,
        "model.embed_tokens": TrainedTokenRows,
    }
    before = np.array(base.model(TOKENS))
    expected = load_model(Path(base.name))[0]
    expected.lm_head.weight, expected.model.norm.weight = mx.array(head), mx.array(norm)
    expected.model.embed_tokens.weight[mx.array([30, 7])] = mx.array(rows)
    bank = AdapterBank(base.model)
    resident = bank.load(adapter)
    plain = AdapterBank(expected)
    low_rank = Adapter.from_layers(adapter.config, adapter.layers)
    with plain.overriding(low_rank.layers):
        for _ in range(2):
            bank.activate(resident)
            assert mx.allclose(base.model(TOKENS), expected(TOKENS), atol=1e-5).item()
            bank.activate(None)
            assert np.array_equal(np.array(base.model(TOKENS)), before)


def test_a_copy_of_the_base_s_embedding_is_left_out(tmp_path, base):
    own = np.array(base.modules["model.embed_tokens"].weight)
    update = {f"{EMBEDDING}.lora_embedding_A": np.ones((4, 272), np.float32)}
    update[f"{EMBEDDING}.lora_embedding_B"] = np.ones((32, 4), np.float32)
    write_adapter(tmp_path / "peft", {**update, f"{EMBEDDING}.base_layer.weight": own})
    adapter = convert(tmp_path, base)
    assert (list(adapter.layers), adapter.modules) == (["model.embed_tokens"], {})


def test_a_dry_run_writes_nothing(tmp_path, base):
    write_adapter(tmp_path / "peft", linear_tensors())
    assert from_peft(str(tmp_path / "peft"), tmp_path / "ours", base=base, dry_run=True).layers
    assert not (tmp_path / "ours").exists()


def without(tensors, *endings):
    return {key: value for key, value in tensors.items() if not key.endswith(endings)}


def change_field(key, value):
    return {**linear_tensors(), key: value}


def ones(*shape):
    return np.ones(shape, np.float32)


M = f"{Q}.lora_magnitude_vector"
ROWS = f"{EMBEDDING}.token_adapter.trainable_tokens_delta"
FIELDS = [
    # (fields, words): the tensors are sound
    ({"peft_type": "LOHA"}, ["kind of PEFT adapter", "LOHA"]),
    ({"peft_type": ...}, ["kind of PEFT adapter", "None"]),
    ({"task_type": "SEQ_CLS"}, ["another task", "SEQ_CLS"]),
    ({"bias": "all"}, ["bias cannot be converted", "'all'", "merge"]),
    ({"bias": "lora_only"}, ["bias cannot be converted", "'lora_only'"]),
    ({"lora_bias": True}, ["lora_bias cannot be converted"]),
    ({"use_qalora": True}, ["use_qalora cannot be converted", "groups"]),
    ({"use_bdlora": {"nblocks": 2}}, ["use_bdlora cannot be converted"]),
    ({"arrow_config": {"top_k": 2}}, ["arrow_config cannot be converted", "one by one"]),
    ({"kasa_config": {"beta": 1e-4}}, ["kasa_config cannot be converted"]),
    ({"monteclora_config": {"num_samples": 2}}, ["monteclora_config cannot be converted"]),
    ({"velora_config": {"num_groups": 2}}, ["velora_config cannot be converted"]),
    ({"layer_replication": [[0, 2], [1, 2]]}, ["layer_replication cannot be converted"]),
    ({"megatron_config": {"a": 1}}, ["megatron_config cannot be converted"]),
    ({"ensure_weight_tying": True}, ["ensure_weight_tying cannot be converted"]),
    ({"init_lora_weights": "pissa"}, ["init_lora_weights", "'pissa'", "path_initial_model"]),
    ({"init_lora_weights": "pissa_niter_16"}, ["init_lora_weights", "'pissa_niter_16'"]),
    ({"init_lora_weights": "olora"}, ["init_lora_weights", "'olora'"]),
    ({"init_lora_weights": "corda"}, ["init_lora_weights", "'corda'"]),
    ({"init_lora_weights": "lora_ga"}, ["init_lora_weights", "'lora_ga'"]),
    ({"init_lora_weights": "loftq"}, ["init_lora_weights", "'loftq'"]),
    ({"next_years_lora": 1}, ["not known", "next_years_lora"]),
    ({"r": 0}, ["another form", ": r", "positive"]),
    ({"r": "4"}, ["another form", ": r"]),
    ({"r": 5}, ["rank is not the one", "got: 4", "expected: 5"]),
    ({"lora_alpha": float("inf")}, ["another form", "lora_alpha"]),
    ({"lora_alpha": None}, ["another form", "lora_alpha"]),
    ({"use_rslora": 1}, ["another form", "use_rslora"]),
    ({"rank_pattern": {"q_proj": 2}}, ["rank is not the one", "q_proj"]),
    ({"rank_pattern": {"q_proj": -2}}, ["another form", "rank_pattern"]),
    ({"rank_pattern": ["q_proj"]}, ["another form", "rank_pattern"]),
    ({"alpha_pattern": {"(": 2}}, ["pattern of layer names", "'('"]),
    ({"use_dora": True}, ["use_dora and the tensors", "lora_magnitude_vector"]),
    ({"alora_invocation_tokens": []}, ["another form", "alora_invocation_tokens"]),
    ({"alora_invocation_tokens": [1, -2]}, ["another form", "alora_invocation_tokens"]),
    ({"modules_to_save": ["lm_head"]}, ["have no weights", "lm_head"]),
    ({"modules_to_save": "lm_head"}, ["another form", "modules_to_save"]),
    ({"trainable_token_indices": [1, 2]}, ["have no weights", "trainable_token_indices"]),
    ({"auto_mapping": {"base_model_class": "Qwen2ForCausalLM"}}, ["not the one", "LlamaForCausalLM", "Qwen2"]),
    ({"auto_mapping": "Llama"}, ["another form", "auto_mapping"]),
    ({"base_model_name_or_path": 7}, ["another form", "base_model_name_or_path"]),
]
TENSORS = [
    # (tensors, fields, words)
    (without(linear_tensors(), "0.self_attn.q_proj.lora_A.weight"), {}, ["without their counterparts", "b alone"]),
    (without(linear_tensors(), "1.self_attn.v_proj.lora_B.weight"), {}, ["without their counterparts", "a alone"]),
    (change_field(M, ones(32)), {}, ["use_dora and the tensors"]),
    ({M: ones(32)}, {"use_dora": True}, ["without their counterparts", "m alone"]),
    (change_field(f"{Q}.lora_C.weight", ones(4, 4)), {}, ["unknown", "lora_C"]),
    (change_field("odd", ones(4)), {}, ["unknown", "odd: not known"]),
    (change_field(f"{Q}.lora_B.bias", ones(32)), {}, ["unknown", "lora_B.bias"]),
    (change_field(f"{Q}.lora_A.second.weight", ones(4, 32)), {}, ["a tensor twice", "one adapter a folder"]),
    (change_field(f"{Q}.lora_A.weight", ones(4, 31)), {}, ["does not fit", "a (31, 4)"]),
    (change_field(f"{Q}.lora_B.weight", ones(33, 4)), {}, ["does not fit", "b (4, 33)"]),
    (change_field(f"{Q}.lora_B.weight", ones(32, 5)), {}, ["do not go together", "(32, 5)"]),
    (change_field(f"{Q}.lora_A.weight", ones(4, 32, 1)), {}, ["do not go together", "(4, 32, 1)"]),
    (change_field(f"{Q}.lora_A.weight", ones(0, 32)), {}, ["do not go together", "(0, 32)"]),
    (change_field(f"{Q}.lora_A.weight", np.full((4, 32), np.nan, np.float32)), {}, ["NaN", "q_proj (a)"]),
    (change_field(f"{V}.lora_B.weight", np.full((16, 4), np.inf, np.float32)), {}, ["infinite", "v_proj (b)"]),
    (change_field(f"{Q}.lora_A.weight", np.ones((4, 32), np.int8)), {}, ["type", "I8", "BF16"]),
    (change_field(f"{Q}.lora_A.weight", np.ones((4, 32))), {}, ["type", "F64"]),
    (linear_tensors(layers=3), {}, ["does not fit", "model.layers.2.self_attn.q_proj: the model has no such"]),
    ({}, {}, ["no tensors"]),
    (
        change_field(f"{HEAD}.weight", ones(272, 32)),
        {},
        ["holds weights of the base", "other weights than the model's"],
    ),
    (change_field(f"{HEAD}.weight", ones(270, 32)), {"modules_to_save": ["lm_head"]}, ["does not fit", "(270, 32)"]),
    (
        change_field(f"{PREFIX}model.layers.0.mlp.weight", ones(4)),
        {"modules_to_save": ["mlp"]},
        ["does not fit", "no such update fits"],
    ),
    (change_field(ROWS, ones(2, 32)), {"trainable_token_indices": [1, 2, 3]}, ["trained rows", "2 rows, 3 token ids"]),
    (change_field(ROWS, ones(2, 32)), {"trainable_token_indices": [1, 1]}, ["trained rows", "1 different"]),
    (change_field(ROWS, ones(1, 32)), {"trainable_token_indices": [272]}, ["does not fit", "[272]"]),
    (change_field(ROWS, ones(1, 31)), {"trainable_token_indices": [3]}, ["does not fit", "rows (1, 31)"]),
    (
        change_field(f"{Q}.weight", ones(32, 32)),
        {"modules_to_save": ["q_proj"]},
        ["without their counterparts", "q_proj"],
    ),
    (
        {f"{EMBEDDING}.lora_embedding_A": ones(4, 272), f"{EMBEDDING}.lora_embedding_B": ones(32, 4)},
        {"use_dora": True},
        ["DoRA of an embedding"],
    ),
    (
        {f"{EMBEDDING}.lora_embedding_A": ones(4, 272), f"{EMBEDDING}.lora_embedding_B": ones(32, 4)},
        {"alora_invocation_tokens": [5]},
        ["activated adapter", "embed_tokens"],
    ),
    (
        {f"{EMBEDDING}.lora_embedding_A": ones(4, 272), f"{EMBEDDING}.lora_embedding_B": ones(32, 4)}
        | {f"{EMBEDDING}.base_layer.weight": ones(272, 32)},
        {},
        ["holds weights of the base", "base_layer"],
    ),
    (
        change_field(f"{HEAD}.weight", ones(272, 32)),
        {"modules_to_save": ["lm_head"], "alora_invocation_tokens": [5]},
        ["activated adapter", "lm_head"],
    ),
    (
        {f"{PREFIX}model.layers.0.mlp.experts.0.up_proj.lora_{part}.weight": ones(4, 4) for part in "AB"},
        {},
        ["experts", "got: llama"],
    ),
]


def check_refused(tmp_path, base, words, error=DualTuneError):
    with pytest.raises(error) as caught:
        from_peft(str(tmp_path / "peft"), tmp_path / "ours", base=base)
    for word in words:
        assert word in str(caught.value)
    assert os.listdir(tmp_path) == ["peft"]
    return str(caught.value)


@pytest.mark.parametrize(("fields", "words"), FIELDS, ids=lambda value: str(value)[:40])
def test_a_field_that_cannot_be_kept_is_named(tmp_path, base, fields, words):
    write_adapter(tmp_path / "peft", linear_tensors(), **fields)
    check_refused(tmp_path, base, [*words, CONFIG], ConversionError)


@pytest.mark.parametrize(("tensors", "fields", "words"), TENSORS, ids=lambda value: str(value)[:40])
def test_bad_tensors_are_named(tmp_path, base, tensors, fields, words):
    write_adapter(tmp_path / "peft", tensors, **fields)
    check_refused(tmp_path, base, words, (ConversionError, AdapterError))


def test_the_messages_are_each_their_own(tmp_path, base):
    sentences = set()
    for number, (fields, words) in enumerate(FIELDS):
        write_adapter(tmp_path / str(number) / "peft", linear_tensors(), **fields)
        sentences.add(check_refused(tmp_path / str(number), base, words).replace(str(tmp_path / str(number)), ""))
    assert len(sentences) == len(FIELDS)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / CONFIG).unlink(), ["cannot be read", CONFIG]),
        (lambda folder: (folder / CONFIG).write_text("{"), ["cannot be read", CONFIG]),
        (lambda folder: (folder / CONFIG).write_text("[]"), ["not a JSON object"]),
        (lambda folder: (folder / CONFIG).write_text("[" * 100_000), ["cannot be read", "recursion"]),
        (lambda folder: (folder / WEIGHTS).unlink(), ["were not found", WEIGHTS]),
        (lambda folder: (folder / WEIGHTS).rename(folder / "adapter_model.bin"), ["pickle", "adapter_model.bin"]),
        (lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-8]), ["cannot be read"]),
        (lambda folder: (folder / WEIGHTS).write_bytes(b"\xff" * 64), ["cannot be read", WEIGHTS]),
        (lambda folder: (folder / WEIGHTS).write_bytes(b""), ["cannot be read", WEIGHTS]),
        (lambda folder: (folder / WEIGHTS).rename(folder / SHARD.format(1)), ["no index of them", SHARD.format(1)]),
    ],
    ids=["no config", "half a config", "a list", "deep", "no weights", "pickle", "cut", "noise", "empty", "no index"],
)
def test_damaged_files_are_named(tmp_path, base, damage, words):
    damage(write_adapter(tmp_path / "peft", linear_tensors()))
    check_refused(tmp_path, base, words, ConversionError)


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        ({"a": "../secret.safetensors"}, ["something else than a file beside it", "../secret"]),
        ({"a": "/etc/secret.safetensors"}, ["something else", "/etc"]),
        ({"a": "sub/x.safetensors"}, ["something else", "sub/x"]),
        ({"a": "adapter_model.bin"}, ["something else", "adapter_model.bin"]),
        ({"a": 7}, ["something else", "got: 7"]),
        ({"a": []}, ["cannot be read"]),
        ({"a": "missing.safetensors"}, ["is missing", "missing.safetensors"]),
        ("text", ["cannot be read"]),
    ],
)
def test_an_index_leads_nowhere_else(tmp_path, base, listed, words):
    (tmp_path / "secret.safetensors").write_bytes(b"")
    write_shards(tmp_path / "peft", linear_tensors(), listed=listed)
    (tmp_path / "secret.safetensors").unlink()
    check_refused(tmp_path, base, words, ConversionError)


def test_a_tensor_in_two_files_is_refused(tmp_path, base):
    tensors = linear_tensors()
    folder = write_shards(tmp_path / "peft", tensors)
    save_file(dict(sorted(tensors.items())[3:]), folder / SHARD.format(2))
    check_refused(tmp_path, base, ["in two files", SHARD.format(2)], ConversionError)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({f"model.layers.0.mlp.experts.0.up_proj.lora_{part}.weight": ones(4, 4) for part in "AB"}, "no model"),
        ({**linear_tensors(), f"{EMBEDDING}.base_layer.weight": ones(272, 32)}, "only the model"),
    ],
    ids=["experts", "copy"],
)
def test_what_only_the_model_can_say_needs_it(tmp_path, tensors, words):
    write_adapter(tmp_path / "peft", tensors)
    check_refused(tmp_path, None, [words, "--model"], ConversionError)


def test_a_pattern_that_takes_too_long_is_refused(tmp_path, base, monkeypatch):
    monkeypatch.setattr(peft_config, "PATTERN_SECONDS", 1e-6)
    write_adapter(tmp_path / "peft", linear_tensors(), alpha_pattern={r"(?:.?){30}(?:.?){30}(?:.?){30}(?<=\d)": 2})
    check_refused(tmp_path, base, ["pattern of layer names", "timed out"], ConversionError)


def test_a_tied_head_is_refused_by_name(tmp_path):
    folder = tiny.save(tmp_path / "tied")
    write_adapter(
        tmp_path / "adapter" / "peft", {f"{HEAD}.lora_A.weight": ones(4, 32), f"{HEAD}.lora_B.weight": ones(272, 4)}
    )
    check_refused(tmp_path / "adapter", base_for(folder), ["shares with its embedding", "lm_head"], ConversionError)


def test_a_base_in_the_hub_s_cache_is_compared(tmp_path, base, monkeypatch):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    monkeypatch.setattr(peft_base, "try_to_load_from_cache", lambda name, file: str(tmp_path / file))
    write_adapter(tmp_path / "one" / "peft", linear_tensors(), base_model_name_or_path="some/model")
    check_refused(tmp_path / "one", base, ["not the one", "model_type llama, not qwen2", "some/model"], ConversionError)


@pytest.mark.parametrize("named", ["", "smollm2-135m", "no/such", "/no/such", "a b/c?", "../up"])
def test_a_base_that_is_not_here_is_not_compared(tmp_path, base, named):
    write_adapter(tmp_path / "peft", linear_tensors(), base_model_name_or_path=named)
    assert convert(tmp_path, base).layers


def test_another_base_is_refused(tmp_path, base):
    other = tiny.save(tmp_path / "other", intermediate_size=96)
    write_adapter(tmp_path / "one" / "peft", linear_tensors(), base_model_name_or_path=str(other))
    check_refused(tmp_path / "one", base, ["not the one", "intermediate_size 64, not 96", str(other)], ConversionError)
    own = {"dualtune": json.dumps({"fingerprint": "a" * 64})}
    write_adapter(tmp_path / "two" / "peft", linear_tensors(), metadata=own)
    check_refused(tmp_path / "two", base, ["not the one", "weights aaaaaaaaaaaa"], ConversionError)
    base = base_for(Path(base.name), "a" * 64)
    from_peft(str(tmp_path / "two" / "peft"), tmp_path / "two" / "ours", base=base)


@pytest.mark.parametrize("source", ["nowhere", "./no/where", "/no/where", "a/b/c"])
def test_a_missing_adapter_is_named(tmp_path, source):
    with pytest.raises(ConversionError, match=f"was not found(?s:.*){source}"):
        from_peft(source, tmp_path / "ours")


def test_an_existing_destination_is_kept(tmp_path):
    write_adapter(tmp_path / "peft", linear_tensors())
    (tmp_path / "ours").mkdir()
    with pytest.raises(UsageError, match="exists already"):
        from_peft(str(tmp_path / "peft"), tmp_path / "ours")
    assert list((tmp_path / "ours").iterdir()) == []


@pytest.mark.parametrize(
    ("key", "module", "part"),
    [
        ("base_model.model.a.q.lora_A.weight", "a.q", "a"),
        ("a.q.lora_B.default.weight", "a.q", "b"),
        ("a.q.lora_magnitude_vector", "a.q", "m"),
        ("a.q.lora_magnitude_vector.default.weight", "a.q", "m"),
        ("e.lora_embedding_A", "e", "a"),
        ("e.lora_embedding_B.default", "e", "b"),
        ("e.token_adapter.trainable_tokens_delta", "e", "rows"),
        ("e.token_adapter.trainable_tokens_delta.default", "e", "rows"),
        ("h.modules_to_save.default.weight", "h", "weight"),
        ("h.bias", "h", "bias"),
        ("m.experts.base_layer.lora_A.weight", "m.experts.base_layer", "a"),
    ],
)
def test_a_key_says_the_module_and_the_part(key, module, part):
    assert parse_key(key)[:2] == (module, part)


WRAPPED = {
    "torch.compile": lambda key: f"_orig_mod.{key}",
    "torch.compile inside": lambda key: key.replace(PREFIX, f"{PREFIX}_orig_mod."),
    "DataParallel": lambda key: f"module.{key}",
    "DataParallel of compiled": lambda key: f"module._orig_mod.{key}",
    "compiled DataParallel inside": lambda key: key.replace(PREFIX, f"{PREFIX}_orig_mod.module."),
    "checkpointed layers": lambda key: key.replace(".self_attn", "._checkpoint_wrapped_module.self_attn"),
    "sharded layers": lambda key: key.replace("model.layers", "_fsdp_wrapped_module.model.layers"),
    "compiled linear layers": lambda key: key.replace(".lora_", "._orig_mod.lora_"),
}


@pytest.mark.parametrize("given", [True, False], ids=["with its model", "alone"])
@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_what_was_wrapped_around_modules_is_not_their_name(tmp_path, base, wrap, given):
    tensors = linear_tensors()
    for name, wrapper in (("plain", lambda key: key), ("wrapped", wrap)):
        keys = {wrapper(key): tensor for key, tensor in tensors.items()}
        write_adapter(tmp_path / name / "peft", keys, alpha_pattern={wrapper("model.layers.0.self_attn.q_proj"): 3})
    plain, wrapped = (convert(tmp_path / name, base if given else None) for name in ("plain", "wrapped"))
    assert same(plain, wrapped)
    assert plain.config.scale_of("model.layers.0.self_attn.q_proj") == 0.75


def test_a_module_wrapped_and_plain_is_there_twice(tmp_path):
    tensors = linear_tensors()
    write_adapter(tmp_path / "peft", tensors | {f"module.{key}": tensor for key, tensor in tensors.items()})
    check_refused(tmp_path, None, ["a tensor twice"], ConversionError)


@pytest.mark.parametrize("given", [True, False], ids=["with its model", "alone"])
def test_other_beginnings_of_paths_are_refused(tmp_path, base, given):
    write_adapter(tmp_path / "peft", linear_tensors(prefix=f"{PREFIX}policy."))
    error = AdapterError if given else ConversionError
    check_refused(tmp_path, base if given else None, ["policy.model.layers.0.self_attn.q_proj"], error)


@pytest.mark.parametrize("key", ["", "q.lora_A.bias", "q.lora_E", "q.lora_velora_embed", "q.lora_diag.weight"])
def test_other_keys_say_nothing(key):
    assert parse_key(key) is None


@pytest.mark.parametrize(
    ("path", "modules", "here"),
    [
        ("model.layers.0.q", {"model.layers.0.q"}, "model.layers.0.q"),
        ("model.layers.0.q", {"language_model.model.layers.0.q"}, "language_model.model.layers.0.q"),
        ("model.language_model.layers.0.q", {"language_model.model.layers.0.q"}, "language_model.model.layers.0.q"),
        ("model.language_model.layers.0.q", {"model.layers.0.q"}, "model.layers.0.q"),
        ("model.language_model.layers.0.q", None, "language_model.model.layers.0.q"),
        ("lm_head", {"language_model.lm_head"}, "language_model.lm_head"),
        ("model.layers.0.mlp.gate", {"model.layers.0.block_sparse_moe.gate"}, "model.layers.0.block_sparse_moe.gate"),
        ("nowhere", {"model.layers.0.q"}, "nowhere"),
    ],
)
def test_paths_are_found_in_the_model(path, modules, here):
    assert mlx_path(path, modules) == here


def test_paths_go_back_to_transformers():
    assert peft_path("language_model.model.layers.0.q") == "model.language_model.layers.0.q"
    assert peft_path("language_model.lm_head") == "lm_head"
    assert peft_path("model.layers.0.q") == "model.layers.0.q"
