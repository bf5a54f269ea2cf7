"""Lines of a server: an answer that cannot be read is an error at once, and noise is noise."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from mcp_types import PARSE_ERROR, JSONRPCError, JSONRPCResponse

from dualtune_mlx.errors import ServerError
from dualtune_mlx.mcp import ServerConfig, connect
from dualtune_mlx.mcp.lines import UNREADABLE, read_line
from dualtune_mlx.tools import ToolCall

ANSWER = '{"jsonrpc": "2.0", "id": 5, '
UNREADABLE_ANSWERS = {
    "text": ANSWER + '"result": "text"}',
    "null": ANSWER + '"result": null}',
    "no result": ANSWER + '"x": 1}',
    "error in words": ANSWER + '"error": "bad"}',
    "error without a message": ANSWER + '"error": {"code": 1}}',
    "another version": '{"result": {}, "jsonrpc": "1.0", "id": 5}',
    "several": '[{"jsonrpc": "2.0", "id": 5, "result": {}}]',
    "cut": ANSWER + '"result": {"content": [',
    "on several lines": ANSWER,
    "deep": ANSWER + '"result": {"structuredContent": ' + "[" * 100_000 + "]" * 100_000 + "}}",
    "long number": ANSWER + '"result": {"structuredContent": ' + "9" * 5_000 + "}}",
    "other words behind": ANSWER + '"result": {}} ok',
}


@pytest.mark.parametrize("line", UNREADABLE_ANSWERS.values(), ids=list(UNREADABLE_ANSWERS))
def test_an_answer_that_cannot_be_read_is_an_error_of_its_request(line):
    error = read_line(line.encode())
    assert isinstance(error, JSONRPCError)
    assert (error.id, error.error.code, error.error.message) == (5, PARSE_ERROR, UNREADABLE)


def test_the_id_may_be_text():
    error = read_line(b'{"jsonrpc": "2.0", "id": "a5", "result": [')
    assert isinstance(error, JSONRPCError) and error.id == "a5"


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"hello",
        b"5",
        b"\xff",
        b'{"level": "info", "id": 5}',
        b'{"jsonrpc": "2.0", "id": 5, "method": "ping", "params": 5}',
        b'{"jsonrpc": "2.0", "id": 5, "method": "ping", "params": [',
        b'{"jsonrpc": "2.0", "id": null, "result": 5}',
        b'{"jsonrpc": "2.0", "id": true, "result": 5}',
        b'started {"jsonrpc": "2.0", "id": 5, "result": [',
    ],
)
def test_noise_and_requests_of_the_server_s_own_answer_nothing(line):
    assert read_line(line) is None


def test_half_a_surrogate_pair_becomes_a_question_mark():
    answer = read_line(b'{"jsonrpc": "2.0", "id": 5, "result": {"a": "\\ud800", "b": "\\ud83d\\ude00"}}')
    assert isinstance(answer, JSONRPCResponse) and answer.result == {"a": "?", "b": "😀"}


@pytest.mark.processes
@pytest.mark.parametrize("kind", ["text", "error in words", "cut", "deep", "long number"])
def test_no_call_waits_for_an_answer_that_has_come(server: Callable[..., ServerConfig], kind: str) -> None:
    with connect([server("unreadable", timeout=60)]) as toolbox:
        with pytest.raises(ServerError, match=f"failed(?s:.*){UNREADABLE}"):
            toolbox.execute(ToolCall("answer", {"line": UNREADABLE_ANSWERS[kind]}))
        with pytest.raises(ServerError, match='failed(?s:.*)unknown type: "odd"'):
            toolbox.execute(ToolCall("answer", {"line": ANSWER + '"result": {"resultType": "odd"}}'}))
        assert toolbox.execute(ToolCall("answer", {"line": ANSWER + '"result": {"content": "so"}}'})).text == "so"
