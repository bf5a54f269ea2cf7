"""Warming in Python: what is reported, what is left, and how it is stopped; the command's tests have the rest."""

from __future__ import annotations

import warnings
from dataclasses import replace

import mlx.core as mx
import pytest

from dualtune_mlx import DualTune, Tool
from dualtune_mlx.bundle import Bundle
from dualtune_mlx.engine.warm import Prefix, open_store, warm
from dualtune_mlx.errors import UsageError
from dualtune_mlx.kv import PrefixStore, PrefixWarning, Snapshot, kv_fingerprint
from dualtune_mlx.prompts import PromptRenderer, Template
from tests import tiny
from tests.adapters.adapters import adapter_for
from tests.engine.engines import PATH

TOOLS = (Tool("read", "Read.", PATH, "fs"), Tool("list", "List.", PATH, "fs"), Tool("now", "Time.", server="clock"))


@pytest.fixture
def dualtune(tmp_path):
    base = tiny.model()
    bundle = Bundle(tmp_path / "b", base.name, base.fingerprint, "chatml", Template("chatml").hash, "signature")
    for seed, (stage, activation) in enumerate((("selector", "all"), ("arguments", "turn")), 1):
        bundle = bundle.add_adapter(stage, "", adapter_for(base.bank, seed, activation), training={}, tools=TOOLS)
    with DualTune.load(bundle.folder, model=base) as dualtune:
        yield dualtune


def test_every_prefix_is_reported_and_computed_once(dualtune):
    told: list[Prefix] = []
    report = warm(dualtune, report=told.append)
    names = ["all tools", "server fs", "server clock", "all tools under selector"]
    assert [one.name for one in report.prefixes] == [one.name for one in told] == names
    assert [one.tokens for one in report.prefixes] == [len(one.tokens) for one in told]
    assert all(one.seconds is not None for one in report.prefixes)
    assert {path.name for path in report.folder.iterdir()} == {one.file for one in report.prefixes}
    again = warm(dualtune, TOOLS)
    assert [one.seconds for one in again.prefixes] == [None] * 4
    assert (again.saved_seconds, again.removed) == (0, ())
    assert again.to_dict()["prefixes"][0]["tokens"] == len(told[0].tokens)


def test_a_later_engine_begins_with_them(dualtune):
    warm(dualtune)
    with DualTune.load(dualtune.bundle.folder, model=dualtune.base) as later:
        usage = later.call("show a", TOOLS, max_tokens=64).usage
    assert usage.stages["selector"].reused_tokens > usage.stages["selector"].prefilled_tokens


def test_with_sheets_each_tools_own_prefix_is_computed_ahead(dualtune):
    bundle = replace(Bundle.open(dualtune.bundle.folder), argument_card="prefix")
    bundle.write()
    with DualTune.load(bundle.folder, model=dualtune.base) as sheets:
        names = [one.name for one in warm(sheets).prefixes]
    assert [name for name in names if name.startswith("arguments of")] == ["arguments of read", "arguments of list"]
    with DualTune.load(bundle.folder, model=dualtune.base) as later:
        later.arguments("show a", TOOLS[0], TOOLS, max_tokens=64)
        usage = later.call("show a", TOOLS, max_tokens=64).usage
    assert usage.stages.get("arguments") is None or usage.stages["arguments"].prefilled_tokens == 0


def test_an_error_of_the_report_stops_it_and_keeps_what_is_done(dualtune):
    def stop(prefix: Prefix) -> None:
        if prefix.name == "server clock":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        warm(dualtune, report=stop)
    assert dualtune.call("show a", TOOLS, max_tokens=64).name, "the model is free"
    assert [one.seconds is None for one in warm(dualtune).prefixes] == [True, True, False, False]


def test_only_what_has_a_place_and_tools_is_warmed(dualtune, tmp_path):
    base = dualtune.base
    with pytest.raises(UsageError, match="without a bundle"):
        warm(DualTune(base, PromptRenderer(Template("chatml"), base.tokenizer)), TOOLS)
    empty = Bundle(tmp_path / "empty", base.name, base.fingerprint, "chatml", Template("chatml").hash, "signature")
    with pytest.raises(UsageError, match="no tools to warm"):
        warm(DualTune(base, PromptRenderer(Template("chatml"), base.tokenizer), bundle=empty))


def poison(folder, base):
    """A prefix file with other keys and values behind its first tokens, and a checksum of its own."""
    store = PrefixStore(folder / "prefixes", kv_fingerprint(base.model, base.fingerprint), base.snapshot)
    for file in list(store.files):
        snapshot = store.read(file)
        layers = [tuple(array * (mx.arange(array.shape[2]) < 8)[:, None] for array in pair) for pair in snapshot.layers]
        store.save(Snapshot(file.tokens, (tuple(layers),)), file.adapter)
        file.path.unlink()


def test_keys_and_values_that_were_changed_are_not_believed(dualtune):
    bundle, base = dualtune.bundle, dualtune.base
    warm(dualtune)
    assert len(Bundle.open(bundle.folder).prefixes) == 4
    poison(bundle.folder, base)
    with (
        pytest.warns(PrefixWarning, match="the bundle does not name it"),
        DualTune.load(bundle.folder, model=base) as later,
    ):
        call = later.call("show a", TOOLS, max_tokens=64)
    assert call.usage.stages["selector"].reused_tokens == 0
    with pytest.warns(PrefixWarning, match="the bundle does not name it"):
        report = warm(dualtune)
    assert len(report.removed) == 4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(open_store(Bundle.open(bundle.folder), base).files) == 4


def test_prefixes_of_a_bundle_from_before_are_read_as_they_were(dualtune):
    bundle = dualtune.bundle
    warm(dualtune)
    replace(Bundle.open(bundle.folder), prefixes=None).write()
    with DualTune.load(bundle.folder, model=dualtune.base) as later:
        usage = later.call("show a", TOOLS, max_tokens=64).usage
    assert usage.stages["selector"].reused_tokens > 0
    assert [one.seconds for one in warm(dualtune).prefixes] == [None] * 4
    assert len(Bundle.open(bundle.folder).prefixes) == 4
