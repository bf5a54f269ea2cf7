"""What ``call --execute`` shows and writes of a tool's result."""

from __future__ import annotations

import io
from dataclasses import replace
from types import SimpleNamespace

from rich.console import Console

from dualtune_mlx.cli.call import show, to_json
from dualtune_mlx.mcp import ToolResult
from dualtune_mlx.tools import ToolCall

IMAGE = {"type": "image", "mimeType": "image/png", "data": "iVBORw=="}
CALL = ToolCall("look", {}, "s", usage=SimpleNamespace(stages={}, to_dict=dict))


def result(text: str) -> ToolResult:
    return ToolResult("s", "look", ({"type": "text", "text": text}, IMAGE), text, {"n": 1}, False, 0.5)


def test_a_long_result_is_one_short_entry_that_names_what_is_no_text():
    out = io.StringIO()
    show(Console(file=out, width=10_000), "request", CALL, result("line\n" * 300))
    (line,) = (line for line in out.getvalue().splitlines() if "result:" in line)
    assert "characters left out" in line
    assert line.endswith("[image: image/png, 4 bytes]")


def test_arguments_that_nobody_said_are_named():
    for unsaid, line in ((("due", "a\x1b[2J"), "  unsaid: due, a\\u001b[2J"), ((), "")):
        out = io.StringIO()
        show(Console(file=out, width=10_000), "request", replace(CALL, unsaid=unsaid), None)
        assert [one for one in out.getvalue().splitlines() if "unsaid" in one] == ([line] if line else [])


def test_json_has_all_of_it():
    value = to_json(CALL, result("x" * 10_000))["result"]
    assert value["text"] == "x" * 10_000
    assert value["content"][1] == IMAGE
    assert (value["structured"], value["is_error"], value["seconds"]) == ({"n": 1}, False, 0.5)
