"""The metadata fields of a GGUF file: each is checked for its type, and a field that was never read is refused."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from dualtune_mlx.conversion.gguf.file import GGUFFile
from dualtune_mlx.errors import ConversionError

REQUIRED: Any = object()
"""Marks a field without a default."""
LARGEST = 2**31 - 1
"""The largest whole number that a field may have."""


class Fields:
    """Reads the fields under a prefix (``llama.``) by the rest of their names.

    Each method reads one type of field. A field without a default is required. All methods raise a ``ConversionError``
    that names the field.
    """

    def __init__(self, gguf: GGUFFile, prefix: str) -> None:
        self.prefix = prefix
        self._path = gguf.path
        self._values = {k.removeprefix(prefix): v for k, v in gguf.metadata.items() if k.startswith(prefix)}
        self._read: set[str] = set()

    def integer(self, name: str, default: Any = REQUIRED, least: int = 1) -> Any:
        """A whole number, from ``least`` on."""
        value = self._get(name, default)
        if value is not default and (type(value) is not int or not least <= value <= LARGEST):
            raise self.refusal("a GGUF field has a value that it cannot have", name, f"a whole number from {least} on")
        return value

    def number(self, name: str, default: Any = REQUIRED) -> Any:
        """A positive number."""
        value = self._get(name, default)
        if value is not default and (type(value) not in (int, float) or not 0 < value < math.inf):
            raise self.refusal("a GGUF field has a value that it cannot have", name, "a positive number")
        return value

    def flag(self, name: str, default: Any = REQUIRED) -> Any:
        """True or false."""
        return self._get_typed(name, default, bool, "true or false")

    def text(self, name: str, default: Any = REQUIRED) -> Any:
        """A text."""
        return self._get_typed(name, default, str, "a text")

    def texts(self, name: str, default: Any = REQUIRED) -> Any:
        """A list of texts."""
        return self._get_list(name, default, str, "a list of texts")

    def integers(self, name: str, default: Any = REQUIRED) -> Any:
        """A list of whole numbers."""
        return self._get_list(name, default, int, "a list of whole numbers")

    def numbers(self, name: str, default: Any = REQUIRED) -> Any:
        """A list of finite numbers."""
        values = self._get_list(name, default, float, "a list of numbers")
        if values is not default and not all(map(math.isfinite, values)):
            raise self.refusal("a GGUF field has a value that it cannot have", name, "finite numbers")
        return values

    def names(self, pattern: str) -> list[str]:
        """The names that match a regular expression, in the file's order."""
        return [name for name in self._values if re.fullmatch(pattern, name)]

    def refuse_others(self, off: Mapping[str, Any] | None = None) -> None:
        """Refuse fields that were never read: they may change the model, and the conversion would not know.

        Args:
            off: the values, by field, that change nothing.

        Raises:
            ConversionError: with the names and values of such fields.
        """
        neutral = {name for name, value in (off or {}).items() if _is_same(self._values.get(name), value)}
        others = sorted(self._values.keys() - self._read - neutral)
        if others:
            raise ConversionError(
                "the GGUF file has fields that are not known here, so the model might not be the same",
                where=self._path,
                got=", ".join(f"{self.prefix}{name} = {_short(self._values[name])}" for name in others),
                fix="load the model's original folder instead",
            )

    def refusal(self, what: str, name: str, expected: str) -> ConversionError:
        """Make an error about a field's value."""
        value = _short(self._values[name]) if name in self._values else "nothing"
        return ConversionError(what, where=self._path, got=f"{self.prefix}{name} = {value}", expected=expected)

    def _get(self, name: str, default: Any) -> Any:
        self._read.add(name)
        value = self._values.get(name, default)
        if value is REQUIRED:
            raise ConversionError("the GGUF file lacks a field", where=self._path, expected=f"{self.prefix}{name}")
        return value

    def _get_typed(self, name: str, default: Any, kind: type, words: str) -> Any:
        value = self._get(name, default)
        if value is not default and type(value) is not kind:
            raise self.refusal("a GGUF field has a value that it cannot have", name, words)
        return value

    def _get_list(self, name: str, default: Any, kind: type, words: str) -> Any:
        value = self._get_typed(name, default, list, words)
        if value is not default and not all(type(item) is kind for item in value):
            raise self.refusal("a GGUF field has a value that it cannot have", name, words)
        return value


def _is_same(value: Any, other: Any) -> bool:
    return type(value) is type(other) and value == other


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
