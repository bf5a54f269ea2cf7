"""Experts: the two layouts of their updates in PEFT, and the one in mlx-lm.

mlx-lm stacks the experts of each projection: A (experts, rank, inputs), B (experts, outputs, rank).
transformers before version 5 has a linear layer for each expert. Since then it stacks parameters too, gate and up
projection in one. PEFT's A (experts x rank, inputs) is expert-major, its B (outputs, rank x experts) rank-major.
"""

from __future__ import annotations

from collections.abc import Mapping

import mlx.core as mx

from dualtune_mlx.adapters import LoRAUpdate
from dualtune_mlx.conversion.peft.base import BaseCheckpoint
from dualtune_mlx.conversion.peft.config import PeftConfig
from dualtune_mlx.conversion.peft.module_tensors import ModuleTensors
from dualtune_mlx.conversion.peft.names import EXPERT, MIXTRAL, STACK, mlx_path
from dualtune_mlx.errors import ConversionError

KINDS = ("mixtral", "olmoe", "qwen2_moe", "qwen3_moe")
"""The models whose gate_up_proj is known to hold the rows of the gate first, then those of the up projection."""
PARAMETERS = ("gate_up_proj", "down_proj")
"""The stacked parameters, in the order in which PEFT wraps them: the first is innermost."""
NAMES = ("gate_proj", "up_proj", "down_proj")


def is_expert(module: str) -> bool:
    """Whether a module is an expert or a stack of experts."""
    return bool(EXPERT.fullmatch(module) or STACK.fullmatch(module))


def read_expert_updates(
    modules: Mapping[str, ModuleTensors], config: PeftConfig, base: BaseCheckpoint | None
) -> dict[str, LoRAUpdate]:
    """Read the updates of all experts, by mlx-lm's path.

    Raises:
        ConversionError: when no model is given, its experts are of an unknown kind, or their ranks or scales differ.
    """
    if not modules:
        return {}
    if base is None or base.model_type not in KINDS:
        raise ConversionError(
            "the adapter changes experts, and how they are laid out is not known",
            where=config.where,
            got=base.model_type if base else "no model",
            expected=f"one of {', '.join(KINDS)}",
            fix=None if base else "give the base model: --model",
        )
    odd = [module for module, parts in modules.items() if parts.tensors.keys() != {"a", "b"} or parts.is_embedding]
    if odd:
        raise ConversionError(
            "experts have no A and B alone",
            where=config.where,
            got=", ".join(sorted(odd)),
            fix="train the experts with plain LoRA: no magnitudes, no weights of their own",
        )
    single = {module: parts for module, parts in modules.items() if EXPERT.fullmatch(module)}
    stacks = {module: parts for module, parts in modules.items() if module not in single}
    return _read_single(single, config, base) | _read_stacks(stacks, config, base)


def _read_single(
    modules: Mapping[str, ModuleTensors], config: PeftConfig, base: BaseCheckpoint
) -> dict[str, LoRAUpdate]:
    """Read updates of which each expert has its own."""
    stacks: dict[str, dict[int, str]] = {}
    for module in modules:
        match = EXPERT.fullmatch(module)
        assert match
        name = MIXTRAL.get(match["name"], match["name"])
        stacks.setdefault(_expert_path(match["experts"], name, base), {})[int(match["number"])] = module
    updates = {}
    for path, experts in stacks.items():
        scales = {number: _checked_scale(config, module, modules[module].rank) for number, module in experts.items()}
        shapes = {(modules[module].rank, scales[number]) for number, module in experts.items()}
        if sorted(experts) != list(range(len(experts))) or len(shapes) != 1:
            raise ConversionError(
                "the experts of a layer differ in rank or scale, or some have no update",
                where=config.where,
                got=f"{path}: experts {sorted(experts)}, ranks and scales {sorted(shapes)}",
                expected="an update of the same rank and scale for each expert",
            )
        a, b = ([modules[experts[number]].tensors[part] for number in sorted(experts)] for part in "ab")
        updates[path] = LoRAUpdate(_stack(a, path, config), _stack(b, path, config), scales[0])
    return updates


def _read_stacks(
    modules: Mapping[str, ModuleTensors], config: PeftConfig, base: BaseCheckpoint
) -> dict[str, LoRAUpdate]:
    """Read updates of stacked parameters. The two halves of a gate_up_proj share A; each has its own rows of B."""
    updates = {}
    for module, parts in modules.items():
        match = STACK.fullmatch(module)
        assert match
        parameter = _find_parameter(match["experts"], match["inner"].count(".base_layer"), modules, config)
        rank = config.rank_of(parameter)
        a, b = parts.tensors["a"], parts.tensors["b"]
        if a.shape[0] % rank:
            raise _wrong_rank(config, module, a.shape[0], f"a multiple of {rank}")
        experts = a.shape[0] // rank
        scale = config.scale_of(parameter, rank)
        a = a.reshape(experts, rank, -1)
        b = b.reshape(b.shape[0], rank, experts).transpose(2, 0, 1)
        names = NAMES[:2] if parameter.endswith(PARAMETERS[0]) else NAMES[2:]
        for name, own in zip(names, mx.split(b, len(names), axis=1), strict=True):
            updates[_expert_path(match["experts"], name, base)] = LoRAUpdate(a, mx.contiguous(own), scale)
    return updates


def _find_parameter(experts: str, depth: int, modules: Mapping[str, ModuleTensors], config: PeftConfig) -> str:
    """The parameter whose update is wrapped ``depth`` times. With both, gate_up_proj's is inside down_proj's."""
    paths = [f"{experts}.{name}" for name in PARAMETERS]
    targeted = [path for path in paths if any(f".{path}".endswith(f".{wanted}") for wanted in config.parameters)]
    depths = [".base_layer" * level for level in range(len(targeted))]
    if {f"{experts}{inner}" for inner in depths} != {module for module in modules if module.startswith(experts)}:
        raise ConversionError(
            "the updates of stacked experts are not those of target_parameters",
            where=config.where,
            got=", ".join(module for module in modules if module.startswith(experts)),
            expected=f"one for each of {', '.join(targeted) or 'no parameters'}",
        )
    return targeted[len(targeted) - 1 - depth]


def _checked_scale(config: PeftConfig, module: str, rank: int) -> float:
    if rank != config.rank_of(module):
        raise _wrong_rank(config, module, rank, str(config.rank_of(module)))
    return config.scale_of(module, rank)


def _wrong_rank(config: PeftConfig, module: str, got: int, expected: str) -> ConversionError:
    return ConversionError(
        "a layer's rank is not the one that the configuration gives it",
        where=f"{config.where}: {module}",
        got=got,
        expected=expected,
    )


def _expert_path(experts: str, name: str, base: BaseCheckpoint) -> str:
    return mlx_path(f"{experts.removesuffix('experts')}switch_mlp.{name}", base.modules)


def _stack(arrays: list[mx.array], path: str, config: PeftConfig) -> mx.array:
    if len({array.shape for array in arrays}) != 1:
        raise ConversionError(
            "the experts of a layer have other shapes",
            where=f"{config.where}: {path}",
            fix="name the model that the adapter was trained on",
        )
    return mx.stack(arrays)


def to_peft_stacks(updates: Mapping[str, LoRAUpdate], where: object) -> dict[str, dict[str, LoRAUpdate]]:
    """Convert updates of experts to PEFT's stacked parameters, by the path of the stack and the parameter's name.

    If gate and up projection have an A of their own each, they become one update of twice the rank. Its B is zero where
    the rows of one meet the A of the other. PEFT itself reads older adapters like this.

    Args:
        updates: by mlx-lm's path.
        where: the adapter, for errors.

    Raises:
        ConversionError: when a gate has an update without the up projection, or one of another scale.
    """
    stacks: dict[str, dict[str, LoRAUpdate]] = {}
    for path, update in updates.items():
        block, _, name = path.rpartition(".switch_mlp.")
        stacks.setdefault(block, {})[name] = update
    return {f"{block}.experts": _to_parameters(block, own, where) for block, own in stacks.items()}


def _to_parameters(block: str, updates: dict[str, LoRAUpdate], where: object) -> dict[str, LoRAUpdate]:
    gate, up = updates.get("gate_proj"), updates.get("up_proj")
    if (gate is None) != (up is None) or (gate and up and gate.scale != up.scale):
        raise ConversionError(
            "PEFT has one update for an expert's gate and up projection",
            where=f"{where}: {block}",
            got=", ".join(f"{name} (scale {update.scale})" for name, update in updates.items()),
            expected="an update of both, with the same scale, or of neither",
        )
    found = {PARAMETERS[0]: _join_gate_and_up(gate, up)} if gate and up else {}
    found |= {PARAMETERS[1]: updates["down_proj"]} if "down_proj" in updates else {}
    return {name: _flatten(update) for name, update in found.items()}


def _join_gate_and_up(gate: LoRAUpdate, up: LoRAUpdate) -> LoRAUpdate:
    """One update for gate and up projection: A (experts, rank, inputs), B (experts, outputs, rank)."""
    if gate.a.shape == up.a.shape and mx.array_equal(gate.a, up.a).item():
        return LoRAUpdate(gate.a, mx.concatenate([gate.b, up.b], axis=1), gate.scale)
    above = mx.zeros((*gate.b.shape[:2], up.b.shape[2]), gate.b.dtype)
    below = mx.zeros((*up.b.shape[:2], gate.b.shape[2]), up.b.dtype)
    rows = [mx.concatenate([gate.b, above], axis=2), mx.concatenate([below, up.b], axis=2)]
    return LoRAUpdate(mx.concatenate([gate.a, up.a], axis=1), mx.concatenate(rows, axis=1), gate.scale)


def _flatten(update: LoRAUpdate) -> LoRAUpdate:
    """PEFT's two matrices, transposed as ours are: a (inputs, experts x rank), b (rank x experts, outputs)."""
    experts, rank, _ = update.a.shape
    a = update.a.reshape(experts * rank, -1).T
    b = update.b.transpose(2, 0, 1).reshape(rank * experts, -1)
    return LoRAUpdate(a, b, update.scale)
