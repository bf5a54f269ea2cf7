"""A bundle made of adapters that exist: ours, or PEFT's, which are converted on the way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dualtune_mlx.adapters import Adapter
from dualtune_mlx.adapters.adapter import WEIGHTS
from dualtune_mlx.adapters.config import POINTS
from dualtune_mlx.bundle import AdapterEntry, Bundle, TemplateRef, adapter_path
from dualtune_mlx.bundle.export import base_for
from dualtune_mlx.conversion.peft.base import Base
from dualtune_mlx.conversion.peft.from_peft import read_peft
from dualtune_mlx.errors import AdapterError, UsageError
from dualtune_mlx.files import new_folder
from dualtune_mlx.models import check_supported, load_tokenizer
from dualtune_mlx.prompts import PromptRenderer, Template
from dualtune_mlx.tools import Tool


@dataclass(frozen=True)
class Part:
    """An adapter that is to be in a bundle: whose, and where it is (a folder of ours or PEFT's, or a hub id of PEFT's).

    ``template`` is what it was trained with, where that is not the bundle's.
    """

    stage: str
    scope: str
    source: str
    template: str | None = None


def assemble(
    folder: Path, model: str, tools: Sequence[Tool], parts: Sequence[Part], template: str, cards: str
) -> Bundle:
    """Make a bundle of adapters. Nothing is written unless everything is right.

    ``template`` and ``cards`` are the bundle's: of stages that bring no template of their own, or no adapter.

    Raises:
        UsageError: when the folder exists, there are no parts, or one is for tools that are not there.
        ModelError, PromptError, ToolError: when the model, a template or a tool cannot be used.
        AdapterError, ConversionError: when an adapter is damaged, does not fit, or cannot be converted exactly.
    """
    if folder.exists():
        raise UsageError("the destination exists already", where=folder, fix="choose another name or remove it")
    check_scopes(parts, tools)
    own = {name: Template(name) for name in {template, *(part.template for part in parts if part.template)}}
    tokenizer = load_tokenizer(model)
    for part in parts:
        renderer = PromptRenderer(own[part.template or template], tokenizer, cards)
        renderer.check_stage(part.stage, tools if part.stage == "selector" else served(part.scope, tools))
    base = base_for(model)
    check_supported(model, base.model)
    adapters = {part: read_adapter(part.source, base) for part in parts}
    stages = {(part.stage, part.scope): _slot(part, adapter, own) for part, adapter in adapters.items()}
    named = TemplateRef.of(own[template])
    with new_folder(folder) as temporary:
        bundle = Bundle(temporary, model, base.fingerprint(), named.name, named.hash, cards, tuple(tools), stages)
        for part, adapter in adapters.items():
            adapter.save(temporary / adapter_path(part.stage, part.scope))
        bundle.write()
    return Bundle.open(folder)


def check_scopes(parts: Sequence[Part], tools: Sequence[Tool]) -> None:
    """Refuse parts that would serve nothing.

    Raises:
        UsageError: when there are none, two are for the same calls, or one is for calls that cannot be made.
    """
    places = [(part.stage, part.scope) for part in parts]
    bad = [
        f"{stage} {scope!r}: given twice" for stage, scope in dict.fromkeys(places) if places.count((stage, scope)) > 1
    ]
    bad += [
        f"arguments {scope!r}: no such server or tool that takes arguments"
        for stage, scope in places
        if stage == "arguments" and not served(scope, tools)
    ]
    if bad or not parts:
        raise UsageError(
            "the adapters do not go with the tools",
            got="; ".join(bad) or "no adapters",
            expected=f"a selector, or arguments of: {', '.join(_scopes(tools))}",
        )


def served(scope: str, tools: Iterable[Tool]) -> tuple[Tool, ...]:
    """The tools whose arguments an adapter of a scope may write; those without parameters need none."""
    return tuple(tool for tool in tools if tool.takes_arguments and scope in _scopes_of(tool))


def _scopes_of(tool: Tool) -> tuple[str, ...]:
    return "", tool.server, f"{tool.server}/{tool.name}"


def _scopes(tools: Iterable[Tool]) -> list[str]:
    """The scopes that there are, the widest one as it is written."""
    scopes = dict.fromkeys(scope for tool in tools if tool.takes_arguments for scope in _scopes_of(tool))
    return [scope or "* (all)" for scope in scopes]


def read_adapter(source: str, base: Base) -> Adapter:
    """An adapter of ours, or one of PEFT's as ours, that fits the model.

    Raises:
        AdapterError, ConversionError: when it is damaged, does not fit, cannot be converted exactly, or begins to act
            where no stage looks for it.
    """
    try:
        adapter = _ours(source, base) if (Path(source) / WEIGHTS).is_file() else read_peft(source, base)
    except AdapterError as error:
        if error.where is None:  # the model does not know which of the adapters it refuses
            raise AdapterError(error.what, where=source, got=error.got, fix=error.fix) from error
        raise
    check_activation(adapter, source)
    return adapter


def _ours(source: str, base: Base) -> Adapter:
    adapter = Adapter.load(source)
    base.check(adapter)
    return adapter


def check_activation(adapter: Adapter, where: object) -> None:
    """Refuse an adapter that no stage can run.

    Raises:
        AdapterError: when it begins to act at tokens of its own.
    """
    activation = adapter.config.activation
    if activation not in POINTS:
        raise AdapterError(
            "a stage cannot run an adapter that acts from tokens of its own on",
            where=where,
            got=f"activation {activation}",
            expected=", ".join(POINTS),
            fix="for an activated LoRA, train again with this package; classic LoRA acts on all tokens",
        )


def _slot(part: Part, adapter: Adapter, templates: Mapping[str, Template]) -> AdapterEntry:
    template = TemplateRef.of(templates[part.template]) if part.template else None
    path = adapter_path(part.stage, part.scope)
    return AdapterEntry(path, adapter.content_hash, training={"source": part.source}, template=template)
