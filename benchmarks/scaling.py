"""Time and memory of a warm call as tools, adapters and the conversation before it grow.

    python benchmarks/scaling.py [--quick] [--json FILE]         is: dualtune bench scaling [--quick] [--json FILE]

Both need the embedded model and the extra ``demo``. The first 28 tools are those that its real servers list, the others
are made up (``catalogue.py``). One of three sizes grows, while the other two stay: 10 tools as signatures, one argument
adapter beside the selector's, 100 tokens of conversation before the request. ``--quick`` leaves the largest sizes out.

The same call is made at every size, by adapters that memorized it (``memorized.py``). Further adapters are of the same
size and resident, and belong to other tools. A call's prefix is warm; ``cold`` is the first call, which computes it.
``KV`` is what then stays of it, ``peak`` all that MLX held at once, with the model, from its loading on.

``ROUTINGS`` are the two methods for many tools: along the hierarchy of servers and tools, with a router that memorized
its choice among the most of them; and ``flat``, with all tools in one prompt, as far as the model's context holds them:
larger sizes are refused, and no ratio is made of them. Ten tools are those of one server: both methods are the same.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlx.core as mx
from rich.console import Console

from dualtune_mlx.benchmarks import common
from dualtune_mlx.benchmarks.calls import CALLS
from dualtune_mlx.benchmarks.catalogue import exchanges, make_tools
from dualtune_mlx.benchmarks.common import Goal, ratio, spread
from dualtune_mlx.benchmarks.memorized import TEMPLATE, KnownCall, add_untrained_adapters, check_call, memorize
from dualtune_mlx.benchmarks.processes import run_isolated
from dualtune_mlx.benchmarks.training import demo_tools
from dualtune_mlx.engine import DualTune
from dualtune_mlx.errors import PromptError
from dualtune_mlx.models import EMBEDDED, load_tokenizer
from dualtune_mlx.prompts import PromptRenderer, Template
from dualtune_mlx.tools import Message, Tool

CARDS = "signature"
ACTIVATION = "turn"
SETTLING_CALLS = 2
"""Calls between the first one and the timed ones: an adapter may be fused in them."""
GOALS = {"call_time_1000_tools_vs_10": Goal(2.0)}
MIB = 2**20


ROUTINGS = {"hierarchy": "always", "flat": "never"}
"""The engine's ``routing`` for each method."""


@dataclass(frozen=True)
class Size:
    """What a call has to deal with."""

    tools: int = 10
    """Visible tools."""
    adapters: int = 1
    """Argument adapters in the bundle."""
    history: int = 100
    """Tokens of conversation before the request, about."""


@dataclass(frozen=True)
class Setting:
    """How the benchmark runs."""

    axes: Mapping[str, tuple[int, ...]]
    """The sizes of each axis, a field of ``Size``; the smallest first."""
    rounds: int
    """Warm calls that are timed at each size."""


QUICK = Setting({"tools": (10, 30, 100, 1000), "history": (100, 1000), "adapters": (1, 10, 50)}, rounds=3)
FULL = Setting({"tools": (10, 30, 100, 300, 1000), "history": (100, 1000, 4000), "adapters": (1, 10, 50)}, rounds=10)


@dataclass(frozen=True)
class Measurement:
    """A method's calls at one size; times in seconds, memory in bytes."""

    load_seconds: float
    cold_seconds: float
    seconds: tuple[float, ...]
    prefix_tokens: int
    forwards: int
    kv_bytes: int
    adapter_bytes: int
    peak_memory: int


Results = dict[tuple[str, Size], Measurement | str]
"""The measurement by method and size, or why the size was refused."""


def run(quick: bool, out: Console) -> dict[str, Any]:
    """Measure, print the table, and give the value that ``--json`` writes."""
    setting = QUICK if quick else FULL
    with TemporaryDirectory() as name:
        folder = Path(name)
        real = demo_tools(folder)
        tools = (*real, *make_tools(max(setting.axes["tools"]) - len(real)))
        found = measure_all(setting, EMBEDDED, tools, folder, out)
    rows = [make_row(axis, method, size, one) for axis, method, size, one in by_axis(setting, found)]
    value = common.report("scaling", rows, make_ratios(setting, found), {"real_tools": len(real), "cards": CARDS})
    show(out, value)
    return value


def measure_all(setting: Setting, model: str, tools: tuple[Tool, ...], folder: Path, out: Console) -> Results:
    """Measure every method at every size.

    The adapters grow last, because they are added to the bundle.
    """
    least, bundle = tools[: Size().tools], folder / "bundle"
    tokenizer = load_tokenizer(model)
    out.print("learning the call", markup=False)
    calls = [CALLS[0], with_history(CALLS[0], tokenizer, Size().history)]
    run_isolated(memorize, model, CARDS, calls=calls, tools=least, activation=ACTIVATION, folder=bundle)
    run_isolated(
        memorize, model, CARDS, calls=calls, tools=tools, activation=ACTIVATION, folder=bundle, stages=("router",)
    )
    found, adapters = Results(), 1
    for size in sizes(setting):
        if size.adapters > adapters:
            run_isolated(add_untrained_adapters, model, bundle, tools[-size.adapters : -adapters])
            adapters = size.adapters
        known = with_history(CALLS[0], tokenizer, size.history)
        for method in methods_at(size):
            out.print(f"{method}: {size.tools} tools, {size.adapters} adapters, history {size.history}", markup=False)
            try:
                found[method, size] = run_isolated(measure, bundle, method, known, tools[: size.tools], setting.rounds)
            except PromptError as error:
                found[method, size] = f"{error.what}: {error.got}; {error.expected}"
    return found


def methods_at(size: Size) -> tuple[str, ...]:
    """The methods to measure at a size: all of them where only the tools grow."""
    return tuple(ROUTINGS) if replace(size, tools=Size().tools) == Size() else ("hierarchy",)


def sizes(setting: Setting) -> list[Size]:
    """All sizes, each once, in the order of their adapters."""
    found = {replace(Size(), **{axis: n}) for axis, several in setting.axes.items() for n in several}
    return sorted(found, key=lambda size: (size.adapters, astuple(size)))


def with_history(known: KnownCall, tokenizer: Any, history: int) -> KnownCall:
    """The same call, behind a conversation of at least ``history`` tokens."""
    renderer, messages = PromptRenderer(Template(TEMPLATE), tokenizer, CARDS), tuple[Message, ...]()
    for exchange in exchanges():
        messages += exchange
        stream = renderer.render_conversation(messages, ())
        if len(stream) - stream.last_span("prefix").end >= history:
            return replace(known, history=messages)
    raise AssertionError("the talk ended")


def measure(bundle: Path, method: str, known: KnownCall, tools: tuple[Tool, ...], rounds: int) -> Measurement:
    """Time one method's calls at one size; the process should be fresh.

    Raises:
        PromptError: when the tools are more than the model's context holds.
    """
    began = time.perf_counter()
    with DualTune.load(bundle, routing=ROUTINGS[method]) as dualtune:
        load_seconds = time.perf_counter() - began
        seconds, calls = [], []
        for _ in range(1 + SETTLING_CALLS + rounds):
            began = time.perf_counter()
            calls.append(dualtune.call(known.messages, tools))
            seconds.append(time.perf_counter() - began)
            check_call(calls[-1], known)
        base, first, last = dualtune.base, calls[0].usage, calls[-1].usage
        assert first and last, "an engine counts its calls"
        return Measurement(
            load_seconds,
            seconds[0],
            tuple(seconds[1 + SETTLING_CALLS :]),
            first.prefilled_tokens,
            last.forwards,
            first.prefilled_tokens * base.snapshot((0,)).bytes_per_token,
            sum(adapter.nbytes for adapter in base.bank.resident),
            mx.get_peak_memory(),
        )


def by_axis(setting: Setting, found: Results) -> list[tuple[str, str, Size, Measurement | str]]:
    """All results as (axis, method, size, result), axis by axis."""
    return [
        (axis, method, size, found[method, size])
        for axis, several in setting.axes.items()
        for method in methods_at(largest(setting, axis))
        for size in (replace(Size(), **{axis: n}) for n in several)
    ]


def largest(setting: Setting, axis: str) -> Size:
    """The size at the end of an axis."""
    return replace(Size(), **{axis: setting.axes[axis][-1]})


def make_row(axis: str, method: str, size: Size, one: Measurement | str) -> dict[str, Any]:
    """The row of one method at one size."""
    found = {"refused": one} if isinstance(one, str) else {**asdict(one), "seconds": spread(one.seconds)}
    return {"axis": axis, "way": method, **asdict(size), **found}


def make_ratios(setting: Setting, found: Results) -> dict[str, dict[str, float]]:
    """Times and memory of each size over those of the smallest; ratios of the hierarchy have the plain names."""
    ratios = {}
    for axis, several in setting.axes.items():
        for method in methods_at(largest(setting, axis)):
            least, *others = (found[method, replace(Size(), **{axis: n})] for n in several)
            for n, one in zip(several[1:], others, strict=True):
                if isinstance(one, Measurement) and isinstance(least, Measurement):
                    place = f"{n}_{axis}_vs_{several[0]}" + ("" if method == "hierarchy" else f":{method}")
                    ratios[f"call_time_{place}"] = ratio(one.seconds, least.seconds)
                    ratios[f"peak_memory_{place}"] = ratio([one.peak_memory], [least.peak_memory])
    return ratios


def show(out: Console, value: Mapping[str, Any]) -> None:
    """Print the table, the refused sizes and the goals."""
    rows, ratios = value["rows"], value["ratios"]
    columns = ["grows", "way", "to", "tokens", "s", "cold", "KV", "adapters", "peak"]
    lines = [_line(one) for one in rows if "refused" not in one]
    common.print_table(out, "A warm call as one size grows", columns, lines)
    out.print("tokens: of the prefix and the history; s: median; cold: the first call; memory in MiB.", markup=False)
    for one in rows:
        if "refused" in one:
            out.print(f"{one[one['axis']]} {one['axis']}, {one['way']}: refused: {one['refused']}", markup=False)
    common.print_ratios(out, ratios)
    common.print_goals(out, ratios, GOALS)


def _line(one: Mapping[str, Any]) -> list[str]:
    memory = (f"{one[name] / MIB:.0f}" for name in ("kv_bytes", "adapter_bytes", "peak_memory"))
    times = f"{one['seconds']['median']:.2f}", f"{one['cold_seconds']:.2f}"
    return [one["axis"], one["way"], f"{one[one['axis']]}", f"{one['prefix_tokens']}", *times, *memory]


if __name__ == "__main__":
    common.main(__file__)
