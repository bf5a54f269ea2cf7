"""Where a teacher is: behind an endpoint, or on this machine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

from dualtune_mlx.chat import ChatPiece, Endpoint, LocalChat
from dualtune_mlx.errors import UsageError

if TYPE_CHECKING:
    import httpx2

KEY = "DUALTUNE_TEACHER_KEY"
"""The environment variable that is read for a key when no other is named."""
FIX = "check --teacher, --teacher-model and --teacher-key, and that the endpoint is up"
Turns = Sequence[Mapping[str, str]]


class Backend(Protocol):
    """Writes texts for a teacher."""

    name: str
    most_in_flight: int
    """How many requests it takes at once."""

    def open(self, in_flight: int, seconds: float) -> AbstractAsyncContextManager[Any]:
        """Connections for so many requests at once, each with so many seconds to be silent."""
        ...

    def stream(
        self, connections: Any, turns: Turns, max_tokens: int, temperature: float
    ) -> AsyncGenerator[ChatPiece, None]:
        """Write what follows in a conversation, piece by piece."""
        ...


def open_backend(teacher: str, model: str = "", key: str = "") -> Backend:
    """Find the teacher that a name means.

    Args:
        teacher: the address of an OpenAI-compatible endpoint, or a local model: a folder, a hub id, or the embedded
            model's name.
        model: the model's name at the endpoint.
        key: the environment variable that holds the endpoint's key. Without it ``DUALTUNE_TEACHER_KEY`` is read where
            it is set.

    Raises:
        UsageError: when it cannot be used, or a local model is given a name or a key.
        ModelError: when a local model cannot be loaded, or has no chat template.
    """
    if "://" in teacher:
        return EndpointBackend(Endpoint(teacher, model, key or (KEY if os.environ.get(KEY) else ""), FIX))
    if model or key:
        raise UsageError("a local teacher has neither name nor key", got=teacher, expected="an URL, or no such option")
    return LocalBackend(LocalChat(teacher))


class EndpointBackend:
    """A teacher behind an endpoint."""

    most_in_flight = 256

    def __init__(self, endpoint: Endpoint) -> None:
        self.name, self._endpoint = endpoint.name, endpoint

    def open(self, in_flight: int, seconds: float) -> AbstractAsyncContextManager[Any]:
        """A client with a connection for each request."""
        import httpx2

        return httpx2.AsyncClient(timeout=seconds, limits=httpx2.Limits(max_connections=in_flight))

    def stream(
        self, connections: httpx2.AsyncClient, turns: Turns, max_tokens: int, temperature: float
    ) -> AsyncGenerator[ChatPiece, None]:
        """Ask the endpoint. A temperature of 0 is not sent: some models know no other than their own."""
        warm = {"temperature": temperature} if temperature else {}
        counted = {"stream_options": {"include_usage": True}}
        return self._endpoint.astream(connections, turns, max_tokens, **warm, **counted)


class LocalBackend:
    """A teacher on this machine."""

    most_in_flight = 1

    def __init__(self, chat: LocalChat) -> None:
        self.name, self._chat = chat.name, chat

    def open(self, in_flight: int, seconds: float) -> AbstractAsyncContextManager[Any]:
        """No connection is needed."""
        return nullcontext()

    async def stream(
        self, connections: None, turns: Turns, max_tokens: int, temperature: float
    ) -> AsyncGenerator[ChatPiece, None]:
        """Write; between two pieces the work can be stopped."""
        for piece in self._chat.stream(turns, max_tokens, temperature):
            yield piece
            await asyncio.sleep(0)


async def write_text(pieces: AsyncGenerator[ChatPiece, None], most: int) -> tuple[str, str, tuple[int, int] | None]:
    """The text of a stream, why it ends, and its tokens where they are counted.

    A text that goes on beyond the most characters that it may have is left there; then it ends by ``length``.
    """
    text, finish, tokens = "", "", None
    async with aclosing(pieces):
        async for piece in pieces:
            text += piece.text
            finish, tokens = piece.finish or finish, piece.tokens or tokens
            if len(text) > most:
                return text[:most], "length", tokens
    return text, finish or "stop", tokens
