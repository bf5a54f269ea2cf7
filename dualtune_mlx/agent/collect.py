"""Runs requests against live servers, and keeps what succeeded as trajectories.

with copy_folder("notes") as scratch, connect(scratch.rewrite(configs)) as toolbox, DualTune.load("bundle") as dt:
    policy = CollectPolicy(configs, "all", scratch.names_of(configs))
    agent = Agent(dt, toolbox, policy, limits=LIMITS, transcripts=Path("data/transcripts"))
    for run in collect(agent, read_requests("requests.txt"), "data", scratch=scratch): ...
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dualtune_mlx.agent.agent import Agent
from dualtune_mlx.agent.collected_requests import TRAJECTORIES, CollectedRequest, read_done
from dualtune_mlx.agent.events import AgentEvent, RunEnded
from dualtune_mlx.agent.learned_runs import AddedRun, add_to_data, keep_apart
from dualtune_mlx.agent.limits import Limits
from dualtune_mlx.agent.transcript import Transcript, read_transcript
from dualtune_mlx.files import write_text
from dualtune_mlx.mcp import ApprovalPolicy, ServerConfig
from dualtune_mlx.mcp.approvals import ApprovalVerdict
from dualtune_mlx.mcp.scratch import ScratchFolder
from dualtune_mlx.tools import Tool, ToolCall

LIMITS = Limits(steps=8, seconds=120.0, answer_tokens=48)
"""What a run may take, where nothing else is said. An answer's words are not learned, only that it comes."""
ALL = "all"


class CollectPolicy(ApprovalPolicy):
    """Which calls may run: those that only read, and in a scratch copy what the user approves.

    Args:
        configs: the servers' configurations.
        approve: as for ``ApprovalPolicy`` or, for the servers in the scratch copy, ``all``: without asking.
        in_scratch: the servers whose configuration names the folder that is copied.
    """

    def __init__(self, configs: Sequence[ServerConfig], approve: str, in_scratch: Collection[str] = ()) -> None:
        super().__init__(configs, "auto" if approve == ALL else approve)
        self._all, self._in_scratch = approve == ALL, frozenset(in_scratch)
        self._forbidden = frozenset(config.name for config in configs if config.approve == "never")

    def verdict(self, tool: Tool) -> ApprovalVerdict:
        """What is to be done with a call of the tool."""
        if tool.server not in self._in_scratch and tool.annotations.get("readOnlyHint") is not True:
            return ApprovalVerdict("refuse", "outside of a scratch copy only tools that only read are called")
        if self._all and tool.server in self._in_scratch - self._forbidden:
            return ApprovalVerdict("run", "everything in the scratch copy is approved")
        return super().verdict(tool)


@dataclass(frozen=True)
class CollectedRun:
    """What became of a request."""

    request: CollectedRequest
    """The request."""
    ended: RunEnded
    """How its run ended."""
    added: AddedRun
    """Where its trajectory is, or why it is kept apart."""


def collect(
    agent: Agent,
    requests: Sequence[CollectedRequest],
    folder: str | Path,
    *,
    scratch: ScratchFolder | None = None,
    count: int | None = None,
    show: Callable[[AgentEvent], None] = lambda event: None,
) -> Iterator[CollectedRun]:
    """Run requests one after the other, and write what is worth learning to ``trajectories.jsonl``.

    A run that was not answered, made no call that succeeded, missed the calls that are known to be right, or fails a
    check of ``add_to_data`` goes to ``trajectories.rejected.jsonl`` with its reason. Requests that are in one of the
    two files already are passed over, so that an interrupted collection goes on.

    Args:
        agent: chooses the calls, approves and makes them. Its toolbox is that of the scratch copy, if there is one.
        requests: what is to be done.
        folder: the data folder.
        scratch: the scratch copy; it is restored before each request, and trajectories name the folder instead of it.
        count: the most requests that are run now; None for all.
        show: is given every event of every run.

    Raises:
        UsageError, DataError: when a file cannot be read or written.
    """
    folder = Path(folder)
    done = read_done(folder)
    for request in [one for one in requests if one.digest not in done][:count]:
        if scratch is not None:
            scratch.restore()
        ended = _run(agent, scratch.to_copy(request.text) if scratch else request.text, show)
        transcript = Path(ended.transcript)
        if scratch is not None:
            write_text(transcript, scratch.to_folder(transcript.read_text("utf-8")))
        yield CollectedRun(request, ended, _keep(request, ended, read_transcript(transcript), folder))


def _run(agent: Agent, task: str, show: Callable[[AgentEvent], None]) -> RunEnded:
    ended: RunEnded | None = None
    for event in agent.stream(task):
        show(event)
        ended = event if isinstance(event, RunEnded) else None
    assert ended is not None
    return ended


def _keep(request: CollectedRequest, ended: RunEnded, transcript: Transcript, folder: Path) -> AddedRun:
    metadata = {**request.metadata, "request": request.digest}
    if why := _explain(request, ended, transcript):
        line = {"messages": [{"role": "user", "content": request.text}], "metadata": metadata}
        return keep_apart(folder, TRAJECTORIES, line, *why)
    return add_to_data(transcript, folder, TRAJECTORIES, metadata)


def _explain(request: CollectedRequest, ended: RunEnded, transcript: Transcript) -> tuple[str, str] | None:
    """Why a run is nothing to learn from, whatever is in it."""
    if ended.reason != "answered":
        return "unfinished", f"{ended.reason}: {ended.message}"
    made = [step.call for step in transcript.steps if step.result is not None and not step.result.is_error]
    if not made:
        return "no_call", "no call succeeded"
    missed = [call for call in request.calls if not any(_is_same(call, one) for one in made)]
    return ("label", f"the run has no call of {missed[0].name} as it is right") if missed else None


def _is_same(right: ToolCall, made: ToolCall) -> bool:
    server = right.server in ("", made.server)
    return server and right.name == made.name and dict(right.arguments) == dict(made.arguments)
