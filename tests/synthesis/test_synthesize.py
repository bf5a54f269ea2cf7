"""The run: sources, filters, files; stopped and started again it gives the same, whatever the teacher does."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from dualtune_mlx.chat import EndpointError
from dualtune_mlx.data import read_trajectories, write_tools
from dualtune_mlx.errors import UsageError
from dualtune_mlx.synthesis.options import SynthesisOptions
from dualtune_mlx.synthesis.sources import RequestMade
from dualtune_mlx.synthesis.synthesize import TeacherTried, synthesize
from dualtune_mlx.synthesis.teacher import Teaching, asking
from dualtune_mlx.synthesis.teacher.asking import Asking
from dualtune_mlx.synthesis.teacher.backends import open_backend
from dualtune_mlx.synthesis.teacher.budget import Limits
from dualtune_mlx.synthesis.teacher.journal import JOURNAL
from dualtune_mlx.synthesis.teacher.trial import Trial
from dualtune_mlx.tools import Tool
from tests.synthesis.teacher.scripted import FAILURES, TOOLS, WRONG_TEXTS, ScriptedTeacher, serve

pytest.importorskip("datasketch", reason="needs the extra synth")
pytest.importorskip("py3langid", reason="needs the extra synth")
OPTIONS = SynthesisOptions(requests=14, several=0, unserved=0.15)
QUICK = Asking(seconds=30, answer_tokens=64)
IMPATIENT = Asking(seconds=1, answer_tokens=64)


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr(asking, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(asking, "LONGEST_WAIT", 0.05)


def run(teacher, folder, options=OPTIONS, limits=None, how=QUICK, confirm=lambda trial: False, **more):
    write_tools(folder, TOOLS)
    teaching = Teaching(open_backend(teacher.url, "big"), limits or Limits(), how, confirm)
    return synthesize(TOOLS, folder, options, teaching, **more)


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def in_one_go(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    with serve(ScriptedTeacher()) as teacher:
        summary = run(teacher, folder)
    return summary, folder


def test_a_teacher_that_behaves_words_all_requests(in_one_go):
    summary, folder = in_one_go
    assert (summary.kept, summary.rejected, summary.unanswered, summary.exceeded) == (14, {}, 0, "")
    assert summary.tools == {"create_issue": (6, 6), "search_notes": (6, 6), "no tool": (2, 2)}
    assert (summary.spent.requests, summary.spent.read, summary.spent.written) == (28, 2800, 280)
    read = read_trajectories(folder / "requests.jsonl")
    assert Counter(call.name for one in read for message in one.messages for call in message.tool_calls) == {
        "create_issue": 6,
        "search_notes": 6,
    }
    metadata = [line["metadata"] for line in lines(folder / "requests.jsonl")]
    assert {one["source"] for one in metadata} == {"teacher"} and len({one["style"] for one in metadata}) >= 6
    assert (folder / "rejected.jsonl").read_text() == ""


def test_the_same_run_again_asks_nothing(in_one_go):
    _, folder = in_one_go
    before = (folder / "requests.jsonl").read_text()
    with serve(ScriptedTeacher()) as teacher:
        run(teacher, folder)
        assert teacher.asked == []
    assert (folder / "requests.jsonl").read_text() == before


@pytest.mark.parametrize("how", FAILURES)
def test_a_failure_loses_nothing_and_doubles_nothing(how, in_one_go, tmp_path):
    """Every third request fails at first."""
    with serve(ScriptedTeacher(lambda kind, number: how if number % 3 == 0 else "")) as teacher:
        summary = run(teacher, tmp_path, how=IMPATIENT if how == "slow" else QUICK)
    assert summary.kept == 14 and summary.spent.requests > 28 and summary.spent.requests == len(teacher.asked)
    calls = Counter(json.dumps(line["messages"][1]) for line in lines(tmp_path / "requests.jsonl"))
    expected = Counter(json.dumps(line["messages"][1]) for line in lines(in_one_go[1] / "requests.jsonl"))
    assert calls == expected


@pytest.mark.parametrize(("how", "reason"), WRONG_TEXTS.items())
def test_a_wrong_answer_is_kept_apart_with_its_reason(how, reason, tmp_path):
    """The first requests are answered wrongly; further rounds make up for what is missing."""
    with serve(ScriptedTeacher(lambda kind, number: how if number <= 40 else "")) as teacher:
        summary = run(teacher, tmp_path)
    rejected = lines(tmp_path / "rejected.jsonl")
    assert {one["reason"] for one in rejected} == {reason} == set(summary.rejected)
    assert how != "endless" or {one["detail"] for one in rejected} == {"a text without an end"}
    assert all(one["detail"] and one["line"]["metadata"]["source"] == "teacher" for one in rejected)
    assert summary.kept == 14
    written = (tmp_path / "requests.jsonl").read_text() + (tmp_path / "rejected.jsonl").read_text()
    assert "ghp_" not in written


def test_several_calls_have_their_subtasks(tmp_path):
    options = SynthesisOptions(requests=12, several=0.5, unserved=0)
    with serve(ScriptedTeacher(lambda kind, number: "unmarked" if number % 4 == 0 else "")) as teacher:
        summary = run(teacher, tmp_path, options)
    assert summary.tools["several tools"] == (6, 6) and summary.kept == 12
    rejected = lines(tmp_path / "rejected.jsonl")
    assert {one["detail"] for one in rejected} == {"0 marked subtasks for 2 calls"}
    read = [one for one in read_trajectories(tmp_path / "requests.jsonl") if one.messages[0].subtasks]
    assert len(read) == 6
    for one in read:
        request, *replies = one.messages
        assert [reply.subtask for reply in replies] == list(request.subtasks) and "«" not in request.content
        for reply in replies:
            words = {"create_issue": "look into", "search_notes": "write about"}
            assert words[reply.tool_calls[0].name] in reply.subtask


def test_a_teacher_that_does_everything_wrong_at_random(tmp_path):
    rng = random.Random(3)
    ways = [*FAILURES, *WRONG_TEXTS, *[""] * 30]
    with serve(ScriptedTeacher(lambda kind, number: rng.choice(ways))) as teacher:
        summary = run(teacher, tmp_path, SynthesisOptions(requests=60), how=IMPATIENT)
    assert summary.kept >= 55 and sum(summary.rejected.values()) == len(lines(tmp_path / "rejected.jsonl"))
    texts = [one.messages[0].content for one in read_trajectories(tmp_path / "requests.jsonl")]
    assert len(set(texts)) == len(texts) == summary.kept
    assert not any(word in text for text in texts for word in ("hacked", "<|", "ghp_", "kümmere", "{"))


def test_the_generator_fills_the_quotas_of_its_first_round(tmp_path):
    """Requests for a tool without arguments are soon alike, so that further rounds are needed."""
    tools, options = (*TOOLS, Tool("list_notes", "List all notes.", server="notes")), SynthesisOptions(requests=120)
    events: list[RequestMade] = []
    one, two = (synthesize(tools, tmp_path / name, options, report=events.append) for name in ("one", "two"))
    assert one == two and one.rejected and 100 <= one.kept <= 120
    assert all(kept <= wanted for kept, wanted in one.tools.values()) and one.tools["several tools"][0] > 3
    assert max(event.number for event in events) > 1
    texts = [(tmp_path / name / "requests.jsonl").read_text() for name in ("one", "two")]
    assert texts[0] == texts[1]
    synthesize(tools, tmp_path / "two", SynthesisOptions(requests=120, seed=1))
    assert (tmp_path / "two" / "requests.jsonl").read_text() != texts[0]


def test_a_key_is_sent_and_written_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("DUALTUNE_TEACHER_KEY", "sesame-7")
    with serve(ScriptedTeacher(lambda kind, number: "500" if number == 2 else "")) as teacher:
        events = []
        run(teacher, tmp_path, report=events.append)
        assert set(teacher.keys) == {"Bearer sesame-7"}
    assert "sesame-7" not in repr(events) + "".join(path.read_text() for path in tmp_path.iterdir())


def test_only_so_many_requests_are_in_flight(tmp_path):
    with serve(ScriptedTeacher()) as teacher:
        teacher.pause = 0.02
        run(teacher, tmp_path, how=Asking(in_flight=3))
    assert teacher.most_at_once == 3


def test_retry_after_holds_for_all(tmp_path):
    times = []

    def misbehave(_, number):
        times.append(time.monotonic())
        return "429 later" if number == 1 else ""

    with serve(ScriptedTeacher(misbehave)) as teacher:
        run(teacher, tmp_path, how=Asking(in_flight=1))
    assert times[1] - times[0] >= 0.19


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        (Limits(requests=9), "9 requests"),
        (Limits(tokens=2_000), "2,000 tokens"),
        (Limits(money=0.01, price_read=10, price_written=20), "0.01 of money"),
    ],
)
def test_a_budget_ends_the_run_and_a_larger_one_goes_on(limits, says, in_one_go, tmp_path):
    with serve(ScriptedTeacher()) as teacher:
        summary = run(teacher, tmp_path, limits=limits, how=Asking(in_flight=2, answer_tokens=64))
        assert summary.exceeded == says and 0 < summary.kept < 14
        assert limits.find_exceeded(summary.spent) == "" and summary.money <= (limits.money or 0)
        asked = len(teacher.asked)
        assert run(teacher, tmp_path).kept == 14
        assert len(teacher.asked) == 28 and asked == summary.spent.requests
    assert lines(tmp_path / "requests.jsonl")[0] == lines(in_one_go[1] / "requests.jsonl")[0]


@pytest.mark.parametrize(("how", "tries"), [("500", 3), ("reset", 3), ("page", 3)])
def test_a_teacher_that_always_fails_ends_the_run(how, tries, tmp_path):
    with serve(ScriptedTeacher(lambda kind, number: how)) as teacher:
        with pytest.raises(EndpointError) as caught:
            run(teacher, tmp_path, how=Asking(in_flight=1))
    assert len(teacher.asked) == tries * asking.MOST_FAILURES
    assert "--teacher" in str(caught.value) and "secret words" not in str(caught.value)
    assert not (tmp_path / "requests.jsonl").exists()


def test_a_teacher_that_is_not_there_ends_the_run(tmp_path, free_port):
    teacher = ScriptedTeacher()
    teacher.url = f"http://127.0.0.1:{free_port}/v1"
    with pytest.raises(EndpointError, match="ConnectError"):
        run(teacher, tmp_path)


def of_user(word: str) -> str:
    call = {"type": "function", "function": {"name": "search_notes", "arguments": {"query": word}}}
    request = {"role": "user", "content": f"Where did I write about {word}?"}
    return json.dumps({"messages": [request, {"role": "assistant", "content": "", "tool_calls": [call]}]}) + "\n"


def test_a_teacher_is_tried_on_the_users_own_requests(tmp_path):
    """The scripted teacher knows none of them, and answers that no tool serves them."""
    (tmp_path / "test.jsonl").write_text("".join(map(of_user, ("bread", "rivers", "glue", "tax"))))
    with serve(ScriptedTeacher()) as teacher:
        with pytest.raises(UsageError, match="right tool for 0 of 4") as caught:
            run(teacher, tmp_path)
        assert "--yes" in str(caught.value) and len(teacher.asked) == 4
        events, asked = [], []
        summary = run(teacher, tmp_path, confirm=lambda trial: asked.append(trial) or True, report=events.append)
    assert asked == [Trial(0, 4)] and events[0] == TeacherTried(Trial(0, 4))
    assert summary.kept == 14 and len(teacher.asked) == 32
    last = [event for event in events if isinstance(event, RequestMade)][-1]
    assert (last.done, last.wanted, last.spent.requests) == (14, 14, 32)


def test_a_teacher_that_knows_the_users_requests_is_not_asked_about(tmp_path):
    (tmp_path / "test.jsonl").write_text(of_user("bread"))
    with serve(ScriptedTeacher()) as teacher:
        teacher._tools["Where did I write about bread?"] = "search_notes"
        assert run(teacher, tmp_path).kept == 14


def test_requests_that_somebody_changed_are_not_overwritten(tmp_path):
    with serve(ScriptedTeacher()) as teacher:
        run(teacher, tmp_path)
        path = tmp_path / "requests.jsonl"
        path.write_text(path.read_text().replace("Somebody", "Someone"))
        with pytest.raises(UsageError, match="were changed since they were made"):
            run(teacher, tmp_path)
    assert "Someone" in path.read_text()


PROGRAM = """
import sys
from dualtune_mlx.data import read_tools
from dualtune_mlx.synthesis.synthesize import SynthesisOptions, synthesize
from dualtune_mlx.synthesis.teacher import Teaching, asking
from dualtune_mlx.synthesis.teacher.backends import open_backend
asking.FIRST_WAIT = 0.01
folder = sys.argv[2]
teacher = Teaching(open_backend(sys.argv[1], "big"))
synthesize(read_tools(folder + "/tools.json"), folder, SynthesisOptions(requests=40), teacher)
"""


KILLS = 3


def stop_at_random(url: str, folder: Path, kill: int, rng: random.Random) -> bool:
    """Start a run in a process of its own, and stop it at some moment after its first answer.

    Returns:
        Whether it was stopped: on a busy machine it may end before.
    """
    journal = folder / JOURNAL
    size = journal.stat().st_size if journal.exists() else 0
    # A shell starts what runs in the background without Ctrl-C.
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, url, str(folder)],
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not (journal.exists() and journal.stat().st_size > size):
        if process.poll() is not None:
            return False
        time.sleep(0.005)
    time.sleep(rng.uniform(0, 0.1))
    process.send_signal(kill)
    return process.wait(30) != 0


@pytest.mark.processes
@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_stopped_at_any_moment_goes_on(kill, tmp_path):
    options, rng = SynthesisOptions(requests=40), random.Random(kill)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    with serve(ScriptedTeacher()) as teacher:
        run(teacher, whole, options, how=Asking())
        needed = len(teacher.asked)
        write_tools(parts, TOOLS)
        teacher.pause = 0.1
        stopped = [stop_at_random(teacher.url, parts, kill, rng) for _ in range(KILLS)]
        assert stopped[0]
        run(teacher, parts, options, how=Asking())
        assert len(teacher.asked) <= 2 * needed + 8 * KILLS
    for name in ("requests.jsonl", "rejected.jsonl"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes()
    keys = [line["key"] for line in lines(parts / JOURNAL) if "key" in line]
    assert len(keys) == len(set(keys))
