"""Writing weights: MLX's quantisation, and files of bounded size."""

from __future__ import annotations

import json
from itertools import pairwise

import mlx.core as mx
import mlx_lm
import pytest
from mlx.utils import tree_flatten
from mlx_lm.utils import quantize_model

from dualtune_mlx.conversion.gguf import from_gguf, plan_conversion
from dualtune_mlx.conversion.gguf import weights as gguf_weights
from dualtune_mlx.conversion.gguf.weights import Quantization, split_into_shards
from dualtune_mlx.errors import UsageError
from tests.conversion.gguf import writer as gguf
from tests.conversion.gguf.test_convert import TOKENS


@pytest.mark.parametrize("kind", gguf.KINDS)
@pytest.mark.parametrize(("bits", "dtype"), [(4, "float32"), (8, "float32"), (4, "bfloat16")])
def test_quantising_on_the_way_is_mlx_lm_s_quantising_afterwards(tmp_path, kind, bits, dtype):
    plan_conversion(gguf.tiny_gguf(tmp_path / "m.gguf", kind), dtype, Quantization(bits, 32)).write(tmp_path / "out")
    model = gguf.network(kind)
    model.set_dtype(getattr(mx, dtype))
    model, config = quantize_model(model, {}, 32, bits)
    expected = dict(tree_flatten(model.parameters()))
    written = mx.load(str(tmp_path / "out" / "model.safetensors"))
    assert written.keys() == expected.keys()
    one = kind == "gemma3"  # its norms scale by 1 + w: near 0 two w in float32 give the same
    assert all(mx.array_equal(one + written[name], one + expected[name]).item() for name in expected)
    assert config.items() <= json.loads((tmp_path / "out" / "config.json").read_text()).items()
    ours, _ = mlx_lm.load(str(tmp_path / "out"))
    assert mx.array_equal(ours(TOKENS), model(TOKENS)).item()


def test_a_plan_says_which_weights_will_be_quantised_and_how_large_they_are(tmp_path):
    plan = plan_conversion(gguf.tiny_gguf(tmp_path / "m.gguf"), "float32", Quantization(4, 64))
    # All rows but those of ffn_down are of 32 values, which is no group of 64.
    chosen = {weight.source for weight in plan.weights if weight.quantization}
    assert chosen == {"blk.0.ffn_down.weight", "blk.1.ffn_down.weight"}
    plan.write(tmp_path / "out")
    written = mx.load(str(tmp_path / "out" / "model.safetensors"))
    assert sum(weight.nbytes for weight in plan.weights) == sum(array.nbytes for array in written.values())


def test_a_group_that_fits_no_weight_is_refused(tmp_path):
    with pytest.raises(UsageError, match="none(?s:.*)groups of 128"):
        plan_conversion(gguf.tiny_gguf(tmp_path / "m.gguf"), "float32", Quantization(4, 128))


@pytest.mark.parametrize(("bits", "group_size"), [(3, 64), (16, 64), (4, 48), (4, 0)])
def test_there_are_few_quantisations(bits, group_size):
    with pytest.raises(UsageError, match=f"got: {bits} bits in groups of {group_size}"):
        Quantization(bits, group_size)


def test_large_models_take_several_files(tmp_path, monkeypatch):
    path = gguf.tiny_gguf(tmp_path / "m.gguf")
    whole = from_gguf(path, tmp_path / "whole")
    monkeypatch.setattr(gguf_weights, "SHARD_BYTES", 30_000)
    parts = from_gguf(path, tmp_path / "parts")
    files = sorted(file.name for file in parts.glob("*.safetensors"))
    assert len(files) > 2
    assert files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    index = json.loads((parts / "model.safetensors.index.json").read_text())
    weights = {file: mx.load(str(parts / file)) for file in files}
    assert index["weight_map"] == {name: file for file in files for name in weights[file]}
    assert index["metadata"]["total_size"] == sum(a.nbytes for file in files for a in weights[file].values())
    expected = mx.load(str(whole / "model.safetensors"))
    assert all(mx.array_equal(expected[name], weights[file][name]).item() for name, file in index["weight_map"].items())
    assert mx.array_equal(mlx_lm.load(str(parts))[0](TOKENS), gguf.network()(TOKENS)).item()


def test_files_hold_what_fits_and_at_least_one_weight(tmp_path):
    weights = plan_conversion(gguf.tiny_gguf(tmp_path / "m.gguf")).weights
    files = split_into_shards(weights, 20_000)
    assert [weight for file in files for weight in file] == weights
    assert all(sum(w.nbytes for w in file) <= 20_000 or len(file) == 1 for file in files)
    assert all(sum(w.nbytes for w in file) + then[0].nbytes > 20_000 for file, then in pairwise(files))
