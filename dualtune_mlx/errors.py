"""The errors and warnings of the package: every message says what, where, got, expected, and the fix."""

from __future__ import annotations


class DualTuneError(Exception):
    """Something went wrong that the user can understand and mend.

    Args:
        what: one sentence that says what went wrong.
        where: the file, line, tool, server or field concerned.
        got: what was found there.
        expected: what should have been there.
        fix: what the user can do about it.
    """

    exit_code = 1

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

    def __str__(self) -> str:
        details = {
            "where": self.where,
            "got": self.got,
            "expected": self.expected,
            "fix": self.fix,
        }
        lines = [f"  {key}: {value}" for key, value in details.items() if value is not None]
        return "\n".join([self.what, *lines])


class DualTuneWarning(UserWarning):
    """Something is other than the user will think, and the work goes on; told as an error is."""


class UsageError(DualTuneError):
    """The call itself was wrong: an option, a path, a configuration."""

    exit_code = 2


class DataError(DualTuneError):
    """Training or evaluation data cannot be used as it is."""


class ToolError(DualTuneError):
    """A tool's description or schema cannot be used."""


class PromptError(DualTuneError):
    """A template or a conversation cannot be rendered."""


class ModelError(DualTuneError):
    """A model is missing, damaged, or of a kind that is not supported."""


class TrainingError(DualTuneError):
    """A training run cannot go on."""


class CheckpointError(DualTuneError):
    """A training run's saved state is damaged, or is another run's."""


class AdapterError(DualTuneError):
    """An adapter is damaged or does not fit the model."""


class BundleError(DualTuneError):
    """A bundle is missing, damaged, or does not fit the model."""


class DecodingError(DualTuneError):
    """No valid output could be produced within the limits."""


class ServerError(DualTuneError):
    """An MCP server could not be started, or failed."""


class ConversionError(DualTuneError):
    """A file cannot be converted exactly, so it is not converted at all."""
