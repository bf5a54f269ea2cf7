"""Which calls run, which are asked about, which are refused."""

from __future__ import annotations

import pytest

from dualtune_mlx.errors import UsageError
from dualtune_mlx.mcp import ApprovalPolicy
from dualtune_mlx.tools import Tool
from tests.agent.fakes import DESTRUCTIVE, READ_ONLY, config

TRUSTED, ALLOWED, UNHINTED = {"trust_hints": True}, {"allow": ("t",)}, {"trust_unhinted": True}
BOTH = {**READ_ONLY, **DESTRUCTIVE}
HARMLESS = {"destructiveHint": False, "readOnlyHint": False}


@pytest.mark.parametrize(
    ("approve", "hints", "fields", "action"),
    [
        # Hints alone never let a call run.
        ("ask", {}, {}, "ask"),
        ("ask", READ_ONLY, {}, "ask"),
        ("ask", HARMLESS, {}, "ask"),
        ("ask", DESTRUCTIVE, {}, "ask"),
        # Trusted hints let read-only tools run, and nothing else.
        ("ask", READ_ONLY, TRUSTED, "run"),
        ("ask", {}, TRUSTED, "ask"),
        ("ask", HARMLESS, TRUSTED, "ask"),
        ("ask", BOTH, TRUSTED, "ask"),
        ("ask", {"readOnlyHint": "true"}, TRUSTED, "ask"),
        ("ask", {"readOnlyHint": 1}, TRUSTED, "ask"),
        # The configuration allows a tool, whatever its server says.
        ("ask", {}, ALLOWED, "run"),
        ("ask", DESTRUCTIVE, ALLOWED, "run"),
        ("never", DESTRUCTIVE, ALLOWED, "run"),
        ("ask", {}, {"allow": ("other",)}, "ask"),
        # auto: what the server calls harmless; the server's own policy may be stricter.
        ("auto", HARMLESS, {}, "run"),
        ("auto", READ_ONLY, {}, "run"),
        ("auto", {"destructiveHint": False}, {}, "run"),
        ("auto", DESTRUCTIVE, {}, "ask"),
        ("auto", BOTH, TRUSTED, "ask"),
        # auto: a tool without hints is destructive, as MCP has it, unless the user says otherwise of its server.
        ("auto", {}, {}, "ask"),
        ("auto", {}, TRUSTED, "ask"),
        ("auto", {"title": "t", "idempotentHint": True}, {}, "ask"),
        ("auto", {"readOnlyHint": False}, {}, "ask"),
        ("auto", {"readOnlyHint": "true"}, {}, "ask"),
        ("auto", {"destructiveHint": "false"}, UNHINTED, "ask"),
        ("auto", {}, ALLOWED, "run"),
        ("auto", {}, UNHINTED, "run"),
        ("auto", {"readOnlyHint": False}, UNHINTED, "run"),
        ("auto", DESTRUCTIVE, UNHINTED, "ask"),
        ("ask", {}, UNHINTED, "ask"),
        ("auto", {}, {"approve": "ask", **UNHINTED}, "ask"),
        ("auto", DESTRUCTIVE, ALLOWED, "run"),
        ("auto", {}, {"approve": "ask"}, "ask"),
        ("auto", READ_ONLY, {"approve": "ask"}, "ask"),
        ("auto", READ_ONLY, {"approve": "ask", **TRUSTED}, "run"),
        # never: what would be asked is refused.
        ("never", {}, {}, "refuse"),
        ("never", READ_ONLY, {}, "refuse"),
        ("never", READ_ONLY, TRUSTED, "run"),
        # A server whose tools are forbidden.
        ("auto", {}, {"approve": "never"}, "refuse"),
        ("ask", READ_ONLY, {"approve": "never", **TRUSTED, **ALLOWED}, "refuse"),
    ],
)
def test_the_table(approve, hints, fields, action):
    tool = Tool("t", server="fs", annotations=hints)
    verdict = ApprovalPolicy([config(**fields)], approve).verdict(tool)
    assert verdict.action == action
    assert verdict.why


def test_a_tool_of_an_unknown_server_is_refused():
    assert ApprovalPolicy([config()], "auto").verdict(Tool("t", server="else")).action == "refuse"


def test_an_unknown_policy_is_refused():
    with pytest.raises(UsageError, match="ask, never"):
        ApprovalPolicy([], "yes")
