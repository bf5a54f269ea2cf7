"""The engine inside an application: it takes nothing that it does not give back, and touches nothing else."""

from __future__ import annotations

import asyncio
import gc
import random
import subprocess
import sys
import textwrap
from pathlib import Path

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from dualtune_mlx import DualTune, Tool
from dualtune_mlx.bundle import Bundle
from dualtune_mlx.errors import ModelError, UsageError
from dualtune_mlx.models import FUSED_BUDGET, load_model
from dualtune_mlx.prompts import Template
from tests import tiny
from tests.adapters.adapters import adapter_for
from tests.engine.engines import PATH

TOOLS = [Tool("read_file", "Read.", PATH), Tool("read_dir", "List.", PATH)]
SLACK = 4096
"""Bytes: MLX keeps some scalars of its own, the random state for example."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("embedding"))


def make_bundle(folder: Path, quantized: bool = False) -> Bundle:
    model = load_model(str(tiny.save(folder / "model", quantized=quantized)))
    bundle = Bundle(folder / "bundle", model.name, model.fingerprint, "chatml", Template("chatml").hash, "signature")
    for seed, stage in enumerate(("selector", "arguments"), 1):
        bundle = bundle.add_adapter(stage, "", adapter_for(model.bank, seed, "turn"), training={}, tools=TOOLS)
    return bundle


def active_bytes() -> int:
    gc.collect()
    mx.clear_cache()
    return mx.get_active_memory()


def use(dualtune: DualTune) -> None:
    """Fill every cache: prefixes, fused weights, the asynchronous thread."""
    dualtune.base.fusion.policy = "always"
    dualtune.call("show a.txt", TOOLS, max_tokens=64)
    dualtune.arguments("show a.txt", TOOLS[0], TOOLS, max_tokens=64)
    asyncio.run(dualtune.acall("show b.txt", TOOLS, max_tokens=64))


def test_an_engine_that_loaded_its_model_gives_everything_back(bundle):
    before = active_bytes()
    dualtune = DualTune.load(bundle.folder)
    loaded = active_bytes()
    use(dualtune)
    assert active_bytes() > loaded > before + 10 * SLACK
    dualtune.close()
    assert active_bytes() - before < SLACK


def test_an_engine_over_a_model_of_the_application_gives_back_what_it_added(bundle):
    base = load_model(bundle.model)
    before = active_bytes()
    dualtune = DualTune.load(bundle.folder, model=base)
    use(dualtune)
    assert active_bytes() > before + 10 * SLACK
    dualtune.close()
    assert active_bytes() - before < SLACK
    assert base.bank.resident == ()
    assert base.bank.active is None


def test_what_another_engine_or_the_application_uses_stays(bundle):
    base = load_model(bundle.model)
    own = base.bank.load(adapter_for(base.bank, 9, "turn"))
    first, second = (DualTune.load(bundle.folder, model=base) for _ in range(2))
    expected = {tool.name: p for tool, p in second.select("show a.txt", TOOLS)}
    first.close()
    assert len(base.bank.resident) == 3
    assert {tool.name: p for tool, p in second.select("show a.txt", TOOLS)} == pytest.approx(expected, rel=1e-4)
    second.close()
    assert base.bank.resident == (own,)
    third = base.acquire(own)
    base.release(third)
    assert base.bank.resident == (own,)


def test_an_engine_that_could_not_be_loaded_leaves_nothing(bundle):
    base = load_model(bundle.model)
    with pytest.raises(ModelError, match="memory budget"):
        DualTune.load(bundle.folder, model=base, memory_budget=1)
    assert base.bank.resident == ()


@pytest.fixture
def no_spare_buffers():
    """MLX gives an array a spare buffer of up to two pages more than it needs: here it has none to spare."""
    limit = mx.set_cache_limit(0)
    yield
    mx.set_cache_limit(limit)


@pytest.mark.slow
@pytest.mark.usefixtures("no_spare_buffers")
def test_memory_stays_within_the_budget_over_200_random_calls(bundle):
    """Weights, 30 adapters, prefixes and fused weights; a call's own arrays are gone when it is done."""
    base = load_model(bundle.model)
    template = Template(tiny.TEMPLATE)
    many = Bundle(bundle.folder.parent / "many", base.name, base.fingerprint, template.name, template.hash, "name")
    tools = [Tool(f"tool_{number}", "Do.", PATH, "s") for number in range(30)]
    many = many.add_adapter("selector", "", adapter_for(base.bank, 100, "turn"), training={}, tools=tools)
    for number, tool in enumerate(tools):
        many = many.add_adapter(
            "arguments", f"s/{tool.name}", adapter_for(base.bank, number, "turn"), training={}, tools=tools
        )
    empty = active_bytes()
    with DualTune.load(many.folder, model=base) as unlimited:
        adapters = active_bytes() - empty
        unlimited.base.fusion.policy = "always"
        unlimited.arguments("show", tools[0], tools, max_tokens=64)
        size = unlimited.base.fusion.nbytes
    room = 6 * size
    generator, taken = random.Random(0), []
    weights = sum(array.nbytes for _, array in tree_flatten(base.model.parameters()))
    with DualTune.load(many.folder, model=base, memory_budget=weights + adapters + room) as dualtune:
        loaded = active_bytes()
        prefixes = dualtune.prefixes
        for _ in range(200):
            visible = generator.sample(tools, generator.randrange(1, 5))
            words = generator.choices(["show", "a.txt", "the", "folder", "now"], k=generator.randrange(1, 40))
            dualtune.arguments(" ".join(words), visible[0], visible, max_tokens=64)
            taken.append(mx.get_active_memory() - loaded)
            assert base.fusion.nbytes + prefixes.nbytes <= room
        assert base.fusion.evictions > 20
        assert max(taken) <= room * 1.01  # the allocator rounds every buffer up
        assert taken[-1] > room / 2, "the budget is used"
        del prefixes
    assert base.fusion.budget == FUSED_BUDGET
    assert active_bytes() - empty < SLACK


def test_the_lowest_of_several_budgets_counts_until_its_engine_is_closed(bundle):
    base = load_model(bundle.model)
    tight, wide = (DualTune.load(bundle.folder, model=base, memory_budget=room) for room in (4 * 2**20, 2**30))
    low = base.fusion.budget
    assert low < 4 * 2**20
    wide.close()
    assert base.fusion.budget == low
    tight.close()
    assert base.fusion.budget == FUSED_BUDGET


def test_a_closed_engine_says_so_and_may_be_closed_again(bundle):
    dualtune = DualTune.load(bundle.folder)
    dualtune.close()
    dualtune.close()
    for use_it in (
        lambda: dualtune.call("show a.txt", TOOLS),
        lambda: dualtune.select("show a.txt", TOOLS),
        lambda: dualtune.arguments("show a.txt", TOOLS[0]),
        lambda: next(dualtune.stream("show a.txt", TOOLS)),
        lambda: asyncio.run(dualtune.acall("show a.txt", TOOLS)),
        lambda: dualtune.base,
    ):
        with pytest.raises(UsageError, match="the engine is closed"):
            use_it()


WATCHED = """
    import logging, os, signal, sys, threading, warnings
    connections = []
    sys.addaudithook(lambda event, args: connections.append((event, args)) if event.startswith("socket.") else None)

    def state():
        handlers = {s: signal.getsignal(s) for s in signal.valid_signals()}
        loggers = (tuple(logging.root.handlers), logging.root.level)
        limits = (sys.getrecursionlimit(), os.getcwd(), sys.excepthook, sys.displayhook, threading.active_count())
        return handlers, loggers, limits

    before, environment = state(), dict(os.environ)
    import dualtune_mlx
    assert "mlx.core" not in sys.modules and "transformers" not in sys.modules
    assert dict(os.environ) == environment
    from dualtune_mlx import DualTune, Tool
    assert state() == before
    path = {"type": "object", "properties": {"path": {"type": "string", "maxLength": 6}}, "required": ["path"]}
    with DualTune.load(sys.argv[1]) as dualtune:
        dualtune.call("show a.txt", [Tool("read_file", "", path), Tool("read_dir", "", path)], max_tokens=64)
    assert state() == before, (before, state())
    assert connections == [], connections
"""


@pytest.mark.processes
def test_nothing_is_printed_no_network_is_used_and_no_global_state_changes(bundle):
    command = [sys.executable, "-c", textwrap.dedent(WATCHED), str(bundle.folder)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


ENDING = """
    import asyncio, sys
    from dualtune_mlx import DualTune, Tool
    path = {"type": "object", "properties": {"path": {"type": "string", "maxLength": 6}}, "required": ["path"]}
    dualtune = DualTune.load(sys.argv[1])
    asyncio.run(dualtune.acall("show a.txt", [Tool("read_file", "", path), Tool("read_dir", "", path)], max_tokens=64))
    if sys.argv[2] == "closed":
        dualtune.close()
"""


@pytest.mark.processes
@pytest.mark.parametrize("how", ["closed", "open"])
def test_a_process_ends_well_right_after_an_asynchronous_call(bundle, how):
    """MLX aborts now and then where a thread that used it ends with its streams."""
    command = [sys.executable, "-c", textwrap.dedent(ENDING), str(bundle.folder), how]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_a_quantised_model_is_fused_only_to_a_type_that_was_asked_for(tmp_path):
    bundle = make_bundle(tmp_path, quantized=True)
    fused = {}
    for dtype in (None, "float32", "bfloat16"):
        with DualTune.load(bundle.folder, fuse_to=dtype) as dualtune:
            use(dualtune)
            fused[dtype] = dualtune.base.fusion.nbytes
    assert (fused[None], fused["float32"]) == (0, 2 * fused["bfloat16"])
    assert fused["bfloat16"] > 0


def test_the_type_of_fused_weights_is_refused_where_it_could_not_take_effect(bundle):
    with pytest.raises(UsageError, match="beside a loaded model(?s:.*)load_model"):
        DualTune.load(bundle.folder, model=load_model(bundle.model), fuse_to="float32")
    with pytest.raises(UsageError, match="fuse_to(?s:.*)'int8'"):
        DualTune.load(bundle.folder, fuse_to="int8")
