"""The fake servers of ``tests/mcp``."""

from tests.mcp.conftest import anyio_backend, free_port, server

__all__ = ["anyio_backend", "free_port", "server"]
