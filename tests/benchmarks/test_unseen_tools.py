"""Unseen tools: what is read, what each method makes of a request, and what is made of the figures."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from dualtune_mlx.benchmarks import unseen_tools
from dualtune_mlx.benchmarks.unseen_tools import METHODS, Outcome, Request, by_words, read_servers, row_of
from dualtune_mlx.bundle import Bundle
from dualtune_mlx.errors import UsageError
from dualtune_mlx.tools import RESPOND, Tool, ToolCall
from tests import tiny
from tests.cli.conftest import dualtune
from tests.engine.test_embedding import make_bundle

WRITE = {"type": "object", "properties": {"text": {"type": "string", "enum": ["a", "b"]}}, "required": ["text"]}
TOOLS = [
    {"name": "write_note", "description": "Write a note.", "inputSchema": WRITE},
    {"name": "delete_note", "description": "Delete a note."},
]
LINES = [
    {"request": "delete that note", "register": "terse", "call": {"name": "delete_note", "arguments": {}}},
    {
        "request": "write it",
        "call": {"name": "write_note", "arguments": {"text": "c"}},
        "also": [{"text": "a"}, {"text": "b"}],
    },
    {"request": "how are you?", "register": "question", "call": None},
    {"request": "paint it", "register": "terse", "call": {"name": "cannot_be_used", "arguments": {}}},
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "requests" / "tune").mkdir(parents=True)
    (tmp_path / "lists").mkdir()
    for server in ("notes", "papers"):
        (tmp_path / "requests" / "tune" / f"{server}.jsonl").write_text("\n".join(map(json.dumps, LINES)))
        (tmp_path / "lists" / f"{server}.json").write_text(json.dumps({"tools": TOOLS}))
    monkeypatch.setattr(unseen_tools, "REQUESTS", tmp_path / "requests")
    return tmp_path


def test_requests_and_tools_are_read(folder):
    notes, papers = read_servers("tune", folder / "lists")
    assert [tool.name for tool in notes.tools] == ["write_note", "delete_note"]
    assert notes.requests[1].arguments == ({"text": "c"}, {"text": "a"}, {"text": "b"})
    assert [one.served for one in papers.requests] == [True, True, False, True]
    assert [len(one.requests) for one in read_servers("tune", folder / "lists", 2)] == [2, 2]


def test_what_is_missing_is_named(folder):
    with pytest.raises(UsageError, match="no requests"):
        read_servers("test", folder / "lists")
    (folder / "lists" / "papers.json").unlink()
    with pytest.raises(UsageError, match="papers"):
        read_servers("tune", folder / "lists")


def test_words_alone_rank_the_tools():
    tools = (Tool("write_note"), Tool("delete_note"), Tool("list_notes"))
    request = Request("write a note, do not delete it; write!", ToolCall("delete_note"))
    found = by_words(tools, request, shown=1)
    assert (found.rank, found.is_shown) == (1, False)
    assert by_words(tools, Request("hello", ToolCall(RESPOND.name)), 1).rank == unseen_tools.NEVER


def test_a_row_has_shares_of_what_is_served_and_of_what_is_not():
    served, unserved = Request("a", ToolCall("b")), Request("a", ToolCall(RESPOND.name))
    outcomes = [Outcome(served, 0, True, True), Outcome(served, 2, True, False), Outcome(served, 9, False, False)]
    row = row_of("notes", "both", [*outcomes, Outcome(unserved, 0), Outcome(unserved, 1)])
    shares = {"tool": 1 / 3, "top3": 2 / 3, "shown": 2 / 3, "none": 1 / 2, "call": 1 / 3}
    assert row == {"server": "notes", "method": "both", "n": 3, "n_none": 2, **shares}


@pytest.mark.parametrize("with_bundle", [False, True])
def test_every_method_is_measured_on_every_server(folder, with_bundle, monkeypatch):
    monkeypatch.setattr(unseen_tools, "EMBEDDED", str(tiny.save(folder / "model")))
    bundle = make_bundle(folder / "trained").folder if with_bundle else None
    written = io.StringIO()
    value = unseen_tools.run(False, Console(file=written, width=120), folder / "lists", bundle=bundle)
    rows = value["rows"]
    assert [row["server"] for row in rows] == ["all"] * 3 + ["notes", "papers"] * 3
    assert [row["method"] for row in rows[:3]] == list(METHODS)
    assert [(row["n"], row["n_none"]) for row in rows[:3]] == [(6, 2)] * 3
    words, _, both = rows[:3]
    assert words["tool"] == 2 / 3, "what cannot be used is wrong"
    assert both["tool"] == 2 / 3 and both["call"] == 2 / 3, "either text is right"
    assert value["counters"]["calls"] >= 4 and value["counters"]["prefilled_tokens"] > 0
    assert "goal tool at least 75%: NOT reached" in written.getvalue()


def test_evidence_is_fitted_to_the_requests_for_tuning_alone(folder, monkeypatch):
    bundle, out = make_bundle(folder / "trained"), Console(file=io.StringIO(), width=120)
    (folder / "requests" / "tune").rename(folder / "requests" / "test")
    for fit, words in ((True, "fitted to the requests for tuning"), (False, "no lexical evidence")):
        with pytest.raises(UsageError, match=words):
            unseen_tools.run(False, out, folder / "lists", "test", bundle.folder, fit)
    (folder / "requests" / "test").rename(folder / "requests" / "tune")
    unseen_tools.run(False, out, folder / "lists", "tune", bundle.folder, fit=True)
    fitted = Bundle.open(bundle.folder).evidence
    assert fitted.weight > 1
    (folder / "requests" / "tune").rename(folder / "requests" / "test")
    monkeypatch.setattr(unseen_tools, "fit_evidence", None)
    unseen_tools.run(False, out, folder / "lists", "test", bundle.folder)


def test_its_options_are_for_it_alone(tmp_path):
    assert "needs --lists" in dualtune("bench", "unseen").output
    result = dualtune("bench", "calls", "--bundle", tmp_path)
    assert result.exit_code == 2 and "goes with the benchmark 'unseen' only" in result.output


def test_the_script_is_the_command():
    assert 'common.main("unseen")' in Path(unseen_tools.__file__).read_text(encoding="utf-8")
