"""Which string parameters the training data always copied from the conversation, and why others are not among them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from dualtune_mlx.data.decisions import Decision
from dualtune_mlx.decoding.grounding import Grounding, tool_key
from dualtune_mlx.decoding.places import free_strings, list_types
from dualtune_mlx.decoding.spans import find_strings, is_span
from dualtune_mlx.tools import Tool, find_called_tool
from dualtune_mlx.tools.parameters import list_parameters

MIN_EXAMPLES = 8
"""How many copied values a parameter needs."""
MAX_CONSTANTS = 3
SLIPS = 0.01
"""Which share of a parameter's values may be neither a copy nor a constant."""
LISTED = frozenset(("enum", "const"))
NOT_FREE = "its schema asks for a form or has a $ref"

Ungrounded = Mapping[str, Mapping[str, str]]
"""For each tool ("server/name"), the string parameters that are not held to the conversation, each with the reason."""


@dataclass
class Copies:
    """The values of one string parameter in the data."""

    copied: int = 0
    """How many stand in the conversation."""
    others: Counter[str] = field(default_factory=Counter)
    """The values that do not, with how often each came."""

    @property
    def constants(self) -> tuple[str, ...]:
        """The values that came again and again without standing in the conversation."""
        return tuple(sorted(value for value, times in self.others.items() if times > 1))

    @property
    def objection(self) -> str:
        """Why the parameter is not grounded; "" where it is."""
        uncopied = self.others.total()
        if self.copied + uncopied < MIN_EXAMPLES:
            return f"{self.copied + uncopied} of the {MIN_EXAMPLES} examples that it takes"
        slips = len(self.others) - len(self.constants)
        if self.copied < MIN_EXAMPLES or len(self.constants) > MAX_CONSTANTS or slips > SLIPS * self.copied:
            return f"{uncopied} of {self.copied + uncopied} values are not copied"
        return ""


@dataclass(frozen=True)
class CopyReport:
    """What the data says of the string parameters of some tools."""

    grounding: Grounding = field(default_factory=dict)
    """The parameters that are held to the conversation, with their constants."""
    ungrounded: Ungrounded = field(default_factory=dict)
    """Those that are not, and why."""


def learn_grounding(decisions: Iterable[Decision]) -> dict[str, dict[str, tuple[str, ...]]]:
    """Find the parameters that the data always copies from the conversation, and their constants.

    Raises:
        DataError: when a call is of none of its decision's tools, or of several.
    """
    return _find_grounded(_count_copies(decisions))


def report_copies(decisions: Iterable[Decision], tools: Iterable[Tool]) -> CopyReport:
    """Say of each string parameter of some tools whether the data always copies it, and if not, why it is not held.

    A parameter whose values the schema lists is left out.

    Raises:
        DataError: as ``learn_grounding`` does.
        ToolError: when a tool's schema is not a valid JSON Schema.
    """
    counted, ungrounded = _count_copies(decisions), dict[str, dict[str, str]]()
    for tool in tools:
        name, free = tool_key(tool), set(free_strings(tool))
        reasons = {
            path: counted.get((name, path), Copies()).objection if path in free else NOT_FREE
            for path in _string_paths(tool)
        }
        if found := {path: reason for path, reason in reasons.items() if reason}:
            ungrounded[name] = found
    return CopyReport(_find_grounded(counted), ungrounded)


def find_slips(decision: Decision, grounding: Grounding) -> list[str]:
    """The paths of grounded values of a call that are neither copies nor constants: decoding will not write them."""
    if decision.call.is_respond or not grounding:
        return []
    tool = find_called_tool(decision.call, decision.tools)
    parameters = grounding.get(tool_key(tool), {})
    return [
        path
        for path, value in find_strings(decision.call.arguments)
        if path in parameters and value not in parameters[path] and not is_span(value, decision.messages)
    ]


def _count_copies(decisions: Iterable[Decision]) -> dict[tuple[str, str], Copies]:
    counted: defaultdict[tuple[str, str], Copies] = defaultdict(Copies)
    for decision in decisions:
        if decision.call.is_respond:
            continue
        tool = find_called_tool(decision.call, decision.tools)
        for path, value in find_strings(decision.call.arguments):
            copies = counted[tool_key(tool), path]
            if is_span(value, decision.messages):
                copies.copied += 1
            else:
                copies.others[value] += 1
    return counted


def _find_grounded(counted: Mapping[tuple[str, str], Copies]) -> dict[str, dict[str, tuple[str, ...]]]:
    grounding: defaultdict[str, dict[str, tuple[str, ...]]] = defaultdict(dict)
    for (tool, path), copies in counted.items():
        if not copies.objection:
            grounding[tool][path] = copies.constants
    return dict(grounding)


def _string_paths(tool: Tool) -> list[str]:
    """The parameters of a tool that may be strings of any value."""
    return list(
        dict.fromkeys(
            parameter.path
            for parameter in list_parameters(tool)
            if any("string" in list_types(one) and LISTED.isdisjoint(one) for one in parameter.alternatives)
        )
    )
