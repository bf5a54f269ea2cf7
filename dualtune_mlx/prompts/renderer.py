"""Conversations to streams: the one rendering that training and inference share."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from dualtune_mlx.errors import PromptError
from dualtune_mlx.prompts.cards import card, choices, function, labels
from dualtune_mlx.prompts.encoder import Encoder
from dualtune_mlx.prompts.stream import Span, TokenStream
from dualtune_mlx.prompts.template import JOINED, Piece, Template
from dualtune_mlx.tools import RESPOND, Message, Tool, ToolCall, tool_called

PREFIXES = 64
"""How many rendered prefixes are kept."""
REMINDER = 400
"""Characters of a request, and of the calls made for it, that are repeated with a result."""
_CONTENT = "…"


class PromptRenderer:
    """Renders with one template, one tokenizer and one kind of tool card."""

    def __init__(self, template: Template, tokenizer: Any, cards: str = "signature") -> None:
        self.template = template
        self.encoder = Encoder(tokenizer)
        self.cards = cards
        self._prefixes: dict[str, TokenStream] = {}

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool],
        call: ToolCall,
        shown: Sequence[Tool] | None = None,
        subtask: str = "",
    ) -> TokenStream:
        """The whole stream of one step: tools, conversation, and the call that follows it.

        ``shown`` are the choices that the prefix describes and the call is one of, where these are not the
        ``tools`` that the conversation's earlier calls were made to. ``subtask`` is what of the request is due now.
        """
        return self.conversation(messages, tools, shown, subtask) + self.call(call, tools if shown is None else shown)

    def conversation(
        self, messages: Sequence[Message], tools: Sequence[Tool], shown: Sequence[Tool] | None = None, subtask: str = ""
    ) -> TokenStream:
        """The prefix (system message and the cards of what is ``shown``) and one span a message.

        The last message tells the ``subtask`` of the request that is due, earlier ones those of the calls behind them.

        Raises:
            PromptError: when a system message is not the first, there is no user message, or the template tells no
                subtasks.
        """
        system = messages[0].content if messages and messages[0].role == "system" else ""
        rest = messages[1:] if messages and messages[0].role == "system" else messages
        if not any(message.role == "user" for message in rest):
            raise PromptError("the conversation has no user message", expected="at least one message of role 'user'")
        names = labels(tools if shown is None else shown)
        cards = [card(tool, label, self.cards) for label, tool in names.items()]
        cards.append(card(RESPOND, RESPOND.name, self.cards))
        writes = self.template.writes_functions
        functions = [function(tool, label) for label, tool in names.items()] if writes else []
        stream = self._prefix(system, cards, functions)
        request, called = "", list[str]()
        due = [*(message.subtask for message in rest[1:]), subtask]
        for number, message in enumerate(rest):
            if message.role == "user":
                request, called = message.content, []
            called += [self._written(call, tools) for call in message.tool_calls]
            repeated = {"request": _reminder(request), "called": _reminder("; ".join(called))}
            if due[number] and message.role in ("user", "tool"):
                self._check_subtasks()
                repeated["part"] = due[number]
            stream += self._message(message, tools, {"is_first": number == 0, **repeated})
        return stream

    def _prefix(self, system: str, cards: list[str], functions: list[dict[str, Any]]) -> TokenStream:
        """Rendered once for a tool set: thousands of tokens that every step of a data set begins with."""
        key = json.dumps([system, cards, functions])
        if key not in self._prefixes:
            if len(self._prefixes) >= PREFIXES:
                self._prefixes.clear()
            values = {"system": system, "tools": cards, "functions": functions}
            self._prefixes[key] = self._span("prefix", "system", **values)
        return self._prefixes[key]

    def _check_subtasks(self) -> None:
        if not self.template.tells_subtasks:
            raise PromptError(
                "the template does not tell which part of a request is due",
                where=self.template.name,
                expected="{{ part }} in the blocks user and tool",
                fix="use another template, or data and bundles without a planner",
            )

    def _message(self, message: Message, tools: Sequence[Tool], values: Mapping[str, Any]) -> TokenStream:
        if message.role == "system":
            raise PromptError("a system message stands inside the conversation", expected="at most one, at the start")
        stream = TokenStream()
        if message.content or not message.tool_calls:
            calls = bool(message.tool_calls)
            stream += self._span(message.role, message.role, content=message.content, calls=calls, **values)
        for call in message.tool_calls:
            past = self.call(call, tools)
            stream += TokenStream(past.tokens, (Span("assistant", 0, len(past)),))
        return stream

    @staticmethod
    def _written(call: ToolCall, tools: Sequence[Tool]) -> str:
        """A call in a line: its label and its arguments."""
        tool, label = _tool_of(call, tools)
        return f"{label} {_json(call, tool)}"

    def call(self, call: ToolCall, tools: Sequence[Tool]) -> TokenStream:
        """The assistant's turn that makes a call: spans ``invocation``, ``selector`` and ``arguments``."""
        return self._encode(self._call_pieces(call, *_tool_of(call, tools)))

    def _call_pieces(self, call: ToolCall, tool: Tool, label: str) -> list[Piece]:
        values = {"name": label, "arguments": _json(call, tool), "is_respond": call.is_respond}
        return self.template.render("call", call={**values, "schema": dict(tool.parameters)})

    def answer(self) -> tuple[TokenStream, tuple[int, ...]]:
        """What stands around an answer in words: its opener (spans ``invocation`` and, empty, ``answer``), and
        the tokens behind it.

        Raises:
            PromptError: when the template has none.
        """
        rendered = self.template.render("assistant", content=_CONTENT)
        pieces = [piece for piece in rendered if piece.kind in ("text", "data")]
        content = Piece("data", _CONTENT)
        if content not in pieces:
            raise PromptError(
                "the template has no answers in words",
                where=self.template.name,
                fix="let a planner answer, or use another template",
            )
        place = pieces.index(content)
        before, after = self._encode(pieces[:place]), self._encode(pieces[place + 1 :])
        end = len(before)
        return TokenStream(before.tokens, (Span("invocation", 0, end), Span("answer", end, end))), after.tokens

    def names(self, tools: Sequence[Tool]) -> dict[str, tuple[int, ...]]:
        """The tokens of every choice's name, ``respond`` among them, by its label."""
        return {
            label: self._encode(self._call_pieces(_empty_call(tool), tool, label)).within("selector")
            for label, tool in choices(tools).items()
        }

    def frame(self, tool: Tool) -> tuple[str, str]:
        """The template's text before and after a call's arguments that is encoded as one text with them.

        Nothing where the template encodes them by themselves. Behind a control token nothing is one with them.

        Raises:
            PromptError: when they are one text with other data.
        """
        opened: list[str] = []
        around: list[Piece] = []
        for piece in self._call_pieces(_empty_call(tool), tool, tool.name):
            if piece.kind == "open":
                opened.append(piece.value)
            elif piece.kind == "close":
                opened.pop()
            elif opened[-1:] == ["arguments"] and JOINED in opened:
                around.append(piece)
        if not around:
            return "", ""
        data = [number for number, piece in enumerate(around) if piece.kind == "data"]
        if len(data) != 1:
            raise PromptError(
                "a joined span holds other data beside the arguments",
                where=f"{self.template.name}: span arguments",
                got=f"{len(data)} values",
                expected="{{ call.arguments }} alone",
            )
        before, after = ("".join(piece.value for piece in part) for part in (around[: data[0]], around[data[0] + 1 :]))
        return before, self.encoder.before_control(after)

    def check(self, stage: str, tools: Sequence[Tool]) -> None:
        """Try whether the template and the tokenizer serve a stage of calls to these tools.

        Raises:
            PromptError: when a span is missing, or what the template joins is not joined with this tokenizer.
            ToolError: when two tools have the same name, or one a reserved name.
        """
        asked = Message("user", "?")
        for tool in tools:
            call = _empty_call(tool)
            stream = self.render([asked, Message("assistant", tool_calls=(call,)), asked], tools, call)
            stream.last("invocation")
            stream.last(stage)
            self.frame(tool)
            whole = self.encoder.text(self.encoder.decode(list(stream.tokens)))
            if self._joins(call, tools) and tuple(whole) != stream.tokens:
                raise PromptError(
                    "with the model's tokenizer the template is not what it is as one text",
                    where=self.template.name,
                    got=f"other tokens for a call of {tool.name!r}",
                    expected="a tokenizer that puts borders between tokens where the template puts them",
                    fix="use the family of models that the template is for, or a template of yours",
                )

    def _joins(self, call: ToolCall, tools: Sequence[Tool]) -> bool:
        return Piece("open", JOINED) in self._call_pieces(call, *_tool_of(call, tools))

    def _span(self, name: str, block: str, **values: Any) -> TokenStream:
        inner = self._encode(self.template.render(block, **values))
        return TokenStream(inner.tokens, (Span(name, 0, len(inner)), *inner.spans))

    def _encode(self, pieces: list[Piece]) -> TokenStream:
        tokens: list[int] = []
        spans: list[Span] = []
        opened: list[tuple[str, int]] = []
        for borders, run in groupby(pieces, lambda piece: piece.kind in ("open", "close")):
            if not borders:
                tokens += self._tokens(list(run), joined=JOINED in (name for name, _ in opened))
                continue
            for piece in run:
                if piece.kind == "open":
                    opened.append((piece.value, len(tokens)))
                    continue
                name, start = opened.pop()
                if name != JOINED:
                    spans.append(Span(name, start, len(tokens)))
        return TokenStream(tuple(tokens), tuple(spans))

    def _tokens(self, run: Sequence[Piece], joined: bool) -> list[int]:
        """The tokens of what stands between two borders."""
        if joined:
            return self.encoder.joined(run)
        encode = {"text": self.encoder.text, "data": self.encoder.data}
        return [token for piece in run for token in encode[piece.kind](piece.value)]


def _reminder(text: str) -> str:
    """A text as a template may repeat it: whole, or its first and last 200 characters."""
    half = REMINDER // 2
    return text if len(text) <= REMINDER else f"{text[:half]} … {text[-half:]}"


def _json(call: ToolCall, tool: Tool) -> str:
    return json.dumps(in_schema_order(call.arguments, tool.parameters), ensure_ascii=False)


def in_schema_order(arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments in the order of the schema's properties, which is the order of constrained decoding."""
    order = [name for name in schema.get("properties", {}) if name in arguments]
    return {name: arguments[name] for name in [*order, *(n for n in arguments if n not in order)]}


def _empty_call(tool: Tool) -> ToolCall:
    return ToolCall(tool.name, {}, tool.server)


def _tool_of(call: ToolCall, tools: Sequence[Tool]) -> tuple[Tool, str]:
    if call.is_respond:
        return RESPOND, RESPOND.name
    names = labels(tools)
    tool = tool_called(call, tools, PromptError)
    return tool, next(label for label, labelled in names.items() if labelled is tool)
