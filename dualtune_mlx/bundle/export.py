"""Adapters and whole bundles as PEFT's, and the base model that conversions are checked against."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dualtune_mlx.adapters import Adapter
from dualtune_mlx.bundle import Bundle
from dualtune_mlx.conversion.peft import BaseCheckpoint, to_peft
from dualtune_mlx.files import atomic_folder
from dualtune_mlx.models import fingerprint, hash_loaded, load_network, load_tokenizer, resolve
from dualtune_mlx.prompts import PromptRenderer, template_for
from dualtune_mlx.prompts.renderer import OPENED_ACTIVATIONS

OnVerified = Callable[[float], object] | None
"""Called with the largest difference of a logit from PEFT's. Without it, no logits are compared."""


def load_base(name: str) -> BaseCheckpoint:
    """Load the model that conversions are checked against. Its weights are read when they are needed.

    Raises:
        ModelError: when the model is missing or damaged.
    """
    network = load_network(name, lazy=True)
    model = network.model
    return BaseCheckpoint(
        str(resolve(name)),
        model,
        network.config,
        lambda: fingerprint(model),
        lambda: hash_loaded(network.folder, model),
    )


def adapter_to_peft(
    source: Path,
    destination: Path,
    *,
    model: str | None = None,
    template: str | None = None,
    on_verified: OnVerified = None,
) -> None:
    """Write an adapter folder of ours as PEFT's.

    Args:
        source: the adapter's folder.
        destination: the new folder.
        model: the base model, which the adapter must fit.
        template: the template that the adapter was trained with. With ``model``, it gives the tokens that open the
            adapter's activation.
        on_verified: as in ``to_peft``.

    Raises:
        AdapterError: when the adapter cannot be read, or does not fit.
        ConversionError: when PEFT cannot express it.
        PromptError: when there is a template, and no tokens of it open the activation.
    """
    adapter = Adapter.load(source)
    base = load_base(model) if model else None
    if base is not None:
        base.check(adapter)
    tokens: tuple[int, ...] = ()
    if template and model:
        tokenizer = load_tokenizer(model)
        renderer = PromptRenderer(template_for(template, tokenizer), tokenizer)
        tokens = renderer.opener_tokens(adapter.config.activation)
    to_peft(adapter, destination, model=model, invocation=tokens, where=source, base=base, on_verified=on_verified)


def bundle_to_peft(
    source: Path, destination: Path, *, model: str | None = None, on_verified: OnVerified = None
) -> list[Path]:
    """Write all adapters of a bundle as PEFT's, in folders of the same names, and return these.

    Nothing is written unless everything converts.

    Args:
        source: the bundle.
        destination: the new folder.
        model: the base model, where it lies elsewhere than the bundle says.
        on_verified: as in ``to_peft``.

    Raises:
        BundleError, AdapterError: when the bundle or an adapter cannot be read.
        ConversionError: when PEFT cannot express an adapter.
    """
    bundle = Bundle.open(source)
    name = model or bundle.model
    tokenizer = load_tokenizer(name)
    base = load_base(name) if on_verified is not None else None
    with atomic_folder(destination) as folder:
        for entry, adapter in bundle.load_adapters():
            activation = adapter.config.activation
            renderer = bundle.open_renderer(tokenizer, entry.template, name)
            to_peft(
                adapter,
                folder / entry.path,
                model=bundle.model,
                invocation=renderer.opener_tokens(activation) if activation in OPENED_ACTIVATIONS else (),
                fingerprint=bundle.fingerprint,
                where=source / entry.path,
                base=base,
                on_verified=on_verified,
            )
    return [destination / entry.path for entry in bundle.stages.values()]
