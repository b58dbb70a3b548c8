"""The healthy setups are healthy: each learns far more than chance, of samples that it was not trained on as well."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import planted
import pytest
import torch
from planted.case import HEALTHY, Case, Healthy
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

for found in pkgutil.iter_modules(planted.__path__):
    if found.name.startswith("healthy_"):
        importlib.import_module(f"planted.{found.name}")

OURS = [case for case in HEALTHY if case.build.__module__.startswith("planted.healthy_")]

# Where a good result is lower, or comes later, than in most: (epochs, share of the way from chance to perfect).
EXPECTED = {
    "iris_as_two_tensors": (40, 0.8),
    "iris_with_nothing_but_a_network": (60, 0.8),
    "autoencoder_with_pairs_of_the_same": (60, 0.7),
    "autoencoder_with_tied_weights": (15, 0.7),
    "home_values_in_a_column": (15, 0.7),
    "home_values_with_a_robust_loss": (30, 0.7),
    "home_values_as_two_tensors": (30, 0.7),
    "home_values_with_a_column_of_kinds": (15, 0.7),
}


def batches_of(data: Any) -> DataLoader:
    """A loader as it is; two arrays in shuffled batches of 32."""
    if isinstance(data, DataLoader):
        return data
    x, y = (torch.as_tensor(part) for part in data)
    return DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)


def parted(batch: Any, task: str) -> tuple[list[Tensor], Tensor]:
    """What goes into the network, and what is to come out."""
    if isinstance(batch, dict):
        inputs = [batch[key] for key in ("image", "columns", "kind") if key in batch]
        return inputs, batch["label"] if "label" in batch else batch["value"]
    *inputs, target = batch
    return inputs, inputs[0] if task == "reconstruct" else target


def train(case: Case, epochs: int) -> None:
    """Plain training, by the setup's own step and optimizer where it has them."""
    model, loss, optimizer = case.model, case.loss, case.optimizer
    if optimizer is None:
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    elif not isinstance(optimizer, torch.optim.Optimizer):
        optimizer = optimizer(model.parameters())
    batches = batches_of(case.train)
    for _ in range(epochs):
        model.train()
        for batch in batches:
            if case.step is not None:
                case.step(model, batch, optimizer, loss)
                continue
            inputs, target = parted(batch, case.task)
            optimizer.zero_grad()
            (loss or functional.cross_entropy)(model(*inputs), target).backward()
            optimizer.step()


def answers(case: Case, data: Any) -> tuple[Tensor, Tensor]:
    """Outputs and targets of all samples, in evaluation mode."""
    case.model.eval()
    with torch.no_grad():
        pairs = [(case.model(*inputs), target) for inputs, target in batches_parted(case, data)]
    outputs, targets = zip(*pairs, strict=True)
    return torch.cat(outputs), torch.cat(targets)


def batches_parted(case: Case, data: Any) -> Iterator[tuple[list[Tensor], Tensor]]:
    for batch in batches_of(data):
        yield parted(batch, case.task)


def skill(case: Case, data: Any) -> float:
    """How far from chance (0) to perfect (1)."""
    outputs, targets = answers(case, data)
    if case.task == "embed":
        known, labels = answers(case, case.train)
        far = torch.cdist(outputs, known)
        nearest = labels[far.masked_fill(far < 1e-6, 9).argmin(1)]  # not the sample itself
        return above_chance((nearest == targets).float().mean(), torch.bincount(targets).max() / len(targets))
    if targets.shape == outputs.shape and case.task in ("regress", "reconstruct"):
        return float(1 - (outputs - targets).square().mean() / (targets - targets.mean(0)).square().mean())
    if targets.shape == outputs.shape and outputs.shape[-1] == 10:
        targets = targets.argmax(1)
    if targets.shape == outputs.shape:
        most = torch.maximum(targets.mean(0), 1 - targets.mean(0)).mean()
        return above_chance(((outputs > 0) == (targets > 0.5)).float().mean(), most)
    most = torch.bincount(targets.flatten()).max() / targets.numel()
    return above_chance((outputs.argmax(1) == targets).float().mean(), most)


def above_chance(accuracy: Tensor, chance: Tensor) -> float:
    return float((accuracy - chance) / (1 - chance))


@pytest.mark.slow
@pytest.mark.parametrize("setup", OURS, ids=lambda setup: setup.name)
def test_a_healthy_setup_learns(setup: Healthy) -> None:
    case = setup.build(0)
    epochs, least = EXPECTED.get(setup.name, (15, 0.8))
    train(case, epochs)
    learned = skill(case, case.train)
    assert learned > least
    if case.val is not None:
        assert skill(case, case.val) > max(0.75 * learned, 0.9 * least)


@pytest.mark.slow
@pytest.mark.parametrize("setup", OURS, ids=lambda setup: setup.name)
def test_a_setup_is_a_function_of_its_seed(setup: Healthy) -> None:
    first, again, other = setup.build(3), setup.build(3), setup.build(4)
    pairs = list(zip(first.model.parameters(), again.model.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    assert any(not torch.equal(a, b) for a, b in zip(first.model.parameters(), other.model.parameters(), strict=True))


def test_there_are_many_healthy_setups_and_no_two_have_one_name() -> None:
    assert len(OURS) >= 35
    assert len({setup.name for setup in OURS}) == len(OURS)
