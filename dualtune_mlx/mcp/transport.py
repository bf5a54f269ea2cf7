"""What carries messages to a server and back: its process (``process.py``) or HTTP (``web.py``)."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol


class Transport(Protocol):
    """Carries messages to a server and back."""

    fault: str
    """What the transport saw of a failure; "" where it saw nothing."""
    session_unknown: bool
    """Whether the server no longer knows the session."""

    def open(self) -> AbstractAsyncContextManager[Any]:
        """Connect; the streams of messages."""
        ...

    def last_words(self) -> str:
        """What the server said before it failed, without secrets."""
        ...
