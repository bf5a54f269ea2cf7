"""Transcripts: what a run leaves, also one that is interrupted; reading, repeating and learning from it."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from errno import ENOSPC
from pathlib import Path

import pytest

from dualtune_mlx.agent.events import CallResult
from dualtune_mlx.agent.learned_runs import add_to_data
from dualtune_mlx.agent.replay import replay
from dualtune_mlx.agent.transcript import Recorder, read_transcript
from dualtune_mlx.data import read_trajectories
from dualtune_mlx.errors import DataError, UsageError
from dualtune_mlx.tools import Message, ToolCall
from tests.agent.fakes import TOOLS, WRITE, Engine, FakeToolbox, agent, call, error

READ_A, WRITE_B = call("read", path="a"), call("write", path="b")


def run(tmp_path, *calls, does=lambda call: "fine: é\u2028", tools=TOOLS, **more):
    return agent(Engine(*calls), FakeToolbox(does, tools), tmp_path / "t", **more).run("do it").transcript


def test_a_transcript_is_read_as_it_was_written(tmp_path):
    path = run(tmp_path, replace(READ_A, unsaid=("path",)), WRITE_B)
    lines = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").split("\n")[:-1]]
    step = ["call", "approval", "result"]
    assert [line["event"] for line in lines] == ["begin", "tools", *step, *step, "call", "answer", "end"]
    assert all(line["time"] > 0 for line in lines)
    assert lines[2]["candidates"][0] == {"server": "fs", "name": "read", "probability": 0.9}
    assert lines[2]["usage"]["stages"]["selector"]["decoded_tokens"] == 10
    assert lines[-1]["transcript"] == path
    read = read_transcript(path)
    assert read.task == (Message("user", "do it"),) and read.reason == "answered" and read.answer.text == "Done."
    assert [step.call.name for step in read.steps] == ["read", "write", "respond"]
    assert [step.result and step.result.text for step in read.steps] == ["fine: é\u2028"] * 2 + [None]
    assert read.steps[1].messages[-1] == Message("tool", "fine: é\u2028")
    assert read.steps[0].tools == TOOLS
    assert [step.call.unsaid for step in read.steps] == [("path",), (), ()]


def test_only_the_user_may_read_it(tmp_path):
    assert stat.S_IMODE(Path(run(tmp_path, READ_A)).stat().st_mode) == 0o600


@pytest.mark.parametrize("during", ["execute", "ask", "event"])
def test_ctrl_c_leaves_a_readable_transcript(tmp_path, during):
    def interrupt(_):
        raise KeyboardInterrupt

    made = {
        "execute": lambda: agent(Engine(READ_A), FakeToolbox(interrupt), tmp_path),
        "ask": lambda: agent(Engine(READ_A), FakeToolbox(), tmp_path, "ask", interrupt),
        "event": lambda: agent(Engine(READ_A), FakeToolbox(), tmp_path),
    }[during]()
    with pytest.raises(KeyboardInterrupt):
        for event in made.stream("do it"):
            if during == "event" and type(event).__name__ == "CallProposed":
                raise KeyboardInterrupt
    (path,) = tmp_path.iterdir()
    if during == "event":  # the generator is closed when it is collected
        made = None
    read = read_transcript(path)
    assert read.reason == "interrupted"
    assert [step.call.name for step in read.steps] == ["read"] and read.steps[0].result is None


def test_a_line_that_is_not_whole_is_left_out(tmp_path):
    path = tmp_path / "cut.jsonl"
    whole = Path(run(tmp_path, READ_A)).read_bytes()
    path.write_bytes(whole[: whole.index(b'"event": "result"') + 20])
    read = read_transcript(path)
    assert read.reason == "interrupted" and len(read.steps) == 1 and read.steps[0].result is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("[]\n", "not a transcript"),
        ("{\n", "not a transcript"),
        ('{"mcpServers": {}}', "not a transcript"),
        ('{"messages": [], "tools": []}\n', "not a transcript"),
        ("\x89PNG\n", "not a transcript"),
        ('{"event": "begin", "version": 1, "messages": []}\n[]\n', "not a JSON object"),
        ('{"event": "begin", "version": 1, "messages": []}\n{\n', "not JSON"),
        ('{"event": "begin", "version": 9}\n', "another version"),
        ('{"event": "begin", "version": 1}\n', "does not belong in a transcript"),
        ('{"event": "begin", "version": 1, "messages": []}\n{"event": "call"}\n', ":2"),
        ('{"event": "begin", "version": 1, "messages": []}\n{"event": "result", "text": 1}\n', ":2"),
    ],
)
def test_what_is_no_transcript_is_refused(tmp_path, text, says):
    path = tmp_path / "x.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=says):
        read_transcript(path)


def test_a_missing_file_or_folder_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        read_transcript(tmp_path / "none")
    (tmp_path / "t").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        run(tmp_path)


def test_a_replay_gives_recorded_results_and_finds_all_the_same(tmp_path):
    read = read_transcript(run(tmp_path, READ_A, WRITE_B))
    engine = Engine(READ_A, WRITE_B)
    rows = list(replay(read, engine))
    assert [(row.what, row.same) for row in rows] == [(f"call {n}", True) for n in (1, 2, 3)] + [("answer", True)]
    assert engine.asked[2][-1] == Message("tool", "fine: é\u2028")


def test_a_run_that_ended_with_the_same_call_is_read_replayed_and_learned_as_an_end(tmp_path):
    path = run(tmp_path, READ_A, READ_A)
    assert "taken as the end: fs/read" in json.loads(Path(path).read_text(encoding="utf-8").split("\n")[-2])["message"]
    read = read_transcript(path)
    assert (read.reason, read.answer.text, [step.result is None for step in read.steps]) == (
        "answered",
        "Done.",
        [False, True],
    )
    engine = Engine(READ_A, READ_A)
    assert [(row.what, row.same) for row in replay(read, engine)] == [
        ("call 1", True),
        ("call 2", True),
        ("answer", True),
    ]
    assert engine.asked[-1][-1] == Message("tool", "fine: é\u2028")
    add_to_data(read, tmp_path / "data")
    (trajectory,) = read_trajectories(tmp_path / "data" / "train.jsonl")
    assert [message.role for message in trajectory.messages] == ["user", "assistant", "tool", "assistant"]


PARTS = ("read a", "write b")


def run_divided_task(tmp_path, does=lambda call: "fine"):
    engine = Engine(READ_A, ToolCall("respond"), WRITE_B, subtasks=PARTS)
    return agent(engine, FakeToolbox(does), tmp_path / "t").run("read a, then write b").transcript


def test_a_transcript_tells_the_parts_and_what_each_call_was_for(tmp_path):
    read = read_transcript(run_divided_task(tmp_path))
    assert read.subtasks == PARTS
    assert [(step.call.name, step.subtask) for step in read.steps] == [
        ("read", "read a"),
        ("respond", "read a"),
        ("write", "write b"),
        ("respond", "write b"),
    ]
    assert [message.subtask for message in read.steps[-1].messages if message.tool_calls] == list(PARTS)
    assert read_transcript(run(tmp_path, READ_A)).subtasks is None


def test_a_replay_compares_the_parts_and_asks_for_each_call_of_them(tmp_path):
    read = read_transcript(run_divided_task(tmp_path))
    engine = Engine(READ_A, ToolCall("respond"), WRITE_B, subtasks=("read a, then", "write b"))
    rows = list(replay(read, engine))
    assert [(row.what, row.same) for row in rows[:2]] == [("parts", False), ("call 1", True)]
    assert engine.due == ["read a", "read a", "write b", "write b"]


def test_a_run_with_parts_becomes_training_data_with_parts(tmp_path):
    add_to_data(read_transcript(run_divided_task(tmp_path)), tmp_path / "data")
    (trajectory,) = read_trajectories(tmp_path / "data" / "train.jsonl")
    assert trajectory.messages[0].subtasks == PARTS
    assert [message.subtask for message in trajectory.messages if message.tool_calls] == list(PARTS)


def test_a_replay_reports_a_difference_with_both(tmp_path):
    read = read_transcript(run(tmp_path, READ_A, WRITE_B))
    rows = list(replay(read, Engine(READ_A, call("write", path="c"), answer="Else.")))
    assert [row.same for row in rows] == [True, False, True, False]
    assert (rows[1].before["arguments"], rows[1].now["arguments"]) == ({"path": "b"}, {"path": "c"})
    assert (rows[3].before, rows[3].now) == ("Done.", "Else.")


def test_another_model_or_an_empty_run_cannot_be_replayed(tmp_path):
    read = read_transcript(run(tmp_path, READ_A))
    other = Engine()
    other.base.fingerprint = "g"
    with pytest.raises(DataError, match="another model"):
        list(replay(read, other))
    with pytest.raises(DataError, match="no step"):
        list(replay(replace(read, steps=()), Engine()))


def test_a_run_becomes_a_line_of_training_data_without_its_failures(tmp_path):
    def does(call):
        return error("no") if call.arguments["path"] == "a" else "fine"

    tools = tuple(replace(tool, group="changing") if tool == WRITE else tool for tool in TOOLS)
    read = read_transcript(run(tmp_path, READ_A, WRITE_B, does=does, tools=tools))
    assert add_to_data(read, tmp_path / "data").added
    assert not add_to_data(read, tmp_path / "data").added
    (trajectory,) = read_trajectories(tmp_path / "data" / "train.jsonl")
    assert trajectory.tools == tools, "also what groups they are in"
    assert [message.role for message in trajectory.messages] == ["user", "assistant", "tool", "assistant"]
    assert trajectory.messages[1].tool_calls == (WRITE_B,)
    assert trajectory.messages[3].content == "Done."


def test_a_run_tells_the_date_that_it_began_on_to_all_its_calls_and_to_the_data(tmp_path, monkeypatch):
    monkeypatch.setattr("dualtune_mlx.agent.agent.machine_date", lambda: "2026-11-30")
    engine, tool_less = Engine(READ_A, WRITE_B), Engine(READ_A)
    engine.tells_date = True
    read = read_transcript(agent(engine, FakeToolbox(), tmp_path / "t").run("do it").transcript)
    agent(tool_less, FakeToolbox(), tmp_path / "t").run("do it")
    assert engine.dates == ["2026-11-30"] * 3
    assert tool_less.dates == [""] * 2
    again = Engine(READ_A, WRITE_B)
    again.tells_date = True
    assert all(row.same for row in replay(read, again))
    assert again.dates == ["2026-11-30"] * 3
    assert add_to_data(read, tmp_path / "data").added
    assert read_trajectories(tmp_path / "data" / "train.jsonl")[0].today == "2026-11-30"


def test_there_is_nothing_to_learn_where_nothing_succeeded(tmp_path):
    read = read_transcript(run(tmp_path, READ_A, does=lambda call: error("no")))
    with pytest.raises(UsageError, match="nothing to learn"):
        add_to_data(read, tmp_path / "data")


def test_a_full_disk_ends_the_run_in_words(tmp_path):
    class Full:
        def write(self, line):
            raise OSError(ENOSPC, "No space left on device")

        def close(self):
            pass

    recorder = Recorder(tmp_path / "t.jsonl", {})
    recorder._file.close()
    recorder._file = Full()
    with pytest.raises(UsageError, match="No space left(?s:.*)make room"), recorder:
        recorder.record(CallResult("done", False))


def test_text_that_is_not_unicode_does_not_end_a_run(tmp_path):
    with Recorder(tmp_path / "t.jsonl", {}) as recorder:
        recorder.record(CallResult("a\ud800", False))
    assert '"a?"' in (tmp_path / "t.jsonl").read_text()


@pytest.mark.parametrize(
    "change", [{"candidates": [{"server": "", "name": "a", "probability": "x"}]}, {"arguments": "x"}]
)
def test_a_call_of_another_form_is_no_line_of_a_transcript(tmp_path, change):
    path = Path(run(tmp_path, READ_A))
    lines = path.read_text().split("\n")
    lines[2] = json.dumps({**json.loads(lines[2]), **change})
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match="does not belong in a transcript(?s:.*):3"):
        read_transcript(path)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"event": ' + "9" * 5_000 + "}"])
def test_json_beyond_python_s_is_no_line_of_a_transcript(tmp_path, text):
    path = Path(run(tmp_path, READ_A))
    path.write_text(path.read_text() + text + "\n")
    with pytest.raises(DataError, match="a line is not JSON"):
        read_transcript(path)
