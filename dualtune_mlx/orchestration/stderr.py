"""What a server wrote on its standard error, without the secrets it was given."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

LINES = 10
CHARACTERS = 2_000
READ = 65_536  # bytes: far more than is shown, so that no secret is cut in half before it is redacted


def tail(log: Path, env: Mapping[str, str]) -> str:
    """The last lines of the log, redacted; "" when there are none."""
    if not log.exists():  # the toolbox is closed and its logs are gone
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - READ))
        text = file.read().decode(errors="replace")
    lines = redacted(text, env).strip().splitlines()[-LINES:]
    return "\n".join(lines)[-CHARACTERS:]


def redacted(text: str, env: Mapping[str, str]) -> str:
    """The text with every value of ``env`` replaced by its name."""
    for name, value in sorted(env.items(), key=lambda item: -len(item[1])):  # the longest first: one may hold another
        if value:
            text = text.replace(value, f"<{name}>")
    return text
