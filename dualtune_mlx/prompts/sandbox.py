"""The sandbox of templates: a template is data too, and may neither reach out, nor go on or grow without an end."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError
from jinja2.visitor import NodeTransformer

from dualtune_mlx.tools.time_limit import seconds_left

LARGEST_NUMBER = 100_000
"""The largest width, count or power."""
LARGEST_VALUE = 20_000_000
"""Characters or items of a value that a template makes."""
LARGEST_INTEGER = 1_000_000
"""Bits of a number that a template makes."""
PADDING = frozenset(("batch", "center", "indent", "slice", "tojson", "truncate", "wordwrap"))
"""Filters that take widths and counts."""
PERCENT_WIDTH = re.compile(r"%[^a-zA-Z%]*(?:\d{6}|\*)")
BRACE_WIDTH = re.compile(r"\{[^{}]*(?:\d{6}|\{)")
"""Widths in formats that are too large, or are given beside them."""


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox with limits on what values a template makes, and on its time (``limited_time``)."""

    intercepted_binops = frozenset(("*", "**", "+", "%"))

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.filters = {name: measured(name, function) for name, function in self.filters.items()}
        del self.globals["lipsum"]  # which writes any number of words

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "*":
            _check_product(left, right)
        if operator == "%" and isinstance(left, str):
            _check_format(PERCENT_WIDTH, left)
        if operator == "**":
            _check_numbers([right])
            _check_number(getattr(left, "bit_length", int)() * right, LARGEST_INTEGER)
        return _check_size(super().call_binop(context, operator, left, right))

    def wrap_str_format(self, value: Any) -> Any:
        wrapped = super().wrap_str_format(value)
        if wrapped is not None:
            _check_format(BRACE_WIDTH, str(value.__self__).replace("{{", "").replace("}}", ""))
        return wrapped

    def call(self, context: Any, function: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(getattr(function, "__self__", None), str | bytes | int):  # as 'a'.ljust(9) and 5 .to_bytes(9)
            _check_numbers([*arguments, *options.values()])
        return _check_size(super().call(context, function, *arguments, **options))

    def concatenate(self, *values: Any) -> str:
        """What ``~`` does."""
        return str(_check_size("".join(map(str, values))))

    def tick(self) -> None:
        """What each round of a loop does first."""
        seconds_left()


class Limits(NodeTransformer):
    """Puts a look at the clock into loops, and a measure into ``~``, which the sandbox does not hear of."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(_call("tick", [])).set_lineno(node.lineno))
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _call("concatenate", node.nodes).set_lineno(node.lineno)


def _call(name: str, arguments: list[nodes.Expr]) -> nodes.Call:
    return nodes.Call(nodes.EnvironmentAttribute(name), arguments, [], None, None)


def measured(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that checks its numbers and the size of its value."""

    @wraps(function)  # with the marks by which Jinja knows what it wants to be given
    def checked(*arguments: Any, **options: Any) -> Any:
        if name in PADDING:
            _check_numbers([*arguments, *options.values()])
        elif name == "format":
            _check_format(PERCENT_WIDTH, str(arguments[0]))
        return _check_size(function(*arguments, **options))

    return checked


def _check_numbers(values: Sequence[Any]) -> None:
    for value in values:
        if isinstance(value, int | float):
            _check_number(value, LARGEST_NUMBER)


def _check_number(value: Any, most: int) -> None:
    if abs(value) > most:
        raise SecurityError("a number is too large for what it is used for")


def _check_format(width: re.Pattern[str], text: str) -> None:
    if width.search(text):
        raise SecurityError("a format has too large a width, or one that is given beside it")


def _check_product(left: Any, right: Any) -> None:
    for one, count in ((left, right), (right, left)):
        if hasattr(one, "__len__") and isinstance(count, int) and len(one) * count > LARGEST_VALUE:
            raise SecurityError("a value is too large")


def _check_size(value: Any) -> Any:
    if isinstance(value, str | list | tuple | dict) and len(value) > LARGEST_VALUE:
        raise SecurityError("a value is too large")
    if isinstance(value, int) and value.bit_length() > LARGEST_INTEGER:
        raise SecurityError("a number is too large")
    return value
