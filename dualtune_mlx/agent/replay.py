"""Repeats the run of a transcript without servers: results are given as recorded, and calls must come out the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dualtune_mlx.agent.events import BASE_MODEL
from dualtune_mlx.agent.performers import TOP_K
from dualtune_mlx.agent.transcript import Transcript
from dualtune_mlx.errors import DataError
from dualtune_mlx.tools import ToolCall

if TYPE_CHECKING:
    from dualtune_mlx.engine import DualTune


@dataclass(frozen=True)
class Comparison:
    """What was recorded, and what comes out now."""

    what: str
    """``parts``, ``call`` and its number, or ``answer``."""
    before: Any
    """What was recorded."""
    now: Any
    """What comes out now."""
    drift: float = 0.0
    """The largest difference between the probabilities of a candidate. It does not count as a difference."""

    @property
    def same(self) -> bool:
        return bool(self.before == self.now)


def replay(transcript: Transcript, dualtune: DualTune) -> Iterator[Comparison]:
    """Compare the subtasks, every call, and the answer if the base model wrote it, one after the other.

    Each call is written again in the conversation that was recorded.

    Raises:
        DataError: when the transcript has no step, or is another model's.
    """
    if not transcript.steps:
        raise DataError("the transcript has no step to repeat", fix="it was interrupted before the first call")
    if transcript.header.get("fingerprint") != dualtune.base.fingerprint:
        raise DataError(
            "the transcript is another model's", got=transcript.header.get("model"), expected=dualtune.base.name
        )
    if transcript.subtasks is not None:
        subtasks = dualtune.plan(transcript.task, transcript.steps[0].tools)
        yield Comparison("parts", list(transcript.subtasks), list(subtasks))
    today = transcript.header.get("today", "") if dualtune.tells_date else ""
    for number, step in enumerate(transcript.steps, 1):
        now = dualtune.call(step.messages, step.tools, top_k=TOP_K, subtask=step.subtask, today=today)
        yield Comparison(f"call {number}", _to_record(step.call), _to_record(now), _drift(step.call, now))
    last, answer = transcript.steps[-1], transcript.answer
    if answer is not None and answer.by == BASE_MODEL:
        pieces = dualtune.answer(last.messages, max_tokens=answer.max_tokens)
        yield Comparison("answer", answer.text, "".join(piece.text for piece in pieces).strip())


def _to_record(call: ToolCall) -> dict[str, Any]:
    # As JSON has it: what was recorded went through it.
    return {"server": call.server, "name": call.name, "arguments": json.loads(json.dumps(dict(call.arguments)))}


def _drift(before: ToolCall, now: ToolCall) -> float:
    was = {(tool.server, tool.name): share for tool, share in before.candidates}
    new = {(tool.server, tool.name): share for tool, share in now.candidates}
    return max((abs(was.get(key, 0.0) - new.get(key, 0.0)) for key in was | new), default=0.0)
