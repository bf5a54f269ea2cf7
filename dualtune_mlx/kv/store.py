"""Prefixes on disk: written once by ``dualtune warm``, read by later processes when they are first of use.

A file is safetensors and holds ``tokens`` (n,) int32 and, for each layer i, ``layers.i.keys`` and
``layers.i.values`` (1, kv heads, n, head width). Its metadata: ``format``, the model's ``fingerprint``, the
``adapter`` that acted on these tokens (its content hash; "" for the base alone), and a ``checksum``, the SHA-256 of
all the rest, which also names the file. A file is a cache and nothing more: whatever is wrong with it, it is
ignored with a ``PrefixWarning``, and its tokens are computed again.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import mlx.core as mx
import mlx.nn as nn
import mlx_lm
from safetensors import SafetensorError, safe_open

from dualtune_mlx.errors import DualTuneError, DualTuneWarning, UsageError
from dualtune_mlx.files import atomic_file
from dualtune_mlx.kv.snapshot import Layers, Snapshot, owned

FOLDER = "prefixes"
"""The folder inside a bundle."""
FORMAT = "dualtune prefix 1"
SUFFIX = ".safetensors"
HEADER_LIMIT, TOKENS_LIMIT = 2**20, 2**20
TYPES = ("F32", "F16", "BF16")
PROBED = 8
TOLERANCE = 0.1
"""How far, relatively, a file's first keys and values may lie from the model's own: half precision on another
device is within a few hundredths, another model is at one and more."""
DAMAGES = (OSError, SafetensorError, RuntimeError, ValueError, KeyError, TypeError)
"""What reading a file that is not as it should be can raise, from the system, safetensors, numpy or MLX."""

Probe = Callable[[tuple[int, ...], str], Snapshot]
"""Keys and values of tokens under an adapter (its content hash, or ""), computed by the model itself."""
T = TypeVar("T")


class PrefixWarning(DualTuneWarning):
    """A prefix file was ignored."""


class PrefixError(DualTuneError):
    """A prefix file cannot be used; it becomes a ``PrefixWarning``."""


@dataclass(frozen=True)
class Entry:
    """A file whose header is sound; its keys and values have not been looked at."""

    path: Path
    adapter: str
    tokens: tuple[int, ...]
    nbytes: int
    checksum: str


class PrefixStore:
    """The prefix files of one model in a folder.

    Args:
        folder: where they lie; it need not be there.
        fingerprint: ``kv_fingerprint`` of the model.
        probe: asked for the first few tokens of a file before it is trusted: the model's own keys and values must
            have the same shapes and types, and agree.
    """

    def __init__(self, folder: Path, fingerprint: str, probe: Probe) -> None:
        self.folder = folder
        self.fingerprint = fingerprint
        self.probe = probe
        self.ignored: list[Path] = []
        paths = sorted(path for path in folder.glob(f"*{SUFFIX}") if not path.name.startswith("."))
        found = [self._or_ignored(path, partial(_entry, path, fingerprint)) for path in paths]
        self.entries = [entry for entry in found if entry is not None]

    def exact(self, tokens: tuple[int, ...], adapter: str) -> Entry | None:
        """The file of exactly these tokens under this adapter."""
        return next((entry for entry in self.entries if (entry.tokens, entry.adapter) == (tokens, adapter)), None)

    def worth_reading(self, tokens: tuple[int, ...], known: int, adapter: str, limit: int) -> list[Entry]:
        """The files of at most ``limit`` bytes that know more of these tokens, the one that knows most first.

        A file is read whole. Where less than half of it is news, computing that is the cheaper way.
        """
        news = {
            entry: shared(entry.tokens, tokens) - known
            for entry in self.entries
            if entry.adapter == adapter and entry.nbytes <= limit
        }
        worth = [entry for entry, gain in news.items() if 2 * gain >= len(entry.tokens)]
        return sorted(worth, key=lambda entry: -news[entry])

    def read(self, entry: Entry) -> Snapshot | None:
        """A file's keys and values, once they are known to be sound; None, with a warning, where they are not."""
        own = self.probe(entry.tokens[:PROBED], entry.adapter)
        snapshot = self._or_ignored(entry.path, partial(self._verified, entry, own))
        if snapshot is None:
            self.entries.remove(entry)
        return snapshot

    def save(self, snapshot: Snapshot, adapter: str = "") -> Entry:
        """Write a file, whole or not at all.

        Raises:
            UsageError: when the folder cannot be written.
        """
        layers = owned(snapshot.layers, 0, len(snapshot.tokens))
        checksum = self._checksum(snapshot.tokens, adapter, layers)
        path = self.folder / f"{checksum[:32]}{SUFFIX}"
        tensors = {"tokens": mx.array(snapshot.tokens, mx.int32)}
        for number, (keys, values) in enumerate(layers):
            tensors |= {f"layers.{number}.keys": keys, f"layers.{number}.values": values}
        metadata = {"format": FORMAT, "fingerprint": self.fingerprint, "adapter": adapter, "checksum": checksum}
        try:
            with atomic_file(path) as temporary:
                mx.save_safetensors(str(temporary), tensors, metadata)
        except (OSError, RuntimeError) as error:
            raise UsageError("a prefix cannot be written", where=path, got=error) from error
        entry = Entry(path, adapter, snapshot.tokens, path.stat().st_size, checksum)
        self.entries.append(entry)
        return entry

    def _verified(self, entry: Entry, own: Snapshot) -> Snapshot:
        """A file's content; ``own`` is what the model makes of its first few tokens."""
        arrays: dict[str, mx.array] = mx.load(str(entry.path))  # type: ignore[assignment]
        mx.eval(arrays)  # what is checked below is what is in memory: the file may change afterwards
        numbers = range(len(arrays) // 2)
        layers = tuple((arrays[f"layers.{i}.keys"], arrays[f"layers.{i}.values"]) for i in numbers)
        checksum = self._checksum(entry.tokens, entry.adapter, layers)
        if checksum != entry.checksum:
            raise PrefixError("its content is not what was written", got=checksum[:12], expected=entry.checksum[:12])
        snapshot = Snapshot(entry.tokens, (layers,))
        if snapshot.form != own.form:
            raise PrefixError("the model's keys and values have other shapes or types", got=snapshot.form[0])
        pairs = zip(own.layers, layers, strict=True)
        agree = [_agree(mine, its) for two in pairs for mine, its in zip(*two, strict=True)]
        if not mx.all(mx.stack(agree)).item():
            raise PrefixError("the model itself computes other keys and values")
        return snapshot

    def _checksum(self, tokens: tuple[int, ...], adapter: str, layers: Layers) -> str:
        digest = hashlib.sha256(json.dumps([FORMAT, self.fingerprint, adapter, tokens]).encode())
        for array in (array for pair in layers for array in pair):
            digest.update(f"{array.shape}{array.dtype}".encode())
            digest.update(memoryview(array.view(mx.uint8)))  # type: ignore[arg-type]
        return digest.hexdigest()

    def _or_ignored(self, path: Path, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except PrefixError as error:
            reason = error
        except DAMAGES as error:
            reason = PrefixError("it is damaged", got=error)
        self.ignored.append(path)
        told = PrefixError(
            f"a prefix file is ignored: {reason.what}",
            where=path,
            got=reason.got,
            expected=reason.expected,
            fix="compute it again: dualtune warm --bundle …",
        )
        warnings.warn(str(told), PrefixWarning, stacklevel=2)
        return None


def kv_fingerprint(model: nn.Module, weights: str) -> str:
    """What a model's keys and values depend on, hashed: the fingerprint of its weights, its configuration (rotary
    positions, windows, norms) and the code that runs it.
    """
    code = f"{type(model).__module__} of mlx-lm {mlx_lm.__version__}"
    configuration = json.dumps(vars(model.args), sort_keys=True, default=str)
    return hashlib.sha256("\n".join((weights, code, configuration)).encode()).hexdigest()


def shared(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """How many tokens two sequences begin with in common."""
    length = min(len(one), len(other))
    if one[:length] == other[:length]:  # the usual case, and many times faster than a loop
        return length
    return next(i for i, (left, right) in enumerate(zip(one, other, strict=False)) if left != right)


def _entry(path: Path, fingerprint: str) -> Entry:
    """What a file's header says, all of it checked.

    Raises:
        PrefixError, and those in ``DAMAGES``: when the file is not one of ours, not the model's, or not whole.
    """
    with path.open("rb") as raw:
        header = int.from_bytes(raw.read(8), "little")
    if header > HEADER_LIMIT:
        raise PrefixError("its header is too long", got=header, expected=f"at most {HEADER_LIMIT} bytes")
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata() or {}
        for key, expected in (("format", FORMAT), ("fingerprint", fingerprint)):
            if metadata.get(key) != expected:
                raise PrefixError(f"it has another {key}", got=repr(metadata.get(key)), expected=repr(expected))
        slices = [(name, file.get_slice(name)) for name in sorted(file.keys())]
        forms = {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices}
        tokens = _checked(forms)
        ids = tuple(file.get_tensor("tokens").tolist())
    if len(ids) != tokens:
        raise PrefixError("its token ids are incomplete", got=len(ids), expected=tokens)
    return Entry(path, metadata["adapter"], ids, path.stat().st_size, metadata["checksum"])


def _checked(forms: dict[str, tuple[str, tuple[int, ...]]]) -> int:
    """The number of tokens that a file's tensors, ``{name: (type, shape)}``, are of."""
    parts = [f"layers.{number}.{part}" for number in range(len(forms) // 2) for part in ("keys", "values")]
    kind, shape = forms["tokens"]
    if not parts or forms.keys() != {"tokens", *parts} or kind != "I32" or len(shape) != 1:
        raise PrefixError("its tensors are not those of a prefix", got=", ".join(sorted(forms)[:5]))
    (tokens,) = shape
    odd = [n for n in parts if forms[n][0] not in TYPES or len(forms[n][1]) != 4 or forms[n][1][::2] != (1, tokens)]
    if odd or not 0 < tokens <= TOKENS_LIMIT:
        raise PrefixError(
            "its tensors have other shapes or types than a prefix has",
            got=", ".join(f"{name} {forms[name]}" for name in odd[:3]) or f"{tokens} tokens",
            expected=f"(1, kv heads, {tokens}, head width) of {', '.join(TYPES)}",
        )
    return tokens


def _agree(own: mx.array, other: mx.array) -> mx.array:
    """Whether an array agrees with the model's own, as far as that goes (tokens are axis 2)."""
    own, other = own.astype(mx.float32), other[..., : own.shape[2], :].astype(mx.float32)
    return mx.square(own - other).sum() <= TOLERANCE**2 * mx.square(own).sum()
