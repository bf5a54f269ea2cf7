"""The blocks of code in README, CONTRIBUTING and docs/."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
FENCE = re.compile(
    r"(?:^<!-- not run:(?P<reason>.*?)-->\n)?"
    r"^```(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<code>.*?)^```$",
    flags=re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block: its page and line, its language, the file that it is (``title``), why it is not run, if so."""

    page: str
    line: int
    language: str
    code: str
    title: str | None = None
    reason: str | None = None

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """The lines of a shell block, continued ones as one."""
        return [line for line in self.code.replace("\\\n", " ").splitlines() if line.strip()]


def blocks_of(path: Path) -> Iterator[Block]:
    text = path.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        line = text.count("\n", 0, found.start("code"))
        reason = found["reason"]
        name = str(path.relative_to(ROOT))
        yield Block(name, line, found["language"], found["code"], found["title"], reason and reason.strip())


BLOCKS = [block for path in PAGES for block in blocks_of(path)]
