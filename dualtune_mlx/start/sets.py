"""Small random sets of tools with requests, so that no tool is learned by heart and its card has to be read."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from dualtune_mlx.start.domain import Domain, LabelledRequest, requests_by_tool
from dualtune_mlx.start.renaming import Renaming, draw_renaming
from dualtune_mlx.start.swapping import ValuePool
from dualtune_mlx.synthesis.worded_requests import ANSWER
from dualtune_mlx.tools import Message, Tool, ToolCall, Trajectory

WEIGHTS: Mapping[str, float] = {
    "corpus": 20,
    "wordings": 2,
    "seal_tools": 2,
    "bfcl": 1.5,
    "meta_tool": 2,
    "clinc": 2,
}
"""How often a set's tools are from a source, in relation to each other."""
SAID: Mapping[str, float] = {"corpus": 6, "wordings": 6, "seal_tools": 3, "bfcl": 5, "meta_tool": 2, "clinc": 2}
"""Most of all sources whose requests say what the tools' names say."""
NEAR = ("corpus", "clinc")
"""Sources whose tools do different things, so that no other tool serves a request whose tool is not there."""
SIZES = (3, 9)
"""Tools of a set, at least and at most."""
AGAIN = 2
"""How often a request may come in one set; with arguments, its values differ then."""
RESPOND_SHARE = 0.14
"""Share of the requests that no tool of their set serves."""


@dataclass(frozen=True)
class SetOptions:
    """What sets are drawn."""

    requests: int = 12
    """Requests of a set; fewer where its tools have not half as many."""
    sizes: tuple[int, int] = SIZES
    """Tools of a set, at least and at most."""
    respond: float = RESPOND_SHARE
    """Share of the requests that no tool of their set serves."""
    weights: Mapping[str, float] = field(default_factory=lambda: WEIGHTS)
    """How often tools are from a source."""
    mixed: float = 0.4
    """Share of the sets whose tools are of many domains, so that they are easily told apart."""
    masked: float = 0.15
    """Share of the sets whose names say nothing."""
    with_arguments: bool = False
    """Whether only requests are drawn whose arguments are known."""


class SetSampler:
    """Draws sets of tools with requests, without end. Of each tool, every request comes before any comes again."""

    def __init__(self, domains: Sequence[Domain], options: SetOptions, seed: int) -> None:
        self.options, self._rng = options, random.Random(seed)
        self._asked = {id(domain): _asked(domain, options.with_arguments) for domain in domains}
        self.domains = [domain for domain in domains if set(self._asked[id(domain)]) - {""}]
        self._decks: dict[int, list[LabelledRequest]] = {}
        nothing = [domain for domain in domains if not domain.tools]
        self._pool = ValuePool(domains) if options.with_arguments else None
        self._unserved = [request for domain in nothing for request in domain.requests]
        tools = Counter(domain.source for domain in self.domains for _ in self._asked[id(domain)])
        self._weights = [
            options.weights[domain.source] * len(self._asked[id(domain)]) / tools[domain.source]
            for domain in self.domains
        ]

    def draw(self) -> list[Trajectory]:
        """The requests of one set, each with the set's tools."""
        rng, options = self._rng, self.options
        main = rng.choices(self.domains, self._weights)[0]
        count = rng.randint(*options.sizes)
        tools = self._tools(main, count, 1 if rng.random() < options.mixed else count)
        renaming = draw_renaming([tool for _, tool in tools.values()], rng, options.masked)
        asked = sum(len(self._asked[id(domain)].get(name, ())) for name, (domain, _) in tools.items())
        made = []
        for _ in range(min(options.requests, AGAIN * asked)):
            request = self._unserved_request(main, tools) if rng.random() < options.respond else None
            made.append(make_trajectory(request or self._served_request(main, tools), renaming))
        return made

    def _tools(self, main: Domain, count: int, own: int) -> dict[str, tuple[Domain, Tool]]:
        """The tools of a set by name, up to ``own`` of the main domain; those with requests come before others."""
        rng = self._rng
        asked = self._asked[id(main)]
        with_requests = [tool for tool in main.tools if tool.name in asked]
        others = [tool for tool in main.tools if tool.name not in asked]
        first = rng.sample(with_requests, min(len(with_requests), own))
        first += rng.sample(others, min(len(others), own - len(first)))
        chosen = {tool.name: (main, tool) for tool in first}
        for _ in range(50 * count):
            if len(chosen) >= count:
                break
            domain = rng.choices(self.domains, self._weights)[0]
            name = rng.choice([name for name in self._asked[id(domain)] if name])
            chosen.setdefault(name, (domain, next(tool for tool in domain.tools if tool.name == name)))
        order = list(chosen.items())
        rng.shuffle(order)
        return dict(order)

    def _served_request(self, main: Domain, tools: Mapping[str, tuple[Domain, Tool]]) -> LabelledRequest:
        answerable = [(domain, name) for name, (domain, _) in tools.items() if name in self._asked[id(domain)]]
        domain, name = self._rng.choice(answerable)
        request = self._next(domain, name)
        return self._pool.swap(request, tools[name][1], self._rng) if self._pool else request

    def _unserved_request(self, main: Domain, tools: Mapping[str, tuple[Domain, Tool]]) -> LabelledRequest | None:
        """A request of the main domain for a tool that is not there, or for none; or one of another domain."""
        rng, asked = self._rng, self._asked[id(main)]
        absent = [name for name in asked if name and name not in tools]
        others = [domain for domain, _ in tools.values() if domain is not main]
        kind = rng.random()
        if kind < 0.35 and "" in asked and not others:
            return _without_call(self._next(main, ""))
        if kind < 0.55 and absent and not others and main.source in NEAR:
            return _without_call(self._next(main, rng.choice(absent)))
        if kind < 0.75:
            domain = rng.choices(self.domains, self._weights)[0]
            if domain is main or domain in others or domain.source not in NEAR:
                return None
            return _without_call(self._next(domain, rng.choice(list(self._asked[id(domain)]))))
        return _without_call(rng.choice(self._unserved)) if self._unserved else None

    def _next(self, domain: Domain, name: str) -> LabelledRequest:
        found = self._asked[id(domain)][name]
        deck = self._decks.setdefault(id(found), [])
        if not deck:
            deck += self._rng.sample(found, len(found))
        return deck.pop()


def make_trajectory(request: LabelledRequest, renaming: Renaming) -> Trajectory:
    """The request and its call, under the new names of the tools."""
    if request.tool:
        call = renaming.rename_call(ToolCall(request.tool, dict(request.arguments or {})))
        reply = Message("assistant", "", (call,))
    else:
        reply = Message("assistant", ANSWER)
    return Trajectory((Message("user", request.text), reply), renaming.tools, today=request.today)


def draw_lines(sampler: SetSampler, sets: int) -> str:
    """The requests of so many sets, as lines of a data file."""
    drawn = chain.from_iterable(sampler.draw() for _ in range(sets))
    return "".join(json.dumps(one.to_dict(), ensure_ascii=False) + "\n" for one in drawn)


def _asked(domain: Domain, with_arguments: bool) -> dict[str, list[LabelledRequest]]:
    usable = [one for one in domain.requests if not with_arguments or not one.tool or one.arguments is not None]
    grouped: Iterator[tuple[str, Sequence[LabelledRequest]]] = iter(
        requests_by_tool(Domain(domain.source, domain.name, domain.tools, tuple(usable))).items()
    )
    return {name: list(found) for name, found in grouped}


def _without_call(request: LabelledRequest) -> LabelledRequest:
    return LabelledRequest(request.text)
