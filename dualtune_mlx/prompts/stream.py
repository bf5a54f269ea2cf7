"""A token stream with its spans, and where an adapter begins to act in it."""

from __future__ import annotations

from dataclasses import dataclass

from dualtune_mlx.errors import PromptError

ACTIVATIONS = ("invocation", "turn", "all")
MESSAGE_SPANS = ("user", "assistant", "tool")
SHARED_SPANS = {"router": "selector", "planner": "arguments"}
"""The spans of the stages without a span of their own.

A router chooses as a selector does. A plan is written as arguments are.
"""


def span_name(stage: str) -> str:
    """The name of the span that a stage writes."""
    return SHARED_SPANS.get(stage, stage)


@dataclass(frozen=True)
class Span:
    """A named half-open range of token positions. Names may recur: each user message has a span ``user``."""

    name: str
    """The span's name."""
    start: int
    """The position of its first token."""
    end: int
    """The position behind its last token."""


@dataclass(frozen=True)
class TokenStream:
    """Token ids, and the spans that were recorded while the stream was built."""

    tokens: tuple[int, ...] = ()
    """The token ids."""
    spans: tuple[Span, ...] = ()
    """The spans, in the order in which they were recorded."""

    def __len__(self) -> int:
        return len(self.tokens)

    def __add__(self, other: TokenStream) -> TokenStream:
        shift = len(self)
        moved = tuple(Span(span.name, span.start + shift, span.end + shift) for span in other.spans)
        return TokenStream(self.tokens + other.tokens, self.spans + moved)

    def last_span(self, name: str) -> Span:
        """The last span of a name.

        Raises:
            PromptError: when there is no span of the name.
        """
        found = [span for span in self.spans if span.name == name]
        if not found:
            raise PromptError(
                "the template does not mark a span that is needed",
                got=", ".join(sorted({span.name for span in self.spans})) or "no spans",
                expected=name,
                fix='write {% span "NAME" %}…{% endspan %} around it in the template',
            )
        return max(found, key=lambda span: span.start)

    def span_tokens(self, name: str) -> tuple[int, ...]:
        """The tokens of the last span of a name.

        Raises:
            PromptError: when there is no span of the name.
        """
        span = self.last_span(name)
        return self.tokens[span.start : span.end]

    def active_tokens(self, name: str, activation: str) -> tuple[int, ...]:
        """The tokens from the activation point up to the last span of a name.

        Raises:
            PromptError: when there is no span of the name, or the activation is unknown.
        """
        return self.tokens[self.activation_start(activation) : self.last_span(name).start]

    def activation_start(self, activation: str) -> int:
        """The position of the first token under the adapter.

        ``invocation``: where the call's assistant turn opens.
        ``turn``: the start of the user's last request. Where tool results came after it: the first of the latest
        results that stand in a row.
        ``all``: 0.

        Raises:
            PromptError: when the activation is unknown, or the stream has no span ``invocation``.
        """
        if activation == "all":
            return 0
        invocation = self.last_span("invocation").start
        if activation == "invocation":
            return invocation
        if activation == "turn":
            return self._turn_start(invocation)
        raise PromptError("an activation is unknown", got=activation, expected=", ".join(ACTIVATIONS))

    def _turn_start(self, invocation: int) -> int:
        start, before = invocation, ""
        for span in self.spans:
            if span.name in MESSAGE_SPANS and span.start < invocation:
                if span.name == "user" or (span.name == "tool" and before != "tool"):
                    start = span.start
                before = span.name
        return start
