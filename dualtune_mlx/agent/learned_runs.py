"""Runs as training data. A run is no label: what fails a check is kept apart, with the reason."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dualtune_mlx.agent.transcript import RecordedStep, Transcript
from dualtune_mlx.data import read_tools
from dualtune_mlx.data.decisions import call_decisions
from dualtune_mlx.data.parsing import parse_line
from dualtune_mlx.data.secrets import find_secrets, hide_secrets
from dualtune_mlx.data.writing import append_line
from dualtune_mlx.errors import DualTuneError, ToolError, UsageError
from dualtune_mlx.grammar import explain_unwritable
from dualtune_mlx.tools import Message, Tool, ToolCall, Trajectory, find_called_tool
from dualtune_mlx.tools.schemas import check_arguments


@dataclass(frozen=True)
class AddedRun:
    """What became of a run."""

    added: bool
    """Whether a line was added; else the same line was there already, or the run is kept apart."""
    path: Path
    """The file that has it."""
    reason: str = ""
    """Why it is kept apart, in a word: ``secret``, ``unwritable``, or a kind of ``data check``; "" where it is not."""
    detail: str = ""
    """The reason in words."""


def add_to_data(
    transcript: Transcript, folder: str | Path, split: str = "train", metadata: Mapping[str, Any] | None = None
) -> AddedRun:
    """Add the calls of a run that succeeded, and its answer if it has one, to a split of a data folder.

    A call that failed, and was then made again with other arguments and succeeded, is kept before it as context: it is
    not learned, and its repair is. A run that does not pass the checks goes to ``SPLIT.rejected.jsonl``, without its
    secrets.

    Raises:
        UsageError: when no call succeeded, so that there is nothing to learn, or a file cannot be written.
        DataError, ToolError: when the folder's ``tools.json`` cannot be read.
    """
    trajectory, folder = to_trajectory(transcript), Path(folder)
    reason, detail = explain_unlearnable(trajectory)
    own_tools = bool(reason) or not _lie_beside(trajectory.tools, folder)
    line = {**trajectory.to_dict(own_tools), **({"metadata": dict(metadata)} if metadata else {})}
    if reason:
        return keep_apart(folder, split, line, reason, detail)
    path = folder / f"{split}.jsonl"
    return AddedRun(append_line(path, line), path)


def keep_apart(folder: Path, split: str, line: Mapping[str, Any], reason: str, detail: str) -> AddedRun:
    """Write a line that is not to be learned into ``SPLIT.rejected.jsonl``, with the reason and without secrets.

    Raises:
        UsageError: when the file cannot be written.
    """
    path = folder / f"{split}.rejected.jsonl"
    append_line(path, {"line": _hide_secrets(line), "reason": reason, "detail": hide_secrets(detail)})
    return AddedRun(False, path, reason, detail)


def to_trajectory(transcript: Transcript) -> Trajectory:
    """The conversation of a run, with the calls that succeeded and, not to be learned, those that were repaired.

    Raises:
        UsageError: when there is no task, or no call succeeded.
    """
    kept = [(step, is_learned) for step, is_learned in _choose_steps(transcript.steps)]
    if not transcript.task or not any(is_learned for _, is_learned in kept):
        expected = "a task, and at least one call that succeeded"
        raise UsageError("the transcript has nothing to learn from", expected=expected)
    *before, task = transcript.task
    messages = [*before, replace(task, subtasks=transcript.subtasks or ())]
    for step, is_learned in kept:
        assert step.result is not None
        call = ToolCall(step.call.name, step.call.arguments, step.call.server)
        messages.append(Message("assistant", tool_calls=(call,), subtask=step.subtask, weight=int(is_learned)))
        messages.append(Message("tool", step.result.text))
    if transcript.answer is not None:
        messages.append(Message("assistant", transcript.answer.text))
    tools: dict[tuple[str, str], Tool] = {(t.server, t.name): t for step, _ in kept for t in step.tools}
    return Trajectory(tuple(messages), tuple(tools.values()), today=transcript.header.get("today", ""))


def explain_unlearnable(trajectory: Trajectory) -> tuple[str, str]:
    """Why a run is not to be learned: a reason in a word and in words; two empty texts where it may be.

    Its calls are of visible tools and fit their schemas, decoding can write them, no call stands in its answer, and
    nothing in it looks like a secret.
    """
    text = json.dumps(trajectory.to_dict(), ensure_ascii=False)
    if secret := next(find_secrets(text), None):
        return "secret", f"{secret.kind} stands in it"
    try:
        parse_line(text, ())
    except DualTuneError as error:
        return getattr(error, "kind", "") or "schema", " ".join(str(error).split())
    for decision in call_decisions(trajectory):
        if not decision.call.is_respond:
            tool = find_called_tool(decision.call, decision.tools)
            if why := explain_unwritable(tool, decision.call.arguments):
                return "unwritable", f"{tool.name}: {why}"
    return "", ""


def _lie_beside(tools: Sequence[Tool], folder: Path) -> bool:
    """Whether the folder's ``tools.json`` has these tools and no others, so that a line need not repeat them."""
    path = folder / "tools.json"
    beside = read_tools(path) if path.exists() else ()
    return len(beside) == len(tools) and all(tool in beside for tool in tools)


def _choose_steps(steps: Sequence[RecordedStep]) -> Iterator[tuple[RecordedStep, bool]]:
    """The steps that are kept, each with whether it is learned."""
    for step, then in zip(steps, (*steps[1:], None), strict=True):
        if step.result is None:
            continue
        if not step.result.is_error:
            yield step, True
        elif then is not None and _is_repair(step, then):
            yield step, False


def _is_repair(failed: RecordedStep, then: RecordedStep) -> bool:
    """Whether a call that failed at its server was made again, changed, for the same subtask, and succeeded."""
    one, other = failed.call, then.call
    same = (one.server, one.name, failed.subtask) == (other.server, other.name, then.subtask)
    changed = dict(one.arguments) != dict(other.arguments)
    succeeded = then.result is not None and not then.result.is_error
    return same and changed and succeeded and not failed.refused and _fits(failed)


def _fits(step: RecordedStep) -> bool:
    """Whether a call fits its tool. One that does not was never sent, and a data file cannot have it."""
    try:
        check_arguments(step.call.arguments, find_called_tool(step.call, step.tools, ToolError))
    except ToolError:
        return False
    return True


def _hide_secrets(value: Any) -> Any:
    if isinstance(value, str):
        return hide_secrets(value)
    if isinstance(value, Mapping):
        return {key: _hide_secrets(item) for key, item in value.items()}
    return [_hide_secrets(item) for item in value] if isinstance(value, list | tuple) else value
