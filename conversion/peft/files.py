"""The files of a PEFT adapter. A tensor is not read before it is needed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mlx.core as mx
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open

from dualtune_mlx.conversion.peft.config import CONFIG, read_json
from dualtune_mlx.errors import ConversionError
from dualtune_mlx.files import require_file

WEIGHTS, INDEX = "adapter_model.safetensors", "adapter_model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
DTYPES = ("F32", "F16", "BF16")
METADATA = "dualtune"
"""The entry of a file's metadata for what PEFT's configuration has no field for."""


def find_folder(source: str) -> Path:
    """Find the folder of an adapter: a local one, or the download of a hub id.

    Raises:
        ConversionError: when it is not found.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if source.count("/") != 1 or path.is_absolute() or source.startswith("."):
        raise ConversionError(
            "the adapter was not found", where=source, expected=f"a folder with {CONFIG}, or a hub id"
        )
    try:
        # No pickle is downloaded, whatever the repository holds.
        return Path(snapshot_download(source, allow_patterns=[CONFIG, "adapter_model*.safetensors", INDEX]))
    except (OSError, ValueError) as error:
        raise ConversionError(
            "the adapter is neither a folder nor can it be downloaded",
            where=source,
            got=str(error).splitlines()[0],
            fix="check the name and the network, or name a folder",
        ) from error


def read_tensors(folder: Path) -> tuple[dict[str, mx.array], dict[str, Any]]:
    """Open all tensors of an adapter, lazily, and read our own entry of the metadata.

    Raises:
        ConversionError: when a file is missing or damaged, a tensor is in two files, or its type is not supported.
    """
    tensors: dict[str, mx.array] = {}
    own: dict[str, Any] = {}
    for path in _find_shards(folder):
        try:
            with safe_open(require_file(path), framework="numpy") as file:
                types = {name: file.get_slice(name).get_dtype() for name in file.offset_keys()}
                own |= json.loads((file.metadata() or {}).get(METADATA, "{}"))
            found: dict[str, mx.array] = mx.load(str(path))  # type: ignore[assignment]
        except (
            OSError,
            SafetensorError,
            RuntimeError,
            ValueError,
            TypeError,
        ) as error:  # RecursionError is a RuntimeError
            raise ConversionError(
                "an adapter's weights cannot be read",
                where=path,
                got=error,
                fix="copy the adapter again from where it was saved",
            ) from error
        odd = [f"{name}: {kind}" for name, kind in types.items() if kind not in DTYPES]
        if odd:
            raise ConversionError(
                "an adapter has tensors of a type that is not supported",
                where=path,
                got="; ".join(odd),
                expected=", ".join(DTYPES),
            )
        twice = tensors.keys() & found.keys()
        if twice:
            raise ConversionError(
                "a tensor stands in two files",
                where=path,
                got=", ".join(sorted(twice)),
                fix="leave one of the files away: both cannot be right",
            )
        tensors |= found
    if not tensors:
        raise ConversionError(
            "an adapter's files hold no tensors", where=folder, fix="copy the adapter again from where it was saved"
        )
    return tensors, own


def _find_shards(folder: Path) -> list[Path]:
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        return [folder / name for name in _read_index(folder / INDEX)]
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
    if pickles:
        raise ConversionError(
            "the adapter's weights are a pickle, which can run any code when it is read",
            where=folder,
            got=", ".join(pickles),
            expected=WEIGHTS,
            fix="load it with PEFT where you trust it, and save_pretrained again: that writes safetensors",
        )
    parts = sorted(path.name for path in folder.glob("adapter_model-*.safetensors"))
    raise ConversionError(
        "the adapter's weights were not found",
        where=folder,
        got=f"{', '.join(parts)}, and no index of them" if parts else None,
        expected=f"{WEIGHTS}, or {INDEX} and the files that it names",
    )


def _read_index(index: Path) -> Iterable[str]:
    """The names of the files in an index: plain names of files that exist beside it."""
    try:
        names = sorted(set(read_json(index)["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConversionError(
            "an index of weights cannot be read",
            where=index,
            got=repr(error),
            fix="copy the adapter again from where it was saved",
        ) from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise ConversionError(
                "an index names something else than a file beside it",
                where=index,
                got=repr(name),
                expected="names that end in .safetensors, without folders",
            )
        if not (index.parent / name).is_file():
            raise ConversionError("a file that an index names is missing", where=index, expected=name)
    return names
