"""Labels that reach outputs of other samples, be the loss whatever it is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from asked import asked, loop
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.labels.step_labels import STEP_LABELS

Loss = Any


def rows(count: int = 320, numbers: int = 8) -> torch.Tensor:
    return torch.randn(count, numbers, generator=torch.Generator().manual_seed(0))


def classes(x: torch.Tensor) -> torch.Tensor:
    return (x[:, 0] > 0).long() + (x[:, 1] > 0).long() * 2


def network(outputs: int) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, outputs))


def update(value: torch.Tensor, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    return value


def smoothed(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """A cross entropy of one's own."""
    soft = torch.full_like(logits, 0.05).scatter_(1, labels[:, None], 0.85)
    return -(soft * functional.log_softmax(logits, 1)).sum(1).mean()


@pytest.mark.parametrize("other", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_second_permutation_for_the_labels_of_blends(other: bool) -> None:
    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Loss) -> torch.Tensor:
        x, y = batch
        if torch.rand(()) < 0.5:
            return update(loss(model(x), y), optimizer)
        order = torch.randperm(len(x))
        logits = model(0.6 * x + 0.4 * x[order])
        order = torch.randperm(len(x)) if other else order
        return update(0.6 * loss(logits, y) + 0.4 * loss(logits, y[order]), optimizer)

    x = rows()
    loader = DataLoader(TensorDataset(x, classes(x)), 32)
    found = asked(STEP_LABELS, network(4), loader, loss=smoothed, step=step)
    assert bool(found) == other
    assert not other or "blended" in found[0].measured


def contrasted(embedded: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Hadsell, Chopra and LeCun 2006."""
    apart = ((embedded[:, None] - embedded).square().sum(-1) + 1e-8).sqrt()
    same = labels[:, None] == labels
    return apart[same].square().mean() + functional.relu(1 - apart[~same]).square().mean()


def by_triplets(embedded: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The hardest positive and the hardest negative of each: Hermans, Beyer and Leibe 2017."""
    apart = ((embedded[:, None] - embedded).square().sum(-1) + 1e-8).sqrt()
    same = labels[:, None] == labels
    far = apart.masked_fill(~same, 0).amax(1)
    near = apart.masked_fill(same, 1e3).amin(1)
    return functional.relu(far - near + 0.3).mean()


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("loss", [contrasted, by_triplets])
def test_labels_of_two_views_in_another_order(loss: Loss, interleaved: bool) -> None:
    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Loss) -> torch.Tensor:
        x, y = batch
        views = torch.cat([x + 0.05 * torch.randn_like(x), x + 0.05 * torch.randn_like(x)])
        labels = y.repeat_interleave(2) if interleaved else torch.cat([y, y])
        return update(loss(functional.normalize(model(views), dim=1), labels), optimizer)

    x = rows()
    loader = DataLoader(TensorDataset(x, classes(x)), 32)
    assert bool(asked(STEP_LABELS, network(8), loader, loss=loss, step=step)) == interleaved


@pytest.mark.parametrize("shuffled", [False, True])
def test_quantities_of_other_samples(shuffled: bool) -> None:
    generator = torch.Generator().manual_seed(3)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Loss) -> torch.Tensor:
        x, y = batch
        order = torch.randperm(len(x), generator=generator)
        return update(loss(model(x[order])[:, 0], y if shuffled else y[order]), optimizer)

    x = rows()
    loader = DataLoader(TensorDataset(x, x[:, 0] - x[:, 1]), 32)
    found = asked(STEP_LABELS, network(1), loader, loss=nn.HuberLoss(), step=step, task="regress")
    assert bool(found) == shuffled


def of_the_worst(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(logits, labels, reduction="none").topk(len(labels) // 4).values.mean()


def weighted(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """By how rare classes are in the batch."""
    return functional.cross_entropy(logits, labels, weight=1 / labels.bincount(minlength=4).clamp_min(1).float())


def of_pairs(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Each with the one behind it."""
    same = (labels == labels.roll(1)).float()
    return functional.binary_cross_entropy_with_logits(-(logits - logits.roll(1, 0)).square().sum(1), same)


@pytest.mark.parametrize("loss", [of_the_worst, weighted, of_pairs])
def test_losses_that_look_at_several_samples_at_once(loss: Loss) -> None:
    x = rows()
    loader = DataLoader(TensorDataset(x, classes(x)), 32)
    assert not asked(STEP_LABELS, network(4), loader, loss=loss, step=loop)
