"""The demo: three servers are learned (``dualtune learn``), and requests are sent to their real tools.

value = run_demo("dualtune-demo", report=print)

FOLDER/mcp.json         the servers, which work in FOLDER/workspace
FOLDER/wordings.jsonl   requests in hand-written wordings, which are learned beside those that are made
FOLDER/bundle           the bundle; its data/test.jsonl has requests in other hand-written wordings, which are measured
FOLDER/base-HASH.json   what the base model makes of these
FOLDER/calls            what came of the requests to the real tools
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualtune_mlx.bundle import Bundle
from dualtune_mlx.data import read_trajectories, write_split
from dualtune_mlx.decoding import Decoding
from dualtune_mlx.demo.recipe import Recipe
from dualtune_mlx.demo.workspace import Workspace
from dualtune_mlx.engine import DualTune
from dualtune_mlx.errors import DecodingError, DualTuneError, ToolError
from dualtune_mlx.evaluation import evaluate_calls
from dualtune_mlx.files import write_json, write_text
from dualtune_mlx.learning.events import CommandStarted, DecisionEvaluated, LearnEvent, Measured
from dualtune_mlx.learning.options import ARGUMENT_CARD, TEMPLATE
from dualtune_mlx.learning.road import MOST_TOKENS, learn
from dualtune_mlx.mcp import ToolResult, connect, read_config
from dualtune_mlx.mcp.inspection import inspect_servers
from dualtune_mlx.mcp.snapshot import snapshot_tools
from dualtune_mlx.models import EMBEDDED, resolve
from dualtune_mlx.tools import Tool, ToolCall

CANDIDATES = 3
"""Candidates that a call ranks, as ``dualtune call`` does."""
GROUNDING = "data"
"""How strings are held to the conversation, as ``dualtune call`` does."""


@dataclass(frozen=True)
class CallFinished:
    """A call was chosen, written and executed; ``respond`` is not executed."""

    request: str
    call: ToolCall
    result: ToolResult | None


@dataclass(frozen=True)
class CallFailed:
    """A call could not be written or executed; the next request follows."""

    request: str
    error: DualTuneError


DemoEvent = LearnEvent | CallFinished | CallFailed
DemoCallback = Callable[[DemoEvent], object]
"""Called with every event. Raising ``KeyboardInterrupt`` stops the demo, like Ctrl-C."""


def run_demo(
    folder: str | Path, recipe: Recipe | None = None, *, report: DemoCallback = lambda _: None
) -> dict[str, Any]:
    """Run the demo in a folder.

    What is in the folder already is not made again. So a demo that was stopped continues where it was. What another
    recipe left in the folder is deleted first.

    Args:
        folder: where workspace, bundle and results go; made when missing.
        recipe: how much data, how many minutes, which requests.
        report: called with every event; can stop the demo.

    Returns:
        ``accuracy`` (``tool`` and ``call`` of ``base``, the model alone, ``start``, the bundle that training goes on
        from, and ``trained``), ``bundle`` (its folder), ``seconds``, and ``calls``: for each request the record of its
        call and result, or its ``error``.

    Raises:
        ServerError: when a server or a program it needs cannot be found, installed or started.
        ModelError: when the embedded model cannot be loaded.
        TrainingError: when an adapter cannot be trained.
    """
    return _Demo(Path(folder), recipe or Recipe(), report).run()


class _Demo:
    def __init__(self, folder: Path, recipe: Recipe, report: DemoCallback) -> None:
        self.folder = folder
        self.recipe = recipe
        self.report = report
        self.workspace = Workspace(folder / "workspace")
        self.bundle = folder / "bundle"
        self.given, self.test = folder / "wordings.jsonl", self.bundle / "data" / "test.jsonl"

    def run(self) -> dict[str, Any]:
        began = time.perf_counter()
        tools = self._prepare()
        learned = self._learn(tools)
        measured = {"base": self._measure_base(), "start": learned["before"], "trained": learned["after"]}
        calls = [self._call(number, request) for number, request in enumerate(self.recipe.requests, 1)]
        return {
            "accuracy": {
                name: {metric: value[metric] for metric in ("tool", "call")} for name, value in measured.items()
            },
            "bundle": str(self.bundle),
            "seconds": time.perf_counter() - began,
            "calls": calls,
        }

    def _prepare(self) -> tuple[Tool, ...]:
        self._delete_results_of_another_recipe()
        resolve(EMBEDDED)
        self.workspace.prepare()
        tools = snapshot_tools(inspect_servers(read_config(self.workspace.config)), self.bundle / "data").tools
        for path, generate in ((self.given, self.recipe.learned), (self.test, self.recipe.measured)):
            if not path.exists():
                write_split(path.parent, path.stem, generate(tools))
        return tools

    def _delete_results_of_another_recipe(self) -> None:
        key = self.folder / "recipe"
        if key.exists() and key.read_text() != self.recipe.key:
            for name in ("bundle", "workspace", "calls"):
                shutil.rmtree(self.folder / name, ignore_errors=True)
            for path in (self.given, *self.folder.glob("base-*.json")):
                path.unlink(missing_ok=True)
        write_text(key, self.recipe.key)

    def _learn(self, tools: Sequence[Tool]) -> Mapping[str, Any]:
        options = self.recipe.options
        place = ("--mcp", self.workspace.config, "--bundle", self.bundle, "--more", self.given)
        made = ("--requests", options.requests) if options.requests else ()
        self._say("learn", *place, "--minutes", f"{options.minutes:g}", *made, "--seed", options.seed)
        return learn(tools, self.bundle, options, more=[self.given], report=self.report)

    def _measure_base(self) -> Mapping[str, Any]:
        """What the model makes of the same requests without any adapter, in the prompts of the bundle."""
        path = self.folder / f"base-{hashlib.sha256(self.test.read_bytes()).hexdigest()[:12]}.json"
        if not path.exists():
            cards = Bundle.open(self.bundle).cards
            shown = ("--template", TEMPLATE, "--cards", cards, "--argument-card", ARGUMENT_CARD)
            limit = ("--max-tokens", MOST_TOKENS)
            self._say("eval", "--base", "--model", EMBEDDED, "--data", self.test, *shown, *limit, "--json", path)
            with DualTune.without_adapters(EMBEDDED, TEMPLATE, cards, argument_card=ARGUMENT_CARD) as dualtune:
                value = evaluate_calls(
                    dualtune,
                    read_trajectories(self.test),
                    MOST_TOKENS,
                    lambda done, total: self.report(DecisionEvaluated(done, total)),
                ).to_dict()
            write_json(path, value)
            self.report(Measured("base", value))
        report: Mapping[str, Any] = json.loads(path.read_text())
        return report

    def _call(self, number: int, request: str) -> dict[str, Any]:
        path = self.folder / "calls" / f"{number}.json"
        place = ("--bundle", self.bundle, "--mcp", self.workspace.config)
        self._say("call", *place, "--execute", "--max-tokens", MOST_TOKENS, "--json", path, request)
        decoding = Decoding(max_tokens=MOST_TOKENS, grounding=GROUNDING)
        try:
            with (
                connect(read_config(self.workspace.config)) as toolbox,
                DualTune.load(self.bundle, decoding=decoding) as dualtune,
            ):
                call = dualtune.call(request, toolbox.tools, top_k=CANDIDATES)
                result = None if call.is_respond else toolbox.execute(call)
        except (DecodingError, ToolError) as error:  # one wrong answer of a small model does not end the demo
            self.report(CallFailed(request, error))
            return {"request": request, "error": str(error)}
        value = {**call.to_record(), **({"result": result.to_record()} if result else {})}
        write_json(path, value)
        self.report(CallFinished(request, call, result))
        return {"request": request, **value}

    def _say(self, *arguments: object) -> None:
        self.report(CommandStarted(tuple(map(str, arguments))))
