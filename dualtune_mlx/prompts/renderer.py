"""Conversations to token streams: the one rendering that training and inference share."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from dualtune_mlx.errors import PromptError
from dualtune_mlx.prompts.cards import openai_function, tool_card
from dualtune_mlx.prompts.encoder import Encoder
from dualtune_mlx.prompts.parameters import ARGUMENT_CARDS, argument_card, today_line, tool_sheet
from dualtune_mlx.prompts.stream import Span, TokenStream
from dualtune_mlx.prompts.template import JOINED, Piece, Template
from dualtune_mlx.tools import PLAN, RESPOND, Message, Tool, ToolCall, find_called_tool
from dualtune_mlx.tools.labels import label_choices, label_tools
from dualtune_mlx.tools.spelling import spell_arguments

PREFIX_LIMIT = 64
"""How many rendered prefixes are kept."""
REMINDER_LIMIT = 400
"""How many characters of a request, and of the calls made for it, are repeated with a result."""
OPENED_ACTIVATIONS = ("invocation", "turn")
"""The activations that begin at tokens of the template."""
_CONTENT = "…"


class PromptRenderer:
    """Renders with one template, one tokenizer, one kind of tool card and one of argument card.

    Raises:
        PromptError: when the kind of argument card is unknown.
    """

    def __init__(
        self, template: Template, tokenizer: Any, cards: str = "signature", argument_card: str = "none"
    ) -> None:
        if argument_card not in ARGUMENT_CARDS:
            raise PromptError(
                "a kind of argument card is unknown", got=argument_card, expected=", ".join(ARGUMENT_CARDS)
            )
        self.template = template
        self.encoder = Encoder(tokenizer)
        self.cards = cards
        self.argument_card = argument_card
        self._prefixes: dict[str, TokenStream] = {}

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool],
        call: ToolCall,
        shown: Sequence[Tool] | None = None,
        subtask: str = "",
        today: str = "",
    ) -> TokenStream:
        """Render one decision: the tools, the conversation, and the call that follows it.

        With argument cards, the called tool's parameters stand before the arguments, as a span ``parameters``.

        Args:
            messages: the conversation before the call.
            tools: all visible tools; earlier calls in the conversation are calls of these.
            call: the call that follows.
            shown: the tools that the prefix describes and the call is chosen from; by default all ``tools``.
            subtask: the part of the request that is due now; "" where the request is not divided.
            today: the date (2026-11-30) that an argument card tells of a tool with a date; "" for none.

        Raises:
            PromptError: as ``render_conversation`` and ``render_call`` do.
            ToolError: when an argument card's tool has a schema that is not a valid JSON Schema.
        """
        tool, label = _find_tool(call, tools if shown is None else shown)
        card = argument_card(tool, today) if self.argument_card == "parameters" and tool is not PLAN else ""
        pieces = self._add_card(self._call_pieces(call, tool, label), card)
        return self.render_conversation(messages, tools, shown, subtask) + self._encode(pieces)

    def render_arguments(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool],
        call: ToolCall,
        shown: Sequence[Tool] | None = None,
        subtask: str = "",
        today: str = "",
    ) -> TokenStream:
        """Render one decision for the stage that writes the arguments, up to the end of the call.

        With the argument card ``prefix``, the called tool is described alone, with all its parameters. It is ``render``
        otherwise, and has its arguments and errors.
        """
        if self.argument_card != "prefix" or call.is_respond:
            return self.render(messages, tools, call, shown, subtask, today)
        tool, _ = _find_tool(call, tools if shown is None else shown)
        system, rest = _divide(messages)
        pieces = self._add_card(self._call_pieces(call, tool, tool.name), today_line(tool, today))
        prefix = self._render_prefix(system, [tool_sheet(tool)], {tool.name: tool})
        return prefix + self._render_messages(rest, tools, subtask) + self._encode(pieces)

    def render_conversation(
        self, messages: Sequence[Message], tools: Sequence[Tool], shown: Sequence[Tool] | None = None, subtask: str = ""
    ) -> TokenStream:
        """Render the prefix (the system message and the cards of the tools), then one span for each message.

        The arguments are those of ``render``. The last message states ``subtask``. Each earlier message states the
        subtask of the message behind it.

        Raises:
            PromptError: when a system message is not the first, there is no user message, or there is a subtask and
                the template does not state subtasks.
        """
        system, rest = _divide(messages)
        labelled = label_tools(tools if shown is None else shown)
        cards = [tool_card(tool, label, self.cards) for label, tool in labelled.items()]
        cards.append(tool_card(RESPOND, RESPOND.name, self.cards))
        return self._render_prefix(system, cards, labelled) + self._render_messages(rest, tools, subtask)

    def _render_messages(self, rest: Sequence[Message], tools: Sequence[Tool], subtask: str) -> TokenStream:
        stream = TokenStream()
        request, called = "", list[str]()
        subtasks = [*(message.subtask for message in rest[1:]), subtask]
        for number, (message, due) in enumerate(zip(rest, subtasks, strict=True)):
            if message.role == "user":
                request, called = message.content, []
            called += [_call_line(call, tools) for call in message.tool_calls]
            values: dict[str, Any] = {"is_first": number == 0}
            values |= {"request": _shorten(request), "called": _shorten("; ".join(called))}
            if due and message.role in ("user", "tool"):
                self._check_states_subtasks()
                values["part"] = due
            stream += self._render_message(message, tools, values)
        return stream

    def render_call(self, call: ToolCall, tools: Sequence[Tool]) -> TokenStream:
        """Render the assistant's turn that makes a call: spans ``invocation``, ``selector`` and ``arguments``.

        Raises:
            PromptError: when the call is of none of the tools, or of several.
        """
        return self._encode(self._call_pieces(call, *_find_tool(call, tools)))

    def answer_frame(self) -> tuple[TokenStream, tuple[int, ...]]:
        """The tokens before and after an answer in words.

        Those before it have the span ``invocation`` and, at their end, an empty span ``answer``.

        Raises:
            PromptError: when the template has no answers in words.
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

    def argument_frame(self, tool: Tool) -> tuple[str, str]:
        """The template's text before and after a call's arguments that is encoded as one text with them.

        Both are "" where the template encodes the arguments by themselves. The text after them ends before its first
        control token, because no token crosses into that.

        Raises:
            PromptError: when the template encodes the arguments as one text with other data.
        """
        around = _joined_pieces(self._call_pieces(_empty_call(tool), tool, tool.name), "arguments")
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
        before = "".join(piece.value for piece in around[: data[0]])
        after = "".join(piece.value for piece in around[data[0] + 1 :])
        return before, self.encoder.cut_before_control(after)

    def name_tokens(self, tools: Sequence[Tool]) -> dict[str, tuple[int, ...]]:
        """The tokens of each tool's name, and of ``respond``, by label."""
        return {
            label: self._encode(self._call_pieces(_empty_call(tool), tool, label)).span_tokens("selector")
            for label, tool in label_choices(tools).items()
        }

    def opener_tokens(self, activation: str) -> tuple[int, ...]:
        """The tokens that open a call ("invocation"), or a user's message up to its content ("turn").

        Whoever has no spans finds an activation point by looking for these tokens.

        Raises:
            PromptError: when no tokens open the activation.
        """
        tokens: tuple[int, ...] = ()
        if activation == "invocation":
            tokens = self.render_call(ToolCall(RESPOND.name), ()).span_tokens("invocation")
        elif activation == "turn":
            pieces = self.template.render("user", content="?")
            before = pieces[: [piece.kind for piece in pieces].index("data")]
            texts = [piece.value for piece in before if piece.kind == "text"]
            tokens = tuple(token for text in texts for token in self.encoder.encode_text(text))
        if not tokens:
            raise PromptError(
                "no tokens open this activation",
                where=self.template.name,
                got=activation,
                fix="use another activation, or a template with text before the content",
            )
        return tokens

    def check_stage(self, stage: str, tools: Sequence[Tool]) -> None:
        """Check that the template and the tokenizer serve a stage of calls to these tools.

        Raises:
            PromptError: when a span is missing, or this tokenizer does not join what the template joins.
            ToolError: when two tools have the same name, or one has a reserved name.
        """
        request = Message("user", "?")
        for tool in tools:
            call = _empty_call(tool)
            stream = self.render([request, Message("assistant", tool_calls=(call,)), request], tools, call)
            stream.last_span("invocation")
            stream.last_span(stage)
            self.argument_frame(tool)
            whole = self.encoder.encode_text(self.encoder.decode(list(stream.tokens)))
            if self._joins(call, tools) and tuple(whole) != stream.tokens:
                raise PromptError(
                    "with the model's tokenizer the template is not what it is as one text",
                    where=self.template.name,
                    got=f"other tokens for a call of {tool.name!r}",
                    expected="a tokenizer that puts borders between tokens where the template puts them",
                    fix="use the family of models that the template is for, or a template of yours",
                )

    def _check_states_subtasks(self) -> None:
        if not self.template.states_subtasks:
            raise PromptError(
                "the template does not tell which part of a request is due",
                where=self.template.name,
                expected="{{ part }} in the blocks user and tool",
                fix="use another template, or data and bundles without a planner",
            )

    def _joins(self, call: ToolCall, tools: Sequence[Tool]) -> bool:
        """Whether the template encodes something of a call as one text."""
        return Piece("open", JOINED) in self._call_pieces(call, *_find_tool(call, tools))

    def _render_prefix(self, system: str, cards: Sequence[str], labelled: Mapping[str, Tool]) -> TokenStream:
        """Render a set of tools once: these are thousands of tokens, and many decisions begin with them."""
        writes = self.template.writes_functions
        functions = [openai_function(tool, label) for label, tool in labelled.items()] if writes else []
        key = json.dumps([system, cards, functions])
        if key not in self._prefixes:
            if len(self._prefixes) >= PREFIX_LIMIT:
                self._prefixes.clear()
            values = {"system": system, "tools": cards, "functions": functions}
            self._prefixes[key] = self._render_span("prefix", "system", **values)
        return self._prefixes[key]

    def _render_message(self, message: Message, tools: Sequence[Tool], values: Mapping[str, Any]) -> TokenStream:
        if message.role == "system":
            raise PromptError("a system message stands inside the conversation", expected="at most one, at the start")
        stream = TokenStream()
        if message.content or not message.tool_calls:
            has_calls = bool(message.tool_calls)
            stream += self._render_span(message.role, message.role, content=message.content, calls=has_calls, **values)
        for call in message.tool_calls:
            past = self.render_call(call, tools)
            stream += TokenStream(past.tokens, (Span("assistant", 0, len(past)),))
        return stream

    def _render_span(self, name: str, block: str, **values: Any) -> TokenStream:
        inner = self._encode(self.template.render(block, **values))
        return TokenStream(inner.tokens, (Span(name, 0, len(inner)), *inner.spans))

    def _call_pieces(self, call: ToolCall, tool: Tool, label: str) -> list[Piece]:
        arguments = spell_arguments(call.arguments, tool.parameters)
        values = {"name": label, "arguments": arguments, "is_respond": call.is_respond}
        return self.template.render("call", call={**values, "schema": dict(tool.parameters)})

    def _add_card(self, pieces: list[Piece], card: str) -> list[Piece]:
        """The pieces of a call with a card before its arguments."""
        begin = Piece("open", "arguments")
        if not card or begin not in pieces:
            return pieces
        place = pieces.index(begin)
        before = next((piece.value for piece in reversed(pieces[:place]) if piece.kind in ("text", "data")), "\n")
        text = Piece("data", card if before.endswith("\n") else f"\n{card}")
        return [*pieces[:place], Piece("open", "parameters"), text, Piece("close", "parameters"), *pieces[place:]]

    def _encode(self, pieces: list[Piece]) -> TokenStream:
        tokens: list[int] = []
        spans: list[Span] = []
        opened: list[tuple[str, int]] = []
        for are_borders, group in groupby(pieces, lambda piece: piece.kind in ("open", "close")):
            if not are_borders:
                tokens += self._encode_between(list(group), joined=JOINED in (name for name, _ in opened))
                continue
            for piece in group:
                if piece.kind == "open":
                    opened.append((piece.value, len(tokens)))
                    continue
                name, start = opened.pop()
                if name != JOINED:
                    spans.append(Span(name, start, len(tokens)))
        return TokenStream(tuple(tokens), tuple(spans))

    def _encode_between(self, pieces: Sequence[Piece], joined: bool) -> list[int]:
        """The tokens of the pieces between two borders."""
        if joined:
            return self.encoder.encode_joined(pieces)
        encode = {"text": self.encoder.encode_text, "data": self.encoder.encode_data}
        return [token for piece in pieces for token in encode[piece.kind](piece.value)]


def _joined_pieces(pieces: Sequence[Piece], span: str) -> list[Piece]:
    """The pieces directly in a span that are encoded as one text."""
    opened: list[str] = []
    found: list[Piece] = []
    for piece in pieces:
        if piece.kind == "open":
            opened.append(piece.value)
        elif piece.kind == "close":
            opened.pop()
        elif opened[-1:] == [span] and JOINED in opened:
            found.append(piece)
    return found


def _divide(messages: Sequence[Message]) -> tuple[str, Sequence[Message]]:
    """The system message's text, and the other messages."""
    has_system = bool(messages) and messages[0].role == "system"
    system, rest = (messages[0].content, messages[1:]) if has_system else ("", messages)
    if not any(message.role == "user" for message in rest):
        raise PromptError("the conversation has no user message", expected="at least one message of role 'user'")
    return system, rest


def _shorten(text: str) -> str:
    """The text whole, or its first and last 200 characters."""
    half = REMINDER_LIMIT // 2
    return text if len(text) <= REMINDER_LIMIT else f"{text[:half]} … {text[-half:]}"


def _call_line(call: ToolCall, tools: Sequence[Tool]) -> str:
    """A call in one line: its label and its arguments."""
    tool, label = _find_tool(call, tools)
    return f"{label} {spell_arguments(call.arguments, tool.parameters)}"


def _empty_call(tool: Tool) -> ToolCall:
    return ToolCall(tool.name, {}, tool.server)


def _find_tool(call: ToolCall, tools: Sequence[Tool]) -> tuple[Tool, str]:
    """The tool that is called, and its label."""
    if call.is_respond:
        return RESPOND, RESPOND.name
    labelled = label_tools(tools)
    called = find_called_tool(call, tools, PromptError)
    return called, next(label for label, tool in labelled.items() if tool is called)
