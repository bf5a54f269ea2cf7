"""A token stream with its spans, and where an adapter begins to act in it."""

from __future__ import annotations

from dataclasses import dataclass

from dualtune_mlx.errors import PromptError

ACTIVATIONS = ("invocation", "turn", "all")
MESSAGES = ("user", "assistant", "tool")
WRITES = {"router": "selector", "planner": "arguments"}
"""The spans of stages without one of their own: a router chooses as a selector does, a plan is a call's arguments."""


def span_of(stage: str) -> str:
    """The name of the span that a stage writes."""
    return WRITES.get(stage, stage)


@dataclass(frozen=True)
class Span:
    """A named half-open range of token positions; names may recur (one ``user`` span a message)."""

    name: str
    start: int
    end: int


@dataclass(frozen=True)
class TokenStream:
    """Token ids and the spans recorded while they were built."""

    tokens: tuple[int, ...] = ()
    spans: tuple[Span, ...] = ()

    def __len__(self) -> int:
        return len(self.tokens)

    def __add__(self, other: TokenStream) -> TokenStream:
        shift = len(self)
        moved = tuple(Span(span.name, span.start + shift, span.end + shift) for span in other.spans)
        return TokenStream(self.tokens + other.tokens, self.spans + moved)

    def last(self, *names: str) -> Span:
        """The last span with one of these names."""
        found = [span for span in self.spans if span.name in names]
        if not found:
            raise PromptError(
                "the template does not mark a span that is needed",
                got=", ".join(sorted({span.name for span in self.spans})) or "no spans",
                expected=" or ".join(names),
                fix='write {% span "NAME" %}…{% endspan %} around it in the template',
            )
        return max(found, key=lambda span: span.start)

    def within(self, name: str) -> tuple[int, ...]:
        """The tokens of the last span of a name."""
        span = self.last(name)
        return self.tokens[span.start : span.end]

    def active(self, name: str, activation: str) -> tuple[int, ...]:
        """The tokens from the activation point up to the last span of a name."""
        return self.tokens[self.activation(activation) : self.last(name).start]

    def activation(self, kind: str) -> int:
        """The position of the first token under the adapter.

        ``invocation``: where the call's assistant turn opens; ``turn``: the start of the user's last
        request or, where they came later, of the latest tool results, all that stand in a row; ``all``: 0.
        """
        if kind == "all":
            return 0
        invocation = self.last("invocation").start
        if kind == "invocation":
            return invocation
        if kind == "turn":
            return self._turn(invocation)
        raise PromptError("an activation is unknown", got=kind, expected=", ".join(ACTIVATIONS))

    def _turn(self, invocation: int) -> int:
        start, before = invocation, ""
        for span in self.spans:
            if span.name in MESSAGES and span.start < invocation:
                if span.name == "user" or (span.name == "tool" and before != "tool"):
                    start = span.start
                before = span.name
        return start
