"""Scores that are cosines: without a scale, or made smaller by a temperature that is multiplied."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from asked import asked, digits, perceptron
from torch import Tensor, nn
from torch.nn import functional

from striate.doctor.checks.model.last_layer import LAST_LAYER_CLIPPED


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.01)


class CosineHead(nn.Module):
    """Cosines with a weight for each class, as they are or times a scale."""

    def __init__(self, scale: float | None, *, trained: bool = False, by_norm: bool = False) -> None:
        super().__init__()
        self.body, self.by_norm = perceptron(), by_norm
        self.weight = nn.Parameter(torch.randn(10, 10, generator=torch.Generator().manual_seed(0)))
        self.scale: Any = nn.Parameter(torch.tensor(16.0)) if trained else scale

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        rows = x / x.norm(dim=1, keepdim=True) if self.by_norm else functional.normalize(x)
        cosines = functional.linear(rows, functional.normalize(self.weight))
        return cosines if self.scale is None else self.scale * cosines


class Views(nn.Module):
    """Embeddings of two views, each compared with those of all others."""

    def __init__(self) -> None:
        super().__init__()
        self.body = perceptron()

    def forward(self, x: Tensor) -> Tensor:
        return functional.normalize(self.body(x), dim=1)


def contrast(times: float) -> Any:
    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        x = batch[0]
        optimizer.zero_grad()
        z = torch.cat([model(x), model(x + 0.1 * torch.randn_like(x))])
        own = torch.eye(len(z), dtype=torch.bool)
        scores = (z @ z.T * times).masked_fill(own, float("-inf"))
        other = torch.arange(len(z)).roll(len(x))
        loss = functional.cross_entropy(scores, other)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


@pytest.mark.parametrize("by_norm", [False, True])
def test_cosines_of_classes_without_a_scale(by_norm: bool) -> None:
    (found,) = asked(LAST_LAYER_CLIPPED, CosineHead(None, by_norm=by_norm), digits(), optimizer=adam)
    assert "-1 to 1" in found.measured
    assert "cannot fall below 0.80 for 10 classes" in found.measured


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("head", [CosineHead(16), CosineHead(None, trained=True)])
def test_cosines_with_a_scale(head: nn.Module) -> None:
    assert not asked(LAST_LAYER_CLIPPED, head, digits(), optimizer=adam)


def test_a_temperature_that_is_multiplied() -> None:
    (found,) = asked(LAST_LAYER_CLIPPED, Views(), digits(), step=contrast(0.1), optimizer=adam)
    assert "-0.1 to 0.1" in found.measured


def test_a_temperature_that_is_divided_by() -> None:
    assert not asked(LAST_LAYER_CLIPPED, Views(), digits(), step=contrast(1 / 0.1), optimizer=adam)
