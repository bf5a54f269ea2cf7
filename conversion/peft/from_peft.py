"""Convert a Hugging Face PEFT LoRA adapter to one of ours, exactly or not at all.

    dualtune convert from-peft ADAPTER FOLDER --model MODEL

The result also loads in mlx-lm, if it has one rank and scale, acts everywhere, and changes only linear layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import mlx.core as mx

from dualtune_mlx.adapters import Adapter, AdapterConfig, LoRAUpdate, SavedModule, TrainedTokenRows
from dualtune_mlx.adapters.config import AT_TOKENS, POINTS
from dualtune_mlx.adapters.module_weights import ModuleWeights
from dualtune_mlx.conversion.peft.base import BaseCheckpoint, check_base
from dualtune_mlx.conversion.peft.config import CONFIG, PeftConfig
from dualtune_mlx.conversion.peft.experts import is_expert, read_expert_updates
from dualtune_mlx.conversion.peft.files import find_folder, read_tensors
from dualtune_mlx.conversion.peft.layout import find_uniform_layout
from dualtune_mlx.conversion.peft.module_tensors import ModuleTensors, group_by_module
from dualtune_mlx.conversion.peft.names import BEGINNINGS, mlx_path
from dualtune_mlx.conversion.peft.verify import compare_logits
from dualtune_mlx.errors import ConversionError, UsageError, count_of

HEAD, COPY = "lm_head", ".base_layer"
"""The suffix of the base's own weights beside an update."""
Progress = Callable[[int, int, str], None]
"""Called with the modules done, their number, and the path of the last one."""


def from_peft(
    source: str,
    destination: str | Path,
    *,
    base: BaseCheckpoint | None = None,
    progress: Progress = lambda *_: None,
    on_verified: Callable[[float], object] | None = None,
    dry_run: bool = False,
) -> Adapter:
    """Convert a PEFT adapter into a new folder. Nothing is written unless everything converts.

    Args:
        source: the adapter's folder, or its hub id.
        destination: the new folder.
        base: the model to check the adapter against.
        progress: called after each module.
        on_verified: if given, logits are compared with PEFT's before anything is written. It is called with the largest
            difference.
        dry_run: whether to do everything but write.

    Raises:
        ConversionError: when something cannot be converted exactly; the error names it.
        AdapterError: when the adapter does not fit the model, naming every bad tensor.
        UsageError: when the destination exists.
    """
    if Path(destination).exists():
        raise UsageError("the destination exists already", where=destination, fix="choose another name or remove it")
    adapter = read_peft(source, base, progress)
    if on_verified is not None:
        on_verified(compare_logits(adapter, find_folder(source), base))
    if not dry_run:
        adapter.save(destination)
    return adapter


def read_peft(source: str, base: BaseCheckpoint | None = None, progress: Progress = lambda *_: None) -> Adapter:
    """Read a PEFT adapter as one of ours. Arguments and errors are those of ``from_peft``."""
    folder = find_folder(source)
    config = PeftConfig.read(folder / CONFIG)
    tensors, own = read_tensors(folder)
    if base is not None:
        check_base(base, config, own.get("fingerprint"))
    modules = group_by_module(tensors, folder)
    if base is None:
        _check_beginnings(modules, folder)
    experts = {module: parts for module, parts in modules.items() if is_expert(module)}
    others = {module: parts for module, parts in modules.items() if module not in experts}
    others = _drop_copies(others, config, base)
    low_rank, module_weights = _read_low_rank(others, config, base), _read_module_weights(others, config, base)
    _check_together(low_rank, module_weights, config, others, experts)
    layers = {**low_rank, **read_expert_updates(experts, config, base)}
    _check_finite({**layers, **module_weights}, config, progress)
    adapter = Adapter.from_layers(_make_config(layers, module_weights, config, base, own), layers, module_weights)
    if base is not None:
        _check_head(adapter, config, base)
        base.check(adapter)
    return adapter


def _check_beginnings(modules: Mapping[str, ModuleTensors], folder: Path) -> None:
    """Refuse paths that no language model has: without a model, nothing else would notice them."""
    odd = [module for module in modules if not module.startswith(BEGINNINGS)]
    if odd:
        raise ConversionError(
            "an adapter changes modules that a language model does not have",
            where=folder,
            got="; ".join(odd),
            expected=f"paths that begin with {', '.join(BEGINNINGS)}",
            fix="give the base model: --model; or save the adapter without what is wrapped around its model",
        )


def _read_low_rank(
    modules: Mapping[str, ModuleTensors], config: PeftConfig, base: BaseCheckpoint | None
) -> dict[str, LoRAUpdate]:
    """Read the updates of linear layers and embeddings, by mlx-lm's path."""
    updates = {}
    for module, parts in modules.items():
        if not parts.is_low_rank:
            continue
        # An update of a parameter that is a matrix (a router's weight) is known by the parameter's name.
        parameter = f"{module}.weight"
        targeted = any(f".{parameter}".endswith(f".{wanted}") for wanted in config.parameters)
        name = parameter if targeted else module
        rank = config.rank_of(name)
        if rank != parts.rank:
            raise ConversionError(
                "a layer's rank is not the one that the configuration gives it",
                where=f"{config.where}: {module}",
                got=parts.rank,
                expected=rank,
                fix="restore rank_pattern, or the tensors",
            )
        if parts.is_embedding and config.dora:
            raise ConversionError(
                "DoRA of an embedding is not supported",
                where=f"{config.where}: {module}",
                fix="train without use_dora, or without the embedding",
            )
        if not parts.is_embedding and config.dora != ("m" in parts.tensors):
            raise ConversionError(
                "use_dora and the tensors contradict each other",
                where=f"{config.where}: {module}",
                got=f"use_dora {config.dora}, tensors {', '.join(sorted(parts.tensors))}",
                expected="a lora_magnitude_vector for each layer with use_dora, and only then",
            )
        ours = {part: mx.contiguous(tensor.T) for part, tensor in parts.tensors.items()}
        updates[mlx_path(module, base.modules if base else None)] = LoRAUpdate.of(ours, config.scale_of(name, rank))
    return updates


def _read_module_weights(
    modules: Mapping[str, ModuleTensors], config: PeftConfig, base: BaseCheckpoint | None
) -> dict[str, ModuleWeights]:
    """Read the weights and token rows that modules have of their own, by mlx-lm's path."""
    module_weights: dict[str, ModuleWeights] = {}
    for module, parts in modules.items():
        path = mlx_path(module, base.modules if base else None)
        if "rows" in parts.tensors:
            module_weights[path] = TrainedTokenRows(
                mx.array(_find_row_ids(module, parts, config), mx.int32), parts.tensors["rows"]
            )
        elif not parts.is_low_rank:
            module_weights[path] = SavedModule(parts.tensors)
    rows = [module for module, parts in modules.items() if "rows" in parts.tensors]
    saved = [module for module, parts in modules.items() if "weight" in parts.tensors]
    missing = [name for name in config.saved_modules if not any(module.endswith(name) for module in saved)]
    missing += [name for name in config.token_rows if not any(module.endswith(name) for module in rows)]
    if missing:
        raise ConversionError(
            "modules that the configuration names have no weights",
            where=config.where,
            got="none for " + ", ".join(name or "trainable_token_indices" for name in missing),
            expected="weights of all modules_to_save, rows of all trainable_token_indices",
        )
    return module_weights


def _find_row_ids(module: str, parts: ModuleTensors, config: PeftConfig) -> list[int]:
    ids = next((list(ids) for name, ids in config.token_rows.items() if module.endswith(name)), [])
    rows = parts.tensors["rows"].shape[0]
    if len(set(ids)) != len(ids) or len(ids) != rows:
        raise ConversionError(
            "the trained rows do not go with trainable_token_indices",
            where=f"{config.where}: {module}",
            got=f"{count_of(rows, 'row')}, {count_of(len(ids), 'token id')}, {len(set(ids))} different",
            expected="as many different token ids as rows",
        )
    return ids


def _drop_copies(
    modules: dict[str, ModuleTensors], config: PeftConfig, base: BaseCheckpoint | None
) -> dict[str, ModuleTensors]:
    """Leave out the modules that are only copies of the base's weights, which PEFT saves with embeddings."""
    kept = {}
    for module, parts in modules.items():
        copied = module.endswith(COPY) or not any(module.endswith(name) for name in config.saved_modules)
        if "weight" not in parts.tensors or not copied:
            kept[module] = parts
        elif not _is_copy(module.removesuffix(COPY), parts, base):
            raise ConversionError(
                "the adapter holds weights of the base model, which it cannot change",
                where=f"{config.where}: {module}",
                got="other weights than the model's" if base else "weights that only the model can be compared with",
                expected="weights that are the base's, bit for bit, or modules_to_save",
                fix="convert with the unquantised base model that the adapter was trained on"
                if base
                else "give the base model: --model",
            )
    return kept


def _is_copy(module: str, parts: ModuleTensors, base: BaseCheckpoint | None) -> bool:
    if base is None:
        return False
    path = mlx_path(module, base.modules)
    if path.endswith(HEAD) and path not in base.modules:  # a tied head is the embedding, and saved all the same
        path = mlx_path("model.embed_tokens", base.modules)
    own: Mapping[str, mx.array] = base.modules.get(path, {})
    return all(name in own and bool(mx.array_equal(own[name], tensor).item()) for name, tensor in parts.tensors.items())


def _check_together(
    layers: Mapping[str, LoRAUpdate],
    module_weights: Mapping[str, ModuleWeights],
    config: PeftConfig,
    others: Mapping[str, ModuleTensors],
    experts: Mapping[str, ModuleTensors],
) -> None:
    """Refuse a module that is changed twice, and an activated adapter that changes more than linear layers."""
    both = layers.keys() & module_weights.keys()
    if both or len(layers) + len(module_weights) < len(others):
        raise ConversionError(
            "a module is changed in two ways",
            where=config.where,
            got=", ".join(sorted(both)) or "two of the adapter's modules are one in the model",
            expected="an update, or rows, or weights of its own",
        )
    always = [*module_weights, *experts, *(module for module, parts in others.items() if parts.is_embedding)]
    if config.tokens and (always or config.dora):
        raise ConversionError(
            "an activated adapter changes more than linear layers by low-rank updates",
            where=config.where,
            got=", ".join(sorted(always)) or "use_dora",
            expected="linear layers: PEFT lets all else act before the invocation too",
            fix="train it without alora_invocation_tokens, or without these",
        )


def _check_finite(updates: Mapping[str, LoRAUpdate | ModuleWeights], config: PeftConfig, progress: Progress) -> None:
    bad = []
    for done, (path, update) in enumerate(updates.items(), 1):
        bad += [f"{path} ({part})" for part, array in update.parts.items() if not mx.isfinite(array).all().item()]
        progress(done, len(updates), path)
    if bad:
        raise ConversionError(
            "an adapter has tensors with NaN or infinite values",
            where=config.where.parent,
            got=", ".join(bad),
            expected="finite numbers",
            fix="take a checkpoint from before the training went wrong",
        )


def _check_head(adapter: Adapter, config: PeftConfig, base: BaseCheckpoint) -> None:
    heads = [path for path in adapter.updates if path.endswith(HEAD) and path not in base.modules]
    if heads:
        raise ConversionError(
            "the adapter changes the head, which this model shares with its embedding",
            where=config.where,
            got=", ".join(heads),
            fix="train it without the head, or on a model whose head is its own",
        )


def _make_config(
    layers: Mapping[str, LoRAUpdate],
    module_weights: Mapping[str, ModuleWeights],
    config: PeftConfig,
    base: BaseCheckpoint | None,
    own: Mapping[str, object],
) -> AdapterConfig:
    """Make our configuration; ``own`` is what ``to_peft`` wrote into the metadata, if the adapter was ours before."""
    kind = "dora" if config.dora else "lora"
    activation = AT_TOKENS if config.tokens else "all"
    if config.tokens and own.get("activation") in POINTS:
        activation = str(own["activation"])
    tokens = config.tokens if activation == AT_TOKENS else ()
    uniform = None if module_weights else find_uniform_layout(layers, len(base.model.layers) if base else None)
    if uniform is not None:
        where, keys, rank, scale = uniform
        return AdapterConfig(
            rank=rank,
            scale=scale,
            activation=activation,
            layers=where,
            keys=keys,
            kind=kind,
            dropout=config.dropout,
            tokens=tokens,
        )
    return AdapterConfig(
        rank=0,
        scale=0.0,
        activation=activation,
        layers=(0, None),
        keys=(),
        kind=kind,
        dropout=config.dropout,
        scales={path: layers[path].scale for path in sorted(layers)},
        modules=tuple(sorted(module_weights)),
        tokens=tokens,
    )
