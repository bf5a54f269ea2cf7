"""A server over streamable HTTP: the SDK's transport, with our headers and a limit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from mcp.client.streamable_http import streamable_http_client

from dualtune_mlx.mcp.config import ServerConfig

CONNECT = 10.0  # seconds; how long an answer may take is for the call to say


class WebServer:
    """A server behind a URL. ``fault`` is the last HTTP error, which the SDK does not pass on."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self.fault = ""
        self.session_unknown = False

    def last_words(self) -> str:
        return ""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Any]:
        """The SDK's streams of messages.

        Raises:
            httpx2.HTTPError: in an exception group, when the server cannot be reached.
        """
        client = httpx2.AsyncClient(
            headers={"accept-encoding": "identity", **self._config.headers},  # the limit counts what is sent
            timeout=httpx2.Timeout(CONNECT, read=None),
            event_hooks={"response": [self._check_response]},
        )
        async with (
            client,
            streamable_http_client(
                self._config.url, http_client=client, max_sse_event_size=self._config.output_limit
            ) as streams,
        ):
            yield streams

    async def _check_response(self, response: httpx2.Response) -> None:
        status, request = response.status_code, response.request
        if request.method == "POST":  # many servers refuse the GET of a stream that they do not have
            self.fault = f"HTTP {status} {response.reason_phrase}" if status >= 400 else ""
            self.session_unknown |= status == 404 and "mcp-session-id" in request.headers
        if response.headers.get("content-encoding", "identity") != "identity":
            raise httpx2.DecodingError("the server compresses its answers unasked, which hides how long they are")
        if not response.headers.get("content-type", "").lower().startswith("text/event-stream"):
            assert isinstance(response.stream, httpx2.AsyncByteStream)
            response.stream = _LimitedStream(response.stream, self._config.output_limit)


class _LimitedStream(httpx2.AsyncByteStream):
    """A body that ends with an error when it is too long. (The SDK limits events, but no other bodies.)"""

    def __init__(self, body: httpx2.AsyncByteStream, limit: int) -> None:
        self._body = body
        self._limit = limit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._body:
            size += len(chunk)
            if size > self._limit:
                raise httpx2.StreamError(f"more than {self._limit:,} bytes in one answer")
            yield chunk

    async def aclose(self) -> None:
        await self._body.aclose()
