"""The log of a run: a JSON line for each step. The report is made from it, and a resumed run continues it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from dualtune_mlx.errors import CheckpointError
from dualtune_mlx.files import write_error, write_text
from dualtune_mlx.training.trainer import Progress


class Log:
    """Appends steps to the file ``path``.

    A run that resumes after ``step`` keeps the lines of earlier steps; later ones are removed.
    """

    def __init__(self, path: Path, step: int = 0) -> None:
        self.path = path
        earlier = [progress for progress in read_log(path) if progress.step <= step] if step else []
        lines = "".join(map(_line, earlier))
        write_text(path, lines)
        self._end = len(lines.encode())

    def __call__(self, progress: Progress) -> None:
        """Append a step. One whose writing was interrupted may be appended again.

        Raises:
            UsageError: when the log was removed meanwhile, or cannot be written.
        """
        try:
            with self.path.open("r+b") as file:  # "a" would begin a removed log anew
                file.seek(self._end)
                file.truncate()
                file.write(_line(progress).encode())
                end = file.tell()
        except OSError as error:
            raise write_error(self.path, error) from error
        self._end = end


def read_log(path: Path) -> list[Progress]:
    """The steps of a log. A last line without its end, which an interrupted write leaves, is ignored.

    Raises:
        CheckpointError: when it is damaged.
    """
    if not path.is_file():
        return []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
        return [Progress(**json.loads(line)) for line in lines]
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(
            "the log of a run is damaged", where=path, got=error, fix="restore it, or start anew without --resume"
        ) from error


def _line(progress: Progress) -> str:
    return json.dumps(asdict(progress)) + "\n"
