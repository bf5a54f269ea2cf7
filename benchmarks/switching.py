"""From "the selector is done" to the first token of the arguments: mlx-lm's ways to switch adapters, and ours.

    python benchmarks/switching.py [--quick] [--json FILE]       is: dualtune bench switching [--quick] [--json FILE]

Both need the embedded model and the extra ``demo``: the tools in the prompt are those that its real servers list. The
adapters have rank 16 on all projections of all layers; the prefix has 3,600 tokens, the request 30. Every way is taken
once in each round, so that all are measured equally often on the same machine. ``--quick`` has three rounds, and takes
seven minutes on two CPU cores.

mlx-lm's ways: ``reload`` is what its server does, which drops the model and loads it with the other adapter.
``load_adapters`` exchanges the adapter's layers in the resident model. Both then process the whole stream again,
because its KV was another adapter's. ``load_adapters, own KV`` has that adapter's own KV from an earlier call, and
processes the request alone; it pays with the KV of the whole prefix for every adapter.

Ours is low-rank, or fused: the weights are computed beforehand, or within the switch (``fused_cold``). It processes
what lies behind the activation point: ``turn``, from the request on, or ``invocation``, the opener and the name. All
adapters share one KV. Ratios without an activation in their name are those of ``turn``. The peer of decoding is the
model without an adapter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from dualtune_mlx.benchmarks import common
from dualtune_mlx.benchmarks.common import Goal, ratio, spread
from dualtune_mlx.benchmarks.processes import run_isolated, take_turns
from dualtune_mlx.benchmarks.switch_methods import (
    FORMS,
    OWN_KV,
    RANK,
    Round,
    Switch,
    SwitchTask,
    Way,
    save_adapters,
    time_load_adapters,
    time_ours,
    time_reload,
)
from dualtune_mlx.benchmarks.training import demo_tools
from dualtune_mlx.models import EMBEDDED, load_tokenizer
from dualtune_mlx.prompts import PromptRenderer, Template
from dualtune_mlx.tools import Message, Tool, ToolCall

ACTIVATIONS = ("turn", "invocation")
MIB = 2**20
REQUEST = "Please look into notes/meeting-2026.md, and then tell me the first twelve lines of it, just as they are"
TOOL = "read_text_file"
PEERS: Mapping[str, Way] = {
    "reload": ("reload", ""),
    "load_adapters": ("load_adapters", ""),
    "own_kv": (OWN_KV, ACTIVATIONS[0]),
}
"""mlx-lm's ways, by their name in ratios."""
GOALS = {
    "switch_time_vs_load_adapters@invocation": Goal(0.01),
    "switch_time_vs_load_adapters@invocation:fused": Goal(0.01),
    "switch_time_vs_load_adapters@turn": Goal(0.02),
    "switch_time_vs_load_adapters@turn:fused": Goal(0.02),
    "decode_speed_fused_vs_base": Goal(0.98, at_least=True),
}
REFERENCE_CHANGE = 1000.0
"""Goal in microseconds."""


@dataclass(frozen=True)
class Setting:
    """What is measured."""

    cards: str
    """How tools are written."""
    rounds: int
    """Switches in each way."""
    decoded: int
    """Tokens that are decoded in each form and round."""


QUICK = Setting("schema", rounds=3, decoded=10)
FULL = Setting("schema", rounds=10, decoded=20)


def run(quick: bool, out: Console) -> dict[str, Any]:
    """Measure, print the table, and give the value that ``--json`` writes."""
    setting = QUICK if quick else FULL
    with TemporaryDirectory() as name:
        folder = Path(name)
        task = make_task(setting, demo_tools(folder), EMBEDDED, folder)
        found = measure(setting, task, out)
    mine, switches = found["ours"], collect_switches(found)
    value = common.report(
        "switching",
        [make_row(way, of) for way, of in switches.items()] + make_decoding_rows(mine),
        {**make_ratios(switches), **make_decoding_ratios(mine)},
        make_counters(task, mine),
    )
    show(out, value)
    return value


def make_task(setting: Setting, tools: tuple[Tool, ...], model: str, folder: Path) -> SwitchTask:
    """Make the stream up to the arguments of one call, and two adapters in the folder."""
    renderer = PromptRenderer(Template("chatml"), load_tokenizer(model), setting.cards)
    tool = next(tool for tool in tools if tool.name == TOOL)
    stream = renderer.render([Message("user", REQUEST)], tools, ToolCall(tool.name, {}, tool.server))
    task = SwitchTask(
        model,
        stream.tokens[: stream.last_span("arguments").start],
        {activation: stream.activation_start(activation) for activation in ACTIVATIONS},
        folder / "selector",
        folder / "arguments",
    )
    run_isolated(save_adapters, model, task.selector, task.arguments)
    return task


def measure(setting: Setting, task: SwitchTask, out: Console) -> dict[str, list[Round]]:
    """All rounds of every method: mlx-lm's two, and ours."""
    out.print(f"switches over {len(task.tokens)} tokens", markup=False)
    methods = {
        "reload": partial(time_reload, task),
        "load_adapters": partial(time_load_adapters, task),
        "ours": partial(time_ours, task, setting.decoded),
    }
    return take_turns(setting.rounds, methods, out)


def collect_switches(found: Mapping[str, Sequence[Round]]) -> dict[Way, list[Switch]]:
    """The switches of all rounds, by way."""
    return {way: [one.switches[way] for one in rounds] for rounds in found.values() for way in rounds[0].switches}


def make_row(way: Way, switches: Sequence[Switch]) -> dict[str, Any]:
    """The row of one way's switches; KV in bytes."""
    return {
        "way": way[0],
        "activation": way[1],
        "seconds": spread(_seconds(switches)),
        "processed_tokens": switches[0].processed,
        "kv_bytes_shared": switches[0].shared_kv,
        "kv_bytes_per_adapter": switches[0].adapter_kv,
    }


def make_decoding_rows(mine: Sequence[Round]) -> list[dict[str, Any]]:
    """Tokens a second in each form."""
    return [{"form": form, "tokens_per_second": spread(_speeds(mine, form))} for form in mine[0].decoding]


def make_ratios(switches: Mapping[Way, Sequence[Switch]]) -> dict[str, dict[str, float]]:
    """The ratios of switches. Those of ``turn``, the default, also have names without an activation."""
    ratios = {}
    for peer, form, activation in product(PEERS, FORMS, ACTIVATIONS):
        found = ratio(_seconds(switches[form, activation]), _seconds(switches[PEERS[peer]]))
        ratios[ratio_name(peer, form, activation)] = found
        if activation == ACTIVATIONS[0]:
            ratios[ratio_name(peer, form, "")] = found
    return ratios


def ratio_name(peer: str, form: str, activation: str) -> str:
    """A ratio's name, such as ``switch_time_vs_reload@turn:fused``; ``low_rank`` and no activation are left out."""
    at, suffix = (f"@{activation}" if activation else ""), ("" if form == "low_rank" else f":{form}")
    return f"switch_time_vs_{peer}{at}{suffix}"


def make_decoding_ratios(mine: Sequence[Round]) -> dict[str, dict[str, float]]:
    """The speed of decoding under an adapter over that without one."""
    base = _speeds(mine, "base")
    return {f"decode_speed_{form}_vs_base": ratio(_speeds(mine, form), base) for form in ("fused", "low_rank")}


def make_counters(task: SwitchTask, mine: Sequence[Round]) -> dict[str, Any]:
    """What explains the figures: tokens, bytes, and the time of the reference change alone."""
    total = len(task.tokens)
    return {
        "rank": RANK,
        "stream_tokens": total,
        "prefix_tokens": task.starts["turn"],
        "active_tokens": {activation: total - start for activation, start in task.starts.items()},
        "adapter_bytes": dict(mine[0].adapter_bytes),
        "reference_change_microseconds": {
            form: spread([1e6 * taken for one in mine for taken in one.reference_changes[form]])
            for form in mine[0].reference_changes
        },
    }


def show(out: Console, value: Mapping[str, Any]) -> None:
    """Print the figures and the goals."""
    ratios, counters = value["ratios"], value["counters"]
    columns = ["way", "activation", "tokens", "s", "KV"]
    lines = [_switch_line(one) for one in value["rows"] if "way" in one]
    common.print_table(out, "Switching from the selector", columns, lines)
    out.print(
        f"s: median (least to greatest). KV: MiB that {counters['prefix_tokens']} tokens keep between switches, "
        "shared by all adapters or for each of them.",
        markup=False,
    )
    columns = ["ours", "activation", "over", "ratio"]
    common.print_table(out, "Our time over mlx-lm's", columns, list(_ratio_lines(ratios)))
    for one in value["rows"]:
        if "form" in one:
            speed = common.format_spread(one["tokens_per_second"])
            out.print(f"decoding, {one['form']}: {speed} tokens/s", markup=False)
    common.print_ratios(out, {name: found for name, found in ratios.items() if name.startswith("decode")})
    for form, taken in counters["reference_change_microseconds"].items():
        met = "reached" if taken["median"] <= REFERENCE_CHANGE else "NOT reached"
        out.print(f"goal reference change ({form}) under 1 ms: {met}: {taken['median']:.0f} microseconds", markup=False)
    common.print_goals(out, ratios, GOALS)


def _switch_line(one: Mapping[str, Any]) -> list[str]:
    shared, each = (one[name] / MIB for name in ("kv_bytes_shared", "kv_bytes_per_adapter"))
    kv = f"{shared:.0f} shared" if shared else f"{each:.0f} each" if each else ""
    return [
        one["way"],
        one["activation"],
        f"{one['processed_tokens']}",
        common.format_spread(one["seconds"], ".2f"),
        kv,
    ]


def _ratio_lines(ratios: Mapping[str, Mapping[str, float]]) -> Iterator[list[str]]:
    for peer, form, activation in product(PEERS, FORMS, ACTIVATIONS):
        found = ratios[ratio_name(peer, form, activation)]
        yield [form, activation, peer, common.format_ratio(found)]


def _seconds(switches: Sequence[Switch]) -> list[float]:
    return [one.seconds for one in switches]


def _speeds(mine: Sequence[Round], form: str) -> list[float]:
    return [one.decoding[form] for one in mine]


if __name__ == "__main__":
    common.main(__file__)
