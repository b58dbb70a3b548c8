"""What setups taught: thresholds of ordered classes, logarithms of counts, sorted samples, rates that fall too soon."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from asked import asked, digits, loop, perceptron
from torch import nn
from torch.nn import functional
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.labels.label_numbers import LABEL_RANGE
from striate.doctor.checks.data.labels.labels_random import LABELS_RANDOM
from striate.doctor.checks.data.labels.step_labels import STEP_LABELS
from striate.doctor.checks.data.splits.windows_shared import WINDOWS_SHARED
from striate.doctor.checks.fit.stagnation import CANNOT_OVERFIT_BATCH
from striate.doctor.checks.loss.degenerate.degenerate import DEGENERATE
from striate.doctor.checks.model.evaluates_untrained import CHECK as EVALUATES_UNTRAINED
from striate.doctor.checks.optim.accumulation import ACCUMULATION
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
    with pytest.raises(NoEvidence, match="all inputs or targets"):
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
    x = digits().dataset.tensors[0]
    shares = (x - x.min()) / (x.max() - x.min())
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.Unflatten(1, (1, 8, 8)))
    setup = make_setup(
        model,
        DataLoader(TensorDataset(shares, shares), 32),
        None,
        loss=lambda outputs, wanted: functional.binary_cross_entropy_with_logits(outputs, wanted, reduction="sum") / 32,
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-2),
        task="regress",
    )
    learned = learning_of(Evidence(setup, Clock(60.0)))
    assert learned.shown
    assert learned.text.startswith("R²")


@pytest.mark.parametrize("told_apart", [True, False])
def test_a_rare_class_that_is_found_is_learned(told_apart: bool) -> None:
    """Weights of classes let so much be taken for the rare one that to name the other always is right as often."""
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.randn(2, 64, 1, 8, 8, generator=generator)
    masks = ((x if told_apart else noise)[:, 0] > 2).long()
    torch.manual_seed(0)
    model = nn.Conv2d(1, 2, 1)
    loss = nn.CrossEntropyLoss(weight=torch.tensor([0.03, 1.0]))
    options: Any = {"loss": loss, "optimizer": torch.optim.Adam(model.parameters(), lr=0.05), "task": "segment"}
    learned = learning_of(Evidence(make_setup(model, DataLoader(TensorDataset(x, masks), 16), **options), Clock(60.0)))
    assert ("each class counted alike" in learned.text) is told_apart
    assert learned.shown is told_apart


@pytest.mark.parametrize(("planned", "found"), [(1, False), (0.75, True), (0.4, True)])
def test_a_rate_that_is_gone_within_an_epoch_is_meant_for_more(planned: float, found: bool) -> None:
    x = rows(3200)
    y = (x[:, 0] * x[:, 1] > 0).long()
    loader = DataLoader(TensorDataset(x, y), 32, shuffle=True)
    model = network(8, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> torch.Tensor:
        for group in optimizer.param_groups:
            group["count"] = group.get("count", 0) + 1
            group["lr"] = 0.1 * max(0.0, 1 - group["count"] / (planned * len(loader)))
        return loop(model, batch, optimizer, loss)

    named = asked(LR_SCHEDULE, model, loader, optimizer=optimizer, step=step)
    assert bool(named) == found


class MeanTeacher(nn.Module):
    """Is trained with a student, and evaluated with its average."""

    def __init__(self) -> None:
        super().__init__()
        self.student, self.teacher = network(8, 2), network(8, 2).requires_grad_(False)

    def forward(self, x: torch.Tensor) -> Any:
        return self.student(x) if self.training else self.teacher(x)

    @torch.no_grad()
    def update(self, *, rebound: bool) -> None:
        for mean, now in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            if rebound:
                mean = 0.9 * mean + 0.1 * now  # the mistake
            else:
                mean.mul_(0.9).add_(now, alpha=0.1)


@pytest.mark.parametrize("rebound", [False, True])
def test_an_average_that_is_read_and_never_changed(rebound: bool) -> None:
    x = rows(640)
    y = (x[:, 0] > 0).long()
    model = MeanTeacher()

    def step(model: Any, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> torch.Tensor:
        model.train()
        value = loop(model, batch, optimizer, loss)
        model.update(rebound=rebound)
        return value

    optimizer = torch.optim.SGD(model.student.parameters(), lr=0.1)
    found = asked(EVALUATES_UNTRAINED, model, DataLoader(TensorDataset(x, y), 32), optimizer=optimizer, step=step)
    assert bool(found) == rebound


@pytest.mark.parametrize("shuffled", [False, True])
def test_short_windows_that_were_split_at_random(shuffled: bool) -> None:
    generator = torch.Generator().manual_seed(5)
    series = torch.sin(torch.arange(700) / 8) + 0.3 * torch.randn(700, generator=generator)
    x = series.unfold(0, 18, 1)[:-1, :, None]
    y = series[18:]
    order = torch.randperm(len(x), generator=generator) if shuffled else torch.arange(len(x))
    train, val = order[:500], order[520:]
    model = nn.Sequential(nn.Flatten(), network(18, 1), nn.Flatten(0))
    if shuffled:
        assert asked(WINDOWS_SHARED, model, (x[train], y[train]), val=(x[val], y[val]), task="regress")
    else:
        with pytest.raises(NoEvidence, match="too short"):
            asked(WINDOWS_SHARED, model, (x[train], y[train]), val=(x[val], y[val]), task="regress")


@pytest.mark.slow
def test_a_focal_loss_falls_faster_than_the_cross_entropy() -> None:
    x = 0.3 * torch.randn(320, 1, 12, 12, generator=torch.Generator().manual_seed(6))
    wanted = torch.zeros_like(x)
    for i in range(len(x)):
        row, column = 1 + i % 10, 1 + (i // 10) % 10
        wanted[i, 0, row - 1 : row + 2, column - 1 : column + 2] = 1.0
    torch.manual_seed(1)
    layers = [
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 1, 1),
    ]

    def focal(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        right = torch.where(targets > 0, logits, -logits).sigmoid()
        weights = torch.where(targets > 0, 0.25, 0.75)
        losses = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        return (weights * (1 - right) ** 2 * losses).sum() / targets.sum().clamp(min=1)

    loader = DataLoader(TensorDataset(x + wanted, wanted), 32, shuffle=True)
    model = nn.Sequential(*layers)
    assert asked(DEGENERATE, model, loader, loss=focal, optimizer=torch.optim.AdamW(model.parameters(), lr=3e-3)) == []


@pytest.mark.parametrize("check", [ACCUMULATION, DEGENERATE])
def test_one_batch_that_is_asked_at_two_weights_is_no_sum_and_no_pair(check: Check) -> None:
    """Sharpness-aware minimization (Foret et al. 2021), with a rate at which the loss leaps before it falls."""

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> torch.Tensor:
        optimizer.zero_grad()
        value = loss(model(batch[0]), batch[1])
        value.backward()
        with torch.no_grad():
            moves = [0.05 * p.grad / p.grad.norm().clamp(min=1e-9) for p in model.parameters() if p.grad is not None]
            for p, move in zip(model.parameters(), moves, strict=True):
                p.add_(move)
        optimizer.zero_grad()
        loss(model(batch[0]), batch[1]).backward()
        with torch.no_grad():
            for p, move in zip(model.parameters(), moves, strict=True):
                p.sub_(move)
        optimizer.step()
        return value.detach()

    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    assert asked(check, model, digits(), loss=nn.CrossEntropyLoss(), optimizer=optimizer, step=step) == []
