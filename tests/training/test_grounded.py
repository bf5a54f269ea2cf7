"""What grounding is learned and what its grammar writes agree, on every target of the data."""

from __future__ import annotations

from dataclasses import replace

from dualtune_mlx.data.decisions import call_decisions
from dualtune_mlx.decoding import CopyReport, find_slips, ground_schema
from dualtune_mlx.grammar import explain_unwritable
from dualtune_mlx.tools import Message, Tool, ToolCall, Trajectory, find_called_tool
from dualtune_mlx.training.grounded import report_stage_copies
from tests.training.data import divided

STRING = {"type": "string"}
EDITS = {"type": "array", "items": {"type": "object", "properties": {"old": STRING}}}
EDIT = Tool("edit", "", {"type": "object", "properties": {"path": STRING, "edits": EDITS, "mode": STRING}}, "fs")
WORDS = ("größe", "a.txt", 'say "x"', "C:\\temp", "😀", "two words", "tab\tend", "line\nend", "x=1;", "</tool>")


def conversations(copies: int, slips: int) -> list[Trajectory]:
    """Edits whose strings are copied from the request, and some whose path is not."""
    found = []
    for i in range(copies + slips):
        path, old = WORDS[i % len(WORDS)], WORDS[(i + 3) % len(WORDS)]
        told = f"In {path}, replace {old}" if i < copies else f"Replace {old} there"
        arguments = {"path": path, "edits": [{"old": old}], "mode": "fast"}
        call = Message("assistant", "", (ToolCall("edit", arguments, "fs"),))
        found.append(Trajectory((Message("user", told), call), (EDIT,), f"f:{i + 1}"))
    return found


def test_a_target_is_a_slip_where_its_grounded_grammar_cannot_write_it():
    data = conversations(200, 2)
    report, note = report_stage_copies("arguments", data)
    grounding = report.grounding
    assert (
        grounding == {"fs/edit": {"path": (), "edits[].old": (), "mode": ("fast",)}} or "path" in grounding["fs/edit"]
    )
    slips = []
    for trajectory in data:
        for decision in call_decisions(trajectory):
            tool = find_called_tool(decision.call, decision.tools)
            held = replace(tool, parameters=ground_schema(tool, decision.messages, grounding))
            reason = explain_unwritable(held, decision.call.arguments)
            assert bool(find_slips(decision, grounding)) == bool(reason), reason
            slips += [trajectory.name] if reason else []
    assert slips == ["f:201", "f:202"]
    assert note.startswith("grounding will not write 2 values")
    assert note.endswith("f:201, decision 1, path; f:202, decision 1, path")


def test_only_a_few_slips_are_named():
    _, note = report_stage_copies("arguments", conversations(900, 9))
    assert note.endswith("; and 3 more")


def test_stages_that_choose_names_are_not_grounded():
    assert report_stage_copies("selector", conversations(20, 0)) == (CopyReport(), "")
    report, note = report_stage_copies("planner", divided(12))
    assert (list(report.grounding), note) == (["/plan"], "")
