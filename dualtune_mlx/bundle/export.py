"""Conversions that need a model by its name, or a whole bundle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dualtune_mlx.adapters import Adapter
from dualtune_mlx.bundle import Bundle
from dualtune_mlx.conversion.peft.base import Base
from dualtune_mlx.conversion.peft.to_peft import to_peft
from dualtune_mlx.files import new_folder
from dualtune_mlx.models import fingerprint, load_network, load_tokenizer, resolve
from dualtune_mlx.prompts import PromptRenderer, Template
from dualtune_mlx.prompts.renderer import OPENED_ACTIVATIONS

Verify = Callable[[float], object] | None


def base_for(name: str) -> Base:
    """The model that conversions are checked against; its weights are read when they are needed.

    Raises:
        ModelError: when it is missing or damaged.
    """
    network, _, config = load_network(name, lazy=True)
    return Base(str(resolve(name)), network, config, lambda: fingerprint(network))


def adapter_to_peft(
    source: Path, destination: Path, model: str | None = None, template: str | None = None, verify: Verify = None
) -> None:
    """Write an adapter folder of ours as PEFT's; ``template`` says what opens an activation, ``model`` encodes it.

    ``verify`` is as in ``to_peft``.

    Raises:
        AdapterError, ConversionError: when it cannot be read, or PEFT cannot express it.
        PromptError: when there is a template, and the adapter's activation has no opener.
    """
    adapter = Adapter.load(source)
    base = base_for(model) if model else None
    if base is not None:
        base.check(adapter)
    tokens: tuple[int, ...] = ()
    if template and model:
        renderer = PromptRenderer(Template(template), load_tokenizer(model))
        tokens = renderer.opener_tokens(adapter.config.activation)
    to_peft(adapter, destination, model, tokens, where=source, base=base, verify=verify)


def bundle_to_peft(source: Path, destination: Path, model: str | None = None, verify: Verify = None) -> list[Path]:
    """Write all adapters of a bundle as PEFT's, each where it lies in the bundle; the folders.

    ``verify`` is as in ``to_peft``.

    Raises:
        BundleError, AdapterError, ConversionError: when one cannot be read, or PEFT cannot express it; then none is
            written.
    """
    bundle = Bundle.open(source)
    name = model or bundle.model
    tokenizer = load_tokenizer(name)
    base = base_for(name) if verify is not None else None
    with new_folder(destination) as folder:
        for slot, adapter in bundle.adapters():
            activation = adapter.config.activation
            renderer = PromptRenderer(bundle.load_template(slot.template), tokenizer, bundle.cards)
            tokens = renderer.opener_tokens(activation) if activation in OPENED_ACTIVATIONS else ()
            where = source / slot.path
            to_peft(adapter, folder / slot.path, bundle.model, tokens, bundle.fingerprint, where, base, verify)
    return [destination / slot.path for slot in bundle.stages.values()]
