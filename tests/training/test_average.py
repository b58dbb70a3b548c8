"""The moving average of the weights beside its formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from striate.training.average import make_average
from striate.training.state import TrainingState


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def wander(module: nn.Module, step: int) -> None:
    """As an optimizer and normalization would: other weights, other statistics."""
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
    module.train()(torch.randn(5, 3, generator=generator))


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.999])
def test_it_follows_the_formula(decay: float) -> None:
    module = network()
    average = make_average(module, decay)
    expected: dict[str, np.ndarray] = {}
    for step in range(12):
        wander(module, step)
        average.update()
        weight = 1.0 if step == 0 else 1 - min(decay, (1 + step) / (10 + step))
        for name, value in module.state_dict().items():
            now = value.double().numpy().copy()
            expected[name] = now if step == 0 else expected[name] + weight * (now - expected[name])
    for name, value in average.module.state_dict().items():
        if name.endswith("num_batches_tracked"):
            assert int(value) == 12
        else:
            assert np.allclose(value.numpy(), expected[name], atol=1e-5), name


@pytest.mark.parametrize("decay", [None, 0.0])
def test_none_is_made_when_it_is_off(decay: float | None) -> None:
    assert make_average(network(), decay) is None


def test_it_has_no_gradients_and_answers_in_eval_mode() -> None:
    module = network()
    average = make_average(module, 0.9)
    assert not any(p.requires_grad for p in average.module.parameters())
    assert not any(m.training for m in average.module.modules())
    assert all(p.requires_grad for p in module.parameters())


def test_the_average_answers_and_is_restored_bit_for_bit() -> None:
    states = []
    for _ in range(2):
        module = network()
        states.append(TrainingState(module, torch.optim.SGD(module.parameters(), 0.1), make_average(module, 0.9)))
    whole, cut = states
    assert whole.eval_module is whole.average.module

    def go(state: TrainingState, first: int, last: int) -> None:
        for step in range(first, last):
            wander(state.module, step)
            state.average.update()
            state.step += 1

    go(whole, 0, 9)
    go(cut, 0, 4)
    saved = cut.to_dict()
    assert set(saved["ema"]) == set(saved["model"])
    module = network()
    resumed = TrainingState(module, torch.optim.SGD(module.parameters(), 0.1), make_average(module, 0.9))
    resumed.restore(saved)
    go(resumed, 4, 9)
    for name, value in whole.eval_module.state_dict().items():
        assert torch.equal(value, resumed.eval_module.state_dict()[name]), name
