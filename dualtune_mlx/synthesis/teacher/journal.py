"""What a teacher has answered, line by line, so that a run that was stopped asks nothing twice.

A line is ``{"key", "text", "finish", "spent"}`` for an answer, ``{"spent"}`` for a request that failed. ``key`` is the
hash of everything that was asked, so an answer serves whoever asks the very same again, and nobody else.
"""

from __future__ import annotations

import json
from dataclasses import astuple, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from dualtune_mlx.errors import DataError
from dualtune_mlx.files import parse_json, write_error
from dualtune_mlx.synthesis.teacher.budget import Spent

JOURNAL = "teacher.journal.jsonl"


@dataclass(frozen=True)
class Answer:
    """What a teacher wrote."""

    text: str
    """Its text, without thoughts."""
    finish: str
    """Why it ends: ``stop``, ``length`` (it was longer than it may be), or what the endpoint said."""


class Journal:
    """The journal of a data folder. Every line is written at once; one that the end of a process cut is left out.

    Raises:
        UsageError: when it cannot be written.
        DataError: when a line is none of a journal.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / JOURNAL
        self._answers: dict[str, Answer] = {}
        self.spent = Spent()
        """What everything cost that it held when it was opened."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = self._path.open("a+b")
        except OSError as error:
            raise write_error(self._path, error) from error
        self._read()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def find(self, key: str) -> Answer | None:
        """The answer to what has this key."""
        return self._answers.get(key)

    def add_answer(self, key: str, answer: Answer, spent: Spent) -> None:
        """Write down an answer, and what it cost."""
        self._write({"key": key, "text": answer.text, "finish": answer.finish, "spent": astuple(spent)})
        self._answers[key] = answer

    def add_failure(self, spent: Spent) -> None:
        """Write down what a request cost that brought no answer."""
        self._write({"spent": astuple(spent)})

    def _write(self, line: dict[str, Any]) -> None:
        try:
            self._file.write(json.dumps(line, ensure_ascii=True).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise write_error(self._path, error) from error

    def _read(self) -> None:
        self._file.seek(0)
        content = self._file.read()
        whole = content.rpartition(b"\n")[0]
        if len(whole) + bool(whole) < len(content):
            self._file.truncate(len(whole) + bool(whole))
        for number, line in enumerate(whole.split(b"\n") if whole else (), 1):
            self._take(line.decode(errors="replace"), f"{self._path}:{number}")

    def _take(self, text: str, where: str) -> None:
        expected = '{"key", "text", "finish", "spent"}'
        line = parse_json(text, "a line of the journal is not JSON", where, expected)
        try:
            self.spent += Spent(*map(int, line["spent"]))
            if "key" in line:
                self._answers[line["key"]] = Answer(str(line["text"]), str(line["finish"]))
        except (LookupError, TypeError, ValueError) as error:
            raise DataError(
                "a line is none of a teacher's journal",
                where=where,
                expected=expected,
                fix="remove the line; the teacher is asked again for what it held",
            ) from error
