"""The fake servers of ``tests/mcp``."""

from tests.mcp.conftest import anyio_backend, free_port, is_alive, server

__all__ = ["anyio_backend", "free_port", "is_alive", "server"]
