"""Warnings about the balance of training data: tools that are hardly called, arguments always or never given."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from dualtune_mlx.data.checking.counts import Counts
from dualtune_mlx.data.checking.kinds import Finding
from dualtune_mlx.tools import RESPOND

ENOUGH = 20
"""Calls of a tool from which on what they have in common is no accident."""
RARE = 0.2
"""The share of the mean calls of a tool below which a tool is rare."""


def find_imbalance(counts: Counts, file: str) -> Iterator[Finding]:
    """Find what the counts of a training file lack."""
    yield from _find_rare(counts, file)
    given: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for (tool, name), count in sorted(counts.optional.items()):
        calls = counts.tools[tool]
        if calls >= ENOUGH and count in (0, calls):
            given[tool, "always" if count else "never"].append(name)
    for (tool, when), names in given.items():
        what = f"{tool}: in {counts.tools[tool]:,} calls {when} given: {', '.join(names)}"
        fix = "write requests that say it, and some that do not"
        yield Finding(file, 0, "optional_argument", what, fix)


def _find_rare(counts: Counts, file: str) -> Iterator[Finding]:
    calls = {tool: count for tool, count in counts.tools.items() if tool != RESPOND.name}
    mean = sum(calls.values()) / len(calls) if calls else 0
    if mean * len(calls) < ENOUGH:
        return
    for tool, count in sorted(calls.items()):
        if count < RARE * mean:
            what = f"{tool} is called {count:,} times, a tool on average {mean:,.0f} times"
            yield Finding(file, 0, "rare_tool", what, "write requests for it, or take it out of the tools")
