"""``dualtune warm``: the prefixes of a bundle's tool sets, computed once."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from dualtune_mlx.cli import options
from dualtune_mlx.cli.output import console, emit_json, json_option
from dualtune_mlx.data import read_tools
from dualtune_mlx.engine import DualTune
from dualtune_mlx.errors import UsageError
from dualtune_mlx.kv import PrefixStore, kv_fingerprint
from dualtune_mlx.kv.store import FOLDER, SUFFIX, Entry
from dualtune_mlx.mcp import connect, read_config
from dualtune_mlx.models import BaseModel
from dualtune_mlx.prompts import PromptRenderer
from dualtune_mlx.tools import PLAN, Message, Tool

OURS = re.compile(rf"[0-9a-f]{{32}}{re.escape(SUFFIX)}")
MIB = 2**20


@dataclass(frozen=True)
class Wanted:
    """A prefix, and the adapter that acts on it ("" for the base model alone)."""

    name: str
    tokens: tuple[int, ...]
    adapter: str = ""


@dataclass(frozen=True)
class Warmed:
    """A prefix on disk: bytes of its file, seconds to compute (None where it was there) and to read and check it."""

    name: str
    adapter: str
    tokens: int
    bytes: int
    seconds: float | None
    read_seconds: float
    file: str


@click.command("warm")
@click.option("--bundle", required=True, type=click.Path(path_type=Path), help="Bundle folder.")
@options.model
@click.option("--tools", "tools_file", type=click.Path(path_type=Path), help="JSON file with tools.")
@click.option("--mcp", type=click.Path(path_type=Path), help="mcpServers file; its servers are started.")
@json_option
def command(bundle: Path, model: str | None, tools_file: Path | None, mcp: Path | None, json_to: str | None) -> None:
    """Compute the prefixes of tool sets once, into BUNDLE/prefixes; later starts read them.

    Of a bundle with a planner, that of plans. Of one with a router, those of every choice in its hierarchy of tools;
    of another, one of all tools and, where there are several servers, one of each server's. Without --tools and --mcp
    the tools are those that the bundle knows.
    """
    if tools_file and mcp:
        raise click.UsageError("Give --tools or --mcp, not both.")
    out = console(json_to)
    given = _given(tools_file, mcp)
    with DualTune.load(bundle, model) as dualtune:
        store = store_of(bundle / FOLDER, dualtune.base)
        rows = []
        for wanted in prefixes(dualtune, given):
            out.print(f"{wanted.name}: {len(wanted.tokens):,} tokens …", markup=False)
            rows.append(warmed(store, wanted, dualtune.base))
    removed = _without_unusable(store)
    show(out, bundle / FOLDER, rows, removed)
    emit_json(json_to, as_json(bundle / FOLDER, rows, removed))


def _given(tools_file: Path | None, mcp: Path | None) -> tuple[Tool, ...]:
    if tools_file:
        return read_tools(tools_file)
    if not mcp:
        return ()
    with connect(read_config(mcp)) as toolbox:
        return toolbox.tools


def prefixes(dualtune: DualTune, given: tuple[Tool, ...]) -> Iterator[Wanted]:
    """What the bundle's stages begin with: every tool set under the base model, unless no stage would use that,
    and all tools under each adapter that acts from the first token on.

    Raises:
        UsageError: when neither the call nor the bundle names tools, or a prefix is longer than the model's context.
    """
    bundle = dualtune.bundle
    assert bundle is not None, "it was loaded from one"
    tools = given or bundle.tools
    if not tools:
        raise UsageError("there are no tools to warm", where=bundle.folder, fix="name them: --tools FILE or --mcp FILE")
    slots = {slot.content_hash: slot for slot in bundle.stages.values()}
    resident = dualtune.base.bank.resident
    acting = [adapter.content_hash for adapter in resident if adapter.config.activation == "all"]
    others = [slots[adapter.content_hash] for adapter in resident if adapter.content_hash not in acting]
    prompts = [dualtune.prompt_of(slot) for slot in others] if resident else [dualtune.prompt]
    for prompt in dict.fromkeys(prompts):
        for name, some in _tool_sets(dualtune, tools):
            yield Wanted(name, _prefix(dualtune.base, prompt, name, some))
    for content in acting:
        name = f"all tools under {slots[content].path}"
        yield Wanted(name, _prefix(dualtune.base, dualtune.prompt_of(slots[content]), name, tools), content)


def _tool_sets(dualtune: DualTune, tools: tuple[Tool, ...]) -> list[tuple[str, tuple[Tool, ...]]]:
    tree = dualtune.tree(tools)
    plan = [("plan", (PLAN,))] if dualtune.divides else []
    if tree.routes:
        return [*plan, *((node.label or "all servers", node.cards) for node in tree.nodes)]  # groups may share a label
    servers = dict.fromkeys(tool.server for tool in tools)
    each = [(f"server {server}", tuple(t for t in tools if t.server == server)) for server in servers if server]
    return [*plan, ("all tools", tools), *(each if len(servers) > 1 else [])]


def _prefix(base: BaseModel, prompt: PromptRenderer, name: str, tools: tuple[Tool, ...]) -> tuple[int, ...]:
    tokens = prompt.render_conversation([Message("user", "-")], tools).span_tokens("prefix")
    limit = base.context_length
    if limit is not None and len(tokens) > limit:
        raise UsageError(
            "the tools are longer than the model's context",
            where=name,
            got=f"{len(tokens)} tokens",
            expected=f"at most {limit}",
            fix="warm fewer tools, or use shorter tool cards",
        )
    return tokens


def store_of(folder: Path, base: BaseModel) -> PrefixStore:
    return PrefixStore(folder, kv_fingerprint(base.model, base.fingerprint), base.snapshot)


def warmed(store: PrefixStore, wanted: Wanted, base: BaseModel) -> Warmed:
    """A prefix that is on disk and sound: found there, or computed now, written and read back."""
    seconds = None
    entry = store.exact(wanted.tokens, wanted.adapter)
    read_seconds = _seconds_to_read(store, entry) if entry else None
    if entry is None or read_seconds is None:
        began = time.perf_counter()
        snapshot = base.snapshot(wanted.tokens, wanted.adapter)
        seconds = time.perf_counter() - began
        entry = store.save(snapshot, wanted.adapter)
        read_seconds = _seconds_to_read(store, entry)
    if read_seconds is None:
        raise UsageError("a prefix cannot be read back", where=entry.path, fix="check the disk it lies on")
    return Warmed(wanted.name, wanted.adapter, len(entry.tokens), entry.nbytes, seconds, read_seconds, entry.path.name)


def _seconds_to_read(store: PrefixStore, entry: Entry) -> float | None:
    """Seconds to read and check a file; None where it is not sound."""
    began = time.perf_counter()
    return time.perf_counter() - began if store.read(entry) is not None else None


def _without_unusable(store: PrefixStore) -> list[str]:
    """Remove the files that this command once wrote and that no longer serve; their names."""
    used = {entry.path for entry in store.entries}
    unusable = sorted(path for path in set(store.ignored) - used if OURS.fullmatch(path.name))
    for path in unusable:
        path.unlink(missing_ok=True)
    return [path.name for path in unusable]


def saved_seconds(rows: list[Warmed]) -> float:
    """By how much a later start is faster, for what was computed now."""
    return sum(row.seconds - row.read_seconds for row in rows if row.seconds is not None)


def show(out: Console, folder: Path, rows: list[Warmed], removed: list[str]) -> None:
    table = Table("prefix", "tokens", "size", "computed", "read and checked")
    for row in rows:
        size, took = f"{row.bytes / MIB:.1f} MiB", "was there" if row.seconds is None else f"{row.seconds:.2f} s"
        table.add_row(row.name, f"{row.tokens:,}", size, took, f"{row.read_seconds:.2f} s")
    out.print(table)
    if removed:
        out.print(f"Removed, because they could not be used: {', '.join(removed)}.", markup=False)
    if any(row.seconds is not None for row in rows):
        out.print(f"A later start saves {saved_seconds(rows):.2f} s. The files are in {folder}.", markup=False)
    else:
        out.print(f"Nothing to do: all of them are in {folder} and valid.", markup=False)


def as_json(folder: Path, rows: list[Warmed], removed: list[str]) -> dict[str, Any]:
    """Sizes in bytes, times in seconds."""
    return {
        "folder": str(folder),
        "prefixes": [asdict(row) for row in rows],
        "bytes": sum(row.bytes for row in rows),
        "seconds": sum(row.seconds or 0.0 for row in rows),
        "saved_seconds": saved_seconds(rows),
        "removed": removed,
    }
