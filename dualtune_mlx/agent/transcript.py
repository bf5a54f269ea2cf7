"""Transcripts of runs: one JSON object a line. A line is written when it happens, so interrupted runs can be read too.

The first line, ``begin``, has the version, the task and what the run was made with. Then come ``tools`` (whenever they
change), ``plan`` (a plan in words) or ``parts`` (the subtasks), and for every step ``call`` (candidates with
probabilities, arguments, usage), ``approval`` and ``result`` (as the model was shown it). At the end there are
``answer`` and ``end``. Every line has its time.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from dualtune_mlx.agent.events import (
    AgentEvent,
    ApprovalDecided,
    CallProposed,
    CallResult,
    RunEnded,
    Spoken,
    ToolsChanged,
)
from dualtune_mlx.engine.events import Planned
from dualtune_mlx.errors import DataError, DualTuneError, UsageError
from dualtune_mlx.files import atomic_file, load_json, write_error
from dualtune_mlx.tools import Message, Tool, ToolCall

if TYPE_CHECKING:
    from dualtune_mlx.engine import DualTune

VERSION = 1
LARGEST = 256 * 2**20


def event_to_json(event: AgentEvent) -> dict[str, Any] | None:
    """An event as a line of a transcript; ``None`` where it is only a piece of a later event."""
    match event:
        case ToolsChanged(tools):
            return {"event": "tools", "tools": [tool.to_dict() for tool in tools]}
        case Planned(subtasks, usage):
            return {"event": "parts", "parts": list(subtasks), "usage": usage.to_dict()}
        case CallProposed(step, call, subtask):
            return {"event": "call", "step": step, "part": subtask, **call.to_record()}
        case ApprovalDecided():
            return {"event": "approval", **asdict(event)}
        case CallResult():
            return {"event": "result", **asdict(event)}
        case Spoken():
            return {"event": event.purpose, "text": event.text, "by": event.by, "max_tokens": event.max_tokens}
        case RunEnded():
            return {"event": "end", **asdict(event)}
    return None


class Recorder:
    """Writes a transcript. Only the user may read the file."""

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path = path
        try:
            with atomic_file(path, 0o600) as temporary:
                temporary.write_bytes(_to_line({"event": "begin", "version": VERSION, **header}))
            self._file = path.open("ab", buffering=0)  # a line is one write: whole, or the last one
        except (OSError, UsageError) as error:
            raise UsageError(
                "the transcript cannot be written",
                where=path,
                got=error.strerror if isinstance(error, OSError) else error.got,
                fix="name another folder: --transcripts FOLDER",
            ) from error
        self._ended = False

    def record(self, event: AgentEvent) -> AgentEvent:
        """Write an event, and return it; the last one is returned with the transcript's path."""
        if isinstance(event, RunEnded):
            event, self._ended = replace(event, transcript=str(self.path)), True
        if (value := event_to_json(event)) is not None:
            self._write(value)
        return event

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._ended:
            why = error if isinstance(error, DualTuneError) else ""
            self._write({"event": "end", "reason": "interrupted" if not why else "failed", "message": str(why)})
        self._file.close()

    def _write(self, value: Mapping[str, Any]) -> None:
        try:
            self._file.write(_to_line(value))
        except OSError as error:
            raise write_error(self.path, error) from error


def _to_line(value: Mapping[str, Any]) -> bytes:
    return json.dumps({**value, "time": time.time()}, ensure_ascii=False).encode(errors="replace") + b"\n"


def new_transcript(
    folder: Path, messages: tuple[Message, ...], dualtune: DualTune, *, planned: bool, today: str
) -> Recorder:
    """Begin a transcript in a new file.

    Raises:
        UsageError: when it cannot be written.
    """
    bundle = dualtune.bundle
    header = {
        "messages": [message.to_data() for message in messages],
        "bundle": str(bundle.folder.resolve()) if bundle else None,
        "model": dualtune.base.name,
        "fingerprint": dualtune.base.fingerprint,
        "decoding": asdict(dualtune.decoding),
        "routing": dualtune.routing,
        "planned": planned,
        "today": today,
    }
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}.jsonl"
    return Recorder(folder / name, header)


@dataclass(frozen=True)
class RecordedStep:
    """A step of a transcript: a call, and what the model saw before it."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...]
    call: ToolCall
    subtask: str = ""
    """The part of the task that the call was for; "" is all of it."""
    result: CallResult | None = None
    """None where the call was not made, or did not end."""
    refused: bool = False
    """Whether the configuration or the user did not let it run; the result then says so."""


@dataclass(frozen=True)
class Transcript:
    """A run, as it was recorded."""

    header: Mapping[str, Any]
    """The first line: what the run was made with."""
    task: tuple[Message, ...]
    """The conversation before the first step."""
    subtasks: tuple[str, ...] | None
    """What the task was divided into; None where it was not to be divided."""
    steps: tuple[RecordedStep, ...]
    """The calls, in order."""
    answer: Spoken | None
    """None where the run ended without one."""
    reason: str
    """How it ended: ``RunEnded.reason``, or "interrupted"."""


def read_transcript(path: str | Path) -> Transcript:
    """Read a transcript. A last line that is not complete is left out.

    Raises:
        UsageError: when the file cannot be read.
        DataError: when it is not a transcript, or has another version. The message names the line.
    """
    lines = _read_lines(Path(path))
    place = f"{path}:1"
    try:
        header = lines[0]
        if header.get("version") != VERSION:
            raise DataError(
                "a transcript has another version", where=place, got=header.get("version"), expected=VERSION
            )
        messages = task = tuple(Message.from_dict(message) for message in header["messages"])
        tools: tuple[Tool, ...] = ()
        steps: list[RecordedStep] = []
        subtasks, answer, reason = None, None, "interrupted"
        for number, line in enumerate(lines[1:], 2):
            place = f"{path}:{number}"
            match line["event"]:
                case "tools":
                    tools = tuple(Tool.from_dict(tool) for tool in line["tools"])
                case "plan":
                    messages += (Message("assistant", line["text"]),)
                case "parts":
                    subtasks = tuple(map(str, line["parts"]))
                case "call":
                    steps.append(RecordedStep(messages, tools, _read_call(line), str(line.get("part", ""))))
                case "approval":
                    steps[-1] = replace(steps[-1], refused=line["action"] == "refuse")
                case "result":
                    result = CallResult(line["text"], line["is_error"], line["seconds"], line["details"])
                    steps[-1] = replace(steps[-1], result=result)
                    asked = ToolCall(steps[-1].call.name, steps[-1].call.arguments, steps[-1].call.server)
                    called = Message("assistant", tool_calls=(asked,), subtask=steps[-1].subtask)
                    messages += (called, Message("tool", result.text))
                case "answer":
                    answer = Spoken("answer", line["text"], line["by"], line["max_tokens"])
                case "end":
                    reason = line["reason"]
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        raise DataError(
            "a line does not belong in a transcript",
            where=place,
            got=repr(error),
            fix="restore the file; a transcript cannot be edited by hand",
        ) from error
    return Transcript(header, task, subtasks, tuple(steps), answer, reason)


def _read_call(line: Mapping[str, Any]) -> ToolCall:
    ranked = tuple((Tool(one["name"], server=one["server"]), float(one["probability"])) for one in line["candidates"])
    unsaid = tuple(map(str, line.get("unsaid", ())))
    return ToolCall(line["name"], dict(line["arguments"]), line["server"], line["confidence"], ranked, unsaid=unsaid)


def _is_beginning(line: bytes) -> bool:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and value.get("event") == "begin"


def _read_lines(path: Path) -> list[dict[str, Any]]:
    try:
        if path.stat().st_size > LARGEST:
            raise DataError("a transcript is too large", where=path, expected=f"at most {LARGEST // 2**20} MiB")
        *whole, last = path.read_bytes().split(b"\n")
    except OSError as error:
        raise UsageError(
            "a transcript cannot be read", where=path, got=error.strerror, fix="check the path and its permissions"
        ) from error
    if (first := (*whole, last)[0]) and not _is_beginning(first):
        raise DataError(
            "the file is not a transcript",
            where=path,
            got=first[:80].decode(errors="replace"),
            expected="a file that an agent's run has left",
            fix="give the path that the run named at its end",
        )
    lines = []
    for number, line in enumerate(whole, 1):
        try:
            value = load_json(line.decode())
        except (ValueError, RecursionError) as error:
            raise DataError(
                "a line is not JSON",
                where=f"{path}:{number}",
                got=line[:80],
                fix="restore the file; a transcript cannot be edited by hand",
            ) from error
        if not isinstance(value, dict):
            raise DataError(
                "a line is not a JSON object",
                where=f"{path}:{number}",
                got=line[:80],
                fix="restore the file; a transcript cannot be edited by hand",
            )
        lines.append(value)
    if not lines:
        raise DataError("a transcript is empty", where=path, fix="name the file of a run that had begun")
    return lines
