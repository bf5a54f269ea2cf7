"""Loading an engine: the base model of a bundle, in place or on a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, TypeVar

import mlx.core as mx

from dualtune_mlx.bundle import Bundle
from dualtune_mlx.errors import BundleError, DualTuneError, UsageError
from dualtune_mlx.models import BaseModel, load_model


class Closes(Protocol):
    """What is closed when nobody needs it."""

    def close(self) -> None: ...


C = TypeVar("C", bound=Closes)


def load_base(bundle: Bundle, model: str | BaseModel | None, fuse_to: str | None) -> BaseModel:
    """The base model that a bundle was trained on.

    Args:
        bundle: the bundle.
        model: the model, or where it lies; by default where the bundle says.
        fuse_to: as in ``DualTune.load``.

    Raises:
        UsageError: when ``fuse_to`` is given beside a loaded model.
        BundleError: when the model is not the one the bundle was trained on.
        ModelError: when the model cannot be loaded.
    """
    if isinstance(model, BaseModel) and fuse_to is not None:
        raise UsageError("fuse_to is given beside a loaded model", fix="give it to load_model")
    base = model if isinstance(model, BaseModel) else load_model(model or bundle.model, fuse_to)
    if base.fingerprint != bundle.fingerprint:
        raise BundleError(
            "the bundle was trained on another base model",
            where=bundle.folder,
            got=f"{base.name} ({base.fingerprint[:12]})",
            expected=f"{bundle.model} ({bundle.fingerprint[:12]})",
            fix="pass the model that the bundle names",
        )
    bundle.check_weights(base.name, base.weights)
    return base


async def load_on_thread(load: Callable[[], C]) -> C:
    """Load something without blocking the event loop. Cancelling waits for it, and closes it."""

    def work() -> C:
        try:
            return load()
        finally:
            mx.clear_streams()  # MLX wants it of every thread that used it

    loading = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(loading)
    except asyncio.CancelledError:
        with suppress(DualTuneError):
            (await loading).close()
        raise
