"""Warming: the prefixes of a bundle's tool sets, computed once and kept in its folder for later starts."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dualtune_mlx.bundle import Bundle
from dualtune_mlx.engine.dualtune import DualTune
from dualtune_mlx.errors import UsageError, count_of
from dualtune_mlx.files import require_no_links
from dualtune_mlx.kv import PREFIX_FOLDER, PrefixFile, PrefixStore, kv_fingerprint
from dualtune_mlx.kv.store import SUFFIX
from dualtune_mlx.models import BaseModel
from dualtune_mlx.prompts import PromptRenderer
from dualtune_mlx.tools import PLAN, Message, Tool, ToolCall

OWN_FILE = re.compile(rf"[0-9a-f]{{32}}{re.escape(SUFFIX)}")
"""The names of the files that warming writes."""


@dataclass(frozen=True)
class Prefix:
    """The beginning of some prompts: the system message and a tool set."""

    name: str
    tokens: tuple[int, ...]
    adapter: str = ""
    """The content hash of the adapter that acts on it; "" for the base model alone."""


@dataclass(frozen=True)
class WarmPrefix:
    """A prefix on disk."""

    name: str
    """What the prefix is for, in words."""
    adapter: str
    """The content hash of the adapter that acts on it; empty for the base model alone."""
    tokens: int
    """How many tokens it has."""
    bytes: int
    """The size of its file."""
    seconds: float | None
    """What it took to compute; None where it was there already."""
    read_seconds: float
    """What it takes to read and check its file."""
    file: str
    """The name of its file."""


@dataclass(frozen=True)
class WarmReport:
    """What warming left in the folder of prefixes."""

    folder: Path
    """The folder of prefixes."""
    prefixes: tuple[WarmPrefix, ...]
    """The prefixes that are there now."""
    removed: tuple[str, ...]
    """Files of an earlier warming that no longer serve; they are gone."""

    @property
    def saved_seconds(self) -> float:
        """By how much a later start is faster, for the prefixes that were computed now."""
        return sum(one.seconds - one.read_seconds for one in self.prefixes if one.seconds is not None)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON: sizes in bytes, times in seconds."""
        return {
            "folder": str(self.folder),
            "prefixes": [asdict(one) for one in self.prefixes],
            "bytes": sum(one.bytes for one in self.prefixes),
            "seconds": sum(one.seconds or 0.0 for one in self.prefixes),
            "saved_seconds": self.saved_seconds,
            "removed": list(self.removed),
        }


def warm(
    dualtune: DualTune, tools: Iterable[Tool] = (), report: Callable[[Prefix], object] = lambda prefix: None
) -> WarmReport:
    """Compute the prefixes that the calls of a bundle begin with, into the bundle's folder.

    A prefix whose file is there and sound is not computed again. Files of an earlier warming that no longer serve are
    removed. Each prefix has a turn of its own at the base model, so other calls may come in between.

    Args:
        dualtune: an engine of a bundle.
        tools: the visible tools; those that the bundle knows, where left out.
        report: is told every prefix before it is read or computed. An error that it raises ends the warming; the
            files that were written stay.

    Raises:
        UsageError: when the engine has no bundle, when there are no tools, when a prefix is longer than the model's
            context, or when a file cannot be read back.
    """
    bundle = dualtune.bundle
    if bundle is None:
        raise UsageError("an engine without a bundle keeps no prefixes", fix="load a bundle: DualTune.load(folder)")
    tools = tuple(tools) or bundle.tools
    if not tools:
        raise UsageError("there are no tools to warm", where=bundle.folder, fix="name them: --tools FILE or --mcp FILE")
    require_no_links(bundle.folder, bundle.folder / PREFIX_FOLDER)
    store = open_store(Bundle.open(bundle.folder), dualtune.base)
    prefixes = []
    for prefix in find_prefixes(dualtune, tools):
        report(prefix)
        prefixes.append(_warm_prefix(store, prefix, dualtune.base, bundle))
    removed = _remove_unusable(store)
    bundle.set_prefixes(file.checksum for file in store.files)
    return WarmReport(store.folder, tuple(prefixes), tuple(removed))


def open_store(bundle: Bundle, base: BaseModel) -> PrefixStore:
    """The prefixes of a model that are in a bundle's folder, and that the bundle names."""
    fingerprint = kv_fingerprint(base.model, base.fingerprint)
    return PrefixStore(bundle.folder / PREFIX_FOLDER, fingerprint, base.snapshot, bundle.prefixes)


def find_prefixes(dualtune: DualTune, tools: tuple[Tool, ...]) -> Iterator[Prefix]:
    """The prefixes that the engine's stages begin with.

    There is one of every tool set under the base model, unless no stage would use that, and one of all tools under
    each adapter that acts from the first token on.

    Raises:
        UsageError: when a prefix is longer than the model's context.
    """
    by_content = {stage.adapter.content_hash: stage for stage in dualtune.stages.values() if stage.adapter}
    others = [stage for stage in by_content.values() if not stage.prefix_adapter]
    renderers = [stage.renderer or dualtune.renderer for stage in others] if by_content else [dualtune.renderer]
    for renderer in dict.fromkeys(renderers):
        for name, shown in tool_sets(dualtune, tools):
            yield Prefix(name, _render(dualtune.base, renderer, name, shown))
        if renderer.argument_card == "prefix":
            for tool in (tool for tool in tools if tool.takes_arguments):
                call = ToolCall(tool.name, {}, tool.server)
                stream = renderer.render_arguments([Message("user", "-")], tools, call)
                yield Prefix(f"arguments of {tool.name}", stream.span_tokens("prefix"))
    for stage in by_content.values():
        if stage.prefix_adapter:
            name = f"all tools under {stage.adapter_name}"
            tokens = _render(dualtune.base, stage.renderer or dualtune.renderer, name, tools)
            yield Prefix(name, tokens, stage.prefix_adapter)


def tool_sets(dualtune: DualTune, tools: tuple[Tool, ...]) -> list[tuple[str, tuple[Tool, ...]]]:
    """The named tool sets that stages are shown: of a plan, and of the whole or of every node of the hierarchy."""
    tree = dualtune.tree(tools)
    plan = [("plan", (PLAN,))] if dualtune.divides else []
    if tree.routes:
        return [*plan, *((node.label or "all servers", node.cards) for node in tree.nodes)]  # groups may share a label
    servers = dict.fromkeys(tool.server for tool in tools)
    each = [(f"server {server}", tuple(t for t in tools if t.server == server)) for server in servers if server]
    return [*plan, ("all tools", tools), *(each if len(servers) > 1 else [])]


def _render(base: BaseModel, renderer: PromptRenderer, name: str, tools: tuple[Tool, ...]) -> tuple[int, ...]:
    tokens = renderer.render_conversation([Message("user", "-")], tools).span_tokens("prefix")
    limit = base.context_length
    if limit is not None and len(tokens) > limit:
        raise UsageError(
            "the tools are longer than the model's context",
            where=name,
            got=count_of(len(tokens), "token"),
            expected=f"at most {limit}",
            fix="warm fewer tools, or use shorter tool cards",
        )
    return tokens


def _warm_prefix(store: PrefixStore, prefix: Prefix, base: BaseModel, bundle: Bundle) -> WarmPrefix:
    """A prefix that is on disk and sound: found there, or computed now, written and read back."""
    seconds = None
    with base.lock.turn():
        entry = store.find(prefix.tokens, prefix.adapter)
        read_seconds = _read(store, entry) if entry else None
        if entry is None or read_seconds is None:
            began = time.perf_counter()
            snapshot = base.snapshot(prefix.tokens, prefix.adapter)
            seconds = time.perf_counter() - began
            known = [file.checksum for file in store.files]
            entry = store.save(snapshot, prefix.adapter, lambda checksum: bundle.set_prefixes([*known, checksum]))
            read_seconds = _read(store, entry)
    if read_seconds is None:
        raise UsageError("a prefix cannot be read back", where=entry.path, fix="check the disk it lies on")
    return WarmPrefix(
        prefix.name, prefix.adapter, len(entry.tokens), entry.nbytes, seconds, read_seconds, entry.path.name
    )


def _read(store: PrefixStore, entry: PrefixFile) -> float | None:
    """Read and check a file; the seconds that took, or None where the file is damaged."""
    began = time.perf_counter()
    return time.perf_counter() - began if store.read(entry) is not None else None


def _remove_unusable(store: PrefixStore) -> list[str]:
    """Remove the files that an earlier warming wrote and that no longer serve; their names."""
    used = {entry.path for entry in store.files}
    unusable = sorted(path for path in set(store.ignored) - used if OWN_FILE.fullmatch(path.name))
    for path in unusable:
        path.unlink(missing_ok=True)
    return [path.name for path in unusable]
