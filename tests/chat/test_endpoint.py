"""A chat model behind an endpoint: its stream is read whole, and its own words are in no error."""

from __future__ import annotations

import asyncio
import json
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx2
import pytest

from dualtune_mlx.chat import endpoint as module
from dualtune_mlx.chat.endpoint import Endpoint, EndpointError, read_retry_after
from dualtune_mlx.chat.pieces import ChatPiece
from dualtune_mlx.errors import UsageError

TURNS = [{"role": "user", "content": "do it"}]


def written(chat: Endpoint) -> str:
    return "".join(piece.text for piece in chat.stream(TURNS, 5))


class Handler(BaseHTTPRequestHandler):
    reply: tuple[int, bytes] = (200, b"")
    kind = "text/event-stream"
    seen: list = []  # noqa: RUF012
    encodings = ""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Handler.seen.append((self.path, self.headers.get("Authorization"), body))
        Handler.encodings = self.headers["Accept-Encoding"]
        self.send_response(self.reply[0])
        self.send_header("Content-Type", self.kind)
        self.end_headers()
        self.wfile.write(self.reply[1])

    def log_message(self, *args):
        pass


@pytest.fixture
def endpoint():
    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    Handler.seen.clear()
    yield f"http://127.0.0.1:{server.server_port}/v1/"
    server.shutdown()
    thread.join()
    server.server_close()


def event(text: object) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {"content": text}}]}).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
END = b'data: {"choices": [{"delta": {}, "finish_reason": "length"}]}\n\n'
USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}\n\n'


def test_an_endpoint_streams_its_answer(endpoint, monkeypatch):
    monkeypatch.setenv("KEY", "sesame")
    Handler.reply = 200, event("It is ") + b": ping\n\n" + event(None) + event("é.") + DONE
    chat = Endpoint(endpoint, "big", "KEY")
    assert written(chat) == "It is é."
    ((path, key, body),) = Handler.seen
    assert (path, key) == ("/v1/chat/completions", "Bearer sesame")
    assert body == {"model": "big", "messages": TURNS, "max_tokens": 5, "stream": True}
    assert "sesame" not in chat.name and Handler.encodings == "identity"
    written(Endpoint(endpoint, "big"))
    assert Handler.seen[-1][1] is None


def test_both_ways_of_asking_give_the_same_pieces(endpoint):
    Handler.reply = 200, event("It is ") + event("so.") + END + USAGE + DONE
    chat = Endpoint(endpoint, "big")

    async def gathered():
        async with httpx2.AsyncClient() as client:
            return [piece async for piece in chat.astream(client, TURNS, 5, temperature=1.0)]

    expected = [ChatPiece("It is "), ChatPiece("so."), ChatPiece(finish="length"), ChatPiece(tokens=(7, 2))]
    assert list(chat.stream(TURNS, 5, temperature=1.0)) == asyncio.run(gathered()) == expected
    assert Handler.seen[0] == Handler.seen[1] and Handler.seen[0][2]["temperature"] == 1.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("", 0), ("7", 7), ("1.5", 1.5), ("-3", 0), ("soon", 0), ("nan", 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0)],
)
def test_retry_after_is_a_number_or_a_date(value, seconds):
    assert read_retry_after(value) == seconds


def test_retry_after_is_a_date_to_come():
    then = datetime.now(UTC) + timedelta(seconds=90)
    assert 80 < read_retry_after(format_datetime(then, usegmt=True)) <= 90


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        ((401, b"sesame"), "status 401"),
        ((307, b""), "status 307"),
        ((200, b"data: {}\n\n"), "not a chat completion"),
        ((200, b"data: no\n\n"), "not a chat completion"),
        ((200, b"data: []\n\n"), "not a chat completion"),
        ((200, b"data: " + b"[" * 900 + b"\n\n"), "not a chat completion"),
        ((200, b"data: {}"), "no event"),
        ((200, event("It is")), "ends before the text does"),
        ((200, b"x" * 2_000), "too long an event"),
        ((200, b"data: " + b"x\ndata: " * 300), "too long an event"),
    ],
)
def test_an_endpoint_that_fails_is_an_error_without_its_words(endpoint, monkeypatch, reply, says):
    monkeypatch.setattr(module, "LARGEST_EVENT", 1_000)
    Handler.reply = reply
    with pytest.raises(EndpointError, match=says) as caught:
        written(Endpoint(endpoint, "big"))
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://[bad", "http://h:x/v1", "http://h:99999999/v1", "http://a\0b/", "http://\ud800/"]
)
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(UsageError, match="http"):
        Endpoint(url, "big")


def test_a_name_that_is_no_text_is_refused():
    with pytest.raises(UsageError, match="name of a model"):
        Endpoint("http://h/v1", "\ud800")


@pytest.mark.parametrize(
    ("event", "piece"),
    [
        ({"choices": [{"delta": {"content": "a\ud800"}}]}, ChatPiece("a?")),
        ({"choices": [], "usage": {"prompt_tokens": -5, "completion_tokens": -9}}, ChatPiece()),
        ({"choices": [], "usage": {"prompt_tokens": 0, "completion_tokens": 9}}, ChatPiece(tokens=(0, 9))),
    ],
)
def test_what_no_tokens_and_no_characters_are_is_not_believed(event, piece):
    assert module._parse_piece(event) == piece


def test_a_nesting_beyond_python_s_is_no_chat_completion():
    reading = module._Reading(Endpoint("http://h/v1", "big"), 100)
    with pytest.raises(EndpointError, match="not a chat completion"):
        list(reading.read("[" * 100_000))
