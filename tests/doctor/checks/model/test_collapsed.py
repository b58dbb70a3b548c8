"""`model.collapsed`: do the predictions depend on the input?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import asked, digits, perceptron, said
from for_checks.embeddings import DeepEmbedding
from striate.doctor.checks.model.collapsed import COLLAPSED


def rapid(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.03)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("pulls_alone", [True, False])
def test_embeddings_that_fall_into_one_point(pulls_alone: bool) -> None:
    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        optimizer.zero_grad()
        z = model(batch[0])
        apart = (z[:, None] - z[None]).square().sum(2)
        same = batch[1][:, None] == batch[1][None]
        value = apart.mean() if pulls_alone else apart[same].mean() + functional.relu(1 - apart[~same]).mean()
        value.backward()
        optimizer.step()
        return value.detach()

    found = said(COLLAPSED, DeepEmbedding(), digits(), step=step, optimizer=rapid)
    assert [one.code for one in found] == ["model.collapsed"] * pulls_alone


def test_embeddings_that_are_no_numbers_are_not_one_point() -> None:
    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        optimizer.zero_grad()
        value = model(batch[0]).square().mean() * float("nan")
        value.backward()
        optimizer.step()
        return value.detach()

    assert said(COLLAPSED, DeepEmbedding(), digits(), step=step, optimizer=rapid) == []


def test_the_same_answer_whatever_the_input() -> None:
    model = perceptron()
    model.insert(3, nn.GroupNorm(32, 32))
    (found,) = asked(COLLAPSED, model, digits())
    assert (found.code, found.severity) == ("model.collapsed", "error")
    assert "different inputs all outputs are (" in found.measured
    model[3] = nn.GroupNorm(4, 32)
    assert not asked(COLLAPSED, model, digits())


class Mixture(nn.Module):
    """The logarithms of the weights of its Gaussians, and their means."""

    def __init__(self, components: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.heads = nn.Linear(64, 24), nn.ModuleList(nn.Linear(24, components) for _ in range(2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.body(x.flatten(1)).tanh()
        return functional.log_softmax(self.heads[0](hidden), 1), self.heads[1](hidden)


def of_mixture(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
    optimizer.zero_grad()
    shares, means = model(batch[0])
    value = -torch.logsumexp(shares - 0.5 * (batch[1][:, None] - means) ** 2, 1).mean()
    value.backward()
    optimizer.step()
    return value.detach()


def test_a_mixture_of_one_component_has_a_constant_weight() -> None:
    loader = DataLoader(TensorDataset(digits().dataset.tensors[0], digits().dataset.tensors[1].float()), 32)  # type: ignore[attr-defined]
    assert not asked(COLLAPSED, Mixture(1), loader, step=of_mixture, optimizer=rapid)
