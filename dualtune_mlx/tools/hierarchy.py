"""The hierarchy of tools: servers, groups of tools inside a server that is large or was given some, tools.

It is static: it follows from the tools alone, so every choice in it has a prefix of its own that never changes.
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
"""When servers and groups of tools are chosen before tools: as a bundle learned it, always, never."""
GROUP = 32
"""A server with more tools than this has groups, and a group with more has groups again."""
OTHER = "other tools"
WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


@dataclass(frozen=True)
class Node:
    """One choice: among tools, or among nodes that are choices again."""

    label: str
    choices: tuple[Tool, ...] | tuple[Node, ...]

    @property
    def tools(self) -> tuple[Tool, ...]:
        """All tools below."""
        return tuple(tool for one in self.choices for tool in (one.tools if isinstance(one, Node) else [one]))

    @property
    def cards(self) -> tuple[Tool, ...]:
        """What there is to choose among: the tools, or a card that names a node's tools."""
        return tuple(card_of(one) if isinstance(one, Node) else one for one in self.choices)

    def holding(self, tool: Tool) -> Node:
        """The node that the tool is chosen at; this one, where it is not among the tools."""
        return self.path(tool)[-1]

    def path(self, tool: Tool) -> tuple[Node, ...]:
        """From this node to the one that the tool is chosen at; this one alone, where it is not among the tools."""
        below = (one for one in self.choices if isinstance(one, Node) and tool in one.tools)
        return (self, *next((node.path(tool) for node in below), ()))

    @property
    def nodes(self) -> tuple[Node, ...]:
        """This one and all below that are asked about: a node with a single tool is that tool."""
        below = (one for one in self.choices if isinstance(one, Node) and len(one.tools) > 1)
        return (self, *(node for one in below for node in one.nodes))

    @property
    def routes(self) -> bool:
        """Whether another choice comes after this one."""
        return isinstance(self.choices[0], Node) if self.choices else False


def card_of(node: Node) -> Tool:
    """A node as a choice, which takes no arguments: its label, described by the names of its tools."""
    return Tool(node.label, f"Tools: {', '.join(tool.name for tool in node.tools)}.", {})


def hierarchy(tools: Iterable[Tool], group: int = GROUP) -> Node:
    """Servers first, where there are several; then the groups that a server's tools name, the others together.

    More than ``group`` tools, of a server without such groups or of one group, have groups by stems of names.
    """
    servers: dict[str, list[Tool]] = {}
    for tool in tools:
        servers.setdefault(tool.server, []).append(tool)
    if len(servers) < 2:
        return _server("", next(iter(servers.values()), []), group)
    return Node("", tuple(_server(server, listed, group) for server, listed in servers.items()))


def _server(label: str, tools: Sequence[Tool], group: int) -> Node:
    named: dict[str, list[Tool]] = {}
    for tool in tools:
        named.setdefault(tool.group or OTHER, []).append(tool)
    if len(named) < 2:
        return _node(label, tools, group)
    return Node(label, tuple(_node(name, listed, group) for name, listed in named.items()))


def _node(label: str, tools: Sequence[Tool], group: int) -> Node:
    if len(tools) <= group:
        return Node(label, tuple(tools))
    groups = _by_stem(tools)
    if not 1 < len(groups) <= group:
        groups = _by_count(tools, max(group, ceil(len(tools) / group)))
    return Node(label, tuple(_node(stem, listed, group) for stem, listed in groups.items()))


def _by_stem(tools: Sequence[Tool]) -> dict[str, list[Tool]]:
    """The tools by the first word of their names in which they differ; those that are alone in theirs together."""
    words = [WORDS.findall(tool.name) or [tool.name] for tool in tools]
    shared = len(list(takewhile(lambda column: len(set(column)) == 1, zip(*words, strict=False))))
    stems: dict[str, list[Tool]] = {}
    for tool, its_words in zip(tools, words, strict=True):
        stems.setdefault(" ".join(its_words[: shared + 1]).lower(), []).append(tool)
    groups: dict[str, list[Tool]] = {}
    for stem, listed in stems.items():
        groups.setdefault(f"{stem} tools" if len(listed) > 1 else OTHER, []).extend(listed)
    return groups


def _by_count(tools: Sequence[Tool], size: int) -> dict[str, list[Tool]]:
    """The tools in order of their names, so many at a time: names that have too little in common."""
    ordered = sorted(tools, key=lambda tool: tool.name)
    parts = [ordered[start : start + size] for start in range(0, len(ordered), size)]
    return {f"{part[0].name} to {part[-1].name}": part for part in parts}


Shares = Sequence[tuple[Tool | Node, float]]
"""Some choices of a node, ``respond`` among them, with their probabilities there."""


def search_tree(root: Node, top_k: int) -> Generator[Node, Shares, list[tuple[Tool, float]]]:
    """The ``top_k`` most probable tools; send it, for every node that it yields, the most probable choices there.

    Probabilities multiply along a path, and the most probable path goes first, so a choice that was not clear is
    taken back as soon as another branch is the more probable one. What is found is exact, as far as the choices
    that were sent go. ``respond`` stands at every node: its probability is that of all nodes that were asked.
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
                heapq.heappush(queue, (cost * share, next(order), _followed(choice)))
    if responds:  # with what later nodes have added
        found.append((RESPOND, respond))
    return sorted(found, key=lambda pair: -pair[1])


def _followed(choice: Tool | Node) -> Tool | Node:
    """Where a choice leads: a node with a single tool is that tool."""
    return choice.tools[0] if isinstance(choice, Node) and len(choice.tools) == 1 else choice
