"""Calls that decoding could never write: they are refused, for an adapter would learn what no call can say."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from dualtune_mlx.data.decisions import Decision
from dualtune_mlx.errors import DataError, count_of, inside
from dualtune_mlx.grammar import explain_unwritable
from dualtune_mlx.tools import find_called_tool

MOST_KINDS = 4
"""Kinds of unwritable calls that an error shows."""
MOST_PLACES = 40
"""Lines of each kind that it names."""


def check_writable(named: Iterable[tuple[str, Decision]]) -> None:
    """Check that the arguments of calls can be written under the grammars of their tools.

    Args:
        named: decisions, each with its name: the trajectory and the decision's number.

    Raises:
        DataError: with the tools and parameters whose values cannot be written, and the lines.
        ToolError: when the schema of a tool that is called cannot be enforced while decoding.
    """
    kinds: defaultdict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    calls = 0
    for name, decision in named:
        if decision.call.is_respond:
            continue
        calls += 1
        tool = find_called_tool(decision.call, decision.tools)
        with inside(name):
            reason = explain_unwritable(tool, decision.call.arguments)
        if reason:
            place = re.sub(r"\[\d+\]", "[]", reason.partition(":")[0])
            kinds[tool.full_name, place].append((name, reason))
    if kinds:
        shown = [
            f"{tool} at {found[0][1]} ({_list_places([name for name, _ in found])})"
            for (tool, _), found in list(kinds.items())[:MOST_KINDS]
        ]
        more = [f"and {count_of(len(kinds) - MOST_KINDS, 'more kind')}"] if len(kinds) > MOST_KINDS else []
        raise DataError(
            "the data has calls that decoding could never write, so they cannot be learned",
            where=next(iter(kinds.values()))[0][0],
            got="\n    ".join([f"{sum(map(len, kinds.values())):,} of {count_of(calls, 'call')}", *shown, *more]),
            expected="arguments that the grammar of their tool's schema allows, with no key that it does not declare",
            fix='mend the values or the schema, or let their messages be context alone: "weight": 0',
        )


def _list_places(names: list[str]) -> str:
    """The lines of decisions, file by file: ``train.jsonl:3, 17, 18 and 4 more``."""
    places = list(dict.fromkeys(name.partition(", decision ")[0] for name in names))
    files: defaultdict[str, list[str]] = defaultdict(list)
    for place in places[:MOST_PLACES]:
        file, _, line = place.rpartition(":")
        files[file].append(line)
    more = f" and {len(places) - MOST_PLACES:,} more" if len(places) > MOST_PLACES else ""
    return "; ".join(f"{file}:{', '.join(lines)}" if file else ", ".join(lines) for file, lines in files.items()) + more
