"""The demo: measure the base model, train two adapters, measure again, and send requests to real tools.

value = run_demo("dualtune-demo", report=print)
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualtune_mlx.bundle import MANIFEST, Bundle
from dualtune_mlx.data import read_trajectories
from dualtune_mlx.decoding import Decoding
from dualtune_mlx.demo.recipe import Recipe
from dualtune_mlx.demo.workspace import Workspace
from dualtune_mlx.engine import DualTune
from dualtune_mlx.errors import DecodingError, DualTuneError, ToolError
from dualtune_mlx.evaluation import evaluate_calls
from dualtune_mlx.files import write_json, write_text
from dualtune_mlx.learning.events import CommandStarted, DecisionEvaluated
from dualtune_mlx.mcp import ToolResult, connect, read_config
from dualtune_mlx.models import EMBEDDED, resolve
from dualtune_mlx.tools import ToolCall
from dualtune_mlx.training import Job, SessionEvent, TrainingSession, merge_config

CANDIDATES = 3
"""Candidates that a call ranks, as ``dualtune call`` does."""
GROUNDING = "data"
"""How strings are held to the conversation, as ``dualtune call`` and ``dualtune eval`` do."""


@dataclass(frozen=True)
class EvaluationFinished:
    """An evaluation has ended."""

    value: Mapping[str, Any]
    """The report, as ``dualtune eval --json`` writes it."""


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


DemoEvent = CommandStarted | DecisionEvaluated | EvaluationFinished | SessionEvent | CallFinished | CallFailed
DemoCallback = Callable[[DemoEvent], object]
"""Called with every event.

Raising ``KeyboardInterrupt`` stops the demo, like Ctrl-C. For a training session's events the callback may also return
what a ``SessionCallback`` may return.
"""


def run_demo(
    folder: str | Path, recipe: Recipe | None = None, *, report: DemoCallback = lambda _: None
) -> dict[str, Any]:
    """Run the demo in a folder.

    Data, adapters and measurements that are in the folder already are not made again. So a demo that was stopped
    continues where it was. What another recipe left in the folder is deleted first.

    Args:
        folder: where data, workspace, bundle and results go; made when missing.
        recipe: how much data, which training, which requests.
        report: called with every event; can stop the demo.

    Returns:
        ``accuracy`` (of ``base`` and ``trained``: ``tool`` and ``call``), ``bundle`` (its folder), ``seconds``, and
        ``calls``: for each request the record of its call and result, or its ``error``.

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
        self.data, self.bundle = folder / "data", folder / "bundle"

    def run(self) -> dict[str, Any]:
        began = time.perf_counter()
        self._prepare()
        base = self._evaluate_base()
        for stage in ("selector", "arguments"):
            self._train(stage)
        trained = self._evaluate_bundle()
        calls = [self._call(number, request) for number, request in enumerate(self.recipe.requests, 1)]
        measured = {"base": base, "trained": trained}
        return {
            "accuracy": {
                name: {metric: value[metric] for metric in ("tool", "call")} for name, value in measured.items()
            },
            "bundle": str(self.bundle),
            "seconds": time.perf_counter() - began,
            "calls": calls,
        }

    def _prepare(self) -> None:
        self._delete_results_of_another_recipe()
        resolve(EMBEDDED)
        self.workspace.prepare()
        if not (self.data / "tools.json").exists():
            with connect(read_config(self.workspace.config)) as toolbox:
                self.recipe.write_data(self.data, toolbox.tools)

    def _delete_results_of_another_recipe(self) -> None:
        key = self.folder / "recipe"
        if key.exists() and key.read_text() != self.recipe.key:
            for name in ("data", "bundle", "workspace", "calls"):
                shutil.rmtree(self.folder / name, ignore_errors=True)
            for name in ("base.json", "trained.json"):
                (self.folder / name).unlink(missing_ok=True)
        write_text(key, self.recipe.key)

    def _evaluate_base(self) -> dict[str, Any]:
        recipe = self.recipe
        cards = ("--template", recipe.template, "--cards", recipe.cards)
        return self._evaluate(
            self.folder / "base.json",
            ("--base", "--model", EMBEDDED, "--data", str(self.data / "test.jsonl"), *cards),
            lambda: DualTune.without_adapters(EMBEDDED, recipe.template, recipe.cards),
        )

    def _evaluate_bundle(self) -> dict[str, Any]:
        return self._evaluate(
            self.folder / "trained.json",
            ("--bundle", str(self.bundle), "--data", str(self.data / "test.jsonl")),
            lambda: DualTune.load(self.bundle, decoding=Decoding(grounding=GROUNDING)),
        )

    def _evaluate(self, path: Path, arguments: tuple[str, ...], load: Callable[[], DualTune]) -> dict[str, Any]:
        if not path.exists():
            limit = self.recipe.max_tokens
            self.report(CommandStarted(("eval", *arguments, "--max-tokens", str(limit), "--json", str(path))))
            trajectories = read_trajectories(self.data / "test.jsonl")
            with load() as dualtune:
                report = evaluate_calls(
                    dualtune, trajectories, limit, lambda done, total: self.report(DecisionEvaluated(done, total))
                )
            write_json(path, report.to_dict())
            self.report(EvaluationFinished(report.to_dict()))
        value: dict[str, Any] = json.loads(path.read_text())
        return value

    def _train(self, stage: str) -> None:
        if self._is_trained(stage):
            return
        recipe = self.recipe
        where = {"model": EMBEDDED, "data": str(self.data), "bundle": str(self.bundle)}
        cards = {"template": recipe.template, "cards": recipe.cards}
        self.report(CommandStarted(("train", stage, *_flags(where), "--resume", *_flags(cards), *recipe.flags(stage))))
        session = TrainingSession(merge_config(None, {**where, **cards, **recipe.options(stage)}))
        session.train_one(Job(stage), self.report, skip=True, resume=True)

    def _is_trained(self, stage: str) -> bool:
        return (self.bundle / MANIFEST).exists() and (stage, "") in Bundle.open(self.bundle).stages

    def _call(self, number: int, request: str) -> dict[str, Any]:
        path, limit = self.folder / "calls" / f"{number}.json", self.recipe.max_tokens
        where = ("--bundle", str(self.bundle), "--mcp", str(self.workspace.config))
        options = ("--execute", "--max-tokens", str(limit), "--json", str(path))
        self.report(CommandStarted(("call", *where, *options, request)))
        decoding = Decoding(max_tokens=limit, grounding=GROUNDING)
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


def _flags(values: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(text for name, value in values.items() for text in (f"--{name}", value))
