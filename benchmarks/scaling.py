"""Time and memory of a warm call as tools, adapters and the conversation before it grow.

    python benchmarks/scaling.py [--quick] [--json FILE]         is: dualtune bench scaling [--quick] [--json FILE]

Both need the embedded model and the extra ``demo``. The first 28 tools are those that its real servers list, the others
are made up (``catalogue.py``). One of the three sizes grows, while the other two stay: 10 tools as signatures, one
argument adapter beside the selector's, 100 tokens of conversation before the request. ``--quick`` leaves the largest
out that fit.

The same call is made at every size, by adapters that know it by heart (``taught.py``); those that are added are of its
size and resident, and belong to other tools. A call's prefix is warm; ``cold`` is the first call, which computes it.
``KV`` is what then stays of it, ``peak`` all that MLX held at once, with the model, from its loading on.

``WAYS`` are the ways to a call among many tools: along the hierarchy of servers and tools, with a router that learned
its choice among the most of them; and all of them in one prompt, ``flat``, which ends where the model's context does:
sizes beyond it are refused, and no ratio is made of them. Ten tools are those of one server: both ways are the same.
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
from dualtune_mlx.benchmarks.calls import ASKED
from dualtune_mlx.benchmarks.catalogue import made_up, talk
from dualtune_mlx.benchmarks.common import apart, ratio, spread
from dualtune_mlx.benchmarks.memorized import TEMPLATE, Asked, add_fresh, check, teach
from dualtune_mlx.benchmarks.training import demo_tools
from dualtune_mlx.engine import DualTune
from dualtune_mlx.errors import PromptError
from dualtune_mlx.models import EMBEDDED, load_tokenizer
from dualtune_mlx.prompts import PromptRenderer, Template
from dualtune_mlx.tools import Message, Tool

CARDS = "signature"
ACTIVATION = "turn"
SETTLING = 2
"""Calls after the first and before those that are timed: an adapter may be fused in them."""
GOALS = {"call_time_1000_tools_vs_10": 2.0}
MIB = 2**20


WAYS = {"hierarchy": "always", "flat": "never"}
"""The ways by name, and the engine's ``routing`` that each is."""


@dataclass(frozen=True)
class Size:
    """Visible tools, argument adapters, and about how many tokens of conversation come before the request."""

    tools: int = 10
    adapters: int = 1
    history: int = 100


@dataclass(frozen=True)
class Setting:
    """The sizes of each axis, smallest first, and how many warm calls are timed at each."""

    axes: Mapping[str, tuple[int, ...]]
    rounds: int


QUICK = Setting({"tools": (10, 30, 100, 1000), "history": (100, 1000), "adapters": (1, 10, 50)}, rounds=3)
FULL = Setting({"tools": (10, 30, 100, 300, 1000), "history": (100, 1000, 4000), "adapters": (1, 10, 50)}, rounds=10)


@dataclass(frozen=True)
class Measured:
    """A way's calls at one size; times in seconds, memory in bytes."""

    load_seconds: float
    cold_seconds: float
    seconds: tuple[float, ...]
    prefix_tokens: int
    forwards: int
    kv_bytes: int
    adapter_bytes: int
    peak_memory: int


Found = dict[tuple[str, Size], Measured | str]
"""What was measured by way and size, or why it was refused."""


def run(quick: bool, out: Console) -> dict[str, Any]:
    """Measure, print the table, and give the value that ``--json`` writes."""
    setting = QUICK if quick else FULL
    with TemporaryDirectory() as name:
        folder = Path(name)
        real = demo_tools(folder)
        found = measured(setting, EMBEDDED, (*real, *made_up(max(setting.axes["tools"]) - len(real))), folder, out)
    rows = [row(axis, way, size, one) for axis, way, size, one in along(setting, found)]
    value = common.report("scaling", rows, compared(setting, found), {"real_tools": len(real), "cards": CARDS})
    show(out, value)
    return value


def measured(setting: Setting, model: str, tools: tuple[Tool, ...], folder: Path, out: Console) -> Found:
    """Every way at every size; the adapters grow last, because they are added to the bundle."""
    least, bundle = tools[: Size().tools], folder / "bundle"
    tokenizer = load_tokenizer(model)
    out.print("learning the call", markup=False)
    lessons = [ASKED[0], after(ASKED[0], tokenizer, Size().history)]
    apart(teach, model, CARDS, lessons, least, ACTIVATION, bundle)
    apart(teach, model, CARDS, lessons, tools, ACTIVATION, bundle, ("router",))
    found, adapters = Found(), 1
    for size in sizes(setting):
        if size.adapters > adapters:
            apart(add_fresh, model, bundle, tools[-size.adapters : -adapters])
            adapters = size.adapters
        asked = after(ASKED[0], tokenizer, size.history)
        for way in ways(size):
            out.print(f"{way}: {size.tools} tools, {size.adapters} adapters, history {size.history}", markup=False)
            try:
                found[way, size] = apart(at_size, bundle, way, asked, tools[: size.tools], setting.rounds)
            except PromptError as error:
                found[way, size] = f"{error.what}: {error.got}; {error.expected}"
    return found


def ways(size: Size) -> tuple[str, ...]:
    """What is measured at a size: all ways where only the tools grow."""
    return tuple(WAYS) if replace(size, tools=Size().tools) == Size() else ("hierarchy",)


def sizes(setting: Setting) -> list[Size]:
    """All sizes, each once, those with more adapters later."""
    found = {replace(Size(), **{axis: n}) for axis, several in setting.axes.items() for n in several}
    return sorted(found, key=lambda size: (size.adapters, astuple(size)))


def after(asked: Asked, tokenizer: Any, history: int) -> Asked:
    """The same call, asked for when the conversation has at least so many tokens."""
    prompt, before = PromptRenderer(Template(TEMPLATE), tokenizer, CARDS), tuple[Message, ...]()
    for exchange in talk():
        before += exchange
        stream = prompt.render_conversation(before, ())
        if len(stream) - stream.last_span("prefix").end >= history:
            return replace(asked, before=before)
    raise AssertionError("the talk ended")


def at_size(bundle: Path, way: str, asked: Asked, tools: tuple[Tool, ...], rounds: int) -> Measured:
    """One way's calls at one size; the process should be fresh.

    Raises:
        PromptError: when the tools are more than the model's context holds.
    """
    began = time.perf_counter()
    with DualTune.load(bundle, routing=WAYS[way]) as dualtune:
        load_seconds = time.perf_counter() - began
        seconds, calls = [], []
        for _ in range(1 + SETTLING + rounds):
            began = time.perf_counter()
            calls.append(dualtune.call(asked.messages, tools))
            seconds.append(time.perf_counter() - began)
            check(calls[-1], asked)
        base, prefix_tokens = dualtune.base, calls[0].usage.prefilled_tokens
        return Measured(
            load_seconds,
            seconds[0],
            tuple(seconds[1 + SETTLING :]),
            prefix_tokens,
            calls[-1].usage.forwards,
            prefix_tokens * base.snapshot((0,)).bytes_per_token,
            sum(adapter.nbytes for adapter in base.bank.resident),
            mx.get_peak_memory(),
        )


def along(setting: Setting, found: Found) -> list[tuple[str, str, Size, Measured | str]]:
    """What was found, axis by axis."""
    return [
        (axis, way, size, found[way, size])
        for axis, several in setting.axes.items()
        for way in ways(largest(setting, axis))
        for size in (replace(Size(), **{axis: n}) for n in several)
    ]


def largest(setting: Setting, axis: str) -> Size:
    """The size at the end of an axis."""
    return replace(Size(), **{axis: setting.axes[axis][-1]})


def row(axis: str, way: str, size: Size, one: Measured | str) -> dict[str, Any]:
    """One way at one size."""
    found = {"refused": one} if isinstance(one, str) else {**asdict(one), "seconds": spread(one.seconds)}
    return {"axis": axis, "way": way, **asdict(size), **found}


def compared(setting: Setting, found: Found) -> dict[str, dict[str, float]]:
    """Times and memory of each size over the smallest one's; the hierarchy has the plain names."""
    ratios = {}
    for axis, several in setting.axes.items():
        for way in ways(largest(setting, axis)):
            least, *others = (found[way, replace(Size(), **{axis: n})] for n in several)
            for n, one in zip(several[1:], others, strict=True):
                if isinstance(one, Measured) and isinstance(least, Measured):
                    place = f"{n}_{axis}_vs_{several[0]}" + ("" if way == "hierarchy" else f":{way}")
                    ratios[f"call_time_{place}"] = ratio(one.seconds, least.seconds)
                    ratios[f"peak_memory_{place}"] = ratio([one.peak_memory], [least.peak_memory])
    return ratios


def show(out: Console, value: Mapping[str, Any]) -> None:
    """The figures, what was refused, and the goals."""
    rows, ratios = value["rows"], value["ratios"]
    columns = ["grows", "way", "to", "tokens", "s", "cold", "KV", "adapters", "peak"]
    lines = [_line(one) for one in rows if "refused" not in one]
    common.print_table(out, "A warm call as one size grows", columns, lines)
    out.print("tokens: of the prefix and the history; s: median; cold: the first call; memory in MiB.", markup=False)
    for one in rows:
        if "refused" in one:
            out.print(f"{one[one['axis']]} {one['axis']}, {one['way']}: refused: {one['refused']}", markup=False)
    common.print_goals(out, ratios, GOALS)


def _line(one: Mapping[str, Any]) -> list[str]:
    memory = (f"{one[name] / MIB:.0f}" for name in ("kv_bytes", "adapter_bytes", "peak_memory"))
    times = f"{one['seconds']['median']:.2f}", f"{one['cold_seconds']:.2f}"
    return [one["axis"], one["way"], f"{one[one['axis']]}", f"{one['prefix_tokens']}", *times, *memory]


if __name__ == "__main__":
    common.main(__file__)
