"""The import: each record of each file becomes a line that can be read, or is kept apart with the reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dualtune_mlx.data.checking.check import ASIDE
from dualtune_mlx.data.importing.bfcl import read_answers, read_bfcl
from dualtune_mlx.data.importing.openai import read_openai
from dualtune_mlx.data.importing.records import iter_records
from dualtune_mlx.data.importing.sharegpt import read_sharegpt
from dualtune_mlx.data.importing.xlam import read_xlam
from dualtune_mlx.data.parsing import of_kind, parse_line
from dualtune_mlx.data.reading import read_tools
from dualtune_mlx.errors import DataError, DualTuneError, UsageError
from dualtune_mlx.files import atomic_files
from dualtune_mlx.tools import Tool

Line = dict[str, Any]
AUTO, TRANSCRIPT = "auto", "transcript"
READERS: dict[str, Callable[[Mapping[str, Any]], Line]] = {
    "openai": read_openai,
    "sharegpt": read_sharegpt,
    "xlam": read_xlam,
}
FORMATS = (AUTO, *READERS, "bfcl", TRANSCRIPT)
"""The forms that are read: ``openai`` is that of mlx-lm and AgentFlux too, ``sharegpt`` that of Hermes."""
KEYS = {
    "transcript": ("event",),
    "bfcl": ("question", "function"),
    "xlam": ("query", "answers"),
    "sharegpt": ("conversations",),
    "openai": ("messages",),
}
"""The keys by which a form is known."""


@dataclass(frozen=True)
class Imported:
    """What became of the records of some files."""

    path: Path
    """The data file or, where the form of a file of a folder is not known, this file."""
    format: str
    """The form of the records; "" where it is not known."""
    lines: int
    """Records that are lines of it."""
    rejected: Path | None
    """The file of those that could not be taken: ``{"line", "reason", "detail"}``; None where all could."""
    reasons: Mapping[str, int]
    """How many there are for each reason, which is a kind of ``data check`` or ``record``."""

    def to_dict(self) -> Line:
        """The import as JSON."""
        rejected = str(self.rejected) if self.rejected else None
        return {**vars(self), "path": str(self.path), "rejected": rejected, "reasons": dict(self.reasons)}


def import_data(
    sources: Sequence[Path], out: Path, form: str = AUTO, read_run: Callable[[Path], Line] | None = None
) -> list[Imported]:
    """Write the records of files into data files of the same names, in the folder ``out``.

    Args:
        sources: files of records, or folders with such files; transcripts become lines of one ``transcripts.jsonl``.
        out: the data folder.
        form: one of ``FORMATS``.
        read_run: reads a transcript of a run as a line. Without it transcripts are refused.

    Raises:
        UsageError: when a file cannot be read, or a data file is there already.
        DataError: when the form of a file is not known, or it is broken.
    """
    groups: dict[tuple[str, str], list[Path]] = {}
    passed = []
    for source in sources:
        for path in _list_files(source):
            try:
                found = recognize(path) if form == AUTO else form
            except DataError:
                if path == source:
                    raise
                passed.append(Imported(path, "", 0, None, {}))
                continue
            groups.setdefault(("transcripts" if found == TRANSCRIPT else path.stem, found), []).append(path)
    made = [_import_group(out / f"{name}.jsonl", paths, found, read_run) for (name, found), paths in groups.items()]
    return [*made, *passed]


def _list_files(source: Path) -> list[Path]:
    if not source.is_dir():
        return [source]
    files = [file for file in sorted(source.iterdir()) if file.suffix in (".json", ".jsonl")]
    found = [file for file in files if file.name != "tools.json" and file.stem.rpartition(".")[2] not in ASIDE]
    if not found:
        raise UsageError("there is nothing to import", where=source, expected="files of the name *.json or *.jsonl")
    return found


def recognize(path: Path) -> str:
    """The form of a file, by the keys of its first record.

    Raises:
        UsageError: when it cannot be read.
        DataError: when its form is not known.
    """
    first = next((value for _, value in iter_records(path) if isinstance(value, Mapping)), None)
    for form, keys in KEYS.items():
        if first is not None and all(key in first for key in keys):
            return form
    raise DataError(
        "the form of a file is not known",
        where=path,
        got="no record that is a JSON object" if first is None else f"the keys {', '.join(map(str, first))}",
        expected="; ".join(f"{form}: {', '.join(keys)}" for form, keys in KEYS.items()),
        fix=f"name it, if it has one of these forms all the same: --format {'|'.join(FORMATS[1:])}",
    )


def _import_group(path: Path, sources: Sequence[Path], form: str, read_run: Callable[[Path], Line] | None) -> Imported:
    if path.exists():
        fix = "name another folder, or move the file away"
        raise UsageError("a data file is there already", where=path, fix=fix)
    aside, lines, reasons = path.with_name(f"{path.stem}.rejected.jsonl"), 0, Counter[str]()
    with atomic_files(path.parent) as temporary, ExitStack() as stack:
        kept, rejected = (
            stack.enter_context((temporary / one.name).open("w", encoding="utf-8")) for one in (path, aside)
        )
        for source in sources:
            beside = source.parent / "tools.json"
            tools = read_tools(beside) if beside.is_file() else ()
            for record, read in _iter_read(source, form, read_run):
                try:
                    kept.write(_make_line(read, form, tools) + "\n")
                    lines += 1
                except DualTuneError as error:
                    reason = error.kind or "record"
                    reasons[reason] += 1
                    entry = {"line": record, "reason": reason, "detail": " ".join(str(error).split())}
                    rejected.write(json.dumps(entry, ensure_ascii=False, default=str) + "\n")
        if not reasons:
            (temporary / aside.name).unlink()
    return Imported(path, form, lines, aside if reasons else None, reasons)


def _iter_read(
    source: Path, form: str, read_run: Callable[[Path], Line] | None
) -> Iterator[tuple[Any, Callable[[], Line]]]:
    """The records of a file, each with what reads it."""
    if form == TRANSCRIPT:
        if read_run is None:
            raise UsageError(
                "transcripts are not read here", where=source, fix="give read_run, or use dualtune data import"
            )
        yield str(source), partial(read_run, source)
        return
    reader = partial(read_bfcl, answers=read_answers(source)) if form == "bfcl" else READERS[form]
    for _, record in iter_records(source):
        yield record, partial(_read_record, reader, record)


def _read_record(reader: Callable[[Mapping[str, Any]], Line], record: Any) -> Line:
    if isinstance(record, DataError):
        raise record
    if not isinstance(record, Mapping):
        raise DataError("a record is not an object", got=type(record).__name__, expected="an object of the form")
    try:
        return reader(record)
    except (AttributeError, KeyError, TypeError, IndexError) as error:
        raise DataError("a record is not of its form", got=repr(error), fix="name the form with --format") from error


def _make_line(read: Callable[[], Line], form: str, tools: tuple[Tool, ...]) -> str:
    """The text of a line that can be read.

    Raises:
        DualTuneError: with its kind, when the record cannot be taken.
    """
    with of_kind("record"):
        line = read()
    metadata = {"source": form, **(line.get("metadata") or {})}
    if line.get("tools") is None and line.get("functions") is None and tools:
        line = {**line, "tools": [tool.to_dict() for tool in tools]}
    text = json.dumps({**line, "metadata": metadata}, ensure_ascii=False)
    parse_line(text, ())
    return text
