"""A chat model behind an OpenAI-compatible endpoint."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from math import inf
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from dualtune_mlx.addresses import is_confidential
from dualtune_mlx.chat.pieces import CHARACTERS_PER_TOKEN, ChatPiece
from dualtune_mlx.errors import ServerError, UsageError

if TYPE_CHECKING:
    import httpx2

LARGEST_EVENT = 2**20  # bytes
SECONDS = 60.0
"""How long an endpoint may say nothing."""


class EndpointError(ServerError):
    """An endpoint could not be reached, refused, or sent anything but a whole stream of chat completions."""

    status = 0
    """The HTTP status that it refused with; 0 where it did not."""
    retry_after = 0.0
    """The seconds that it asks to wait for; 0 where it does not."""


class Endpoint:
    """A model behind an OpenAI-compatible endpoint. The key is read when it is sent, and it is in no message.

    Args:
        url: the endpoint's address, up to ``/v1``.
        model: the model's name there.
        key: the environment variable that holds the key. Without it no key is sent.
        fix: what the user can do when the endpoint fails.

    Raises:
        UsageError: when it cannot be used: no such address, no model, no key, or a key without encryption.
    """

    def __init__(self, url: str, model: str, key: str = "", fix: str | None = None) -> None:
        parts = _split_address(url)
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or not _is_plain(model):
            expected = "the http(s) address of an OpenAI-compatible endpoint, and the name of a model there"
            raise UsageError("the chat model cannot be used", got=f"{url} {model!r}", expected=expected)
        if key and not is_confidential(parts):
            raise UsageError("a key is not sent without encryption", got=url, expected="https, or this machine")
        if key and not os.environ.get(key):
            expected = "an environment variable that holds it"
            raise UsageError("the chat model's key is not set", got=key, expected=expected)
        self.name, self._model, self._key, self._fix = f"{model} at {parts.hostname}", model, key, fix
        self._url = url.rstrip("/") + "/chat/completions"

    def stream(
        self, turns: Sequence[Mapping[str, str]], max_tokens: int, seconds: float = inf, **body: Any
    ) -> Generator[ChatPiece, None, None]:
        """``astream`` for code that is not asynchronous, over a connection of its own.

        Args:
            turns, max_tokens, body: as in ``astream``.
            seconds: the most time for the whole answer.

        Raises:
            EndpointError: as ``astream`` does.
            TimeoutError: when the time is over, whatever the endpoint sends meanwhile.
        """
        from anyio.from_thread import start_blocking_portal

        read = partial(self._read, turns, max_tokens, seconds, body)
        pieces = SimpleQueue[ChatPiece | None]()
        with start_blocking_portal(name="chat-endpoint") as portal:
            reading = portal.start_task_soon(read, pieces)
            reading.add_done_callback(lambda _: pieces.put(None))
            try:
                while (piece := pieces.get()) is not None:
                    yield piece
                reading.result()
            finally:
                reading.cancel()

    async def _read(
        self,
        turns: Sequence[Mapping[str, str]],
        max_tokens: int,
        seconds: float,
        body: Mapping[str, Any],
        pieces: SimpleQueue[ChatPiece | None],
    ) -> None:
        import httpx2

        async with asyncio.timeout(None if seconds == inf else seconds), httpx2.AsyncClient(timeout=SECONDS) as client:
            async for piece in self.astream(client, turns, max_tokens, **body):
                pieces.put(piece)

    async def astream(
        self, client: httpx2.AsyncClient, turns: Sequence[Mapping[str, str]], max_tokens: int, **body: Any
    ) -> AsyncGenerator[ChatPiece, None]:
        """Ask the endpoint to write what follows in a conversation.

        Args:
            client: gives the connections; its time-outs hold.
            turns: ``{"role", "content"}`` of each message.
            max_tokens: the most tokens that it is asked to write. A text that goes on far beyond is left there, and
                ends by ``length``.
            body: more of the request's body, such as ``temperature``.

        Raises:
            EndpointError: when it fails, or the stream ends before the text does.
        """
        import httpx2

        with self._explained():
            async with client.stream(**self._request(turns, max_tokens, body)) as answer:
                self._check(answer)
                reading = _Reading(self, max_tokens * CHARACTERS_PER_TOKEN)
                async for event in httpx2.EventSource(answer, max_event_size=LARGEST_EVENT):
                    for piece in reading.read(event.data):
                        yield piece
                    if not reading.room:
                        return
                reading.check_whole()

    def failure(self, got: str, status: int = 0, retry_after: float = 0.0) -> EndpointError:
        """The error for what the endpoint did, in our words alone: its own may hold anything."""
        error = EndpointError(
            "the chat model's endpoint failed",
            where=self.name,
            got=got,
            expected="a stream of chat completions",
            fix=self._fix,
        )
        error.status, error.retry_after = status, retry_after
        return error

    def _request(self, turns: Sequence[Mapping[str, str]], max_tokens: int, body: Mapping[str, Any]) -> dict[str, Any]:
        json = {"model": self._model, "messages": list(turns), "max_tokens": max_tokens, "stream": True, **body}
        headers = {"Accept-Encoding": "identity"}  # a few compressed bytes may become any number
        if self._key:
            headers["Authorization"] = f"Bearer {os.environ[self._key]}"
        return {"method": "POST", "url": self._url, "json": json, "headers": headers}

    def _check(self, answer: httpx2.Response) -> None:
        if answer.status_code != 200:
            wait = read_retry_after(answer.headers.get("retry-after", ""))
            raise self.failure(f"status {answer.status_code}", answer.status_code, wait)
        if not answer.headers.get("content-type", "").lower().startswith("text/event-stream"):
            raise self.failure("no stream of events")
        if answer.headers.get("content-encoding", "identity").lower() != "identity":
            raise self.failure("a compressed stream, which was not asked for")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        import httpx2

        try:
            yield
        except httpx2.SSEError as error:
            raise self.failure(f"too long an event: more than {LARGEST_EVENT:,} bytes") from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise self.failure(type(error).__name__) from error


class _Reading:
    """Reads the events of one stream, up to so many characters of its text."""

    def __init__(self, endpoint: Endpoint, most: int) -> None:
        self._endpoint, self.room = endpoint, most
        self._is_empty, self._is_whole = True, False

    def read(self, data: str) -> Iterator[ChatPiece]:
        """The piece of an event; none where it has nothing to say."""
        self._is_empty = False
        if data == "[DONE]":
            self._is_whole = True
            return
        try:
            piece = _parse_piece(json.loads(data))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise self._endpoint.failure("an event that is not a chat completion") from error
        self._is_whole |= bool(piece.finish)
        if len(piece.text) >= self.room:
            piece = replace(piece, text=piece.text[: self.room], finish=piece.finish or "length")
        self.room -= len(piece.text)
        if piece != ChatPiece():
            yield piece

    def check_whole(self) -> None:
        """Check, at the end of the stream, that the text has ended, too."""
        if not self._is_whole:
            raise self._endpoint.failure("no event" if self._is_empty else "a stream that ends before the text does")


def _parse_piece(event: Any) -> ChatPiece:
    choices, usage = event["choices"], event.get("usage") or {}
    text = choices[0]["delta"].get("content") if choices else None
    finish = choices[0].get("finish_reason") if choices else None
    read, wrote = usage.get("prompt_tokens"), usage.get("completion_tokens")
    tokens = (read, wrote) if isinstance(read, int) and isinstance(wrote, int) and min(read, wrote) >= 0 else None
    text = text if isinstance(text, str) else ""
    whole = text.encode(errors="replace").decode()  # half of a surrogate pair is no character
    return ChatPiece(whole, str(finish or ""), tokens)


def _split_address(url: str) -> SplitResult | None:
    """The parts of an address; None where it is none."""
    try:
        parts = urlsplit(url)
        return parts if _is_plain(url) and parts.port != 0 else None
    except ValueError:
        return None


def _is_plain(text: str) -> bool:
    return bool(text) and text.isprintable()


def read_retry_after(value: str) -> float:
    """The seconds that a ``Retry-After`` header asks to wait for; 0 where it is empty or neither number nor date."""
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    return max(0.0, (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
