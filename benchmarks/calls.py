"""A whole call over warm prefixes: ours, mlx-lm's in one stage, and the DualTune authors'.

    python benchmarks/calls.py [--quick] [--json FILE]           is: dualtune bench calls [--quick] [--json FILE]

Both need the embedded model and the extra ``demo``: the tools in the prompt are those that its real servers list, as
whole schemas. In each round all methods make every call once. ``--quick`` has them as signatures, and three rounds.

All methods write the same calls, the same arguments token by token, behind the same tools and requests. Our adapters
memorized these calls (``memorized.py``), and nothing else is made easy for ours: it searches all names, the grammar is
the tool's schema, no string is held to the conversation. mlx-lm's adapters are made up, of the same size; its samplers
follow a script (``call_methods.py``).

``one stage``: a joint adapter and mlx-lm's prompt cache; it writes ``{"name": …, "arguments": …}``. ``at best``: the
adapter is fused, and the call has our shorter form, the name and a line of arguments. ``ten samples``: ten names at
temperature 1 and a vote, then the arguments behind a prompt of that tool alone, each prefix warm under its own
adapter. ``call_time_vs_ten_samples`` is to the faster of two forms: the batch, which is what the authors ask of vLLM,
and the samples ``in turn``, which is what servers do that draw one sample a request. mlx-lm's clocks stop with the last
token, not with the forward pass that it has begun beyond it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from dualtune_mlx.benchmarks import common
from dualtune_mlx.benchmarks.call_methods import (
    Cost,
    TimedCalls,
    Workload,
    join_rounds,
    time_one_stage,
    time_ours,
    time_ten_samples,
)
from dualtune_mlx.benchmarks.common import Goal, ratio, spread
from dualtune_mlx.benchmarks.memorized import KnownCall, memorize
from dualtune_mlx.benchmarks.processes import run_isolated, take_turns
from dualtune_mlx.benchmarks.switch_methods import save_adapters
from dualtune_mlx.benchmarks.training import demo_tools
from dualtune_mlx.models import EMBEDDED, load_tokenizer
from dualtune_mlx.tools import ToolCall

ACTIVATIONS = ("turn", "invocation")
CALLS = (
    KnownCall(
        "Please look into notes/meeting-2026.md, and then tell me the first twelve lines of it, just as they are",
        ToolCall("read_text_file", {"path": "notes/meeting-2026.md", "head": 12}, "filesystem"),
    ),
    KnownCall("Show me the last 3 commits", ToolCall("git_log", {"max_count": 3}, "git")),
    KnownCall(
        'Put "water the tomatoes, then call Ada back" into a new file todo/today.txt',
        ToolCall(
            "write_file",
            {"path": "todo/today.txt", "content": "water the tomatoes, then call Ada back"},
            "filesystem",
        ),
    ),
)
Method = tuple[str, str]
"""The name of a method and of its form."""
ONE_STAGE: Method = ("one stage", "adapter")
AT_BEST: Method = ("one stage", "at best")
SAMPLES: tuple[Method, Method] = (("ten samples", "batched"), ("ten samples", "in turn"))
GOALS = {"call_time_vs_one_stage": Goal(0.6), "call_time_vs_ten_samples": Goal(0.1)}


@dataclass(frozen=True)
class Setting:
    """How the benchmark runs."""

    cards: str
    """The kind of tool card."""
    rounds: int
    """How often every method makes each call."""


QUICK = Setting("signature", rounds=3)
FULL = Setting("schema", rounds=10)


def run(quick: bool, out: Console) -> dict[str, Any]:
    """Measure, print the table, and give the value that ``--json`` writes."""
    setting = QUICK if quick else FULL
    with TemporaryDirectory() as name:
        folder = Path(name)
        work = Workload(EMBEDDED, setting.cards, demo_tools(folder), CALLS)
        found = measure(setting, work, folder, out)
    rows = [make_row(method, work.calls, timed) for method, timed in found.items()]
    value = common.report("calls", rows, make_ratios(found), count_tokens(work))
    show(out, value)
    return value


def measure(setting: Setting, work: Workload, folder: Path, out: Console) -> dict[Method, TimedCalls]:
    """Time the calls of every method."""
    selector, arguments = folder / "selector", folder / "arguments"
    run_isolated(save_adapters, work.model, selector, arguments)
    for activation in ACTIVATIONS:
        out.print(f"ours, {activation}: learning the calls", markup=False)
        bundle = folder / activation
        run_isolated(
            memorize, work.model, work.cards, calls=work.calls, tools=work.tools, activation=activation, folder=bundle
        )
    methods: dict[Method, Callable[[], Iterator[TimedCalls]]] = {
        **{("ours", one): partial(time_ours, work, folder / one, one) for one in ACTIVATIONS},
        ONE_STAGE: partial(time_one_stage, work, selector, False),
        AT_BEST: partial(time_one_stage, work, None, True),
        **{one: partial(time_ten_samples, work, selector, arguments, one[1] == "batched") for one in SAMPLES},
    }
    return {method: join_rounds(rounds) for method, rounds in take_turns(setting.rounds, methods, out).items()}


def mean_seconds(timed: TimedCalls) -> list[float]:
    """The seconds of a call in each round, as a mean over all calls."""
    return [sum(taken) / len(taken) for taken in zip(*timed.seconds, strict=True)]


def make_row(method: Method, calls: Sequence[KnownCall], timed: TimedCalls) -> dict[str, Any]:
    """The row of a method: its calls on average, and each of them."""
    total = sum(timed.costs, Cost(0, 0, 0))
    return {
        "way": method[0],
        "form": method[1],
        "seconds": spread(mean_seconds(timed)),
        **{name: count / len(calls) for name, count in asdict(total).items()},
        "calls": {
            one.call.name: {"seconds": spread(seconds), **asdict(cost)}
            for one, seconds, cost in zip(calls, timed.seconds, timed.costs, strict=True)
        },
    }


def make_ratios(found: Mapping[Method, TimedCalls]) -> dict[str, dict[str, float]]:
    """Our times over the others'; ratios of ``turn``, the default activation, have the plain names."""
    faster = min(SAMPLES, key=lambda method: median(mean_seconds(found[method])))
    peers = {
        "one_stage": ONE_STAGE,
        "one_stage_at_best": AT_BEST,
        "ten_samples": faster,
        "ten_samples_in_turn": SAMPLES[1],
    }
    ratios = {}
    for peer, method in peers.items():
        for activation in ACTIVATIONS:
            place = peer + ("" if activation == ACTIVATIONS[0] else f"@{activation}")
            ours, theirs = found["ours", activation], found[method]
            ratios[f"call_time_vs_{place}"] = ratio(mean_seconds(ours), mean_seconds(theirs))
    return ratios


def count_tokens(work: Workload) -> dict[str, Any]:
    """The number of tools, and the tokens of the prefix and of each request."""
    tokenizer = load_tokenizer(work.model)
    streams = [work.render(tokenizer, one) for one in work.calls]
    return {
        "tools": len(work.tools),
        "prefix_tokens": streams[0].last_span("prefix").end,
        "request_tokens": {
            one.call.name: len(stream.active_tokens("selector", "turn"))
            for one, stream in zip(work.calls, streams, strict=True)
        },
    }


def show(out: Console, value: Mapping[str, Any]) -> None:
    """Print the table and the goals."""
    counters, ratios = value["counters"], value["ratios"]
    title = f"A call, behind {counters['tools']} tools of {counters['prefix_tokens']} tokens"
    columns = ["way", "form", "s", "prefilled", "forwards", "decoded", "forced"]
    common.print_table(out, title, columns, [_line(one) for one in value["rows"]])
    out.print("Means over the calls; s: median of the rounds.", markup=False)
    common.print_ratios(out, ratios)
    common.print_goals(out, ratios, GOALS)


def _line(one: Mapping[str, Any]) -> list[str]:
    counts = (f"{one[name]:.1f}" for name in ("prefilled", "forwards", "decoded", "forced"))
    return [one["way"], one["form"], f"{one['seconds']['median']:.2f}", *counts]


if __name__ == "__main__":
    common.main(__file__)
