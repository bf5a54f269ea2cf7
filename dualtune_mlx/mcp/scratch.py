"""A scratch copy of a folder, in which servers may change what they like.

with copy_folder("notes") as scratch, connect(scratch.rewrite(configs)) as toolbox:
    …                      # the servers see the copy
    scratch.restore()      # the copy is as the folder is, again
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dualtune_mlx.errors import UsageError, count_of
from dualtune_mlx.mcp.config import ServerConfig

MOST_FILES = 20_000
LARGEST = 500 * 2**20


@dataclass(frozen=True)
class ScratchFolder:
    """A folder and its copy."""

    folder: Path
    """The folder, whole; nothing is written to it."""
    copy: Path
    """Its copy, without the links in it: they could lead out of it."""

    def rewrite(self, configs: Sequence[ServerConfig]) -> tuple[ServerConfig, ...]:
        """The configurations with the copy wherever they name the folder, or something in it: in ``args``, ``env``,
        ``cwd``, pinned arguments and the folders of rules.

        Raises:
            UsageError: when none of them names it.
        """
        changed = tuple(map(self._rewrite, configs))
        if changed == tuple(configs):
            raise UsageError(
                "no server's configuration names the folder of the scratch copy",
                got=self.folder,
                expected="a folder that an entry has as 'cwd', or in 'args', 'env' or 'pinned'",
                fix="name the folder as the configuration does",
            )
        return changed

    def names_of(self, configs: Sequence[ServerConfig]) -> frozenset[str]:
        """The servers whose configurations name the folder."""
        return frozenset(config.name for config in configs if self._rewrite(config) != config)

    def to_copy(self, text: str) -> str:
        """A text with the copy's path in the place of the folder's."""
        for path in dict.fromkeys((str(self.folder), str(self.folder.resolve()))):
            text = re.sub(rf"(?<![\w./-]){re.escape(path)}(?![\w-])", lambda _: str(self.copy), text)
        return text

    def to_folder(self, text: str) -> str:
        """A text with the folder's path in the place of the copy's."""
        return text.replace(str(self.copy), str(self.folder))

    def restore(self) -> None:
        """Make the copy what the folder is now."""
        for path in self.copy.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        shutil.copytree(self.folder, self.copy, ignore=_list_links, dirs_exist_ok=True)

    def _rewrite(self, config: ServerConfig) -> ServerConfig:
        begins = Path(config.cwd or os.getcwd())
        rules = tuple(
            rule if rule.below is None else replace(rule, below=self._change(rule.below, begins))
            for rule in config.rules
        )
        return replace(
            config,
            args=tuple(self._change(one, begins) for one in config.args),
            env=self._change(dict(config.env), begins),
            cwd=None if config.cwd is None else self._change(config.cwd, Path.cwd()),
            pinned=self._change(dict(config.pinned), begins),
            rules=rules,
        )

    def _change(self, value: Any, begins: Path) -> Any:
        """A value of the configuration; a relative path that is the folder is found, too."""
        if isinstance(value, Mapping):
            return {key: self._change(item, begins) for key, item in value.items()}
        if isinstance(value, list):
            return [self._change(item, begins) for item in value]
        if not isinstance(value, str):
            return value
        is_folder = value and "\0" not in value and (begins / value).resolve() == self.folder.resolve()
        return str(self.copy) if is_folder else self.to_copy(value)


@contextmanager
def copy_folder(folder: str | Path) -> Iterator[ScratchFolder]:
    """Copy a folder while the block runs; the copy is removed behind it.

    Raises:
        UsageError: when there is no such folder, or it is too large to be copied for each request.
    """
    folder = Path(folder).absolute()
    _check_size(folder)
    with tempfile.TemporaryDirectory(prefix="dualtune-scratch-", ignore_cleanup_errors=True) as made:
        scratch = ScratchFolder(folder, Path(made).resolve() / folder.name)
        scratch.copy.mkdir()
        scratch.restore()
        yield scratch


def _check_size(folder: Path) -> None:
    if not folder.is_dir():
        raise UsageError("there is no folder to copy", got=folder, expected="a folder that a server works in")
    files, size = 0, 0
    for place, _, names in os.walk(folder):
        files += len(names)
        size += sum(os.lstat(os.path.join(place, name)).st_size for name in names)
        if files > MOST_FILES or size > LARGEST:
            raise UsageError(
                "the folder is too large for a scratch copy",
                where=folder,
                got=f"more than {count_of(files, 'file')}, {size / 2**20:,.0f} MiB",
                expected=f"at most {MOST_FILES:,} files and {LARGEST / 2**20:,.0f} MiB",
                fix="let the server work in a smaller folder, made for this",
            )


def _list_links(place: str, names: list[str]) -> list[str]:
    return [name for name in names if os.path.islink(os.path.join(place, name))]
