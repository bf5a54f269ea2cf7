"""Requests become trajectories, or reasons why not; nothing is done twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dualtune_mlx.agent.collect import CollectPolicy, collect
from dualtune_mlx.agent.collected_requests import CollectedRequest, read_requests
from dualtune_mlx.data import read_trajectories, write_tools
from dualtune_mlx.errors import DataError, UsageError
from dualtune_mlx.mcp.scratch import copy_folder
from dualtune_mlx.tools import ToolCall
from tests.agent.fakes import DELETE, READ, TOOLS, WRITE, Engine, FakeToolbox, agent, call, config, error

RIGHT = call("read", path="a")
RESPOND = ToolCall("respond")


def reasons(
    tmp_path: Path, *calls: Any, requests: list[CollectedRequest], does: Any = lambda call: "fine", **more: Any
):
    runner = agent(Engine(*calls), FakeToolbox(does), tmp_path / "t")
    return [run.added.reason for run in collect(runner, requests, tmp_path / "data", **more)]


def one(text: str, *calls: ToolCall) -> CollectedRequest:
    return CollectedRequest(text, calls, {"source": "user", "family": "f"})


def test_what_succeeds_is_kept_with_where_it_is_from(tmp_path):
    write_tools(tmp_path / "data", TOOLS)
    assert reasons(tmp_path, RIGHT, call("write", path="b"), requests=[one("do it")]) == [""]
    text = (tmp_path / "data" / "trajectories.jsonl").read_text()
    line = json.loads(text)
    assert line["metadata"] == {"source": "user", "family": "f", "request": one("do it").digest}
    assert "tools" not in line, "they lie beside it"
    (trajectory,) = read_trajectories(tmp_path / "data" / "trajectories.jsonl")
    assert [message.role for message in trajectory.messages] == ["user", *("assistant", "tool") * 2, "assistant"]


def test_what_does_not_is_kept_apart_with_its_reason(tmp_path):
    def does(made: ToolCall) -> Any:
        return (
            error("no") if made.arguments["path"] == "bad" else "ghp_" + "a1" * 18 if made.name == "write" else "fine"
        )

    calls = [
        *(RESPOND,),
        *(call("read", path="bad"), RESPOND),
        *(call("read", path="c"), RESPOND),
        *(call("write", path="d"), RESPOND),
        call("read", path="bad"),
        call("read", path="bad"),
    ]
    requests = [one("talk"), one("fail"), one("miss", RIGHT), one("secret"), one("circle")]
    assert reasons(tmp_path, *calls, requests=requests, does=does) == [
        "no_call",
        "no_call",
        "label",
        "secret",
        "unfinished",
    ]
    text = (tmp_path / "data" / "trajectories.rejected.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["line"]["messages"][0]["content"] for line in lines] == [one.text for one in requests]
    assert all(line["detail"] for line in lines) and "ghp_" not in text
    assert not (tmp_path / "data" / "trajectories.jsonl").exists()


def test_calls_that_are_known_to_be_right_have_to_be_made(tmp_path):
    label = ToolCall("read", {"path": "a"})
    assert reasons(tmp_path, RIGHT, RESPOND, requests=[one("with a label", label)]) == [""]


def test_requests_that_are_done_are_passed_over(tmp_path):
    requests = [one("first"), one("second"), one("third")]
    assert reasons(tmp_path, RIGHT, RESPOND, RESPOND, requests=requests, count=2) == ["", "no_call"]
    assert reasons(tmp_path, RIGHT, RESPOND, requests=requests) == [""]
    assert reasons(tmp_path, requests=requests) == []


def test_a_scratch_copy_is_restored_for_each_request_and_named_nowhere(tmp_path):
    folder, seen = tmp_path / "notes", []
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    with copy_folder(folder) as scratch:

        def does(_: ToolCall) -> str:
            seen.append((scratch.copy / "a.txt").exists())
            (scratch.copy / "a.txt").unlink()
            return f"removed {scratch.copy}/a.txt"

        calls = (call("read", path=f"{scratch.copy}/a.txt"), RESPOND)
        requests = [one(f"read {folder}/a.txt"), one(f"read {folder}/a.txt again")]
        assert reasons(tmp_path, *calls, *calls, requests=requests, does=does, scratch=scratch) == ["", ""]
    assert seen == [True, True] and (folder / "a.txt").exists()
    text = (tmp_path / "data" / "trajectories.jsonl").read_text()
    assert str(scratch.copy) not in text and text.count(f"{folder}/a.txt") == 6


@pytest.mark.parametrize(
    ("approve", "in_scratch", "actions"),
    [
        ("auto", (), ["run", "refuse", "refuse"]),
        ("all", (), ["run", "refuse", "refuse"]),
        ("auto", ("fs",), ["run", "run", "ask"]),
        ("ask", ("fs",), ["ask", "ask", "ask"]),
        ("never", ("fs",), ["refuse", "refuse", "refuse"]),
        ("all", ("fs",), ["run", "run", "run"]),
    ],
)
def test_only_a_scratch_copy_may_be_changed(approve, in_scratch, actions):
    policy = CollectPolicy([config()], approve, in_scratch)
    assert [policy.verdict(tool).action for tool in (READ, WRITE, DELETE)] == actions


def test_the_configuration_may_forbid_a_server_in_the_scratch_copy():
    policy = CollectPolicy([config(approve="never")], "all", ("fs",))
    assert policy.verdict(READ).action == "refuse"


def test_requests_are_lines_of_text_or_of_data(tmp_path):
    text, data = tmp_path / "requests.txt", tmp_path / "requests.jsonl"
    text.write_text("do it\n\n  do that \ndo it\n")
    read = read_requests(text)
    assert [(one.text, one.calls, one.metadata["source"]) for one in read] == [
        ("do it", (), "user"),
        ("do that", (), "user"),
    ]
    function = {"function": {"name": "read", "arguments": {"path": "a"}}, "server": "fs"}
    user = {"role": "user", "content": "read a"}
    lines = [
        {"messages": [user, {"role": "assistant", "tool_calls": [function]}], "metadata": {"source": "generator"}},
        {"messages": [{**user, "content": "hello"}, {"role": "assistant", "content": "Hi."}]},
    ]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (labelled,) = read_requests(data)
    assert (labelled.text, labelled.calls) == ("read a", (RIGHT,)) and labelled.metadata["source"] == "generator"
    assert labelled.metadata["family"].startswith("user ")
    text.write_text("\n")
    with pytest.raises(UsageError, match="no request"):
        read_requests(text)
    data.write_text('{"messages": []}\n')
    with pytest.raises(DataError, match=r"requests\.jsonl:1"):
        read_requests(data)
