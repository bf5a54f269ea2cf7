"""Filters: what keeps a request out of the data, one small function for each reason.

A filter is asked about one request and answers with what is wrong, or "". ``FILTERS`` is their order.
``NearDuplicates`` is asked last, because it remembers the requests that were kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dualtune_mlx.synthesis.filters.calls import explain_invalid, explain_unwritable_calls
from dualtune_mlx.synthesis.filters.duplicates import NearDuplicates
from dualtune_mlx.synthesis.filters.language import ENGLISH, explain_language
from dualtune_mlx.synthesis.filters.private import explain_private
from dualtune_mlx.synthesis.filters.said import explain_unsaid
from dualtune_mlx.synthesis.filters.wording import explain_wording
from dualtune_mlx.synthesis.worded_requests import WordedRequest
from dualtune_mlx.tools import Tool

Filter = Callable[[WordedRequest, Sequence[Tool], str], str]
"""Takes a request, all tools and the language of requests; gives what is wrong with the request, or ""."""
FILTERS: tuple[tuple[str, Filter], ...] = (
    ("schema", explain_invalid),
    ("unwritable", explain_unwritable_calls),
    ("secret", explain_private),
    ("style", explain_wording),
    ("style", explain_language),
    ("unsaid", explain_unsaid),
)
"""The filters, each with the reason that it gives, in order."""


def find_rejection(request: WordedRequest, tools: Sequence[Tool], language: str = ENGLISH) -> tuple[str, str]:
    """The first reason in ``FILTERS`` to leave a request out, with its detail; two empty texts where there is none.

    Args:
        request: the request with its calls.
        tools: all tools that there are.
        language: the language that it should be in.
    """
    for reason, explain in FILTERS:
        if detail := explain(request, tools, language):
            return reason, detail
    return "", ""


__all__ = ["FILTERS", "Filter", "NearDuplicates", "find_rejection"]
