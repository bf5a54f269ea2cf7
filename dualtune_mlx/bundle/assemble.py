"""A bundle made of adapters that exist: ours, or PEFT's, which are converted on the way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dualtune_mlx.adapters import Adapter
from dualtune_mlx.adapters.adapter import WEIGHTS
from dualtune_mlx.adapters.config import POINTS
from dualtune_mlx.bundle import AdapterEntry, Bundle, TemplateRef, adapter_path, scope_chain
from dualtune_mlx.bundle.export import load_base
from dualtune_mlx.conversion.peft import BaseCheckpoint, read_peft
from dualtune_mlx.errors import AdapterError, UsageError
from dualtune_mlx.files import atomic_folder
from dualtune_mlx.models import check_supported, load_tokenizer
from dualtune_mlx.prompts import PromptRenderer, Template, template_for
from dualtune_mlx.tools import Tool


@dataclass(frozen=True)
class AdapterSource:
    """An adapter that a bundle is assembled of."""

    stage: str
    """The stage that it serves: ``selector``, ``arguments``, …"""
    scope: str
    """The calls that it serves: ``""`` (all), ``"server"`` or ``"server/tool"``."""
    source: str
    """Where it is: a folder of ours, a folder of PEFT's, or a hub id of PEFT's."""
    template: str | None = None
    """The template that it was trained with, where that is not the bundle's."""


def assemble(
    folder: Path,
    *,
    model: str,
    tools: Sequence[Tool],
    sources: Sequence[AdapterSource],
    template: str,
    cards: str,
    argument_card: str = "none",
) -> Bundle:
    """Make a bundle of adapters. Nothing is written unless everything is right.

    Args:
        folder: the new bundle.
        model: the base model of all adapters.
        tools: the tools that the adapters were trained on.
        sources: the adapters.
        template: the template of the stages that bring none of their own, or have no adapter.
        cards: the kind of tool card.
        argument_card: what the arguments are written from: one of ``ARGUMENT_CARDS``.

    Raises:
        UsageError: when the folder exists, there are no adapters, or one is for tools that are not there.
        ModelError, PromptError, ToolError: when the model, a template or a tool cannot be used.
        AdapterError, ConversionError: when an adapter is damaged, does not fit, or cannot be converted exactly.
    """
    if folder.exists():
        raise UsageError("the destination exists already", where=folder, fix="choose another name or remove it")
    check_scopes(sources, tools)
    tokenizer = load_tokenizer(model)
    names = {template, *(one.template for one in sources if one.template)}
    templates = {name: template_for(name, tokenizer) for name in names}
    for one in sources:
        renderer = PromptRenderer(templates[one.template or template], tokenizer, cards, argument_card)
        renderer.check_stage(one.stage, tools if one.stage == "selector" else tools_in_scope(one.scope, tools))
    base = load_base(model)
    check_supported(model, base.model)
    adapters = {one: read_adapter(one.source, base) for one in sources}
    with atomic_folder(folder) as temporary:
        bundle = Bundle(
            folder=temporary,
            model=model,
            fingerprint=base.fingerprint(),
            template=templates[template].name,
            template_hash=templates[template].hash,
            cards=cards,
            argument_card=argument_card,
            tools=tuple(tools),
            weights=base.weights(),
            stages={(one.stage, one.scope): _make_entry(one, adapter, templates) for one, adapter in adapters.items()},
        )
        for one, adapter in adapters.items():
            adapter.save(temporary / adapter_path(one.stage, one.scope))
        bundle.write()
    return Bundle.open(folder)


def check_scopes(sources: Sequence[AdapterSource], tools: Sequence[Tool]) -> None:
    """Refuse adapters that would serve no call.

    Raises:
        UsageError: when there are none, two are for the same calls, or one is for calls that cannot be made.
    """
    keys = [(one.stage, one.scope) for one in sources]
    bad = [f"{stage} {scope!r}: given twice" for stage, scope in dict.fromkeys(keys) if keys.count((stage, scope)) > 1]
    bad += [
        f"arguments {scope!r}: no such server or tool that takes arguments"
        for stage, scope in keys
        if stage == "arguments" and not tools_in_scope(scope, tools)
    ]
    if bad or not sources:
        raise UsageError(
            "the adapters do not go with the tools",
            got="; ".join(bad) or "no adapters",
            expected=f"a selector, or arguments of: {', '.join(_scope_names(tools))}",
        )


def tools_in_scope(scope: str, tools: Iterable[Tool]) -> tuple[Tool, ...]:
    """The tools whose arguments an adapter of a scope writes; tools without parameters are left out."""
    return tuple(tool for tool in tools if tool.takes_arguments and scope in scope_chain(tool.server, tool.name))


def read_adapter(source: str, base: BaseCheckpoint) -> Adapter:
    """Read an adapter of ours, or convert one of PEFT's, that fits the model.

    Raises:
        AdapterError: when it is damaged, does not fit, or acts from tokens of its own on.
        ConversionError: when it cannot be converted exactly.
    """
    try:
        adapter = _load_own(source, base) if (Path(source) / WEIGHTS).is_file() else read_peft(source, base)
    except AdapterError as error:
        if error.where is None:  # the model does not know which of the adapters it refuses
            raise AdapterError(error.what, where=source, got=error.got, fix=error.fix) from error
        raise
    check_activation(adapter, source)
    return adapter


def check_activation(adapter: Adapter, where: object) -> None:
    """Refuse an adapter that no stage can run.

    Raises:
        AdapterError: when it acts from tokens of its own on.
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


def _scope_names(tools: Iterable[Tool]) -> list[str]:
    """All scopes of some tools, as the command line writes them."""
    chains = (scope_chain(tool.server, tool.name) for tool in tools if tool.takes_arguments)
    scopes = dict.fromkeys(scope for chain in chains for scope in reversed(chain))
    return [scope or "* (all)" for scope in scopes]


def _load_own(source: str, base: BaseCheckpoint) -> Adapter:
    adapter = Adapter.load(source)
    base.check(adapter)
    return adapter


def _make_entry(source: AdapterSource, adapter: Adapter, templates: Mapping[str, Template]) -> AdapterEntry:
    return AdapterEntry(
        path=adapter_path(source.stage, source.scope),
        content_hash=adapter.content_hash,
        training={"source": source.source},
        template=TemplateRef.of(templates[source.template]) if source.template else None,
    )
