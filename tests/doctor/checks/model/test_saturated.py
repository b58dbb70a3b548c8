"""`model.saturated`: are most outputs of bounded activations at their limits?"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from for_checks.asked import asked, digits, perceptron
from striate.doctor.checks.model.saturated import SATURATED


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("activation", [nn.Tanh, nn.Sigmoid, nn.Hardtanh])
def test_units_at_their_limits(activation: type[nn.Module]) -> None:
    def network(scale: float) -> nn.Sequential:
        model = perceptron(depth=3, activation=activation)
        with torch.no_grad():
            for layer in model:
                if isinstance(layer, nn.Linear):
                    layer.weight *= scale
        return model

    (found,) = asked(SATURATED, network(60.0), digits(), optimizer=lambda p: torch.optim.SGD(p, lr=0.02))
    assert found.code == "model.saturated"
    assert "xavier_normal_" in found.remedy
    assert not asked(SATURATED, network(1.0), digits())


def test_a_sigmoid_at_the_end_is_no_hidden_one() -> None:
    model = nn.Sequential(perceptron(), nn.Sigmoid())
    nn.init.constant_(model[0][-1].bias, 50.0)
    assert not asked(SATURATED, model, digits())
