"""Several calls over the same tools, in the same forward passes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dualtune_mlx.decoding import ArgumentWriter, DecodeStep, Decoding
from dualtune_mlx.engine.batch import choose_together, write_together
from dualtune_mlx.engine.pipeline import (
    ArgumentTask,
    CallPipeline,
    CallRequest,
    Selection,
    begun,
    checked_top_k,
    to_be_written,
    with_arguments,
)
from dualtune_mlx.engine.stage import StageResult
from dualtune_mlx.prompts.cards import label_choices
from dualtune_mlx.tools import RESPOND, ToolCall
from dualtune_mlx.tools.hierarchy import Node
from dualtune_mlx.tools.schemas import check_arguments


def call_together(caller: CallPipeline, asked: Sequence[CallRequest]) -> list[ToolCall]:
    """What the calls would give one by one, all tools chosen among at once; all over the same ones, decoded alike."""
    tools, top_k, decoding = asked[0].tools, checked_top_k(asked[0].top_k), asked[0].decoding
    root = Node("", tools)
    stage = caller.stage("selector")
    streams = [caller.stream(stage, one.messages, tools, RESPOND, root.cards, one.subtask) for one in asked]
    names = caller.prompt_of(stage).name_tokens(tools)
    chosen = choose_together(caller.runner, stage, streams, names, top_k)
    by_label = label_choices(tools)
    calls = []
    for one, ran in zip(asked, chosen, strict=True):
        candidates = tuple((by_label[ranked.name], ranked.probability) for ranked in ran.value)
        calls.append(begun(one, Selection(candidates, {"selector": ran.usage})))
    tasks = {
        number: caller.task(one.messages, tools, tool, one.subtask)
        for number, one in enumerate(asked)
        if (tool := to_be_written(calls[number]))
    }
    for number, written in zip(tasks, arguments(caller, list(tasks.values()), decoding), strict=True):
        calls[number] = with_arguments(calls[number], written)
    return calls


def arguments(
    caller: CallPipeline, tasks: Sequence[ArgumentTask], decoding: Decoding
) -> list[StageResult[dict[str, Any]]]:
    """The arguments of several tasks over the same tools, checked by their schemas."""
    written, pieces = _written(caller, tasks, [task.schema(decoding) for task in tasks], decoding)
    if decoding.grounding == "auto":
        schemas = [task.sure_schema(list(told)) for task, told in zip(tasks, pieces, strict=True)]
        unsure = [number for number, task in enumerate(tasks) if schemas[number] != task.tool.parameters]
        again = _written(caller, [tasks[n] for n in unsure], [schemas[n] for n in unsure], decoding)[0]
        for number, held in zip(unsure, again, strict=True):
            written[number] = StageResult(held.value, written[number].usage + held.usage)
    for task, ran in zip(tasks, written, strict=True):
        check_arguments(ran.value, task.tool)
    return written


def _written(
    caller: CallPipeline, tasks: Sequence[ArgumentTask], schemas: Sequence[Mapping[str, Any]], decoding: Decoding
) -> tuple[list[StageResult[dict[str, Any]]], Sequence[Iterable[tuple[bytes, float]]]]:
    """What every task gives under its schema, and piece by piece with the model's probabilities."""
    writers = [
        ArgumentWriter(caller.grammar(task, schema), decoding) for task, schema in zip(tasks, schemas, strict=True)
    ]
    steps: list[list[DecodeStep]] = [[] for _ in tasks]
    stages, streams = [task.stage for task in tasks], [task.stream for task in tasks]
    ran = write_together(caller.runner, stages, streams, writers, lambda number, step: steps[number].append(step))
    spelled = [
        ((writer.grammar.to_bytes(step.tokens), step.probability) for step in taken)
        for writer, taken in zip(writers, steps, strict=True)
    ]
    return ran, spelled
