"""Addresses on the network."""

from __future__ import annotations

from urllib.parse import SplitResult

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


def is_confidential(address: SplitResult) -> bool:
    """Whether nobody on the way can read what is sent: it is encrypted, or it stays on this machine."""
    return address.scheme == "https" or address.hostname in LOCAL_HOSTS
