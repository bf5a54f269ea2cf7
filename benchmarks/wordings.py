"""How many points requests that are made are missing, beside hand-written wordings: on filesystem, git and time.

    python benchmarks/wordings.py --work FOLDER [--quick] [--json FILE]        is: dualtune bench wordings …

It needs the embedded model and the extra ``demo``. The demo's tools are learned three times, with the same steps: from
the demo's hand-written requests (``written``), from as many requests that ``synthesize`` makes of the tools alone
(``made``), and from ``both``. All are measured on the same hand-written requests, whose wordings nobody learns; beside
them the embedded model alone (``base``) and the bundle that comes with the package, which all three begin with
(``start``).

What came of each is kept in WORK/KEY/METHOD.json, where KEY stands for the tools, the requests and the steps; a
benchmark that was stopped goes on. ``--quick`` takes fewer requests and steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from dualtune_mlx.benchmarks import common
from dualtune_mlx.benchmarks.training import demo_tools
from dualtune_mlx.bundle import Bundle
from dualtune_mlx.data import read_trajectories, write_split, write_tools
from dualtune_mlx.data.splitting import split_data
from dualtune_mlx.decoding import Decoding
from dualtune_mlx.demo import Recipe
from dualtune_mlx.engine import DualTune
from dualtune_mlx.evaluation import evaluate_calls
from dualtune_mlx.learning.options import ARGUMENT_CARD, TEMPLATE, VALIDATED, choose_cards, train_config
from dualtune_mlx.learning.report.contents import is_right, is_tool_right
from dualtune_mlx.learning.road import MOST_TOKENS
from dualtune_mlx.learning.state import fingerprint_tools
from dualtune_mlx.models import EMBEDDED, BaseModel, load_model
from dualtune_mlx.start import start_bundle
from dualtune_mlx.synthesis.options import SynthesisOptions
from dualtune_mlx.synthesis.synthesize import REQUESTS, synthesize
from dualtune_mlx.tools import Tool, Trajectory
from dualtune_mlx.training import Job, TrainingSession
from dualtune_mlx.training.words import fit_bundle_words

WRITTEN = "written.jsonl"
LEARNED: Mapping[str, tuple[str, ...]] = {"written": (WRITTEN,), "made": (REQUESTS,), "both": (WRITTEN, REQUESTS)}
"""The files that each method learns from."""
METHODS = ("base", "start", *LEARNED)
METRICS: Mapping[str, Callable[[Mapping[str, Any]], bool]] = {"tool": is_tool_right, "call": is_right}


@dataclass(frozen=True)
class Setting:
    """How much is learned and measured."""

    recipe: Recipe
    """The demo's recipe: how many hand-written requests are learned and measured. As many are made."""
    selector: int
    """Steps of each selector."""
    arguments: int
    """Steps of each argument adapter."""


FULL = Setting(Recipe(test=180), selector=240, arguments=240)
QUICK = Setting(Recipe(train=370, valid=30, test=15), selector=12, arguments=12)


def run(quick: bool, out: Console, work: Path) -> dict[str, Any]:
    """Learn and measure in every way, print the table, and return the value of ``--json``."""
    tools, setting = demo_tools(work), QUICK if quick else FULL
    key = common.key_of(asdict(setting), fingerprint_tools(tools))
    folder = work / key
    base, test = load_model(EMBEDDED), setting.recipe.measured(tools)
    known = {}
    for method in METHODS:
        make = partial(measure, method, folder, setting, base, test)
        known[method] = common.keep(folder / f"{method}.json", key, make)
        shares = ", ".join(f"{known[method]['report'][name]:.1%} {name}" for name in METRICS)
        out.print(f"{method}: {shares}, {known[method]['seconds']:.0f} s", markup=False)
    value = make_report(known, setting)
    print_report(value, out)
    return value


def measure(method: str, folder: Path, setting: Setting, base: BaseModel, test: Sequence[Trajectory]) -> dict[str, Any]:
    """Learn in a way, and measure."""
    began, tools = time.perf_counter(), test[0].tools
    if method in LEARNED:
        make_data(folder / "data", setting, tools)
        learn([folder / "data" / name for name in LEARNED[method]], folder / method, setting, base, tools)
    with load(method, folder, base, tools) as dualtune:
        report = evaluate_calls(dualtune, test, MOST_TOKENS).to_dict()
    return {"report": report, "seconds": time.perf_counter() - began}


def make_data(folder: Path, setting: Setting, tools: tuple[Tool, ...]) -> None:
    """Write the hand-written requests, and as many that are made, unless they are there."""
    if (folder / REQUESTS).exists():
        return
    written = setting.recipe.learned(tools)
    write_tools(folder, tools)
    write_split(folder, Path(WRITTEN).stem, written)
    synthesize(tools, folder, SynthesisOptions(len(written), seed=setting.recipe.seed))


def learn(sources: list[Path], folder: Path, setting: Setting, base: BaseModel, tools: tuple[Tool, ...]) -> None:
    """Train a bundle as ``dualtune learn`` does, with the steps of the setting."""
    data, lines = folder / "data", sum(len(read_trajectories(path)) for path in sources)
    split_data(sources, data, valid=VALIDATED / lines, test=0.0, seed=setting.recipe.seed, replace=True)
    config = train_config(
        {"selector": setting.selector, "arguments": setting.arguments},
        start_bundle(EMBEDDED),
        model=EMBEDDED,
        data=str(data),
        bundle=str(folder),
        cards=choose_cards(tools, base),
        seed=setting.recipe.seed,
    )
    session = TrainingSession(config)
    for stage in ("selector", "arguments"):
        session.train_one(Job(stage), skip=True, resume=True)
    fit_bundle_words(Bundle.open(folder), base, read_trajectories(data / "train.jsonl"))


def load(method: str, folder: Path, base: BaseModel, tools: tuple[Tool, ...]) -> DualTune:
    """The engine of a method."""
    bundle = folder / method if method in LEARNED else start_bundle(EMBEDDED)
    if method == "base" or bundle is None:
        return DualTune.without_adapters(base, TEMPLATE, choose_cards(tools, base), argument_card=ARGUMENT_CARD)
    return DualTune.load(bundle, base, decoding=Decoding(grounding="data"))


def make_report(known: Mapping[str, Mapping[str, Any]], setting: Setting) -> dict[str, Any]:
    """The benchmark's value: rows over all requests, then for each server's."""
    examples = {method: one["report"]["examples"] for method, one in known.items()}
    servers = dict.fromkeys(one["gold"]["server"] for one in examples["base"] if one["gold"]["server"])
    rows = [row_of("all", method, found) for method, found in examples.items()]
    rows += [
        row_of(server, method, [one for one in found if one["gold"]["server"] == server])
        for server in servers
        for method, found in examples.items()
    ]
    written, made = (next(row for row in rows if row["method"] == method) for method in ("written", "made"))
    ratios = {f"{name}_vs_written": common.ratio([made[name]], [written[name]]) for name in METRICS if written[name]}
    counters = {
        "points_missing": {name: 100 * (written[name] - made[name]) for name in METRICS},
        "requests": setting.recipe.train + setting.recipe.valid,
        "steps": {"selector": setting.selector, "arguments": setting.arguments},
        "seconds": common.spread([known[method]["seconds"] for method in LEARNED]),
    }
    return common.report("wordings", rows, ratios, counters)


def row_of(server: str, method: str, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A row of the report."""
    shares = {name: sum(map(is_so, examples)) / len(examples) for name, is_so in METRICS.items()}
    return {"server": server, "method": method, "n": len(examples), **shares}


def print_report(value: Mapping[str, Any], out: Console) -> None:
    """Print the rows, and how many points are missing."""
    lines = [
        [f"{row['server']}, {row['method']}", f"{row['n']}", *(f"{row[name]:.1%}" for name in METRICS)]
        for row in value["rows"]
    ]
    common.print_table(out, "requests in hand-written wordings that nobody learns", ["", "n", *METRICS], lines)
    missing = value["counters"]["points_missing"]
    points = ", ".join(f"{name} {number:.1f}" for name, number in missing.items())
    out.print(f"points that made requests are missing beside hand-written ones: {points}", markup=False)


if __name__ == "__main__":
    common.main("wordings")
