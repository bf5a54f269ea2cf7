"""``dualtune data synthesize``: what it makes, shows, asks and refuses."""

from __future__ import annotations

import json

import pytest

from dualtune_mlx.data import write_tools
from tests.cli.conftest import dualtune
from tests.synthesis.teacher.scripted import TOOLS, ScriptedTeacher, serve

pytest.importorskip("datasketch", reason="needs the extra synth")
pytest.importorskip("py3langid", reason="needs the extra synth")


@pytest.fixture
def data(tmp_path):
    write_tools(tmp_path, TOOLS)
    return tmp_path


@pytest.fixture
def teacher():
    with serve(ScriptedTeacher(lambda kind, number: "wrong choice" if number == 2 else "")) as scripted:
        yield scripted


def synthesize(data, *options):
    return dualtune("data", "synthesize", "--data", data, *options)


def test_a_teacher_makes_requests(data, teacher):
    prices = ("--max-money", "1", "--price-read", "10", "--price-written", "100")
    asked = ("--requests", "12", "--several", "0", "--in-flight", "1", *prices)
    result = synthesize(data, "--teacher", teacher.url, "--teacher-model", "big", *asked, "--json")
    assert result.exit_code == 0, result.stderr
    value = json.loads(result.stdout)
    assert value["kept"] == 12 and value["rejected"] == {"teacher": 1} and value["exceeded"] == ""
    assert value["spent"] == {"requests": 26, "read": 2600, "written": 260}
    assert value["money"] == pytest.approx(0.052)
    assert value["tools"] == {"create_issue": [5, 5], "search_notes": [5, 5], "no tool": [2, 2]}
    for words in (
        "teacher 1/12",
        "create_issue",
        "the teacher chose another tool",
        "2,600 tokens read",
        "0.05 of money",
    ):
        assert words in result.stderr
    assert len((data / "requests.jsonl").read_text().splitlines()) == 12


def test_without_a_teacher_the_generator_makes_them(data):
    result = synthesize(data, "--requests", "20", "--style", "terse", "--style", "polite")
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in (data / "requests.jsonl").read_text().splitlines()]
    assert len(lines) >= 15 and {line["metadata"]["source"] for line in lines} == {"generator"}
    of_one_call = [line for line in lines if "parts" not in line["messages"][0] and "tool_calls" in line["messages"][1]]
    assert {line["metadata"]["style"] for line in of_one_call} == {"terse", "polite"}


def test_both_share_the_requests(data, teacher):
    share = ("--requests", "20", "--teacher-share", "0.5")
    result = synthesize(data, "--teacher", teacher.url, "--teacher-model", "big", *share)
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in (data / "requests.jsonl").read_text().splitlines()]
    sources = [line["metadata"]["source"] for line in lines]
    assert sources.count("teacher") == 10 and sources.count("generator") >= 7


def test_a_teacher_that_fails_the_trial_needs_a_yes(data, teacher):
    call = {"type": "function", "function": {"name": "search_notes", "arguments": {"query": "tax"}}}
    reply = {"role": "assistant", "content": "", "tool_calls": [call]}
    line = {"messages": [{"role": "user", "content": "Find my note on tax"}, reply]}
    (data / "test.jsonl").write_text(json.dumps(line) + "\n")
    options = ("--teacher", teacher.url, "--teacher-model", "big", "--requests", "4")
    refused = synthesize(data, *options)
    assert refused.exit_code == 2 and "right tool for 0 of 1" in refused.stderr and "--yes" in refused.stderr
    assert not (data / "requests.jsonl").exists()
    assert synthesize(data, *options, "--yes").exit_code == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--language", "German"], "only a teacher words requests in another language"),
        (["--language", "Klingon"], "German"),
        (["--style", "rude"], "imperative"),
        (["--in-flight", "2"], "'--in-flight' goes with '--teacher' only"),
        (["--teacher-share", "0.5"], "'--teacher-share' goes with '--teacher' only"),
        (["--teacher", "http://example.com/v1"], "name of a model"),
        (["--teacher", "http://127.0.0.1:9/v1", "--teacher-model", "m", "--max-money", "1"], "'--price-read'"),
        (["--teacher", "no-such-folder", "--teacher-model", "m"], "neither name nor key"),
        (["--teacher", "https://h/v1", "--teacher-model", "m", "--teacher-key", "UNSET_KEY"], "UNSET_KEY"),
    ],
)
def test_what_does_not_go_together_is_refused(data, options, says):
    result = synthesize(data, *options)
    assert result.exit_code == 2 and says in result.stderr and "Traceback" not in result.stderr
