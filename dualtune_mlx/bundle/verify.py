"""Whether a bundle is whole: every file, hash and tensor, and the model that it is for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dualtune_mlx.bundle import MANIFEST, Bundle, read_manifest, schema_hash
from dualtune_mlx.bundle.assemble import check_activation, served
from dualtune_mlx.bundle.export import base_for
from dualtune_mlx.conversion.peft.base import Base
from dualtune_mlx.errors import BundleError, DualTuneError
from dualtune_mlx.models import check_supported, load_tokenizer
from dualtune_mlx.prompts import PromptRenderer, span_name
from dualtune_mlx.tools import PLAN

Key = tuple[str, str]
"""A stage and the scope of its adapter."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with which part of a bundle: ``manifest``, ``tools``, ``model``, ``template``, an adapter."""

    part: str
    message: str


def problems(folder: Path, model: str | None = None) -> list[Problem]:
    """All that is wrong with a bundle; ``model`` is its base model, where it lies elsewhere than the bundle says.

    Where the model cannot be loaded, that is a problem, and the rest is held against nothing.
    """
    try:
        bundle = Bundle.open(folder)
    except DualTuneError as error:
        return [Problem("manifest", str(error))]
    name = model or bundle.model
    found = [*_tried("tools", partial(_check_tools, bundle)), *_tried("template", bundle.load_template)]
    base, tokenizer = None, None
    try:
        base, tokenizer = base_for(name), load_tokenizer(name)
        _check_model(bundle, base)
    except DualTuneError as error:
        found.append(Problem("model", str(error)))
    for key in bundle.stages:
        part = "/".join(filter(None, key))
        found += _tried(part, partial(_check_adapter, bundle, key, base))
        found += _tried(f"template of {part}", partial(_check_template, bundle, key, tokenizer))
    return found


def _tried(part: str, check: Callable[[], object]) -> Iterator[Problem]:
    try:
        check()
    except DualTuneError as error:
        yield Problem(part, str(error))


def _check_tools(bundle: Bundle) -> None:
    listed = read_manifest(bundle.folder / MANIFEST)["tools"]
    changed = [
        tool.name
        for tool, written in zip(bundle.tools, listed, strict=True)
        if written.get("schema_hash") != schema_hash(tool)
    ]
    if changed:
        raise BundleError(
            "tools have other schemas than when they were written",
            where=bundle.folder / MANIFEST,
            got=", ".join(changed),
            fix="restore the bundle",
        )


def _check_model(bundle: Bundle, base: Base) -> None:
    check_supported(base.name, base.model)
    if base.fingerprint() != bundle.fingerprint:
        raise BundleError(
            "the model is not the bundle's",
            where=base.name,
            got=base.fingerprint()[:12],
            expected=f"{bundle.fingerprint[:12]} ({bundle.model})",
            fix="name the bundle's model with --model",
        )


def _check_adapter(bundle: Bundle, key: Key, base: Base | None) -> None:
    slot = bundle.stages[key]
    adapter = bundle.load(*key, slot)
    check_activation(adapter, bundle.folder / slot.path)
    if base is not None:
        base.check(adapter)


def _check_template(bundle: Bundle, key: Key, tokenizer: Any) -> None:
    """Of a stage: that its file is the one that was written, and that it serves the bundle's tools."""
    stage, scope = key
    template = bundle.load_template(bundle.stages[key].template)
    if tokenizer is None:
        return
    tools = {"planner": (PLAN,), "arguments": served(scope, bundle.tools)}.get(stage, bundle.tools)
    PromptRenderer(template, tokenizer, bundle.cards).check_stage(span_name(stage), tools)
