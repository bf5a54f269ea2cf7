"""The hierarchy of tools: servers, groups of a server's tools, tools.

A server has groups where it is large, or where its tools name some. The hierarchy follows from the tools alone, so
every choice in it has a prefix of its own that never changes.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from itertools import count, takewhile
from math import ceil

from dualtune_mlx.tools import RESPOND, Tool

ROUTINGS = ("auto", "always", "never")
"""When servers and groups of tools are chosen before tools: where the bundle learned that, always, or never."""
GROUP_SIZE = 32
"""A server with more tools than this has groups, and a group with more tools has groups again."""
OTHER = "other tools"
"""The label of the tools that are in no group."""
WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


@dataclass(frozen=True)
class Node:
    """One choice: among tools, or among nodes with choices of their own."""

    label: str
    choices: tuple[Tool, ...] | tuple[Node, ...]

    @property
    def tools(self) -> tuple[Tool, ...]:
        """All tools below the node."""
        return tuple(tool for one in self.choices for tool in (one.tools if isinstance(one, Node) else [one]))

    @property
    def cards(self) -> tuple[Tool, ...]:
        """The choices as tools: a node among them is a pseudo-tool that names its tools."""
        return tuple(node_card(one) if isinstance(one, Node) else one for one in self.choices)

    def node_of(self, tool: Tool) -> Node:
        """The node that the tool is chosen at; this one, where it has no such tool."""
        return self.path(tool)[-1]

    def path(self, tool: Tool) -> tuple[Node, ...]:
        """The nodes from this one to the one that the tool is chosen at; this one alone, where it has no such tool."""
        below = (one for one in self.choices if isinstance(one, Node) and tool in one.tools)
        return (self, *next((node.path(tool) for node in below), ()))

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The node and all below it where there is a choice: a node with a single tool is that tool."""
        below = (one for one in self.choices if isinstance(one, Node) and len(one.tools) > 1)
        return (self, *(node for one in below for node in one.nodes))

    @property
    def routes(self) -> bool:
        """Whether the choices are nodes, so that another choice comes after this one."""
        return isinstance(self.choices[0], Node) if self.choices else False


def node_card(node: Node) -> Tool:
    """A node as a pseudo-tool without arguments: its label, described by the names of its tools."""
    return Tool(node.label, f"Tools: {', '.join(tool.name for tool in node.tools)}.", {})


def hierarchy(tools: Iterable[Tool], group: int = GROUP_SIZE) -> Node:
    """The hierarchy of some tools.

    Several servers are chosen among first, then the groups that a server's tools name; tools without a group are
    together in one. Where a server without groups, or a group, has more than ``group`` tools, they are grouped by the
    stems of their names.
    """
    servers: dict[str, list[Tool]] = {}
    for tool in tools:
        servers.setdefault(tool.server, []).append(tool)
    if len(servers) < 2:
        return _server_node("", next(iter(servers.values()), []), group)
    return Node("", tuple(_server_node(server, listed, group) for server, listed in servers.items()))


def _server_node(label: str, tools: Sequence[Tool], group: int) -> Node:
    named: dict[str, list[Tool]] = {}
    for tool in tools:
        named.setdefault(tool.group or OTHER, []).append(tool)
    if len(named) < 2:
        return _group_node(label, tools, group)
    return Node(label, tuple(_group_node(name, listed, group) for name, listed in named.items()))


def _group_node(label: str, tools: Sequence[Tool], group: int) -> Node:
    if len(tools) <= group:
        return Node(label, tuple(tools))
    groups = _group_by_stem(tools)
    if not 1 < len(groups) <= group:
        groups = _group_by_count(tools, max(group, ceil(len(tools) / group)))
    return Node(label, tuple(_group_node(stem, listed, group) for stem, listed in groups.items()))


def _group_by_stem(tools: Sequence[Tool]) -> dict[str, list[Tool]]:
    """Groups by the first word in which the names differ. Tools whose word no other tool has are together in one."""
    words = [WORDS.findall(tool.name) or [tool.name] for tool in tools]
    shared = len(list(takewhile(lambda column: len(set(column)) == 1, zip(*words, strict=False))))
    stems: dict[str, list[Tool]] = {}
    for tool, its_words in zip(tools, words, strict=True):
        stems.setdefault(" ".join(its_words[: shared + 1]).lower(), []).append(tool)
    groups: dict[str, list[Tool]] = {}
    for stem, listed in stems.items():
        groups.setdefault(f"{stem} tools" if len(listed) > 1 else OTHER, []).extend(listed)
    return groups


def _group_by_count(tools: Sequence[Tool], size: int) -> dict[str, list[Tool]]:
    """Groups of ``size`` tools in the order of their names: for names that have too little in common."""
    ordered = sorted(tools, key=lambda tool: tool.name)
    parts = [ordered[start : start + size] for start in range(0, len(ordered), size)]
    return {f"{part[0].name} to {part[-1].name}": part for part in parts}


Shares = Sequence[tuple[Tool | Node, float]]
"""Some choices of a node with their probabilities there; ``respond`` may be one of them."""


def search_tree(root: Node, top_k: int) -> Generator[Node, Shares, list[tuple[Tool, float]]]:
    """Find the ``top_k`` most probable tools, best first, with their probabilities.

    The generator yields the node to ask about next. It is sent the most probable choices there, and returns the tools.

    Probabilities multiply along a path, and the most probable path is followed first. So a choice that was not clear
    is taken back as soon as another branch is more probable. The result is exact as far as the choices that were sent
    go. ``respond`` is a choice of every node; its probability is the sum over all nodes that were asked about.
    """
    order = count()  # where paths are equally probable
    queue: list[tuple[float, int, Node | Tool]] = [(-1.0, next(order), root)]
    found: list[tuple[Tool, float]] = []
    respond, responds = 0.0, False
    while len(found) + responds < top_k:
        if respond and not responds and (not queue or respond >= -queue[0][0]):
            responds = True
            continue
        if not queue:
            break
        cost, _, one = heapq.heappop(queue)
        if isinstance(one, Tool):
            found.append((one, -cost))
            continue
        for choice, share in (yield one):
            if choice is RESPOND:
                respond += -cost * share
            else:
                heapq.heappush(queue, (cost * share, next(order), _skip_single(choice)))
    if responds:  # with what later nodes have added
        found.append((RESPOND, respond))
    return sorted(found, key=lambda pair: -pair[1])


def _skip_single(choice: Tool | Node) -> Tool | Node:
    """The choice itself; of a node with a single tool, that tool."""
    return choice.tools[0] if isinstance(choice, Node) and len(choice.tools) == 1 else choice
