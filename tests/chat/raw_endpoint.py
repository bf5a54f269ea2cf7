"""An endpoint over a bare socket: it sends what it is told, at its own pace."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n"
DONE = b"data: [DONE]\n\n"


def event(text: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {"content": text}}]}).encode() + b"\n\n"


@contextmanager
def serving(write: Callable[[socket.socket, threading.Event], None]) -> Iterator[str]:
    """The address of an endpoint whose answer is what ``write`` sends, until its event says that it is over."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                connection, _ = server.accept()
                with connection:
                    connection.recv(65_536)
                    write(connection, over)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        over.set()
    thread.join()


def drip(connection: socket.socket, over: threading.Event, drops: Iterator[bytes]) -> None:
    while not over.wait(0.02):
        connection.sendall(next(drops))


def endlessly(text: bytes) -> Iterator[bytes]:
    while True:
        yield text


def byte_by_byte(text: bytes) -> Iterator[bytes]:
    while True:
        yield from (bytes([one]) for one in text)
