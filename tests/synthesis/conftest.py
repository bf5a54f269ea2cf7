"""The ports of ``tests/mcp``."""

from tests.mcp.conftest import free_port

__all__ = ["free_port"]
