"""The right tool among tools that nothing was trained on: by their words, by a model, and by both.

    python benchmarks/unseen_tools.py --lists FOLDER [--split S] [--bundle B]      is: dualtune bench unseen …

``benchmarks/unseen`` has hand-written requests for real servers. FOLDER has the servers' tools: a file NAME.json for
each, as ``python -m tests.tools.real_servers.collect`` leaves them there. The model is that of the bundle, or the
embedded one without adapters. ``--quick`` takes every fourth request.

``METHODS``: ``words`` ranks by BM25 alone. ``model`` shows the model the tools whose words match best, and ranks by its
own probability. ``both`` is what ``DualTune`` does with lexical evidence. On the split ``tune`` that is fitted to the
requests for the other servers; ``--fit`` writes what is fitted to all of them into the bundle. On ``test`` nothing is
fitted: the evidence is the bundle's own. ``shown`` is how often the right tool is among those that are shown,
``none`` how often a request that no tool serves is left alone. A right tool that cannot be used counts as wrong.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from rich.console import Console

from dualtune_mlx.benchmarks import common
from dualtune_mlx.bundle import Bundle
from dualtune_mlx.data.decisions import Decision
from dualtune_mlx.decoding import Evidence, KnownChoice, fit_evidence
from dualtune_mlx.decoding.evidence import SHOWN
from dualtune_mlx.engine import DualTune
from dualtune_mlx.engine.events import Candidates, Done
from dualtune_mlx.engine.evidence import known_choice
from dualtune_mlx.engine.loading import load_base
from dualtune_mlx.errors import DecodingError, ToolError, UsageError
from dualtune_mlx.evaluation.calls import same_json
from dualtune_mlx.mcp.inspection import report_listing
from dualtune_mlx.mcp.tools_file import read_listings
from dualtune_mlx.models import EMBEDDED, BaseModel, load_model
from dualtune_mlx.prompts import PromptRenderer, Template
from dualtune_mlx.tools import RESPOND, Message, Tool, ToolCall
from dualtune_mlx.tools.lexical import lexical_scores

REQUESTS = Path(__file__).parent / "unseen"
METHODS = ("words", "model", "both")
OF_BASE = Evidence(weight=5.39, respond=2.54, sharpness=0.17)
"""The embedded model's without adapters, as the split ``tune`` gives it."""
GOALS = {"tool": 0.75, "call": 0.40, "none": 0.90}
"""What ``both`` should reach without any training on these tools."""
COUNTED = ("prefilled_tokens", "reused_tokens", "active_tokens", "forwards")
MAX_TOKENS = 160
NEVER = 10**6
"""The rank of a right tool that is not ranked."""


@dataclass(frozen=True)
class Request:
    """One request, and what is right for it."""

    text: str
    call: ToolCall
    """The right call; of ``respond`` where no tool serves the request."""
    arguments: tuple[Mapping[str, Any], ...] = ()
    """All arguments that are right."""

    @property
    def served(self) -> bool:
        """Whether a tool serves the request."""
        return not self.call.is_respond


@dataclass(frozen=True)
class Server:
    """A server's tools, and the requests for it."""

    name: str
    tools: tuple[Tool, ...]
    requests: tuple[Request, ...]


@dataclass(frozen=True)
class Outcome:
    """What a method made of one request."""

    request: Request
    rank: int
    """The place of the right choice among all that were ranked; 0 is the first."""
    is_shown: bool = True
    """Whether the right choice was among those that the method ranked."""
    is_call_right: bool | None = None
    """Whether the whole call is right; None where no arguments were written."""


def run(
    quick: bool, out: Console, lists: Path, split: str = "tune", bundle: Path | None = None, fit: bool = False
) -> dict[str, Any]:
    """Ask for every request in every way, and return the value of ``--json``.

    Raises:
        UsageError: when there are no requests here, a server's tools are not in ``lists``, or there is no evidence.
    """
    servers = read_servers(split, lists, 4 if quick else 1)
    opened = Bundle.open(bundle) if bundle else None
    own = opened.evidence if opened else OF_BASE
    check_fit(split, opened, fit)
    base = load_base(opened, None, None) if opened else load_model(EMBEDDED)
    open_engine, shown = engine_maker(base, opened), own.shown if own else SHOWN
    outcomes: dict[str, dict[str, list[Outcome]]] = {method: {} for method in METHODS}
    known: dict[str, list[KnownChoice]] = {}
    for server in servers:
        outcomes["words"][server.name] = [by_words(server.tools, one, shown) for one in server.requests]
        with open_engine(Evidence(shown=shown)) as neutral:
            outcomes["model"][server.name] = [by_model(neutral, server.tools, one) for one in server.requests]
            known[server.name] = known_choices(neutral, server) if split == "tune" else []
        out.print(f"{server.name}: {len(server.tools)} tools, {len(server.requests)} requests", markup=False)
    counters, seconds = Counter[str](), list[float]()
    for server in servers:
        evidence = fit_to_others(known, server.name, shown) if split == "tune" else own
        assert evidence is not None
        with open_engine(evidence) as dualtune:
            began = time.perf_counter()
            outcomes["both"][server.name] = [by_both(dualtune, server.tools, one, counters) for one in server.requests]
            seconds.append((time.perf_counter() - began) / len(server.requests))
        out.print(f"{server.name}: {describe(evidence)}", markup=False)
    if opened and fit:
        opened.set_evidence(fit_to_others(known, "", shown))
    value = make_report(outcomes, {**counters, "shown": shown, "split": split}, seconds)
    print_report(value, out)
    return value


def check_fit(split: str, bundle: Bundle | None, fit: bool) -> None:
    """Refuse what would fit to the test, or measure it without an evidence.

    Raises:
        UsageError: saying which.
    """
    if fit and (split != "tune" or bundle is None):
        raise UsageError("evidence is fitted to the requests for tuning, and kept in a bundle", fix="--split tune")
    if split != "tune" and bundle is not None and bundle.evidence is None:
        raise UsageError(
            "the bundle has no lexical evidence", where=bundle.folder, fix="fit one: --split tune --fit with the bundle"
        )


def read_servers(split: str, lists: Path, every: int = 1) -> list[Server]:
    """The servers of a split, each with every so many of its requests.

    Raises:
        UsageError: when there are no requests here, or a server's tools are not in ``lists``.
    """
    files = sorted((REQUESTS / split).glob("*.jsonl"))
    if not files:
        raise UsageError("there are no requests", where=REQUESTS / split, fix="run this in a checkout of the project")
    missing = [file.stem for file in files if not (lists / f"{file.stem}.json").is_file()]
    if missing:
        raise UsageError(
            "the tools of servers are missing",
            where=lists,
            got=", ".join(missing),
            fix=f"python -m tests.tools.real_servers.collect {lists.parent} {' '.join(missing)}",
        )
    return [read_server(file, lists / f"{file.stem}.json", every) for file in files]


def read_server(requests: Path, listed: Path, every: int) -> Server:
    """A server's tools that can be used, and requests for it."""
    tools = tuple(tool for listing in read_listings(listed) for tool in report_listing(listing).tools)
    lines = [json.loads(line) for line in requests.read_text("utf-8").splitlines()][::every]
    return Server(requests.stem, tools, tuple(map(read_request, lines)))


def read_request(line: Mapping[str, Any]) -> Request:
    """A line of a file of requests."""
    if line["call"] is None:
        return Request(line["request"], ToolCall(RESPOND.name))
    call = ToolCall(line["call"]["name"], line["call"]["arguments"])
    return Request(line["request"], call, (call.arguments, *line.get("also", ())))


def engine_maker(base: BaseModel, bundle: Bundle | None) -> Callable[[Evidence], DualTune]:
    """Makes engines of the bundle's adapters, or of the base model alone, with an evidence of their own."""
    if bundle is None:
        renderer = PromptRenderer(Template("chatml"), base.tokenizer, "signature", "parameters")
        return lambda evidence: DualTune(base, renderer, evidence=evidence)
    renderer = bundle.open_renderer(base.tokenizer, model=base.name)
    return lambda evidence: DualTune(base, renderer, bundle=replace(bundle, tools=(), evidence=evidence, words=None))


def known_choices(neutral: DualTune, server: Server) -> list[KnownChoice]:
    """The choices of an engine with neutral evidence; none where the right tool cannot be used."""
    usable = {tool.name for tool in (*server.tools, RESPOND)}
    asked = [one for one in server.requests if one.call.name in usable]
    decisions = (Decision((Message("user", one.text),), server.tools, one.call) for one in asked)
    return [choice for decision in decisions for choice in known_choice(neutral, decision)]


def by_words(tools: tuple[Tool, ...], request: Request, shown: int) -> Outcome:
    """BM25 alone; it never leaves a request alone."""
    scores = lexical_scores(request.text, tools)
    ranked = sorted(zip(tools, scores, strict=True), key=lambda pair: -pair[1])
    outcome = _rank(ranked, request)
    return replace(outcome, is_shown=outcome.rank < shown)


def by_model(dualtune: DualTune, tools: tuple[Tool, ...], request: Request) -> Outcome:
    """The model's own ranking of the tools that are shown."""
    return _rank(dualtune.select(request.text, tools, top_k=len(tools) + 1), request)


def by_both(dualtune: DualTune, tools: tuple[Tool, ...], request: Request, counters: Counter[str]) -> Outcome:
    """The call as ``DualTune`` makes it. Where the tool is wrong, no arguments are written: the call is wrong."""
    outcome = Outcome(request, NEVER)
    events = dualtune.stream(request.text, tools, top_k=len(tools) + 1, max_tokens=MAX_TOKENS)
    with closing(events), suppress(DecodingError, ToolError):
        for event in events:
            if isinstance(event, Candidates):
                outcome = replace(_rank(event.ranked, request), is_call_right=False if request.served else None)
                if outcome.rank:
                    break
            elif isinstance(event, Done):
                counters.update({name: getattr(event.call.usage, name) for name in COUNTED})
                counters["calls"] += 1
                is_right = any(same_json(event.call.arguments, one) for one in request.arguments)
                outcome = replace(outcome, is_call_right=is_right if request.served else None)
    return outcome


def _rank(ranked: Sequence[tuple[Tool, float]], request: Request) -> Outcome:
    names = [tool.name for tool, _ in ranked]
    is_shown = request.call.name in names
    return Outcome(request, names.index(request.call.name) if is_shown else NEVER, is_shown)


def fit_to_others(known: Mapping[str, Sequence[KnownChoice]], server: str, shown: int) -> Evidence:
    """The evidence that the choices of all other servers give."""
    return fit_evidence([one for other, found in known.items() if other != server for one in found], shown)


def describe(evidence: Evidence) -> str:
    """An evidence's numbers in a line."""
    return ", ".join(f"{name} {number:.3g}" for name, number in evidence.to_dict().items())


def row_of(server: str, method: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """A row of the report: shares of the requests that a tool serves, and of those that none serves."""
    served = [one for one in outcomes if one.request.served]
    unserved = [one for one in outcomes if not one.request.served]
    called = [one.is_call_right for one in served if one.is_call_right is not None]
    return {
        "server": server,
        "method": method,
        "n": len(served),
        "n_none": len(unserved),
        "tool": _share([one.rank < 1 for one in served]),
        "top3": _share([one.rank < 3 for one in served]),
        "shown": _share([one.is_shown for one in served]),
        "none": _share([one.rank < 1 for one in unserved]),
        **({"call": _share(called)} if called else {}),
    }


def make_report(
    outcomes: Mapping[str, Mapping[str, Sequence[Outcome]]], counters: Mapping[str, Any], seconds: Sequence[float]
) -> dict[str, Any]:
    """The benchmark's value: a row for each method over all servers, then for each server."""
    rows = [row_of("all", method, [*chain.from_iterable(found.values())]) for method, found in outcomes.items()]
    rows += [row_of(server, method, one) for method, found in outcomes.items() for server, one in found.items()]
    ratios = {}
    if rows[1]["tool"]:
        ratios["tool_vs_model"] = common.ratio([rows[2]["tool"]], [rows[1]["tool"]])
    return common.report("unseen", rows, ratios, {**counters, "seconds": common.spread(seconds)})


def print_report(value: Mapping[str, Any], out: Console) -> None:
    """Print the rows, and whether the goals are reached."""
    metrics = ("tool", "top3", "shown", "none", "call")
    lines = [
        [f"{row['server']}, {row['method']}", *(f"{row[m]:.1%}" if m in row else "" for m in metrics)]
        for row in value["rows"]
    ]
    whole = value["rows"][len(METHODS) - 1]
    common.print_table(out, f"{whole['n']} and {whole['n_none']} requests", ["", *metrics], lines)
    for metric, goal in GOALS.items():
        word = "reached" if whole.get(metric, 0.0) >= goal else "NOT reached"
        out.print(f"goal {metric} at least {goal:.0%}: {word}", markup=False)


def _share(found: Sequence[bool]) -> float:
    return sum(found) / len(found) if found else 0.0


if __name__ == "__main__":
    common.main("unseen")
