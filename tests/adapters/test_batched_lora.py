"""Several adapters in one batch: every row is what its own adapter alone makes of it."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import pytest

from dualtune_mlx.adapters import AdapterBank
from dualtune_mlx.adapters.batched_lora import batch_updates, stack_updates
from dualtune_mlx.errors import AdapterError
from tests.adapters.adapters import adapter_for, plain

ROWS = mx.array([[7, 30, 12, 99], [4, 51, 8, 3], [7, 30, 12, 99], [1, 2, 3, 4], [9, 9, 9, 9]])


def adapters(bank: AdapterBank) -> list:
    """Of different ranks, scales, layers and kinds, and none."""
    made = [
        adapter_for(bank, 1),
        adapter_for(bank, 2, rank=7, scale=0.5),
        adapter_for(bank, 3, layers="last:1", targets=("q_proj", "mlp.*")),
        None,
        adapter_for(bank, 4, dora=True),
    ]
    return [adapter and bank.load(adapter) for adapter in made]


def logits(model: nn.Module, bank: AdapterBank, chosen: list, rows: list[int]) -> mx.array:
    with bank.overriding(batch_updates(stack_updates(bank, chosen), rows)):
        return model(ROWS)


@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize("kind", ["llama", "qwen2", "phi"])
@pytest.mark.parametrize("which", [[0, 1, 2, 3, 4], [4, 4, 3, 1, 0], [2, 2, 2, 2, 2]])
def test_every_row_acts_under_its_own_adapter(kind, quantised, which):
    model = plain(kind, quantised)
    bank = AdapterBank(model)
    chosen = adapters(bank)
    together = logits(model, bank, chosen, which)
    for row, place in enumerate(which):
        bank.activate(chosen[place])
        assert mx.allclose(together[row], model(ROWS[row][None])[0], rtol=1e-4, atol=1e-5).item(), (row, place)


def test_adapters_without_dora_are_not_scaled():
    bank = AdapterBank(plain())
    stacks = stack_updates(bank, adapters(bank)[:4])
    assert all(stack.ratio is None for stack in stacks.values())


def test_without_adapters_nothing_is_overridden_and_the_base_stays_as_it_is():
    model = plain()
    bank = AdapterBank(model)
    before = model(ROWS)
    assert stack_updates(bank, [None]) == {}
    logits(model, bank, adapters(bank), [0, 1, 2, 3, 4])
    assert mx.array_equal(model(ROWS), before).item()


def test_an_adapter_that_is_not_resident_is_refused():
    bank = AdapterBank(plain())
    with pytest.raises(AdapterError, match="not in this bank"):
        stack_updates(bank, [adapter_for(bank, 1)])
