"""Filters: what keeps a request out of the data, one small function for each reason.

A filter is asked about one request and answers with what is wrong, or "". ``FILTERS`` is their order.
``NearDuplicates`` is asked last, because it remembers the requests that were kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from dualtune_mlx.synthesis.filters.calls import explain_invalid, explain_unwritable_calls
from dualtune_mlx.synthesis.filters.duplicates import NearDuplicates
from dualtune_mlx.synthesis.filters.private import explain_private
from dualtune_mlx.synthesis.filters.wording import explain_wording
from dualtune_mlx.synthesis.worded_requests import WordedRequest
from dualtune_mlx.tools import Tool

Filter = Callable[[WordedRequest, Sequence[Tool]], str]
"""Takes a request and all tools; gives what is wrong with the request, or ""."""
FILTERS: Mapping[str, Filter] = {
    "schema": explain_invalid,
    "unwritable": explain_unwritable_calls,
    "style": explain_wording,
    "secret": explain_private,
}
"""The filters by the reason that they give, in order."""


def find_rejection(request: WordedRequest, tools: Sequence[Tool]) -> tuple[str, str]:
    """The first reason in ``FILTERS`` to leave a request out, with its detail; two empty texts where there is none.

    Args:
        request: the request with its calls.
        tools: all tools that there are.
    """
    for reason, explain in FILTERS.items():
        if detail := explain(request, tools):
            return reason, detail
    return "", ""


__all__ = ["FILTERS", "Filter", "NearDuplicates", "find_rejection"]
