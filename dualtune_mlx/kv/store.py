"""Prefixes on disk: written by ``dualtune warm``, read by later processes when they first need them.

A file is safetensors. It holds ``tokens`` (n,) int32 and, for each layer i, ``layers.i.keys`` and ``layers.i.values``
(1, kv heads, n, head width). Its metadata:

* ``format``
* ``fingerprint``: ``kv_fingerprint`` of the model
* ``adapter``: content hash of the adapter that acted on these tokens; "" for the base weights alone
* ``checksum``: SHA-256 of all the rest; it also names the file

A file is only a cache. One that cannot be used is ignored with a ``PrefixWarning``, and its tokens are computed again.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import mlx.core as mx
import mlx.nn as nn
import mlx_lm
from safetensors import SafetensorError, safe_open

from dualtune_mlx.errors import DualTuneError, DualTuneWarning, UsageError, count_of
from dualtune_mlx.files import atomic_file, require_file
from dualtune_mlx.kv.snapshot import Layers, Snapshot, copy_tokens

PREFIX_FOLDER = "prefixes"
"""The folder inside a bundle."""
FORMAT = "dualtune prefix 1"
SUFFIX = ".safetensors"
HEADER_LIMIT = 2**20
"""Bytes of a header, at most."""
TOKENS_LIMIT = 2**20
"""Tokens of a file, at most."""
DTYPES = ("F32", "F16", "BF16")
PROBE_TOKENS = 8
"""A file's first tokens, whose keys and values are compared with the model's own."""
TOLERANCE = 0.1
"""The relative difference that the comparison allows. Half precision on another device is within a few hundredths;
another model is at one and more."""
READ_ERRORS = (OSError, SafetensorError, RuntimeError, ValueError, KeyError, TypeError)
"""What reading a damaged file can raise: errors of the system, safetensors, NumPy or MLX."""

ComputeSnapshot = Callable[[tuple[int, ...], str], Snapshot]
"""Computes the keys and values of tokens under an adapter (its content hash, or "") with the model itself."""
T = TypeVar("T")


class PrefixWarning(DualTuneWarning):
    """A prefix file was ignored."""


class PrefixError(DualTuneError):
    """A prefix file cannot be used; it becomes a ``PrefixWarning``."""


@dataclass(frozen=True)
class PrefixFile:
    """A file whose header is valid. Its keys and values have not been checked."""

    path: Path
    """Where it lies."""
    adapter: str
    """Content hash of the adapter that acted on its tokens; "" for the base weights alone."""
    tokens: tuple[int, ...]
    """Its token ids."""
    nbytes: int
    """Its size on disk."""
    checksum: str
    """SHA-256 of its content."""


class PrefixStore:
    """The prefix files of one model in a folder.

    Args:
        folder: where the files lie; it need not exist.
        fingerprint: ``kv_fingerprint`` of the model.
        compute_snapshot: called with the first few tokens of a file before the file is trusted. The model's own
            keys and values must have the same shapes and types, and nearly the same values.
        known: the checksums of the files that may be used; all, where left out.
    """

    def __init__(
        self, folder: Path, fingerprint: str, compute_snapshot: ComputeSnapshot, known: Collection[str] | None = None
    ) -> None:
        self.folder = folder
        self.fingerprint = fingerprint
        self.compute_snapshot = compute_snapshot
        self.ignored: list[Path] = []
        """The files that cannot be used."""
        paths = sorted(path for path in folder.glob(f"*{SUFFIX}") if not path.name.startswith("."))
        found = [self._read_or_ignore(path, partial(_read_header, path, fingerprint, known)) for path in paths]
        self.files = [file for file in found if file is not None]

    def find(self, tokens: tuple[int, ...], adapter: str) -> PrefixFile | None:
        """The file of exactly these tokens under this adapter, if there is one."""
        return next((file for file in self.files if (file.tokens, file.adapter) == (tokens, adapter)), None)

    def candidates(self, tokens: tuple[int, ...], known: int, adapter: str, limit: int) -> list[PrefixFile]:
        """The files that are worth reading for these tokens, the one that adds most first.

        A file is read whole. Where less than half of it is new, computing the new tokens is cheaper.

        Args:
            tokens: the tokens that are needed.
            known: how many of them, from the first on, are known already.
            adapter: content hash of the adapter that acts on them, or "".
            limit: bytes of a file, at most.
        """
        new = {
            file: common_length(file.tokens, tokens) - known
            for file in self.files
            if file.adapter == adapter and file.nbytes <= limit
        }
        worth_reading = [file for file, count in new.items() if 2 * count >= len(file.tokens)]
        return sorted(worth_reading, key=lambda file: -new[file])

    def read(self, file: PrefixFile) -> Snapshot | None:
        """Read a file's keys and values, and check them. One that cannot be used gives a warning and None."""
        own = self.compute_snapshot(file.tokens[:PROBE_TOKENS], file.adapter)
        snapshot = self._read_or_ignore(file.path, partial(self._read_checked, file, own))
        if snapshot is None:
            self.files.remove(file)
        return snapshot

    def save(
        self, snapshot: Snapshot, adapter: str = "", announce: Callable[[str], object] = lambda checksum: None
    ) -> PrefixFile:
        """Write a snapshot into a file, completely or not at all.

        Args:
            snapshot: the keys and values.
            adapter: content hash of the adapter that acted on them, or "".
            announce: is told the file's checksum before the file is written.

        Raises:
            UsageError: when the folder cannot be written.
        """
        layers = copy_tokens(snapshot.layers, 0, len(snapshot.tokens))
        checksum = self._checksum(snapshot.tokens, adapter, layers)
        announce(checksum)
        path = self.folder / f"{checksum[:32]}{SUFFIX}"
        tensors = {"tokens": mx.array(snapshot.tokens, mx.int32)}
        for number, (keys, values) in enumerate(layers):
            tensors |= {f"layers.{number}.keys": keys, f"layers.{number}.values": values}
        metadata = {"format": FORMAT, "fingerprint": self.fingerprint, "adapter": adapter, "checksum": checksum}
        try:
            with atomic_file(path) as temporary, temporary.open("wb") as raw:
                mx.save_safetensors(raw, tensors, metadata)
        except (OSError, RuntimeError) as error:
            raise UsageError(
                "a prefix cannot be written",
                where=path,
                got=error,
                fix="make room on the disk, or let the folder be written to",
            ) from error
        file = PrefixFile(path, adapter, snapshot.tokens, path.stat().st_size, checksum)
        self.files.append(file)
        return file

    def _read_checked(self, file: PrefixFile, own: Snapshot) -> Snapshot:
        """A file's content, once it is checked; ``own`` is the model's own snapshot of its first few tokens."""
        arrays: dict[str, mx.array] = mx.load(str(file.path))  # type: ignore[assignment]
        mx.eval(arrays)  # what is checked below is what is in memory: the file may change afterwards
        numbers = range(len(arrays) // 2)
        layers = tuple((arrays[f"layers.{i}.keys"], arrays[f"layers.{i}.values"]) for i in numbers)
        checksum = self._checksum(file.tokens, file.adapter, layers)
        if checksum != file.checksum:
            raise PrefixError("its content is not what was written", got=checksum[:12], expected=file.checksum[:12])
        snapshot = Snapshot(file.tokens, (layers,))
        if snapshot.layout != own.layout:
            raise PrefixError("the model's keys and values have other shapes or types", got=snapshot.layout[0])
        pairs = zip(own.layers, layers, strict=True)
        close = [_is_close(mine, its) for two in pairs for mine, its in zip(*two, strict=True)]
        if not mx.all(mx.stack(close)).item():
            raise PrefixError("the model itself computes other keys and values")
        return snapshot

    def _checksum(self, tokens: tuple[int, ...], adapter: str, layers: Layers) -> str:
        digest = hashlib.sha256(json.dumps([FORMAT, self.fingerprint, adapter, tokens]).encode())
        for array in (array for pair in layers for array in pair):
            digest.update(f"{array.shape}{array.dtype}".encode())
            digest.update(memoryview(array.view(mx.uint8)))  # type: ignore[arg-type]
        return digest.hexdigest()

    def _read_or_ignore(self, path: Path, read: Callable[[], T]) -> T | None:
        """What ``read`` gives. Where it fails there is a warning, and None."""
        try:
            return read()
        except PrefixError as error:
            reason = error
        except READ_ERRORS as error:
            reason = PrefixError("it is damaged", got=error)
        self.ignored.append(path)
        ignored = PrefixError(
            f"a prefix file is ignored: {reason.what}",
            where=path,
            got=reason.got,
            expected=reason.expected,
            fix="compute it again: dualtune warm --bundle …",
        )
        warnings.warn(str(ignored), PrefixWarning, stacklevel=2)
        return None


def kv_fingerprint(model: nn.Module, weights: str) -> str:
    """A hash of what a model's keys and values depend on.

    That is its weights, its configuration (rotary positions, windows, norms) and the code that runs it.

    Args:
        model: mlx-lm's model.
        weights: its ``fingerprint``.
    """
    code = f"{type(model).__module__} of mlx-lm {mlx_lm.__version__}"
    configuration = json.dumps(vars(model.args), sort_keys=True, default=str)
    return hashlib.sha256("\n".join((weights, code, configuration)).encode()).hexdigest()


def common_length(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """The length of the beginning that two sequences have in common."""
    length = min(len(one), len(other))
    if one[:length] == other[:length]:  # the usual case, and many times faster than a loop
        return length
    return next(i for i, (left, right) in enumerate(zip(one, other, strict=False)) if left != right)


def _read_header(path: Path, fingerprint: str, known: Collection[str] | None) -> PrefixFile:
    """Read a file's header, and check all of it.

    Raises:
        PrefixError: when the file is no prefix file, not the model's, not known, or incomplete.
        Exception: one of ``READ_ERRORS``.
    """
    with require_file(path).open("rb") as raw:
        header = int.from_bytes(raw.read(8), "little")
    if header > HEADER_LIMIT:
        raise PrefixError("its header is too long", got=header, expected=f"at most {HEADER_LIMIT} bytes")
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata() or {}
        for key, expected in (("format", FORMAT), ("fingerprint", fingerprint)):
            if metadata.get(key) != expected:
                raise PrefixError(f"it has another {key}", got=repr(metadata.get(key)), expected=repr(expected))
        if known is not None and metadata["checksum"] not in known:
            raise PrefixError("the bundle does not name it", got=metadata["checksum"][:12])
        slices = [(name, file.get_slice(name)) for name in sorted(file.keys())]
        forms = {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices}
        tokens = _count_tokens(forms)
        ids = tuple(file.get_tensor("tokens").tolist())
    if len(ids) != tokens:
        raise PrefixError("its token ids are incomplete", got=len(ids), expected=tokens)
    return PrefixFile(path, metadata["adapter"], ids, path.stat().st_size, metadata["checksum"])


def _count_tokens(forms: dict[str, tuple[str, tuple[int, ...]]]) -> int:
    """The number of tokens in a file, from the types and shapes of its tensors by name, which are checked."""
    parts = [f"layers.{number}.{part}" for number in range(len(forms) // 2) for part in ("keys", "values")]
    kind, shape = forms["tokens"]
    if not parts or forms.keys() != {"tokens", *parts} or kind != "I32" or len(shape) != 1:
        raise PrefixError("its tensors are not those of a prefix", got=", ".join(sorted(forms)[:5]))
    (tokens,) = shape
    odd = [n for n in parts if forms[n][0] not in DTYPES or len(forms[n][1]) != 4 or forms[n][1][::2] != (1, tokens)]
    if odd or not 0 < tokens <= TOKENS_LIMIT:
        raise PrefixError(
            "its tensors have other shapes or types than a prefix has",
            got=", ".join(f"{name} {forms[name]}" for name in odd[:3]) or count_of(tokens, "token"),
            expected=f"(1, kv heads, {tokens}, head width) of {', '.join(DTYPES)}",
        )
    return tokens


def _is_close(own: mx.array, other: mx.array) -> mx.array:
    """Whether an array is close to the model's own, over the tokens of the latter (axis 2)."""
    own, other = own.astype(mx.float32), other[..., : own.shape[2], :].astype(mx.float32)
    return mx.square(own - other).sum() <= TOLERANCE**2 * mx.square(own).sum()
