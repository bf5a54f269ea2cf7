from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from dualtune_mlx.errors import ToolError
from dualtune_mlx.mcp import Media, Resource, ServerConfig, ToolResult, connect, head_and_tail
from dualtune_mlx.mcp.results import read_result
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


@pytest.mark.parametrize("tool", ["odd", "promise", "dangle", "nonsense", "no_schema"])
def test_what_came_is_shown_whatever_the_output_schema_promised(server: Callable[..., ServerConfig], tool: str) -> None:
    structured: Any
    with connect([server("rough")]) as toolbox:
        for structured in ({"a": "b"}, None, [1], "text", 0):
            got = toolbox.execute(ToolCall(tool, {"result": {"content": [HERE], "structuredContent": structured}}))
            assert (got.text, got.structured, got.is_error) == ("here", structured, False)
        assert toolbox.execute(ToolCall(tool, {"result": {"content": [HERE]}})).text == "here"
        assert toolbox.execute(ToolCall(tool, {"result": {"content": [HERE], "isError": True}})).is_error
        assert toolbox.execute(ToolCall(tool, {"result": {"structuredContent": {"n": 1}}})).for_model(200) == '{"n": 1}'


HERE = {"type": "text", "text": "here"}
PNG = b"\x89PNG\r\n\x1a\n\xff\xfb"
AS_BASE64 = base64.b64encode(PNG).decode()


@pytest.mark.parametrize(
    ("block", "mime_type"),
    [
        ({"mimeType": "image/png", "data": AS_BASE64}, "image/png"),
        ({"mimeType": "image/png", "data": f"\n{AS_BASE64[:5]}\r\n{AS_BASE64[5:]}\n"}, "image/png"),
        ({"mimeType": "image/png", "data": f"data:image/webp;base64,{AS_BASE64}"}, "image/png"),
        ({"data": f"data:image/webp;charset=x;base64,{AS_BASE64}"}, "image/webp"),
        ({"mimeType": "image/png", "data": AS_BASE64.rstrip("=")}, "image/png"),
        ({"mimeType": "image/png", "data": base64.urlsafe_b64encode(PNG).decode()}, "image/png"),
        ({"data": AS_BASE64}, "application/octet-stream"),
    ],
)
def test_an_image_is_read_however_its_data_is_written(block: dict[str, Any], mime_type: str) -> None:
    got = read_result("s", "t", {"content": [{"type": "image", **block}]}, 0.0)
    assert got.images == (Media(mime_type, PNG),)
    assert got.to_record()["content"] == [{"type": "image", "mimeType": mime_type, "data": AS_BASE64}]


@pytest.mark.parametrize(
    ("block", "shown"),
    [
        (
            {"type": "image", "mimeType": "image/png", "data": "no base64!"},
            "[image: image/png, its data cannot be read]",
        ),
        (
            {"type": "audio", "mimeType": "audio/wav", "data": "data:audio/wav,RIFF"},
            "[audio: audio/wav, its data cannot",
        ),
        ({"type": "resource", "resource": {"uri": "file:///a", "blob": "?"}}, "[resource: file:///a, its data cannot"),
        ({"type": "image", "mimeType": "image/png"}, '{"type": "image", "mimeType": "image/png"}'),
        ({"type": "image", "mimeType": 1, "data": "AAEC"}, '{"type": "image", "mimeType": 1, "data": "AAEC"}'),
        ({"type": "text", "text": None}, '{"type": "text", "text": null}'),
        ({"type": "table", "rows": [1]}, '{"type": "table", "rows": [1]}'),
        ({"type": ["text"]}, '{"type": ["text"]}'),
        ({"type": "resource", "resource": "file:///a"}, '{"type": "resource", "resource": "file:///a"}'),
        ({"type": "resource_link", "name": "a"}, '{"type": "resource_link", "name": "a"}'),
        ("bare words", "bare words"),
        (None, "null"),
    ],
)
def test_one_broken_block_leaves_the_others(server: Callable[..., ServerConfig], block: Any, shown: str) -> None:
    with connect([server("rough")]) as toolbox:
        got = toolbox.execute(ToolCall("odd", {"result": {"content": [HERE, block, HERE]}}))
    assert [one["type"] for one in got.content] == ["text"] * 3 and not got.is_error
    assert got.content[1]["text"].startswith(shown) and got.for_model(500) == got.text
    assert (got.content[0], got.content[2]) == (HERE, HERE)


@pytest.mark.parametrize(
    ("content", "texts"), [(None, []), ("words", ["words"]), (HERE, ["here"]), ([], []), (7, ["7"])]
)
def test_content_that_is_no_list_is_one_block(content: Any, texts: list[str]) -> None:
    got = read_result("s", "t", {"content": content}, 0.0)
    assert [block["text"] for block in got.content] == texts


def test_the_whole_text_stays_when_the_model_s_is_cut() -> None:
    long = result({"type": "text", "text": "x" * 10_000})
    assert len(long.for_model(300)) <= 300 and len(long.text) == 10_000


def test_a_result_that_is_structured_alone_is_json_for_the_model() -> None:
    assert result(structured={"town": "Köln"}).for_model(200) == '{"town": "Köln"}'
    assert result({"type": "text", "text": " "}, structured={"n": 1}).for_model(200) == '{"n": 1}'
    image = {"type": "image", "mimeType": "image/png", "data": AS_BASE64}
    assert result(image, structured={"n": 1}).for_model(200).splitlines() == [
        "[image: image/png, 10 bytes]",
        '{"n": 1}',
    ]


@pytest.mark.parametrize(
    ("given", "is_error"), [(True, True), ("true", True), (1, True), ("false", False), (0, False), (None, False)]
)
def test_an_error_is_one_however_it_is_written(given: Any, is_error: bool) -> None:
    assert read_result("s", "t", {"content": [HERE], "isError": given}, 0.0).is_error is is_error
    assert result({"type": "text", "text": "words"}, structured={"a": 1}).for_model(200) == "words"


def test_half_a_surrogate_pair_costs_one_character(server: Callable[..., ServerConfig]) -> None:
    with connect([server("rough", timeout=5)]) as toolbox:
        assert toolbox.execute(ToolCall("not_utf_8")).text == "caf?.txt, \U0001f600"


def test_null_is_a_field_that_is_not_there() -> None:
    link = {"type": "resource_link", "uri": "file:///a", "name": None, "annotations": None}
    inside = {"type": "resource", "resource": {"uri": "file:///b", "text": "b", "blob": None, "mimeType": None}}
    got = read_result("s", "t", {"content": [link, inside], "isError": None}, 0.0)
    assert got.resources == (Resource("file:///a"), Resource("file:///b", text="b")) and not got.is_error


def test_bytes_are_not_in_the_repr() -> None:
    assert "123" not in repr((Media("image/png", b"123"), Resource("u", text="123", data=b"123")))


@pytest.mark.parametrize("block", [{"type": "text", "text": "x"}, {"type": "odd"}, "x"])
def test_of_very_many_blocks_the_last_are_left_out_and_counted(block: Any) -> None:
    read = read_result("s", "t", {"content": [block] * 300_000}, 0.0)
    assert len(read.content) == 10_001
    assert read.content[-1]["text"] == "[290,000 more blocks are left out]"
    assert len(read_result("s", "t", {"content": [block] * 10_000}, 0.0).content) == 10_000


def test_numbers_that_json_has_not_are_spelled() -> None:
    block = {"type": "text", "text": "x", "weight": float("nan")}
    read = read_result("s", "t", {"content": [block], "structuredContent": [float("inf"), 1.5]}, 0.0)
    assert read.structured == ["Infinity", 1.5] and read.content[0]["weight"] == "NaN"
    json.dumps(read.to_record(), allow_nan=False)
