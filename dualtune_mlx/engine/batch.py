"""Calls for several requests over the same tools, in the same forward passes.

What comes before a request's cache boundary is found in the ``PrefixCache`` or computed into it. What comes after is
a branch of its own in one token tree, and each row of a pass acts under its own request's adapter.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from os.path import commonprefix
from typing import Any

import mlx.core as mx

from dualtune_mlx.adapters.batched_lora import batch_updates, stack_updates
from dualtune_mlx.decoding import (
    ArgumentWriter,
    DecodeStep,
    Decoding,
    LogProbabilities,
    RankedName,
    TrieFork,
    search_names,
)
from dualtune_mlx.engine.attempts import ArgumentRequest, Attempt, Pieces, collect_pieces
from dualtune_mlx.engine.events import Done
from dualtune_mlx.engine.pipeline import (
    CallPipeline,
    Selection,
    add_arguments,
    argument_tool,
)
from dualtune_mlx.engine.requests import CallRequest
from dualtune_mlx.engine.stage import Stage, StageResult, StageRunner, count_step, log_probabilities
from dualtune_mlx.kv import Snapshot, TokenTree, TreeNode, TreePaths
from dualtune_mlx.prompts import TokenStream
from dualtune_mlx.tools import RESPOND, ToolCall
from dualtune_mlx.tools.hierarchy import Node
from dualtune_mlx.tools.labels import label_choices
from dualtune_mlx.tools.schemas import check_arguments
from dualtune_mlx.tools.usage import StageUsage

BATCH_SIZE = 16
"""How many requests share a forward pass."""
Search = Generator[Sequence[TrieFork], LogProbabilities, list[RankedName]]


def call_many(pipeline: CallPipeline, requests: Sequence[CallRequest]) -> list[ToolCall]:
    """The calls of requests with the same tools and options: in shared passes or, where these cannot be, one by one.

    Raises:
        As ``DualTune.call``, for the first request that cannot be answered.
    """
    if not requests or not pipeline.can_batch(requests[0].tools):
        return [done.call for request in requests for done in pipeline.call(request) if isinstance(done, Done)]
    groups = [requests[start : start + BATCH_SIZE] for start in range(0, len(requests), BATCH_SIZE)]
    return [call for group in groups for call in call_batch(pipeline, group)]


def call_batch(pipeline: CallPipeline, requests: Sequence[CallRequest]) -> list[ToolCall]:
    """The calls of several requests, as they would be one by one.

    All requests have the same tools and options. Each tool is chosen among all tools at once.

    Raises:
        As ``DualTune.call``, for the first request that cannot be answered.
    """
    tools, decoding = requests[0].tools, requests[0].decoding
    calls = [
        selection.to_call(request.abstain)
        for request, selection in zip(requests, choose_batch(pipeline, requests), strict=True)
    ]
    prepared = {
        number: pipeline.prepare_arguments(request, tool, Node("", tools))
        for number, request in enumerate(requests)
        if (tool := argument_tool(calls[number]))
    }
    for number, result in zip(prepared, write_batch(pipeline, list(prepared.values()), decoding), strict=True):
        calls[number] = add_arguments(calls[number], result, prepared[number])
    return calls


def choose_batch(pipeline: CallPipeline, requests: Sequence[CallRequest]) -> list[Selection]:
    """``CallPipeline.choose`` for several requests with the same tools and options."""
    tools, top_k = requests[0].tools, requests[0].top_k
    root, by_label, stage = Node("", tools), label_choices(tools), pipeline.registry.find("selector")
    streams = [
        pipeline.render(stage, request.messages, tools, RESPOND, root.cards, request.subtask) for request in requests
    ]
    batch = StageBatch(pipeline.runner, [stage] * len(streams), streams)
    return [
        Selection(
            tuple((by_label[one.name], one.probability) for one in result.value), root, {stage.name: result.usage}
        )
        for result in batch.choose(pipeline.renderer_of(stage).name_tokens(tools), top_k)
    ]


def write_batch(
    pipeline: CallPipeline, requests: Sequence[ArgumentRequest], decoding: Decoding
) -> list[StageResult[dict[str, Any]]]:
    """``CallPipeline.write`` for several requests over the same tools.

    Raises:
        DecodingError: when a request's arguments are not complete within its token budget.
        ToolError: when they do not fit the tool's schema.
    """
    attempts = {number: request.first_attempt(decoding) for number, request in enumerate(requests)}
    results: list[StageResult[dict[str, Any]]]
    results = [StageResult({}, StageUsage(adapter=request.stage.adapter_name)) for request in requests]
    unfinished = list(range(len(requests)))
    while unfinished:
        schemas = [requests[number].schema(attempts[number]) for number in unfinished]
        written = _write_once(pipeline, [requests[number] for number in unfinished], schemas, decoding)
        following: dict[int, Attempt] = {}
        for number, (result, pieces) in zip(unfinished, written, strict=True):
            results[number] = StageResult(result.value, results[number].usage + result.usage)
            if another := requests[number].next_attempt(decoding, attempts[number], pieces, result.value):
                following[number] = another
        attempts, unfinished = {**attempts, **following}, list(following)
    for request, result in zip(requests, results, strict=True):
        check_arguments(result.value, request.tool)
    return results


def _write_once(
    pipeline: CallPipeline,
    requests: Sequence[ArgumentRequest],
    schemas: Sequence[Mapping[str, Any]],
    decoding: Decoding,
) -> list[tuple[StageResult[dict[str, Any]], Pieces]]:
    """Write every request's arguments under its schema; the pieces that they are judged by go with them.

    Requests whose stages have the same adapter before the cache boundary, and the same template, are written together.
    """
    grammars = [pipeline.grammar(request, schema) for request, schema in zip(requests, schemas, strict=True)]
    pieces: list[list[tuple[bytes, float]]] = [[] for _ in requests]
    results: dict[int, StageResult[dict[str, Any]]] = {}
    groups: dict[Any, list[int]] = {}
    for number, request in enumerate(requests):
        groups.setdefault((request.stage.prefix_adapter, request.stage.renderer), []).append(number)
    for numbers in groups.values():
        batch = StageBatch(pipeline.runner, [requests[n].stage for n in numbers], [requests[n].stream for n in numbers])
        written = batch.write(
            [ArgumentWriter(grammars[n], decoding) for n in numbers],
            [collect_pieces(pieces[n], grammars[n], decoding) for n in numbers],
        )
        results.update(zip(numbers, written, strict=True))
    return [(results[number], pieces[number]) for number in range(len(requests))]


@dataclass(eq=False)
class Row:
    """One request of a batch."""

    stage: Stage
    branch: TreeNode
    """The computed end of the request's branch."""
    waiting: tuple[int, ...]
    """The tokens behind it that are not computed yet."""
    usage: StageUsage

    def extend(self, tokens: Sequence[int] = ()) -> TreeNode:
        """Move the end of the branch behind the tokens that wait, and some more; the node to compute."""
        self.branch = self.branch.extend((*self.waiting, *tokens))
        self.waiting = ()
        return self.branch


class StageBatch:
    """A stage of several requests, in one token tree.

    A pass that several requests share is counted in the usage of each of them, and so are the seconds.

    Args:
        runner: runs over its base model, and keeps its prefixes.
        stages: each request's. Before the cache boundary the same adapter acts in all of them, or none.
        streams: each request's.

    Raises:
        ContextError: when a stream is longer than the model's context.
    """

    def __init__(self, runner: StageRunner, stages: Sequence[Stage], streams: Sequence[TokenStream]) -> None:
        self._base, self._began = runner.base, time.perf_counter()
        for stream in streams:
            runner.check_length(stream)
        usages = [StageUsage(adapter=stage.adapter_name) for stage in stages]
        ends = [stream.activation_start(stage.cache_boundary) for stage, stream in zip(stages, streams, strict=True)]
        befores = [stream.tokens[:end] for stream, end in zip(streams, ends, strict=True)]
        common = tuple(commonprefix(befores))
        self._tree = TokenTree(runner.prefill(stages[0], common, usages[0]))
        self.rows = []
        for stage, stream, before, usage in zip(stages, streams, befores, usages, strict=True):
            branch = self._tree.root
            if len(before) > len(common):
                layers = Snapshot.of(before, runner.prefill(stage, before, usage)).layers
                branch = self._tree.add_computed(
                    before[len(common) :], [(k[..., len(common) :, :], v[..., len(common) :, :]) for k, v in layers]
                )
            elif usage is not usages[0]:
                usage.reused_tokens += len(common)
            self.rows.append(Row(stage, branch, tuple(stream.active_tokens(stage.span, stage.cache_boundary)), usage))
        self._acting = self._activate(stages)

    def choose(self, names: Mapping[str, tuple[int, ...]], top_k: int) -> list[StageResult[list[RankedName]]]:
        """For every request the ``top_k`` most probable names, with exact probabilities."""
        searches = {row: search_names(names, top_k) for row in self.rows}
        found: dict[Row, list[RankedName]] = {}
        paths: dict[Row, TreePaths] = {}
        asked = {row: forks for row in self.rows if (forks := _next_forks(searches[row], None, row, found))}
        while asked:
            pairs = [(row, fork) for row, forks in asked.items() for fork in forks]
            nodes = [self._node_of(row, fork, paths) for row, fork in pairs]
            logits = self._forward([row for row, _ in pairs], nodes)
            answers = iter(log_probabilities(logits, [fork for _, fork in pairs]))
            for row, _ in pairs:
                row.usage.decoded_tokens += 1
            by_row = {row: [next(answers) for _ in forks] for row, forks in asked.items()}
            asked = {row: forks for row in by_row if (forks := _next_forks(searches[row], by_row[row], row, found))}
        return [self._result(row, found[row]) for row in self.rows]

    def write(
        self, writers: Sequence[ArgumentWriter], on_step: Sequence[Callable[[DecodeStep], object]]
    ) -> list[StageResult[dict[str, Any]]]:
        """Every request's arguments, by a writer each. Each one's ``on_step`` is called with its steps.

        Raises:
            DecodingError: when a request's arguments are not complete within its token budget.
        """
        unfinished = list(range(len(writers)))
        while unfinished:
            for number in unfinished:
                if forced := writers[number].write_forced():
                    self._append(number, forced, on_step)
            unfinished = [number for number in unfinished if not writers[number].complete]
            if unfinished:
                rows = [self.rows[number] for number in unfinished]
                logits = self._forward(rows, [row.extend() for row in rows])
                for number, one in zip(unfinished, logits, strict=True):
                    self._append(number, writers[number].write_chosen(one), on_step)
        return [self._result(row, writer.arguments) for row, writer in zip(self.rows, writers, strict=True)]

    def _append(self, number: int, step: DecodeStep, on_step: Sequence[Callable[[DecodeStep], object]]) -> None:
        row = self.rows[number]
        row.waiting += step.tokens
        count_step(step, row.usage)
        on_step[number](step)

    def _node_of(self, row: Row, fork: TrieFork, paths: dict[Row, TreePaths]) -> TreeNode:
        """The node of the tokens that lead to a fork and are not computed yet."""
        if row in paths:
            return paths[row].add(fork.path)
        branch = row.extend(fork.path)
        paths[row] = TreePaths(fork.path, branch)
        return branch

    def _forward(self, rows: Sequence[Row], nodes: Sequence[TreeNode]) -> mx.array:
        """One pass over new nodes, one of each of these rows; the logits (nodes, vocabulary) behind them."""
        batch = self._tree.batch(nodes)
        with self._acting(rows):
            states = self._base.hidden(batch.tokens, batch.caches)
        for row in dict.fromkeys(rows):
            row.usage.forwards += 1
        for row, length in zip(rows, batch.lengths, strict=True):
            row.usage.active_tokens += length
        return self._base.head(states[mx.arange(len(nodes)), mx.array(batch.lengths) - 1])

    def _activate(self, stages: Sequence[Stage]) -> Callable[[Sequence[Row]], AbstractContextManager[None]]:
        """A context for passes over some rows in which each row's adapter acts.

        One adapter of all rows is activated now. Several act by products over all of them, gathered by row.
        """
        bank, fusion = self._base.bank, self._base.fusion
        contents = [stage.adapter.content_hash if stage.adapter else "" for stage in stages]
        stack_index = {content: index for index, content in enumerate(dict.fromkeys(contents))}
        if len(stack_index) == 1:
            fusion.activate(stages[0].adapter)
            return lambda rows: nullcontext()
        by_content = dict(zip(contents, (stage.adapter for stage in stages), strict=True))
        stacks = stack_updates(bank, [by_content[content] for content in stack_index])
        index_of = {row: stack_index[content] for row, content in zip(self.rows, contents, strict=True)}
        return lambda rows: bank.overriding(batch_updates(stacks, [index_of[row] for row in rows]))

    def _result(self, row: Row, value: Any) -> StageResult[Any]:
        row.usage.seconds = time.perf_counter() - self._began
        return StageResult(value, row.usage)


def _next_forks(
    search: Search, answers: LogProbabilities | None, row: Row, found: dict[Row, list[RankedName]]
) -> Sequence[TrieFork]:
    """The forks that a search asks about next. Where it is done there are none, and ``found`` has its names."""
    try:
        return next(search) if answers is None else search.send(answers)
    except StopIteration as end:
        found[row] = end.value
        return ()
