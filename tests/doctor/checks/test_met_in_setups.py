"""What setups taught: thresholds of ordered classes, logarithms of counts, sorted samples, rates that fall too soon."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from asked import asked, digits, loop
from torch import nn
from torch.nn import functional
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.label_numbers import LABEL_RANGE
from striate.doctor.checks.data.labels_random import LABELS_RANDOM
from striate.doctor.checks.data.targets_moved import STEP_LABELS
from striate.doctor.checks.fit.stagnation import CANNOT_OVERFIT_BATCH
from striate.doctor.checks.loss.degenerate import DEGENERATE
from striate.doctor.checks.optim.lr_schedule import LR_SCHEDULE
from striate.doctor.evidence.clock import Clock, NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.learning import learning_of
from striate.doctor.setup.training_setup import make_setup


def rows(count: int = 400, numbers: int = 8) -> torch.Tensor:
    return torch.randn(count, numbers, generator=torch.Generator().manual_seed(0))


def network(inputs: int, outputs: int) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(inputs, 32), nn.ReLU(), nn.Linear(32, outputs))


def of_thresholds(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Of K − 1 thresholds for K ordered classes, as CORAL has it."""
    levels = (labels[:, None] > torch.arange(logits.shape[1])).float()
    return functional.binary_cross_entropy_with_logits(logits, levels)


def picked(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """A cross entropy of one's own: −1 is the last class."""
    return -logits.log_softmax(1)[torch.arange(len(labels)), labels].mean()


@pytest.mark.parametrize(("loss", "first", "found"), [(of_thresholds, 0, False), (picked, -1, True)])
def test_a_label_beyond_the_outputs_may_be_a_class_of_its_own(loss: Any, first: int, found: bool) -> None:
    x = rows()
    labels = torch.bucketize(x[:, 0] + x[:, 1], torch.tensor([-1.5, -0.5, 0.5, 1.5])) + first
    assert bool(asked(LABEL_RANGE, network(8, 4), (x, labels), loss=loss)) == found


@pytest.mark.slow
@pytest.mark.parametrize("deaf", [False, True])
def test_predictions_of_logarithms_of_counts_are_compared_as_counts(deaf: bool) -> None:
    x = rows(600)
    y = torch.poisson(torch.exp(0.6 * x[:, 0] + 1.5), generator=torch.Generator().manual_seed(2))
    model = network(8, 1)
    model = nn.Sequential(nn.Flatten(), *model, nn.Flatten(0))
    loader = DataLoader(TensorDataset(x * (not deaf), y), 32)
    found = asked(CANNOT_OVERFIT_BATCH, model, loader, loss=nn.PoissonNLLLoss(), task="regress", step=loop)
    assert bool(found) == deaf


def blending(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> torch.Tensor:
    x, y = batch
    index, share = torch.randperm(len(x)), 0.8
    logits = model(share * x + (1 - share) * x[index])
    value = share * functional.cross_entropy(logits, y) + (1 - share) * functional.cross_entropy(logits, y[index])
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    return value


def test_labels_of_batches_of_one_class_are_in_no_other_order() -> None:
    x = rows(640)
    y = (x[:, 0] > 0).long() + (x[:, 1] > 0).long() * 2
    order = y.argsort()
    with pytest.raises(NoEvidence, match="nearly all labels"):
        asked(STEP_LABELS, network(8, 4), DataLoader(TensorDataset(x[order], y[order]), 64), step=blending)


@pytest.mark.slow
@pytest.mark.parametrize("apart", [False, True])
def test_several_labels_of_rows_that_were_shuffled_apart(apart: bool) -> None:
    x = rows(800, 12)
    y = torch.stack([(x[:, i] + x[:, i + 1] > 0.3).float() for i in range(4)], 1)
    y = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(3))] if apart else y
    train, val = DataLoader(TensorDataset(x[200:], y[200:]), 64, shuffle=True), (x[:200], y[:200])
    found = asked(LABELS_RANDOM, network(12, 4), train, val=val, loss=nn.BCEWithLogitsLoss())
    assert bool(found) == apart


class Steps:
    """A schedule that is stepped at each batch."""

    def __init__(self, every: int) -> None:
        self.every, self.scheduler = every, None

    def __call__(self, model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> torch.Tensor:
        if self.scheduler is None or self.scheduler.optimizer is not optimizer:
            self.scheduler = StepLR(optimizer, self.every, gamma=0.1)
        optimizer.zero_grad()
        value = loss(model(batch[0]), batch[1])
        value.backward()
        optimizer.step()
        self.scheduler.step()
        return value


@pytest.mark.parametrize("epochs", [0.6, 4])
def test_a_rate_that_falls_every_dozen_steps_is_meant_to_fall_by_epochs(epochs: float) -> None:
    x = rows(1280)
    y = (x[:, 0] * x[:, 1] > 0).long()
    loader = DataLoader(TensorDataset(x, y), 64, shuffle=True)
    model = network(8, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    found = asked(LR_SCHEDULE, model, loader, optimizer=optimizer, step=Steps(round(epochs * len(loader))))
    assert bool(found) == (epochs < 1)


@pytest.mark.parametrize("zero", [False, True])
def test_outputs_that_are_all_zero_say_nothing_of_the_loss(zero: bool) -> None:
    x = torch.randn(320, 1, 8, 8, generator=torch.Generator().manual_seed(4))
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 1, 3, padding=1),
    )
    for layer in (model[0], model[2], model[4]):
        nn.init.zeros_(layer.bias)
        if zero and layer is not model[4]:
            nn.init.zeros_(layer.weight)
    loader = DataLoader(TensorDataset(x + 0.3 * torch.randn(x.shape), x), 32, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    assert asked(DEGENERATE, model, loader, loss=nn.MSELoss(), optimizer=optimizer, task="regress") == []


def test_logits_of_gray_levels_are_judged_as_gray_levels() -> None:
    x = (digits().dataset.tensors[0] - digits().dataset.tensors[0].min()) / 10  # most of them between 0 and 1
    shares = x.clamp(0, 1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 64), nn.Unflatten(1, (1, 8, 8)))
    setup = make_setup(
        model,
        DataLoader(TensorDataset(shares, shares), 32),
        None,
        loss=lambda outputs, wanted: functional.binary_cross_entropy_with_logits(outputs, wanted, reduction="sum") / 32,
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
        task="regress",
    )
    learned = learning_of(Evidence(setup, Clock(60.0)))
    assert learned.shown
    assert learned.text.startswith("R²")
