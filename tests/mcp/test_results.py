from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dualtune_mlx.errors import ToolError
from dualtune_mlx.mcp import Media, Resource, ServerConfig, ToolResult, connect, head_and_tail
from dualtune_mlx.tools import ToolCall


def result(*content: dict[str, Any], structured: Any = None) -> ToolResult:
    text = "\n".join(block["text"] for block in content if block["type"] == "text")
    return ToolResult("s", "t", content, text, structured, False, 0.0)


@pytest.mark.parametrize("length", [199, 200, 201, 1_000, 123_456])
def test_head_and_tail_keep_to_the_limit_and_count_what_is_left_out(length: int) -> None:
    text = "".join(chr(0x4E00 + i % 20_000) for i in range(length))
    cut = head_and_tail(text, 200)
    assert len(cut) <= 200
    if length <= 200:
        assert cut == text
        return
    head, line, tail = cut.split("\n")
    assert text.startswith(head) and text.endswith(tail) and abs(len(head) - len(tail)) <= 1
    assert line == f"[… {length - len(head) - len(tail):,} characters left out …]"
    assert len(cut) > 195


def test_a_limit_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(ToolError, match="199 characters(?s:.*)at least 200"):
        head_and_tail("text", 199)


def test_every_kind_of_content_comes_back_as_such(server: Callable[..., ServerConfig]) -> None:
    with connect([server("rough")]) as toolbox:
        got = toolbox.execute(ToolCall("blocks"))
        with pytest.raises(ToolError, match="not base64"):
            toolbox.execute(ToolCall("broken_image"))
    assert got.text == "a picture:" and got.structured == {"count": 6}
    assert got.images == (Media("image/png", b"\x89PNG"),) and got.audio == (Media("audio/wav", b"RIFF"),)
    assert got.resources == (
        Resource("file:///a.txt", "a.txt", "text/plain"),
        Resource("file:///b.txt", text="inside b"),
        Resource("file:///c.bin", mime_type="application/x-c", data=b"\0\1\2"),
    )
    assert got.for_model(500).splitlines() == [
        "a picture:",
        "[image: image/png, 4 bytes]",
        "[audio: audio/wav, 4 bytes]",
        "[resource: a.txt, file:///a.txt, text/plain]",
        "[resource: file:///b.txt]",
        "inside b",
        "[resource: file:///c.bin, application/x-c, 3 bytes]",
    ]


def test_the_whole_text_stays_when_the_model_s_is_cut() -> None:
    long = result({"type": "text", "text": "x" * 10_000})
    assert len(long.for_model(300)) <= 300 and len(long.text) == 10_000


def test_a_result_that_is_structured_alone_is_json_for_the_model() -> None:
    assert result(structured={"town": "Köln"}).for_model(200) == '{"town": "Köln"}'
    assert result({"type": "text", "text": "words"}, structured={"a": 1}).for_model(200) == "words"


def test_bytes_are_not_in_the_repr() -> None:
    assert "123" not in repr((Media("image/png", b"123"), Resource("u", text="123", data=b"123")))
