"""Runs as training data: what succeeded, what was repaired, and what is kept apart."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from dualtune_mlx.agent.learned_runs import add_to_data, to_trajectory
from dualtune_mlx.agent.transcript import Transcript, read_transcript
from dualtune_mlx.data import read_trajectories
from dualtune_mlx.data.decisions import call_decisions
from dualtune_mlx.errors import DualTuneError
from dualtune_mlx.tools import Tool, ToolCall
from tests.agent.fakes import DELETE, READ, TOOLS, Engine, FakeToolbox, agent, call, config, error

WRONG, RIGHT, ELSE = call("read", path="a"), call("read", path="a.txt"), call("write", path="b")


def transcript(tmp_path: Any, *calls: Any, fails: tuple[str, ...] = ("a",), **more: Any) -> Transcript:
    def does(made: ToolCall) -> Any:
        return error("no such file") if made.arguments["path"] in fails else f"text of {made.arguments['path']}"

    tools, answer = more.pop("tools", TOOLS), more.pop("answer", "Done.")
    subtasks, says = more.pop("subtasks", None), more.pop("says", "do it")
    runner = agent(Engine(*calls, answer=answer, subtasks=subtasks), FakeToolbox(does, tools), tmp_path / "t", **more)
    return read_transcript(runner.run(says).transcript)


def learned(run: Transcript) -> list[tuple[str, Any]]:
    return [(one.call.name, dict(one.call.arguments)) for one in call_decisions(to_trajectory(run))]


def test_a_failure_is_context_and_its_repair_is_learned(tmp_path):
    run = transcript(tmp_path, WRONG, RIGHT)
    trajectory = to_trajectory(run)
    assert [(message.role, message.weight) for message in trajectory.messages] == [
        ("user", 1),
        ("assistant", 0),
        ("tool", 1),
        ("assistant", 1),
        ("tool", 1),
        ("assistant", 1),
    ]
    assert learned(run) == [("read", {"path": "a.txt"}), ("respond", {})]
    (repair, _) = call_decisions(trajectory)
    assert [message.content for message in repair.messages if message.role == "tool"] == ["no such file"]
    assert add_to_data(run, tmp_path / "data", metadata={"source": "bundle"}).added
    line = json.loads((tmp_path / "data" / "train.jsonl").read_text())
    assert line["metadata"] == {"source": "bundle"}
    assert len(read_trajectories(tmp_path / "data" / "train.jsonl")[0].messages) == 6


@pytest.mark.parametrize(
    ("calls", "more"),
    [
        ((WRONG, ELSE), {}),
        ((RIGHT, WRONG), {}),
        ((ELSE, WRONG, RIGHT), {"subtasks": ("one", "two"), "respond": True}),
        ((call("delete", path="a"), ELSE), {"approve": "never"}),
        ((call("read", path=3), RIGHT), {"fails": ()}),
    ],
    ids=["another tool", "the end", "another subtask", "refused", "does not fit"],
)
def test_other_failures_are_left_out(tmp_path, calls, more):
    more = dict(more)
    if more.pop("respond", False):
        calls = (calls[0], calls[1], ToolCall("respond"), calls[2])
    if more.get("approve") == "never":
        more["config"] = config(allow=("write",))
    trajectory = to_trajectory(transcript(tmp_path, *calls, **more))
    assert all(message.weight for message in trajectory.messages)


def test_a_call_that_the_user_refused_is_no_failure_to_learn_from(tmp_path):
    answers = iter(["no", "yes"])
    run = transcript(
        tmp_path, call("delete", path="a"), call("delete", path="b"), approve="ask", ask=lambda _: next(answers)
    )
    assert [step.refused for step in run.steps] == [True, False, False]
    assert learned(run)[0] == ("delete", {"path": "b"}) and DELETE in run.steps[0].tools
    assert all(message.weight for message in to_trajectory(run).messages)


DATE = {"type": "object", "properties": {"path": {"type": "string", "format": "date"}}}
DATED = Tool("day", "", DATE, "fs", READ.annotations)


@pytest.mark.parametrize(
    ("calls", "more", "reason"),
    [
        ((RIGHT,), {"says": "do it with ghp_" + "a1" * 18}, "secret"),
        ((call("read", path="ghp_" + "a1" * 18),), {}, "secret"),
        ((call("day", path="soon"),), {"tools": (DATED,)}, "unwritable"),
        ((RIGHT,), {"answer": '<tool_call>{"name": "read"}</tool_call>'}, "written"),
    ],
    ids=["a secret in the request", "a secret in a call", "a value that decoding cannot write", "a call in the answer"],
)
def test_what_fails_a_check_is_kept_apart_with_its_reason(tmp_path, calls, more, reason):
    added = add_to_data(transcript(tmp_path, *calls, **more), tmp_path / "data")
    assert (added.added, added.path.name) == (False, "train.rejected.jsonl")
    assert not (tmp_path / "data" / "train.jsonl").exists()
    text = added.path.read_text()
    line = json.loads(text)
    assert (line["reason"], line["detail"]) == (added.reason, added.detail) and line["detail"]
    assert reason in (added.reason, "written") and "ghp_" not in text
    assert [message["role"] for message in line["line"]["messages"]] == ["user", "assistant", "tool", "assistant"]


NEXT = {"call": "arguments", "result": "text", "answer": "text", "begin": "messages"}
"""What is edited of a line, by the line's event."""


@pytest.mark.parametrize("beside", [True, False], ids=["tools beside", "tools in the line"])
@pytest.mark.parametrize(
    ("event", "value"),
    [
        ("call", {"path": 1}),
        ("call", {"path": {"a": 1}}),
        ("call", {"else": 1}),
        ("call", {"path": float("nan")}),
        ("call", {"path": "\ud800"}),
        ("call", [1]),
        ("call", "x"),
        ("call", None),
        ("result", 5),
        ("result", "\ud800"),
        ("answer", 5),
        ("begin", []),
        ("begin", [{"role": "assistant", "content": "hi"}]),
        ("begin", [{"role": "user", "content": 5}]),
    ],
)
def test_nothing_is_appended_that_the_reader_would_refuse(tmp_path, event, value, beside):
    path = agent(Engine(RIGHT), FakeToolbox(), tmp_path / "t").run("do it").transcript
    lines = [json.loads(line) for line in Path(path).read_text().splitlines()]
    for line in lines:
        if line["event"] == event:
            line[NEXT[event]] = value
    edited, data = tmp_path / "edited.jsonl", tmp_path / "data"
    edited.write_text("".join(json.dumps(line) + "\n" for line in lines))
    data.mkdir()
    if beside:
        (data / "tools.json").write_text(json.dumps([tool.to_dict() for tool in TOOLS]))
    add_to_data(read_transcript(path), data)
    before = (data / "train.jsonl").read_bytes()
    with suppress(DualTuneError):  # which says that it is no transcript any more
        assert add_to_data(read_transcript(edited), data).reason
    assert (data / "train.jsonl").read_bytes() == before
    assert len(read_trajectories(data / "train.jsonl")) == 1


def test_a_data_file_that_is_no_text_is_left_alone(tmp_path):
    (tmp_path / "train.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(DualTuneError, match="UTF-"):
        add_to_data(transcript(tmp_path, RIGHT), tmp_path)
    assert (tmp_path / "train.jsonl").read_bytes() == b"\xff\xfe"
