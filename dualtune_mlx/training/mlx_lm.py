"""mlx-lm's configuration of LoRA training: what to write here instead of its keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

SCHEDULES = {"cosine_decay": "cosine", "linear_schedule": "linear", "exponential_decay": "exponential"}
"""mlx's schedules by the names of ours."""
RANK = 8
"""mlx-lm's rank where none is given."""

Values = Mapping[Any, Any]
Lines = Iterator[str]


def _to_layers(value: Any, _: Values) -> Lines:
    yield f"layers: last:{value}" if int(value) > 0 else "layers: all"


def _to_steps(name: str) -> Callable[[Any, Values], Lines]:
    """mlx-lm counts batches, and steps here are the optimiser's."""

    def convert(value: Any, values: Values) -> Lines:
        batches = int(values.get("grad_accumulation_steps") or 1)
        yield f"{name}: {-(-int(value) // batches)}"

    return convert


def _rename(name: str) -> Callable[[Any, Values], Lines]:
    def convert(value: Any, _: Values) -> Lines:
        yield f"{name}: {value}"

    return convert


def _drop(reason: str) -> Callable[[Any, Values], Lines]:
    def convert(_: Any, __: Values) -> Lines:
        yield f"# {reason}"

    return convert


def _to_kind(value: Any, _: Values) -> Lines:
    known = {"lora": "# remove it: LoRA is what is trained", "dora": "dora: true"}
    yield known.get(str(value), "# no such training: adapters alone are trained, as LoRA or with dora: true")


def _to_optimizer(value: Any, values: Values) -> Lines:
    if value not in ("adam", "adamw"):
        yield "# no such optimiser: AdamW trains all adapters"
        return
    own = (values.get("optimizer_config") or {}).get(value) or {}
    yield f"weight_decay: {own.get('weight_decay', 0.01 if value == 'adamw' else 0.0)}"
    others = sorted(own.keys() - {"weight_decay"})
    if others:
        yield f"# {', '.join(others)}: AdamW has no such options here"


def _to_rate(value: Any, values: Values) -> Lines:
    if value is None:
        yield "schedule: constant"
        return
    name = SCHEDULES.get(value["name"])
    rate, *others = value["arguments"]
    if rate != values.get("learning_rate"):
        yield f"learning_rate: {rate}"
    yield f"schedule: {name}" if name else f"# no schedule {value['name']}: cosine, linear, exponential or constant"
    if others:
        yield f"# {', '.join(map(str, others))}: a schedule falls over all steps, to 0 (exponential: to a hundredth)"
    yield f"warmup: {int(value.get('warmup') or 0)}"


def _to_lora(value: Any, _: Values) -> Lines:
    rank = int(value.get("rank", RANK))
    yield f"rank: {rank}"
    if "scale" in value:
        yield f"alpha: {float(value['scale']) * rank}"
    if "alpha" in value:
        yield "# alpha is none of mlx-lm's; here the scale is alpha / rank"
    if "dropout" in value:
        yield f"dropout: {float(value['dropout'])}"
    if value.get("keys"):
        yield f"targets: [{', '.join(value['keys'])}]"
    yield from (f"# {name}: no such parameter" for name in value.keys() - {"rank", "scale", "alpha", "dropout", "keys"})


KEYS: Mapping[str, Callable[[Any, Values], Lines]] = {
    "fine_tune_type": _to_kind,
    "lora_parameters": _to_lora,
    "num_layers": _to_layers,
    "lora_layers": _to_layers,
    "iters": _to_steps("steps"),
    "steps_per_eval": _to_steps("validate_every"),
    "save_every": _to_steps("checkpoint_every"),
    "grad_accumulation_steps": _rename("accumulate"),
    "max_seq_length": _rename("window"),
    "lr_schedule": _to_rate,
    "optimizer": _to_optimizer,
    "optimizer_config": _drop("AdamW's weight_decay is the only option"),
    "adapter_path": _rename("bundle"),
    "resume_adapter_file": _drop(
        "write start: BUNDLE, to go on from one; dualtune bundle assemble makes it of adapters"
    ),
    "mask_prompt": _drop("remove it: the calls alone are learned, never the prompt"),
    "train": _drop("remove it: dualtune train trains"),
    "test": _drop("remove it: dualtune eval measures a bundle"),
    "test_batches": _drop("remove it: dualtune eval measures all of a file"),
    "val_batches": _drop("remove it: all of valid.jsonl is measured"),
    "steps_per_report": _drop("remove it: every step is in the log"),
    "report_to": _drop("remove it: runs/RUN in the bundle has a log and report.html"),
    "project_name": _drop("remove it: runs/RUN in the bundle has a log and report.html"),
    "clear_cache_threshold": _drop("remove it: memory_budget limits a run's memory"),
    "trust_remote_code": _drop("remove it: no code of a model is run"),
    "config": _drop("remove it: --config names the file"),
    "hf_dataset": _drop("write data: FOLDER, one with train.jsonl and valid.jsonl of conversations with calls"),
    "prompt_feature": _drop("remove it: data is conversations with calls"),
    "completion_feature": _drop("remove it: data is conversations with calls"),
    "text_feature": _drop("remove it: data is conversations with calls"),
    "chat_feature": _drop("remove it: data is conversations with calls"),
}
"""Every key of mlx-lm's that is none of ours, with the lines that stand for it here.

``model``, ``data``, ``batch_size``, ``learning_rate``, ``grad_checkpoint`` and ``seed`` mean the same in both.
"""


def lines_instead(values: Values) -> list[str]:
    """The lines of YAML to write instead of mlx-lm's keys among some values; a comment where there is none."""
    return [
        f"# {key}: {line[2:]}" if line.startswith("# ") else f"{line}  # instead of {key}"
        for key in values
        if key in KEYS
        for line in _convert(key, values)
    ]


def _convert(key: str, values: Values) -> list[str]:
    try:
        return list(KEYS[key](values[key], values))
    except (TypeError, ValueError, KeyError, IndexError, AttributeError):
        return [f"# mlx-lm itself could not read {values[key]!r}"]
