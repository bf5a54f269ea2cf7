"""Every limit of a chat model's endpoint holds on the wire, whatever it sends."""

from __future__ import annotations

import asyncio
import gzip
import socket
import threading
import time

import httpx2
import pytest

from dualtune_mlx.chat.endpoint import CHARACTERS_PER_TOKEN, Endpoint, EndpointError
from tests.chat.raw_endpoint import HEAD, byte_by_byte, drip, endlessly, event, serving

TURNS = [{"role": "user", "content": "do it"}]


@pytest.mark.parametrize(
    ("begin", "drops"),
    [
        (HEAD + b"\r\n", lambda: endlessly(b": ping\n\n")),
        (HEAD + b"\r\n", lambda: endlessly(b'data: {"choices": []}\n\n')),
        (HEAD + b"\r\n", lambda: byte_by_byte(event("x" * 200))),
        (HEAD, lambda: byte_by_byte(b"X-More: " + b"x" * 10_000)),
        (b"", lambda: endlessly(b"")),
    ],
    ids=["keep-alive lines", "empty events", "single bytes", "a long head", "nothing"],
)
def test_an_answer_that_does_not_come_ends_with_the_time(begin, drops):
    def write(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(begin)
        drip(connection, over, drops())

    with serving(write) as url:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            list(Endpoint(url, "big").stream(TURNS, 5, seconds=0.3))
        assert time.monotonic() - began < 3


def test_lines_without_an_end_are_not_read_for_longer_than_the_time():
    def write(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(HEAD + b"\r\n")
        while not over.is_set():
            connection.sendall(b": x\n" * 10_000)

    with serving(write) as url:
        with pytest.raises(TimeoutError):
            list(Endpoint(url, "big").stream(TURNS, 5, seconds=0.3))


def test_whoever_stops_reading_waits_for_nothing_more():
    def write(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(HEAD + b"\r\n" + event("It is"))
        drip(connection, over, endlessly(b": ping\n\n"))

    with serving(write) as url:
        began, pieces = time.monotonic(), Endpoint(url, "big").stream(TURNS, 5)
        assert next(pieces).text == "It is"
        pieces.close()
        assert time.monotonic() - began < 3


@pytest.mark.parametrize("text", ["x", "word " * 100])
def test_a_text_beyond_its_tokens_is_left_there(text):
    def write(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(HEAD + b"\r\n")
        while not over.is_set():
            connection.sendall(event(text) * 100)

    async def gathered(endpoint: Endpoint) -> list:
        async with httpx2.AsyncClient() as client:
            return [piece async for piece in endpoint.astream(client, TURNS, 10)]

    for read in (lambda one: list(one.stream(TURNS, 10)), lambda one: asyncio.run(gathered(one))):
        with serving(write) as url:
            pieces = read(Endpoint(url, "big"))
        assert len("".join(piece.text for piece in pieces)) == 10 * CHARACTERS_PER_TOKEN
        assert pieces[-1].finish == "length"


def test_a_compressed_answer_is_refused_before_it_is_unpacked():
    packed = gzip.compress(event("x" * 100_000_000))

    def write(connection: socket.socket, _: threading.Event) -> None:
        connection.sendall(HEAD + b"Content-Encoding: gzip\r\n\r\n" + packed)

    with serving(write) as url:
        with pytest.raises(EndpointError, match="compressed"):
            list(Endpoint(url, "big").stream(TURNS, 5))
