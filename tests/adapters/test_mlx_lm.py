"""Adapters that mlx-lm itself has trained are used as they are; what cannot be is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm import lora
from mlx_lm.utils import load_adapters
from mlx_lm.utils import load_model as load_with_mlx_lm

from dualtune_mlx.adapters import Adapter, AdapterBank
from dualtune_mlx.bundle.assemble import AdapterSource, assemble
from dualtune_mlx.conversion.peft import from_peft
from dualtune_mlx.errors import AdapterError, ConversionError
from dualtune_mlx.tools import Tool
from tests import tiny
from tests.adapters.adapters import TOKENS
from tests.conversion.peft.files import linear_tensors, write_adapter


def keys(*names: str) -> dict[str, Any]:
    return {"lora_parameters": {"rank": 4, "scale": 10.0, "dropout": 0.1, "keys": list(names)}}


OPTIONS: dict[str, dict[str, Any]] = {
    "mlx-lm's own": {},
    "one layer": {"num_layers": 1},
    "all layers": {"num_layers": -1},
    "DoRA": {"fine_tune_type": "dora"},
    "some keys": keys("self_attn.q_proj", "mlp.up_proj"),
    "the head": keys("self_attn.q_proj", "lm_head"),
    "a whole path": keys("model.layers.0.self_attn.v_proj"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A base model, and data for mlx-lm beside it."""
    root = tmp_path_factory.mktemp("mlx-lm")
    tiny.save(root / "model", tie_word_embeddings=False)
    (root / "data").mkdir()
    for name in ("train", "valid", "test"):
        lines = (json.dumps({"text": f"line {number} of {name}"}) for number in range(4))
        (root / "data" / f"{name}.jsonl").write_text("\n".join(lines))
    return root


def train(folder: Path, adapter: Path, **options: Any) -> Path:
    few = {"iters": 3, "batch_size": 2, "val_batches": 1, "learning_rate": 1e-2, "num_layers": 2, "max_seq_length": 64}
    places = {"model": str(folder / "model"), "data": str(folder / "data"), "adapter_path": str(adapter)}
    lora.run(SimpleNamespace(**{**lora.CONFIG_DEFAULTS, "train": True, **few, **places, **options}))
    return adapter


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_an_adapter_acts_as_in_mlx_lm(folder, tmp_path, options):
    adapter = train(folder, tmp_path / "adapter", **options)
    plain, theirs, ours = (load_with_mlx_lm(folder / "model")[0] for _ in range(3))
    expected = load_adapters(theirs, str(adapter)).eval()(TOKENS)
    bank = AdapterBank(ours)
    bank.activate(bank.load(adapter))
    assert mx.allclose(ours(TOKENS), expected, atol=1e-5).item()
    assert not mx.allclose(plain(TOKENS), expected, atol=1e-2).item()


def test_a_bundle_is_made_of_one_as_it_is(folder, tmp_path):
    adapter = train(folder, tmp_path / "adapter")
    tools = (Tool("read", "Reads.", {"type": "object", "properties": {"path": {"type": "string"}}}, "files"),)
    sources = [AdapterSource("selector", "", str(adapter))]
    bundle = assemble(
        tmp_path / "bundle",
        model=str(folder / "model"),
        tools=tools,
        sources=sources,
        template=tiny.TEMPLATE,
        cards="signature",
    )
    (pair,) = bundle.load_adapters()
    assert pair[1].content_hash == Adapter.load(adapter).content_hash


def test_from_peft_says_that_it_needs_no_conversion(folder, tmp_path):
    adapter = train(folder, tmp_path / "adapter")
    with pytest.raises(ConversionError, match=r"adapter in MLX(?s:.*)use it as it is: dualtune bundle assemble"):
        from_peft(str(adapter), tmp_path / "new")
    (adapter / "adapters.safetensors").rename(adapter / "0000003_adapters.safetensors")
    with pytest.raises(ConversionError, match=r"name its last checkpoint adapters\.safetensors"):
        from_peft(str(adapter), tmp_path / "new")


def test_peft_s_is_to_be_converted(tmp_path):
    write_adapter(tmp_path / "peft", linear_tensors())
    with pytest.raises(AdapterError, match=r"adapter of PEFT's(?s:.*)dualtune convert from-peft"):
        Adapter.load(tmp_path / "peft")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fine_tune_type": "full"}, r"not supported(?s:.*)got: full(?s:.*)mlx_lm\.fuse"),
        (keys("self_attn.q_proj", "model.embed_tokens"), r"update of an embedding(?s:.*)model\.embed_tokens"),
    ],
    ids=["whole weights", "an embedding"],
)
def test_what_would_not_act_as_there_is_refused(folder, tmp_path, options, message):
    with pytest.raises(AdapterError, match=message):
        Adapter.load(train(folder, tmp_path / "adapter", **options))
