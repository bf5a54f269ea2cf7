"""Engines that are loaded: what is refused, and loading without blocking the event loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from dualtune_mlx import DualTune, Tool
from dualtune_mlx.errors import BundleError, UsageError
from dualtune_mlx.models import load_model
from tests.engine.engines import PATH
from tests.engine.test_embedding import make_bundle

TOOLS = [Tool("read_file", "Read.", PATH), Tool("read_dir", "List.", PATH)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("loading"))


def test_an_engine_that_was_loaded_on_a_thread_makes_the_same_calls(bundle):
    async def load_and_call():
        with await DualTune.aload(bundle.folder, memory_budget=2**30, routing="never") as dualtune:
            assert dualtune.routing == "never"
            return await dualtune.acall("show a.txt", TOOLS, max_tokens=64), dualtune.call("show a.txt", TOOLS)

    with DualTune.load(bundle.folder) as dualtune:
        expected = dualtune.call("show a.txt", TOOLS, max_tokens=64)
    made = asyncio.run(load_and_call())
    assert [(call.name, call.arguments) for call in made] == 2 * [(expected.name, expected.arguments)]


@pytest.mark.parametrize("cancelled", [False, True])
def test_loading_leaves_the_event_loop_free_and_cancelling_it_closes_the_engine(bundle, monkeypatch, cancelled):
    base, begun, go_on = load_model(bundle.model), threading.Event(), threading.Event()
    load = DualTune.load

    def load_slowly(*options):
        begun.set()
        assert go_on.wait(60)
        return load(*options)

    async def main():
        loading = asyncio.ensure_future(DualTune.aload(bundle.folder, base))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        if cancelled:
            loading.cancel()
            await asyncio.sleep(0)
        go_on.set()
        return await loading

    monkeypatch.setattr(DualTune, "load", load_slowly)
    if not cancelled:
        with asyncio.run(main()):
            assert len(base.bank.resident) == 2
    else:
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(main())
    assert base.bank.resident == ()


def test_what_cannot_be_loaded_is_told_as_load_tells_it(tmp_path, bundle):
    with pytest.raises(BundleError, match="there is no bundle"):
        asyncio.run(DualTune.aload(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="memory_budget"):
        asyncio.run(DualTune.aload(bundle.folder, memory_budget=-1))


@pytest.mark.parametrize(
    ("folder", "model", "where"), [(None, None, "bundle"), (b"x", None, "bundle"), ("b", 5, "model")]
)
def test_what_is_no_path_and_no_model_is_refused(folder, model, where):
    with pytest.raises(UsageError) as caught:
        DualTune.load(folder, model=model)
    assert caught.value.where == where
