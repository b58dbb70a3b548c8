"""`fit.cannot-overfit-batch`: does the network fail to fit even a few samples?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import asked, digits, loop, more_rows, perceptron, rows_in_batches, stepped
from for_checks.claims import Scores
from for_checks.networks import two_layers
from striate.doctor.checks.fit.cannot_overfit_batch import CANNOT_OVERFIT_BATCH
from striate.doctor.checks.fit.plateau import PLATEAU
from striate.doctor.checks.fit.underfit import UNDERFIT
from striate.doctor.evidence.clock import NoEvidence

LOSS = nn.CrossEntropyLoss()


def adam(model: nn.Module, lr: float = 5e-3, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr, **options)


class Blind(nn.Module):
    """All samples of a batch get the prediction to their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = perceptron()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x.mean(0, keepdim=True).expand_as(x))
        return out


@pytest.mark.slow
def test_a_network_that_cannot_tell_inputs_apart() -> None:
    model = Blind()
    (found,) = asked(CANNOT_OVERFIT_BATCH, model, digits(), loss=LOSS, optimizer=adam(model))
    assert (found.code, found.severity) == ("fit.cannot-overfit-batch", "warning")
    assert "16 samples, 300 steps of Adam" in found.measured


@pytest.mark.slow
def test_inputs_with_two_labels_each() -> None:
    data: Any = digits(32, 160).dataset
    x, y = data.tensors
    both = TensorDataset(x[:160].repeat_interleave(2, 0), torch.stack([y[:160], (y[:160] + 1) % 10], 1).flatten())
    model = perceptron()
    (found,) = asked(CANNOT_OVERFIT_BATCH, model, DataLoader(both, 32), loss=LOSS, optimizer=adam(model))
    assert "100 % of 320 samples" in found.measured
    assert "one target" in found.remedy


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("lr", [1e-6, 5e-3])
def test_a_handful_is_learned_by_an_optimizer_of_our_own(lr: float) -> None:
    model = perceptron()
    assert not asked(CANNOT_OVERFIT_BATCH, model, digits(), loss=LOSS, optimizer=adam(model, lr))


def test_dropout_is_turned_off_for_the_handful() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.8), nn.Linear(32, 10))
    assert not asked(CANNOT_OVERFIT_BATCH, model, digits(), loss=LOSS, optimizer=adam(model))


def test_a_network_in_half_precision_is_tried_too() -> None:
    data: Any = digits().dataset
    x, y = data.tensors
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)).bfloat16()
    batches = DataLoader(TensorDataset(x.bfloat16(), y), 32)
    asked(CANNOT_OVERFIT_BATCH, model, batches, loss=LOSS, optimizer=adam(model, 1e-6))


def test_another_optimizer_is_not_tried_in_a_step_with_its_own() -> None:
    model = perceptron()
    optimizer = adam(model, 1e-6)

    def step(model: nn.Module, batch: Any, _: Any, __: Any) -> Tensor:
        return stepped(functional.cross_entropy(model(batch[0]), batch[1]), optimizer)

    with pytest.raises(NoEvidence, match="the optimizer of its own code"):
        asked(CANNOT_OVERFIT_BATCH, model, digits(), step=step, optimizer=optimizer)


def test_embeddings_are_no_answers() -> None:
    """Their second axis may be as long as there are classes, and says nothing of them."""

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        x, y = batch
        optimizer.zero_grad()
        spread = functional.pdist(model(x))
        value = (spread - 1).square().mean() + 0 * y.float().mean()
        value.backward()
        optimizer.step()
        return value

    model = perceptron()
    for check in (CANNOT_OVERFIT_BATCH, PLATEAU, UNDERFIT):
        with pytest.raises(Exception, match="not predictions"):
            asked(check, model, digits(), step=step, optimizer=adam(model), task="embed")


X = torch.randn(320, 4, generator=torch.Generator().manual_seed(0))


class Margin(nn.Module):
    def forward(self, scores: Tensor, signs: Tensor) -> Tensor:
        return (1 - signs * scores).clamp(min=0).square().mean()


SIGNS = (X[:, 0] + X[:, 1] * X[:, 2]).sign()


@pytest.mark.parametrize(
    ("blind", "integers"), [(False, False), (False, True), pytest.param(True, False, marks=pytest.mark.slow)]
)
def test_scores_beyond_a_margin_are_right(blind: bool, integers: bool) -> None:
    torch.manual_seed(0)
    model, signs = Scores(blind), SIGNS.long() if integers else SIGNS
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 0.01), "loss": Margin()}
    said = asked(CANNOT_OVERFIT_BATCH, model, rows_in_batches(X, signs), **options)
    assert [one.code for one in said] == ["fit.cannot-overfit-batch"] * blind


@pytest.mark.slow
@pytest.mark.parametrize("deaf", [False, True])
def test_predictions_of_logarithms_of_counts_are_compared_as_counts(deaf: bool) -> None:
    x = more_rows(600)
    y = torch.poisson(torch.exp(0.6 * x[:, 0] + 1.5), generator=torch.Generator().manual_seed(2))
    model = two_layers(8, 1)
    model = nn.Sequential(nn.Flatten(), *model, nn.Flatten(0))
    loader = DataLoader(TensorDataset(x * (not deaf), y), 32)
    found = asked(CANNOT_OVERFIT_BATCH, model, loader, loss=nn.PoissonNLLLoss(), task="regress", step=loop)
    assert bool(found) == deaf


def test_one_batch_is_learned_in_the_unit_of_the_step() -> None:
    x, y = next(iter(digits(64)))
    model = nn.Sequential(perceptron(), nn.ReLU(), nn.Linear(10, 1), nn.Flatten(0))

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        optimizer.zero_grad()
        value = functional.mse_loss(model(batch[0]), (batch[1] - 45_000) / 29_000)
        value.backward()
        optimizer.step()
        return value.detach()

    train = DataLoader(TensorDataset(x, 10_000.0 * y), 32)
    options: Any = {"step": step, "task": "regress", "optimizer": lambda p: torch.optim.SGD(p, 1e-5)}
    assert asked(CANNOT_OVERFIT_BATCH, model, train, **options) == []
