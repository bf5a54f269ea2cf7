"""What ``dualtune learn`` makes of tools that it has no wordings for, in a few minutes each, without a teacher.

    python benchmarks/learned_tools.py --lists FOLDER --work FOLDER [--minutes 15]      is: dualtune bench learned …

The requests and lists are those of ``unseen_tools.py``: hand-written, for real servers, and never seen by what words
the requests of training. Each server is learned alone, into a bundle of its own: WORK/NAME. What came of it is kept in
WORK/NAME.json, and not measured again, so a benchmark that was stopped goes on. ``--servers`` takes some of the servers
alone, ``--quick`` a minute each and every fourth request.

``METHODS``: ``base`` is the embedded model alone, ``start`` the bundle that comes with the package, ``learned`` the
bundle that was learned. ``call`` counts a call only if the tool and all arguments are right; the base model is not
asked for arguments.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from rich.console import Console

from dualtune_mlx.benchmarks import common
from dualtune_mlx.benchmarks.unseen_tools import Outcome, Server, by_both, by_model, read_servers, row_of
from dualtune_mlx.decoding import Decoding
from dualtune_mlx.engine import DualTune
from dualtune_mlx.errors import UsageError
from dualtune_mlx.learning.options import LearnOptions
from dualtune_mlx.learning.road import learn
from dualtune_mlx.learning.state import fingerprint_tools
from dualtune_mlx.models import EMBEDDED, BaseModel, load_model
from dualtune_mlx.start import start_bundle

METHODS = ("base", "start", "learned")
LARGE = 40
"""A server with more tools is held to the lower goals."""
GOALS = {"small": {"tool": 0.90, "call": 0.70}, "large": {"tool": 0.80, "call": 0.55}}


def run(
    quick: bool,
    out: Console,
    lists: Path,
    work: Path,
    split: str = "tune",
    minutes: float = 15.0,
    servers: Sequence[str] = (),
) -> dict[str, Any]:
    """Learn each server, ask for every request in every way, and return the value of ``--json``.

    Raises:
        UsageError: when there are no requests here, a server's tools are not in ``lists``, or a name is of no server.
    """
    found = read_servers(split, lists, 4 if quick else 1)
    if unknown := set(servers) - {server.name for server in found}:
        expected = ", ".join(server.name for server in found)
        raise UsageError("there are no requests for a server", got=", ".join(sorted(unknown)), expected=expected)
    chosen = [server for server in found if server.name in servers or not servers]
    base, options = load_model(EMBEDDED), LearnOptions(minutes=1.0 if quick else minutes)
    outcomes: dict[str, dict[str, list[Outcome]]] = {method: {} for method in METHODS}
    counters, seconds = Counter[str](), list[float]()
    for server in chosen:
        key = common.key_of(options.minutes, len(server.requests), fingerprint_tools(server.tools))
        bundle = work / server.name
        known = common.keep(work / f"{server.name}.json", key, partial(measure, server, base, bundle, options))
        for method, asked in known["outcomes"].items():
            outcomes[method][server.name] = [
                Outcome(one, **came_of_it) for one, came_of_it in zip(server.requests, asked, strict=True)
            ]
        counters.update(known["counters"])
        seconds.append(known["seconds"])
        out.print(f"{server.name}: {len(server.tools)} tools, learned in {seconds[-1]:.0f} s", markup=False)
    value = make_report(chosen, outcomes, {**counters, "minutes": options.minutes, "split": split}, seconds)
    print_report(value, out)
    return value


def measure(server: Server, base: BaseModel, bundle: Path, options: LearnOptions) -> dict[str, Any]:
    """Learn a server, and ask for its requests."""
    began, counters = time.perf_counter(), Counter[str]()
    learn(server.tools, bundle, options)
    seconds = time.perf_counter() - began
    outcomes = {
        method: [{"rank": one.rank, "is_shown": one.is_shown, "is_call_right": one.is_call_right} for one in asked]
        for method, asked in ask_all(server, base, bundle, counters)
    }
    return {"outcomes": outcomes, "counters": dict(counters), "seconds": seconds}


def ask_all(
    server: Server, base: BaseModel, bundle: Path, counters: Counter[str]
) -> Iterator[tuple[str, list[Outcome]]]:
    """What each method makes of a server's requests."""
    with DualTune.without_adapters(base, "chatml") as plain:
        yield "base", [by_model(plain, server.tools, one) for one in server.requests]
    for method, folder, into in (("start", start_bundle(EMBEDDED), Counter[str]()), ("learned", bundle, counters)):
        if folder is None:
            continue
        with DualTune.load(folder, base, decoding=Decoding(grounding="data")) as dualtune:
            yield method, [by_both(dualtune, server.tools, one, into) for one in server.requests]


def make_report(
    servers: Sequence[Server],
    outcomes: dict[str, dict[str, list[Outcome]]],
    counters: dict[str, Any],
    seconds: Sequence[float],
) -> dict[str, Any]:
    """The benchmark's value: rows over all servers, the small ones, the large ones, then each."""
    groups: dict[str, Callable[[Server], bool]] = {
        "all": lambda server: True,
        "small": lambda server: len(server.tools) <= LARGE,
        "large": lambda server: len(server.tools) > LARGE,
    }
    members = {name: [server.name for server in servers if belongs(server)] for name, belongs in groups.items()}
    members |= {server.name: [server.name] for server in servers}
    rows = [
        row_of(name, method, [*chain.from_iterable(outcomes[method][one] for one in listed)])
        for name, listed in members.items()
        if listed
        for method in METHODS
        if all(one in outcomes[method] for one in listed)
    ]
    by_name = {(row["server"], row["method"]): row for row in rows}
    base, learned = by_name["all", "base"]["tool"], by_name["all", "learned"]["tool"]
    ratios = {"tool_vs_base": common.ratio([learned], [base])} if base else {}
    return common.report("learned", rows, ratios, {**counters, "seconds": common.spread(seconds)})


def print_report(value: dict[str, Any], out: Console) -> None:
    """Print the rows, and whether the goals are reached."""
    metrics = ("tool", "top3", "none", "call")
    lines = [
        [f"{row['server']}, {row['method']}", *(f"{row[m]:.1%}" if m in row else "" for m in metrics)]
        for row in value["rows"]
    ]
    common.print_table(out, f"learned in {value['counters']['minutes']:g} minutes each", ["", *metrics], lines)
    by_name = {(row["server"], row["method"]): row for row in value["rows"]}
    for group, goals in GOALS.items():
        for metric, goal in goals.items():
            if row := by_name.get((group, "learned")):
                word = "reached" if row.get(metric, 0.0) >= goal else "NOT reached"
                out.print(f"goal, {group} servers: {metric} at least {goal:.0%}: {word}", markup=False)


if __name__ == "__main__":
    common.main("learned")
