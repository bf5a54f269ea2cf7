"""The content of a scratch folder, its repository, its database and its memory: as it is, and as it should be.

Not a benchmark itself; for ``tasks.py``. Worlds are compared whole, so whatever else was changed counts too.
"""

from __future__ import annotations

import io
import json
import os
import sqlite3
import subprocess
import tarfile
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dualtune_mlx.demo.servers import find_program

STORE = ".store"
"""The folder of the database and the memory; the repository ignores it."""
DATABASE, MEMORY = f"{STORE}/garden.db", f"{STORE}/memory.jsonl"
GIT_ENVIRONMENT = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}
"""Git's environment: no settings of the user or the machine."""

Files = Mapping[str, str]
Row = tuple[Any, ...]


@dataclass(frozen=True)
class Branch:
    """A branch of the repository."""

    messages: tuple[str, ...]
    """The messages of its commits, the newest first."""
    files: Files
    """The files of its newest commit."""


@dataclass(frozen=True)
class Table:
    """A table's columns and rows; the order of the rows does not matter."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", tuple(sorted(self.rows, key=repr)))


@dataclass(frozen=True)
class World:
    """Everything in a scratch folder. Each method returns the world after a change."""

    files: Files
    """Texts by path, without white space at their end: no task asks for a last line break."""
    staged: Files
    """The files in git's index."""
    branches: Mapping[str, Branch]
    branch: str
    """The current branch."""
    tables: Mapping[str, Table]
    """The database."""
    entities: Mapping[str, tuple[str, frozenset[str]]]
    """The memory's entities: type and observations by name."""
    relations: frozenset[tuple[str, str, str]]
    """The memory's relations: (from, to, type)."""

    def write(self, path: str, text: str) -> World:
        return replace(self, files={**self.files, path: text.rstrip()})

    def move(self, source: str, destination: str) -> World:
        files = dict(self.files)
        files[destination] = files.pop(source)
        return replace(self, files=files)

    def stage(self, path: str) -> World:
        return replace(self, staged={**self.staged, path: self.files[path]})

    def commit(self, message: str) -> World:
        tip = Branch((message, *self.branches[self.branch].messages), self.staged)
        return replace(self, branches={**self.branches, self.branch: tip})

    def start_branch(self, name: str) -> World:
        return replace(self, branches={**self.branches, name: self.branches[self.branch]}, branch=name)

    def create_table(self, name: str, *columns: str) -> World:
        return replace(self, tables={**self.tables, name: Table(columns, ())})

    def insert(self, table: str, *row: Any) -> World:
        found = self.tables[table]
        return replace(self, tables={**self.tables, table: replace(found, rows=(*found.rows, row))})

    def update(self, table: str, old: Row, new: Row) -> World:
        found = self.tables[table]
        rows = tuple(new if row == old else row for row in found.rows)
        return replace(self, tables={**self.tables, table: replace(found, rows=rows)})

    def remember(self, name: str, kind: str, *observations: str) -> World:
        return replace(self, entities={**self.entities, name: (kind, frozenset(observations))})

    def observe(self, name: str, observation: str) -> World:
        kind, observations = self.entities[name]
        return self.remember(name, kind, *observations, observation)

    def relate(self, source: str, kind: str, target: str) -> World:
        return replace(self, relations=self.relations | {(source, target, kind)})

    def forget(self, name: str) -> World:
        """Delete an entity and its relations."""
        entities = {other: entity for other, entity in self.entities.items() if other != name}
        return replace(self, entities=entities, relations=frozenset(r for r in self.relations if name not in r[:2]))


def read_world(scratch: Path) -> World:
    """Read the world of a scratch folder."""
    entities, relations = _parse_memory((scratch / MEMORY).read_text(encoding="utf-8").splitlines())
    return World(
        files=_read_files(scratch),
        staged=_read_tree(scratch, git(scratch, "write-tree").decode().strip()),
        branches={name: _read_branch(scratch, name) for name in _branch_names(scratch)},
        branch=git(scratch, "rev-parse", "--abbrev-ref", "HEAD").decode().strip(),
        tables=_read_tables(scratch / DATABASE),
        entities=entities,
        relations=relations,
    )


def git(scratch: Path, *command: str) -> bytes:
    """Run git with the repository's own settings alone, and return its output."""
    environment = {"PATH": os.environ.get("PATH", os.defpath), **GIT_ENVIRONMENT}
    run = subprocess.run([find_program("git"), *command], cwd=scratch, env=environment, capture_output=True, check=True)
    return run.stdout


def _read_files(scratch: Path) -> Files:
    return {
        str(path.relative_to(scratch)): _to_text(path.read_bytes())
        for path in scratch.rglob("*")
        if path.is_file() and path.relative_to(scratch).parts[0] not in (".git", STORE)
    }


def _branch_names(scratch: Path) -> list[str]:
    return git(scratch, "for-each-ref", "refs/heads", "--format=%(refname:short)").decode().split()


def _read_branch(scratch: Path, name: str) -> Branch:
    reference = f"refs/heads/{name}"  # a file may have the name, too
    messages = git(scratch, "log", "-z", "--format=%B", reference).decode().split("\0")
    return Branch(tuple(message.strip() for message in messages), _read_tree(scratch, reference))


def _read_tree(scratch: Path, name: str) -> Files:
    with tarfile.open(fileobj=io.BytesIO(git(scratch, "archive", name))) as archive:
        files = ((member.name, archive.extractfile(member)) for member in archive)
        return {path: _to_text(file.read()) for path, file in files if file is not None}


def _to_text(content: bytes) -> str:
    return content.decode(errors="replace").rstrip()


def _read_tables(database: Path) -> dict[str, Table]:
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=rw", uri=True)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: _read_table(connection, name) for name in names}


def _read_table(connection: sqlite3.Connection, name: str) -> Table:
    quoted = name.replace('"', '""')
    cursor = connection.execute(f'SELECT * FROM "{quoted}"')
    return Table(tuple(column[0] for column in cursor.description), tuple(cursor))


def _parse_memory(
    lines: Iterable[str],
) -> tuple[dict[str, tuple[str, frozenset[str]]], frozenset[tuple[str, str, str]]]:
    """Parse the entities and relations of the memory server's file: one JSON object per line."""
    entries = [json.loads(line) for line in lines]
    entities = {
        entry["name"]: (entry["entityType"], frozenset(entry["observations"]))
        for entry in entries
        if entry["type"] == "entity"
    }
    relations = (
        (entry["from"], entry["to"], entry["relationType"]) for entry in entries if entry["type"] == "relation"
    )
    return entities, frozenset(relations)
