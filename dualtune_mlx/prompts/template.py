"""Jinja templates with span tags, rendered into pieces that know whether they are template or data.

A template defines the blocks ``system``, ``user``, ``assistant``, ``tool`` and ``call``. Inside ``call``,
``{% span "NAME" %}…{% endspan %}`` marks the invocation and what each stage learns.

Pieces are encoded one by one. Inside ``{% joined %}…{% endjoined %}`` all pieces between two span borders are encoded
as one text, as trainers do that encode whole conversations. The filter ``tojson`` is that of Hugging Face's chat
templates.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from types import CodeType
from typing import Any

from jinja2 import TemplateError, meta, nodes, pass_context
from jinja2.ext import Extension
from jinja2.parser import Parser

from dualtune_mlx.errors import PromptError
from dualtune_mlx.files import require_file
from dualtune_mlx.prompts.sandbox import Limits, Sandbox, measured
from dualtune_mlx.tools.time_limit import limited_time

TEMPLATES = ("chatml", "hermes", "llama3", "gemma")
SINGLE_STAGE_TEMPLATES = ("agentflux-selector", "agentflux-arguments")
"""The templates that AgentFlux's adapters were trained with. Each serves one stage alone."""
BUILT_IN_TEMPLATES = (*TEMPLATES, *SINGLE_STAGE_TEMPLATES)
BLOCKS = ("system", "user", "assistant", "tool", "call")
CONTROL = re.compile(r"<([|\uff5c])[^<>|\uff5c\s]+\1>|<(?:start_of_turn|end_of_turn|bos|eos)>")
"""Template text that is written to be a control token; \\uff5c is DeepSeek's wide bar."""
ORDINARY = ("agentflux-arguments",)
"""The templates whose control tokens are ordinary text for the models that they were trained on."""
LONGEST_RENDERING = 10.0
"""Seconds of computing that a block may take: loops in loops take for ever."""
RENDERING_ERRORS = (
    *(TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError),
    *(TimeoutError, MemoryError, RuntimeError),
)
JOINED = ""
"""The name on the borders of ``{% joined %}``. The borders of a span have the span's name."""


@dataclass(frozen=True)
class Piece:
    """A piece of rendered text: template text, interpolated data, or a border."""

    kind: str
    """``text``, ``data``, or a border: ``open`` or ``close``."""
    value: str
    """The text, the data, or the border's name."""


class _SpanTag(Extension):
    """The tags ``{% span "NAME" %}`` and ``{% joined %}``: they keep the text inside and mark its borders."""

    tags = {"span", "joined"}  # noqa: RUF012 (Jinja's own interface)

    def parse(self, parser: Parser) -> nodes.Node:
        tag = next(parser.stream)
        name = parser.parse_expression() if tag.value == "span" else nodes.Const(JOINED)
        body = parser.parse_statements((f"name:end{tag.value}",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_mark", [name]), [], [], body).set_lineno(tag.lineno)

    def _mark(self, name: str, caller: Callable[[], str]) -> str:
        marks: _Marks = self.environment.marks  # type: ignore[attr-defined]
        return marks.add("open", name) + caller() + marks.add("close", name)


class _Marks:
    """Stands in for data and borders while Jinja renders, so that data never passes through the rendered text."""

    def __init__(self, template: str) -> None:
        self.template = template
        self.clear()

    def clear(self) -> None:
        self.nonce = secrets.token_hex(8)
        self.pieces: list[Piece] = []

    def add(self, kind: str, value: object) -> str:
        text = str(value)
        if self.nonce in text:
            raise PromptError(
                "a template captures rendered text in a macro or a set block",
                where=self.template,
                fix="write the text where it is printed: captured text can no longer be told from data",
            )
        self.pieces.append(Piece(kind, text))
        return f"\x00{self.nonce}:{len(self.pieces) - 1}\x00"

    def split(self, rendered: str) -> list[Piece]:
        first, *rest = rendered.split(f"\x00{self.nonce}:")
        marked = [part.partition("\x00") for part in rest]
        if [number + end for number, end, _ in marked] != [f"{i}\x00" for i in range(len(self.pieces))]:
            raise PromptError(
                "a template changes, drops or repeats rendered text, in a filter block for example",
                where=self.template,
                fix="apply filters to the values: {{ value|filter }}",
            )
        pieces = [Piece("text", first)]
        for piece, (_, _, text) in zip(self.pieces, marked, strict=True):
            pieces += [piece, Piece("text", text)]
        return [piece for piece in pieces if piece.value or piece.kind in ("open", "close")]


class Template:
    """A prompt template: one of ``BUILT_IN_TEMPLATES``, or the path of a file.

    ``hash`` is the SHA-256 of its text, in hexadecimal digits. ``control_tokens`` are what of its text is written to be
    one control token of a tokenizer each.

    Raises:
        PromptError: when the file cannot be read, is not valid Jinja, or lacks a block.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.source = _read_source(name)
        self.hash = hashlib.sha256(self.source.encode()).hexdigest()
        self._marks = _Marks(name)
        environment = _make_environment(self._marks)
        try:
            code, self._variables, found = _compile(self.source)
        except (TemplateError, RecursionError, MemoryError, ValueError, OverflowError, SyntaxError) as error:
            raise PromptError(
                "a template is not valid", where=name, got=error, fix="mend the template at the line that is named"
            ) from error
        self.control_tokens = () if name in ORDINARY else found
        self._template = environment.template_class.from_code(environment, code, environment.make_globals(None))
        missing = [block for block in BLOCKS if block not in self._template.blocks]
        if missing:
            raise PromptError(
                "a template lacks blocks", where=name, got=", ".join(self._template.blocks), expected=", ".join(BLOCKS)
            )

    @property
    def writes_functions(self) -> bool:
        """Whether the template writes tools from their ``functions`` instead of their cards."""
        return "functions" in self._variables

    @property
    def states_subtasks(self) -> bool:
        """Whether the template states the subtask that is due (in Jinja: ``part``)."""
        return "part" in self._variables

    def render(self, block: str, **values: Any) -> list[Piece]:
        """The pieces of one block.

        Raises:
            PromptError: when Jinja cannot render it, or the template changes text that is rendered already.
        """
        self._marks.clear()
        context = self._template.new_context(values)
        try:
            with limited_time(LONGEST_RENDERING):
                rendered = "".join(self._template.blocks[block](context))
        except RENDERING_ERRORS as error:
            raise PromptError(
                "a template cannot be rendered",
                where=f"{self.name}: block {block}",
                got=str(error) or type(error).__name__,
                fix="mend the template; dualtune inspect --template FILE shows its result",
            ) from error
        return self._marks.split(rendered)


def _make_environment(marks: _Marks) -> Sandbox:
    environment = Sandbox(
        extensions=[_SpanTag],
        # With the context, so that Jinja does not fold constants, marks and all, when it compiles.
        finalize=pass_context(lambda _, value: marks.add("data", value)),
        keep_trailing_newline=True,
    )
    environment.marks = marks  # type: ignore[attr-defined]
    environment.filters["tojson"] = measured("tojson", _to_json)
    return environment


@lru_cache
def _compile(source: str) -> tuple[CodeType, set[str], tuple[str, ...]]:
    """A template's code, the names of its variables, and its control tokens. The code serves any environment."""
    environment = _make_environment(_Marks(""))
    tree = environment.parse(source)
    text = "".join(data.data for data in tree.find_all(nodes.TemplateData))
    control_tokens = tuple(dict.fromkeys(match[0] for match in CONTROL.finditer(text)))
    variables = meta.find_undeclared_variables(tree)
    return environment.compile(Limits().visit(tree)), variables, control_tokens


def _to_json(value: object, ensure_ascii: bool = False, indent: int | None = None, sort_keys: bool = False) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, sort_keys=sort_keys)


def _read_source(name: str) -> str:
    if name in BUILT_IN_TEMPLATES:
        return files("dualtune_mlx.prompts").joinpath("templates", f"{name}.jinja").read_text(encoding="utf-8")
    try:
        return require_file(Path(name)).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(
            "a template cannot be read",
            where=name,
            got=error,
            expected=f"one of {', '.join(BUILT_IN_TEMPLATES)}, or a text file",
        ) from error
