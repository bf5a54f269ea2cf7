"""The start bundle: packed small, found for its model, and gone on from."""

import mlx.core as mx
import pytest

from dualtune_mlx import start
from dualtune_mlx.bundle import Bundle
from dualtune_mlx.errors import UsageError
from dualtune_mlx.start import start_bundle
from dualtune_mlx.start.packing import lend_adapter, pack_bundle
from dualtune_mlx.tools import Tool
from dualtune_mlx.training.bundles import open_matching
from tests import tiny


@pytest.fixture
def trained(tmp_path):
    """Two bundles of a tiny model, with a stage each."""
    base = tiny.model()
    renderer = tiny.renderer(base)
    bundles = []
    for stage in ("selector", "arguments"):
        template = renderer.template
        bundle = Bundle(tmp_path / stage, base.name, base.fingerprint, template.name, template.hash, renderer.cards)
        adapter = base.bank.new_adapter(rank=2, scale=2.0, activation="turn", seed=1)
        bundles.append(
            bundle.add_adapter(
                stage,
                "",
                adapter,
                training={"rank": 2, "run": "x"},
                tools=[Tool("b", server="a")],
                grounding={"a/b": {"c": ()}},
            )
        )
    return base, renderer, bundles


def test_a_packed_bundle_has_both_adapters_in_16_bits_and_no_tools(trained, tmp_path):
    base, renderer, bundles = trained
    packed = pack_bundle([bundle.folder for bundle in bundles], tmp_path / "packed")
    assert packed.tools == ()
    assert set(packed.stages) == {("selector", ""), ("arguments", "")}
    for bundle, stage in zip(bundles, ("selector", "arguments"), strict=True):
        before, after = bundle.load_adapter(stage), packed.load_adapter(stage)
        assert packed.stages[stage, ""].grounding == {}
        assert packed.stages[stage, ""].training == {"rank": 2}
        for name, update in after.layers.items():
            assert update.a.dtype == mx.float16
            assert mx.array_equal(update.a, before.layers[name].a.astype(mx.float16))
    assert open_matching(packed.folder, base, renderer).folder == packed.folder


def test_a_stage_begins_with_the_adapter_of_another(trained, tmp_path):
    base, renderer, (selector, _) = trained
    lent = open_matching(lend_adapter(selector.folder, "selector", "arguments", tmp_path / "lent"), base, renderer)
    assert set(lent.stages) == {("arguments", "")}
    assert lent.load_adapter("arguments").content_hash == selector.load_adapter("selector").content_hash


def test_nothing_is_packed_over_what_is_there(trained, tmp_path):
    with pytest.raises(UsageError, match="cannot be packed"):
        pack_bundle([bundle.folder for bundle in trained[2]], tmp_path)
    with pytest.raises(UsageError, match="cannot be packed"):
        pack_bundle([], tmp_path / "new")


def test_a_bundle_is_found_by_name_and_by_fingerprint(trained, tmp_path, monkeypatch):
    base, _, bundles = trained
    monkeypatch.setattr(start, "BUNDLES", tmp_path / "bundles")
    assert start_bundle(base) is None
    packed = pack_bundle([bundle.folder for bundle in bundles], tmp_path / "bundles" / "tiny")
    assert start_bundle(base.name) == start_bundle(base) == packed.folder
    assert start_bundle("another") is None


def test_the_shipped_bundles_are_whole_and_small():
    found = [Bundle.open(folder) for folder in sorted(start.BUNDLES.iterdir())]
    assert [bundle.model for bundle in found] == ["smollm2-135m"]
    for bundle in found:
        assert bundle.tools == ()
        assert {"selector", "arguments"} <= {stage for stage, _ in bundle.stages}
        for _, adapter in bundle.load_adapters():
            assert adapter.nbytes < 6_000_000
