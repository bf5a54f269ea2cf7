"""Runs a stage for several requests in the same forward passes.

All of them continue the same tools. What comes before a request's border is found in the ``PrefixCache`` or computed
into it; what comes behind is a branch of its own, and each row of a pass acts under its own request's adapter.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from os.path import commonprefix
from typing import Any

import mlx.core as mx

from dualtune_mlx.adapters.batched_lora import rows_of, side_by_side
from dualtune_mlx.decoding import ArgumentWriter, DecodeStep, LogProbabilities, RankedName, TrieFork, search_names
from dualtune_mlx.engine.stage import Stage, StageResult, StageRunner, answers, count
from dualtune_mlx.kv import Snapshot
from dualtune_mlx.kv.tree import TokenTree, TreeNode, TreePaths
from dualtune_mlx.prompts import TokenStream
from dualtune_mlx.tools.usage import StageUsage

Watch = Callable[[int, DecodeStep], object]
"""Is told the number of a request, and a step of writing its arguments."""


@dataclass(eq=False)
class Row:
    """One request: its stage, the computed end of its branch, the tokens that wait behind that, and what it cost."""

    stage: Stage
    branch: TreeNode
    waiting: tuple[int, ...]
    usage: StageUsage

    def computed(self, more: Sequence[int] = ()) -> TreeNode:
        """The branch with the tokens that wait and some more: the next piece that a pass is to compute."""
        self.branch = self.branch.then((*self.waiting, *more))
        self.waiting = ()
        return self.branch


class StageBatch:
    """The requests of one pass after another, over one line of keys and values.

    Passes that several requests share are counted in each of them, and so are the seconds.

    Args:
        runner: over whose base model it is.
        stages: each request's; none of their adapters acts before the border, or all do and are the same one.
        streams: each request's.
    """

    def __init__(self, runner: StageRunner, stages: Sequence[Stage], streams: Sequence[TokenStream]) -> None:
        self._base, self._began = runner.base, time.perf_counter()
        for stream in streams:
            runner.check_length(stream)
        usages = [StageUsage(adapter=stage.adapter_name) for stage in stages]
        borders = [stream.activation_start(stage.cache_boundary) for stage, stream in zip(stages, streams, strict=True)]
        befores = [stream.tokens[:border] for stream, border in zip(streams, borders, strict=True)]
        common = tuple(commonprefix(befores))
        self._branches = TokenTree(runner.caches(stages[0], common, usages[0]))
        self.rows = []
        for stage, stream, before, usage in zip(stages, streams, befores, usages, strict=True):
            branch = self._branches.trunk
            if len(before) > len(common):
                layers = Snapshot.of(before, runner.caches(stage, before, usage)).layers
                branch = self._branches.graft(
                    before[len(common) :], [(k[..., len(common) :, :], v[..., len(common) :, :]) for k, v in layers]
                )
            elif usage is not usages[0]:
                usage.reused_tokens += len(common)
            self.rows.append(Row(stage, branch, tuple(stream.active_tokens(stage.span, stage.cache_boundary)), usage))
        self._acting = self._adapters(stages)

    def choose(self, names: Mapping[str, tuple[int, ...]], top_k: int) -> list[StageResult[list[RankedName]]]:
        """For every request the ``top_k`` most probable names, with exact probabilities."""
        searches = {row: search_names(names, top_k) for row in self.rows}
        found: dict[Row, list[RankedName]] = {}
        paths: dict[Row, TreePaths] = {}
        asked = {row: forks for row in self.rows if (forks := _asked(searches[row], None, row, found))}
        while asked:
            pairs = [(row, fork) for row, forks in asked.items() for fork in forks]
            pieces = [self._piece(row, fork, paths) for row, fork in pairs]
            shares = iter(answers(self._pass([row for row, _ in pairs], pieces), [fork for _, fork in pairs]))
            for row, _ in pairs:
                row.usage.decoded_tokens += 1
            given = {row: [next(shares) for _ in forks] for row, forks in asked.items()}
            asked = {row: forks for row in given if (forks := _asked(searches[row], given[row], row, found))}
        return [self._ran(row, found[row]) for row in self.rows]

    def write(
        self, writers: Sequence[ArgumentWriter], watch: Watch = lambda number, step: None
    ) -> list[StageResult[dict[str, Any]]]:
        """Every request's arguments, by a writer each.

        Raises:
            DecodingError: when a request's arguments are not complete within its token budget.
        """
        going = list(range(len(writers)))
        while going:
            for number in going:
                if forced := writers[number].write_forced():
                    self._wrote(number, forced, watch)
            going = [number for number in going if not writers[number].complete]
            if going:
                rows = [self.rows[number] for number in going]
                logits = self._pass(rows, [row.computed() for row in rows])
                for number, one in zip(going, logits, strict=True):
                    self._wrote(number, writers[number].write_chosen(one), watch)
        return [self._ran(row, writer.arguments) for row, writer in zip(self.rows, writers, strict=True)]

    def _wrote(self, number: int, step: DecodeStep, watch: Watch) -> None:
        row = self.rows[number]
        row.waiting += step.tokens
        count(step, row.usage)
        watch(number, step)

    def _piece(self, row: Row, fork: TrieFork, paths: dict[Row, TreePaths]) -> TreeNode:
        """The tokens of a row that lead to a fork, as far as they are not computed yet."""
        if row in paths:
            return paths[row].add(fork.path)
        branch = row.computed(fork.path)
        paths[row] = TreePaths(fork.path, branch)
        return branch

    def _pass(self, rows: Sequence[Row], pieces: Sequence[TreeNode]) -> mx.array:
        """The logits (pieces, vocabulary) behind new pieces of these rows' branches."""
        batch = self._branches.grow(pieces)
        with self._acting(rows):
            states = self._base.hidden(batch.tokens, batch.caches)
        for row in dict.fromkeys(rows):
            row.usage.forwards += 1
        for row, length in zip(rows, batch.lengths, strict=True):
            row.usage.active_tokens += length
        return self._base.head(states[mx.arange(len(pieces)), mx.array(batch.lengths) - 1])

    def _adapters(self, stages: Sequence[Stage]) -> Callable[[Sequence[Row]], AbstractContextManager[None]]:
        """Makes each row's adapter act: gathered products, where they are not all the same."""
        bank, fusion = self._base.bank, self._base.fusion
        contents = [stage.adapter.content_hash if stage.adapter else "" for stage in stages]
        places = {content: place for place, content in enumerate(dict.fromkeys(contents))}
        if len(places) == 1:
            fusion.activate(stages[0].adapter)
            return lambda rows: nullcontext()
        by_content = dict(zip(contents, (stage.adapter for stage in stages), strict=True))
        stacks = side_by_side(bank, [by_content[content] for content in places])
        place_of = {row: places[content] for row, content in zip(self.rows, contents, strict=True)}
        return lambda rows: bank.overriding(rows_of(stacks, [place_of[row] for row in rows]))

    def _ran(self, row: Row, value: Any) -> StageResult[Any]:
        row.usage.seconds = time.perf_counter() - self._began
        return StageResult(value, row.usage)


def choose_together(
    runner: StageRunner, stage: Stage, streams: Sequence[TokenStream], names: Mapping[str, tuple[int, ...]], top_k: int
) -> list[StageResult[list[RankedName]]]:
    """``runner.choose`` for several requests over the same tools."""
    return StageBatch(runner, [stage] * len(streams), streams).choose(names, top_k)


def write_together(
    runner: StageRunner,
    stages: Sequence[Stage],
    streams: Sequence[TokenStream],
    writers: Sequence[ArgumentWriter],
    watch: Watch = lambda number, step: None,
) -> list[StageResult[dict[str, Any]]]:
    """``runner.writing`` for several requests over the same tools, whatever their stages' adapters.

    Raises:
        DecodingError: when a request's arguments are not complete within its token budget.
    """
    ran: dict[int, StageResult[dict[str, Any]]] = {}
    for shared in dict.fromkeys((stage.prefix_adapter, stage.renderer) for stage in stages):
        numbers = [number for number, stage in enumerate(stages) if (stage.prefix_adapter, stage.renderer) == shared]
        batch = StageBatch(runner, [stages[n] for n in numbers], [streams[n] for n in numbers])
        written = batch.write([writers[n] for n in numbers], lambda i, step: watch(numbers[i], step))  # noqa: B023
        ran.update(zip(numbers, written, strict=True))
    return [ran[number] for number in range(len(stages))]


def _asked(
    searching: Generator[Sequence[TrieFork], LogProbabilities, list[RankedName]],
    given: LogProbabilities | None,
    row: Row,
    found: dict[Row, list[RankedName]],
) -> Sequence[TrieFork]:
    """The forks that a search asks about next; none where it is done, and then what it found is kept."""
    try:
        return next(searching) if given is None else searching.send(given)
    except StopIteration as end:
        found[row] = end.value
        return ()
