"""Finds what is wrong with a bundle: its files, hashes and tensors, and the model that it is for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dualtune_mlx.bundle import MANIFEST, Bundle, StageKey, read_manifest, schema_hash
from dualtune_mlx.bundle.assemble import check_activation, tools_in_scope
from dualtune_mlx.bundle.export import load_base
from dualtune_mlx.conversion.peft import BaseCheckpoint
from dualtune_mlx.errors import BundleError, DualTuneError
from dualtune_mlx.models import check_supported, hash_weights, load_tokenizer
from dualtune_mlx.prompts import span_name
from dualtune_mlx.tools import PLAN


@dataclass(frozen=True)
class Problem:
    """Something that is wrong with a bundle."""

    part: str
    """``manifest``, ``tools``, ``template``, ``words``, ``model``, an adapter (``arguments/files``), or ``template of``
    one."""
    message: str
    """What is wrong, where, and how to mend it."""


def find_problems(folder: Path, model: str | None = None) -> list[Problem]:
    """Find everything that is wrong with a bundle.

    Args:
        folder: the bundle.
        model: its base model, where that lies elsewhere than the bundle says. A model that cannot be loaded is a
            problem itself; then adapters and templates are not checked against it.
    """
    try:
        bundle = Bundle.open(folder)
    except DualTuneError as error:
        return [Problem("manifest", str(error))]
    name = model or bundle.model
    found = [*_try_check("tools", partial(_check_tools, bundle)), *_try_check("template", bundle.load_template)]
    found += _try_check("words", bundle.load_words)
    base, tokenizer = None, None
    try:
        base, tokenizer = load_base(name), load_tokenizer(name)
        _check_model(bundle, base)
    except DualTuneError as error:
        found.append(Problem("model", str(error)))
    for key in bundle.stages:
        part = "/".join(filter(None, key))
        found += _try_check(part, partial(_check_adapter, bundle, key, base))
        found += _try_check(f"template of {part}", partial(_check_template, bundle, key, tokenizer, name))
    return found


def _try_check(part: str, check: Callable[[], object]) -> Iterator[Problem]:
    """Yield the problem that a check raises, if it does."""
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


def _check_model(bundle: Bundle, base: BaseCheckpoint) -> None:
    check_supported(base.name, base.model)
    if base.fingerprint() != bundle.fingerprint:
        raise BundleError(
            "the model is not the bundle's",
            where=base.name,
            got=base.fingerprint()[:12],
            expected=f"{bundle.fingerprint[:12]} ({bundle.model})",
            fix="name the bundle's model with --model",
        )
    bundle.check_weights(base.name, hash_weights(base.model) if bundle.weights else "")


def _check_adapter(bundle: Bundle, key: StageKey, base: BaseCheckpoint | None) -> None:
    entry = bundle.stages[key]
    adapter = bundle.load_adapter(*key)
    check_activation(adapter, bundle.folder / entry.path)
    if base is not None:
        base.check(adapter)


def _check_template(bundle: Bundle, key: StageKey, tokenizer: Any, model: str) -> None:
    """Check that a stage's template is the one that it was trained with, and that it serves the bundle's tools."""
    stage, scope = key
    template = bundle.stages[key].template
    if tokenizer is None:
        bundle.load_template(template)
        return
    tools = {"planner": (PLAN,), "arguments": tools_in_scope(scope, bundle.tools)}.get(stage, bundle.tools)
    bundle.open_renderer(tokenizer, template, model).check_stage(span_name(stage), tools)
