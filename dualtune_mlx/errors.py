"""The errors and warnings of the package. A message says what is wrong, where, got, expected, and the fix."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

LONGEST_GOT = 2_000
"""Characters of what was found that a message repeats."""


class DualTuneError(Exception):
    """Something went wrong, and the user can understand and mend it.

    Args:
        what: one sentence that says what went wrong.
        where: the file, line, tool, server or field.
        got: what was found there.
        expected: what should have been there.
        fix: what the user can do.
    """

    exit_code = 1
    """The exit code of a command that ends with this error."""
    kind = ""
    """What kind of fault it is, where faults are counted by kinds; "" elsewhere."""

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        got: object = None,
        expected: object = None,
        fix: str | None = None,
    ) -> None:
        self.what = what
        self.where = where
        self.got = got
        self.expected = expected
        self.fix = fix
        super().__init__(str(self))

    def inside(self, place: object) -> DualTuneError:
        """The same error, of the same class, found inside a file, a line or another object."""
        where = place if self.where is None else f"{place}, {self.where}"
        error = type(self)(self.what, where=where, got=self.got, expected=self.expected, fix=self.fix)
        error.kind = self.kind
        return error

    def __str__(self) -> str:
        details = {
            "where": self.where,
            "got": _shorten(self.got),
            "expected": self.expected,
            "fix": self.fix,
        }
        # What follows a line break in a text of others is indented: it cannot pass for a line of ours.
        lines = [f"  {key}: {value}".replace("\n", "\n    ") for key, value in details.items() if value is not None]
        return escape("\n".join([self.what, *lines]))


@contextmanager
def inside(place: object) -> Iterator[None]:
    """Errors of the body name the place that it works on: a file, a line, a tool."""
    try:
        yield
    except DualTuneError as error:
        raise error.inside(place) from error


INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U0001d159\U000e0100-\U000e01ef]"
)
"""Characters that count as printable and show nothing: fillers, blanks and selectors of variants."""


def escape(text: str) -> str:
    """Spell out what cannot be seen, so that a text can neither control a terminal nor hide in it. Line breaks stay.

    It is spelled as JSON has it: JSON remains the same value.
    """
    return "".join(one if _is_visible(one) or one == "\n" else _spell_out(one) for one in text)


def escape_line(text: str) -> str:
    """``escape`` for what is to stay in one line, such as a name."""
    return escape(text).replace("\n", "\\n")


def _is_visible(character: str) -> bool:
    return character.isprintable() and not INVISIBLE.match(character)


def _spell_out(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def count_of(number: int, noun: str) -> str:
    """A number with its noun: "1 call", "2,000 calls"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _shorten(value: object) -> object:
    """A value that another program wrote may be of any length."""
    try:
        text = str(value)
    except (ValueError, RecursionError):  # of a number of 5,000 digits, or 100,000 levels
        return type(value).__name__
    return value if len(text) <= LONGEST_GOT else f"{text[:LONGEST_GOT]}… ({len(text):,} characters)"


class DualTuneWarning(UserWarning):
    """Something is probably not as the user thinks, but the work goes on. Its message is written as an error's."""

    def __str__(self) -> str:
        return escape(super().__str__())


class UsageError(DualTuneError):
    """The user's own input was wrong: an option, a path, a configuration."""

    exit_code = 2


class DataError(DualTuneError):
    """Training or evaluation data cannot be used as it is."""


class ToolError(DualTuneError):
    """A tool's description or schema cannot be used."""


class PromptError(DualTuneError):
    """A template or a conversation cannot be rendered."""


class ContextError(PromptError):
    """The tools and a conversation are longer than the model's context."""


class ModelError(DualTuneError):
    """A model is missing, damaged, or of a kind that is not supported."""


class TrainingError(DualTuneError):
    """A training run cannot go on."""


class CheckpointError(DualTuneError):
    """The saved state of a training run is damaged, or belongs to another run."""


class AdapterError(DualTuneError):
    """An adapter is damaged or does not fit the model."""


class BundleError(DualTuneError):
    """A bundle is missing, damaged, or does not fit the model."""


class DecodingError(DualTuneError):
    """The model could not write valid arguments within the limits."""


class ServerError(DualTuneError):
    """An MCP server could not be started, or it failed."""


class ConversionError(DualTuneError):
    """A file cannot be converted exactly, so nothing is converted."""
