"""From "the selector is done" to the first token of the arguments: mlx-lm's ways to switch adapters, and ours.

    python benchmarks/switching.py [--quick] [--json FILE]       is: dualtune bench switching [--quick] [--json FILE]

Both need the embedded model and the extra ``demo``: the tools in the prompt are those that its real servers list. The
adapters have rank 16 on all projections of all layers; the prefix has 3,600 tokens, the request 30. ``--quick`` takes
each of mlx-lm's ways once, and three minutes on two CPU cores.

mlx-lm's ways: ``reload`` is what its server does, which drops the model and loads it with the other adapter.
``load_adapters`` exchanges the adapter's layers in the resident model. Both then process the whole stream again,
because its KV was another adapter's. ``load_adapters, own KV`` shows the same where that adapter's own KV was kept
from an earlier call.

Ours is low-rank, or fused: the weights are computed beforehand, or within the switch (``fused_cold``). It processes
what lies behind the activation point: ``turn``, from the request on, or ``invocation``, the opener and the name. Ratios
without an activation in their name are those of ``turn``. The peer of decoding is the model without an adapter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from dualtune_mlx.benchmarks import common
from dualtune_mlx.benchmarks.common import ratio, run_isolated, spread
from dualtune_mlx.benchmarks.switch_methods import (
    FORMS,
    RANK,
    OurResults,
    SwitchTask,
    TimedSwitches,
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
REQUEST = "Please look into notes/meeting-2026.md, and then tell me the first twelve lines of it, just as they are"
TOOL = "read_text_file"
PEERS = ("reload", "load_adapters")
KEPT = "load_adapters, own KV"
GOALS = {
    "switch_time_vs_load_adapters@invocation": 0.01,
    "switch_time_vs_load_adapters@invocation:fused": 0.01,
    "switch_time_vs_load_adapters@turn": 0.02,
    "switch_time_vs_load_adapters@turn:fused": 0.02,
    "decode_speed_fused_vs_base": 0.98,
}
"""Times are at most this, speeds at least this."""
REFERENCE_CHANGE = 1000.0
"""Goal in microseconds."""


@dataclass(frozen=True)
class Setting:
    """What is measured."""

    cards: str
    """How tools are written."""
    peer_repeats: int
    """Switches in each of mlx-lm's ways."""
    our_repeats: int
    """Switches in each form and activation of ours."""
    decoded: int
    """Tokens that are decoded in each form."""


QUICK = Setting("schema", peer_repeats=1, our_repeats=3, decoded=20)
FULL = Setting("schema", peer_repeats=3, our_repeats=10, decoded=60)


def run(quick: bool, out: Console) -> dict[str, Any]:
    """Measure, print the table, and give the value that ``--json`` writes."""
    setting = QUICK if quick else FULL
    with TemporaryDirectory() as name:
        folder = Path(name)
        task = make_task(setting, demo_tools(folder), EMBEDDED, folder)
        switches, mine = measure(setting, task, out)
    value = common.report(
        "switching",
        [make_row(way, activation, found) for (way, activation), found in switches.items()] + make_decoding_rows(mine),
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


def measure(
    setting: Setting, task: SwitchTask, out: Console
) -> tuple[dict[tuple[str, str], TimedSwitches], OurResults]:
    """Time the switches by way and activation, which is "" where it makes no difference; and all results of ours."""
    out.print(f"reload: {setting.peer_repeats} switches over {len(task.tokens)} tokens", markup=False)
    reloaded = run_isolated(time_reload, task, setting.peer_repeats)
    out.print(f"load_adapters: {setting.peer_repeats} switches", markup=False)
    in_place, kept = run_isolated(time_load_adapters, task, setting.peer_repeats)
    out.print(f"ours: {setting.our_repeats} switches in each form and activation", markup=False)
    mine = run_isolated(time_ours, task, setting.our_repeats, setting.decoded)
    return {("reload", ""): reloaded, ("load_adapters", ""): in_place, (KEPT, "turn"): kept, **mine.switches}, mine


def make_row(way: str, activation: str, found: TimedSwitches) -> dict[str, Any]:
    """The row of one way's switches."""
    return {"way": way, "activation": activation, "seconds": spread(found.seconds), "processed_tokens": found.processed}


def make_decoding_rows(mine: OurResults) -> list[dict[str, Any]]:
    """Tokens a second in each form."""
    return [{"form": form, "tokens_per_second": spread(_speeds(taken))} for form, taken in mine.decoding.items()]


def make_ratios(switches: Mapping[tuple[str, str], TimedSwitches]) -> dict[str, dict[str, float]]:
    """The ratios of switches. Those of ``turn``, the default, also have names without an activation."""
    ratios = {}
    for peer in PEERS:
        for form in FORMS:
            suffix = "" if form == "low_rank" else f":{form}"
            for activation in ACTIVATIONS:
                found = ratio(switches[form, activation].seconds, switches[peer, ""].seconds)
                ratios[f"switch_time_vs_{peer}@{activation}{suffix}"] = found
                if activation == ACTIVATIONS[0]:
                    ratios[f"switch_time_vs_{peer}{suffix}"] = found
    return ratios


def make_decoding_ratios(mine: OurResults) -> dict[str, dict[str, float]]:
    """The speed of decoding under an adapter over that without one."""
    speeds = {form: _speeds(taken) for form, taken in mine.decoding.items()}
    return {f"decode_speed_{form}_vs_base": ratio(speeds[form], speeds["base"]) for form in ("fused", "low_rank")}


def make_counters(task: SwitchTask, mine: OurResults) -> dict[str, Any]:
    """What explains the figures: tokens, bytes, and the time of the reference change alone."""
    total = len(task.tokens)
    return {
        "rank": RANK,
        "stream_tokens": total,
        "prefix_tokens": task.starts["turn"],
        "active_tokens": {activation: total - start for activation, start in task.starts.items()},
        "adapter_bytes": dict(mine.nbytes),
        "reference_change_microseconds": {
            form: {name: figure * (1 if name == "n" else 1e6) for name, figure in spread(taken).items()}
            for form, taken in mine.reference_changes.items()
        },
    }


def show(out: Console, value: Mapping[str, Any]) -> None:
    """Print the figures and the goals."""
    ratios, counters = value["ratios"], value["counters"]
    switches = [one for one in value["rows"] if "way" in one]
    columns = ["way", "activation", "tokens", "ms", *(f"vs {peer}" for peer in PEERS)]
    common.print_table(out, "Switching from the selector", columns, [_line(one, ratios) for one in switches])
    for one in value["rows"]:
        if "form" in one:
            speed = one["tokens_per_second"]["median"]
            out.print(f"decoding, {one['form']}: {speed:.3g} tokens/s", markup=False)
    for form, taken in counters["reference_change_microseconds"].items():
        met = _goal_text(taken["median"] <= REFERENCE_CHANGE)
        out.print(f"goal reference change ({form}) under 1 ms: {met}: {taken['median']:.0f} microseconds", markup=False)
    for name, goal in GOALS.items():
        got, fast = ratios[name]["median"], "speed" in name
        met = _goal_text(got >= goal if fast else got <= goal)
        out.print(f"goal {name} {'at least' if fast else 'at most'} {goal:g}: {met}: {got:.3g}", markup=False)


def _line(one: Mapping[str, Any], ratios: Mapping[str, Mapping[str, float]]) -> list[str]:
    way, activation, seconds = one["way"], one["activation"], one["seconds"]
    suffix = "" if way == "low_rank" else f":{way}"
    beside = (ratios.get(f"switch_time_vs_{peer}@{activation}{suffix}") for peer in PEERS)
    return [
        way,
        activation,
        f"{one['processed_tokens']}",
        f"{seconds['median'] * 1000:.0f}",
        *(f"{found['median']:.2g}" if found else "" for found in beside),
    ]


def _goal_text(reached: bool) -> str:
    return "reached" if reached else "NOT reached"


def _speeds(seconds: Sequence[float]) -> list[float]:
    return [1 / one for one in seconds]


if __name__ == "__main__":
    common.main(__file__)
