"""What is kept of the requests that are made: filtered, each only once, balanced over the tools."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dualtune_mlx.synthesis.filters import NearDuplicates
from dualtune_mlx.synthesis.worded_requests import WordedRequest
from dualtune_mlx.tools import Tool, find_called_tool
from dualtune_mlx.tools.labels import label_tools

UNSERVED, SEVERAL = "no tool", "several tools"
"""The quotas of requests that no tool serves, and of requests with several calls."""


@dataclass(frozen=True)
class Outcome:
    """A request that was made, and why it is left out."""

    request: WordedRequest
    reason: str = ""
    """Which filter rejects it; "" where none does."""
    detail: str = ""
    """What is wrong with it."""


def share_out(requests: int, tools: Sequence[Tool], several: float, unserved: float) -> dict[str, int]:
    """How many requests each tool gets: all the same number, and what is left over goes to the first ones.

    Args:
        requests: how many requests there are to be.
        tools: all tools.
        several: the share of requests for several tools, where there are several.
        unserved: the share of requests that no tool serves.

    Returns:
        The numbers by the tools' labels, and those of ``SEVERAL`` and ``UNSERVED``.
    """
    of_several = round(requests * several) if len(tools) > 1 else 0
    without = round(requests * unserved)
    each, over = divmod(requests - of_several - without, len(tools))
    quotas = {label: each + (number < over) for number, label in enumerate(label_tools(tools))}
    return {**quotas, SEVERAL: of_several, UNSERVED: without}


class Selection:
    """The requests that are kept, those that are rejected, and how many of each tool are still missing.

    Args:
        tools: all tools.
        quotas: how many requests are wanted of each tool, by label, and of ``UNSERVED`` and ``SEVERAL``.
        duplicates: what was kept, also by others.
    """

    def __init__(self, tools: Sequence[Tool], quotas: Mapping[str, int], duplicates: NearDuplicates) -> None:
        self._tools, self._duplicates = tools, duplicates
        self.labels = [*label_tools(tools)]
        """The tools' labels, in the order of the tools."""
        self.quotas = dict(quotas)
        self.kept: list[WordedRequest] = []
        self.rejected: list[Outcome] = []
        self.counts: Counter[str] = Counter()
        """How many requests are kept of each quota."""

    @property
    def missing(self) -> dict[str, int]:
        """How many requests are missing of each quota."""
        return {name: quota - self.counts[name] for name, quota in self.quotas.items()}

    def wants(self, request: WordedRequest) -> bool:
        """Whether the quota of a request is not full."""
        name = self.name_quota(request)
        return self.counts[name] < self.quotas.get(name, 0)

    def take(self, outcome: Outcome) -> Outcome:
        """Keep a request, unless it was rejected, or nearly is one that was kept."""
        if not outcome.reason and (detail := self._duplicates.keep(outcome.request)):
            outcome = Outcome(outcome.request, "duplicate", detail)
        if outcome.reason:
            self.rejected.append(outcome)
        else:
            self.kept.append(outcome.request)
            self.counts[self.name_quota(outcome.request)] += 1
        return outcome

    def name_quota(self, request: WordedRequest) -> str:
        """The quota that a request belongs to."""
        if len(request.calls) != 1:
            return SEVERAL if request.calls else UNSERVED
        return self.labels[self._tools.index(find_called_tool(request.calls[0], self._tools))]


def rejected_line(outcome: Outcome) -> dict[str, Any]:
    """A line of ``rejected.jsonl``. What a secret stands in is left out."""
    line = outcome.request.to_line()
    if outcome.reason == "secret":
        line["messages"] = [{"role": "user", "content": f"(left out: {outcome.detail})"}]
    return {"line": line, "reason": outcome.reason, "detail": outcome.detail}
