"""Counts, margins, and attention beside blended samples: faults that were met in setups, and their healthy twins."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from asked import asked
from test_met_in_second_heads import asked_or_silent, stepped
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.fit.stagnation import CANNOT_OVERFIT_BATCH
from striate.doctor.checks.loss.broadcast import BROADCAST
from striate.doctor.checks.model.batch_dependence import BATCH_MIXING
from striate.doctor.checks.optim.weight_decay_too_high import WEIGHT_DECAY_TOO_HIGH
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.progress import chance_of
from striate.doctor.setup.preserved_state import state_preserved
from striate.doctor.setup.training_setup import make_setup

X = torch.randn(320, 4, generator=torch.Generator().manual_seed(0))
RATES = (X[:, 0] - 0.5).exp()
COUNTS = torch.poisson(RATES, generator=torch.Generator().manual_seed(0))


def batches(x: Tensor, y: Tensor) -> DataLoader[Any]:
    return DataLoader(TensorDataset(x, y), 32, shuffle=True, generator=torch.Generator().manual_seed(0))


class Attending(nn.Module):
    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=batch_first)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.attention(x, x, x)[0].mean(1))


@pytest.mark.parametrize("batch_first", [False, True])
def test_attention_along_samples_that_the_step_blends(batch_first: bool) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(64, 6, 8), torch.arange(64) % 3

    def step(model: Any, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        share, order = float(torch.rand(())), torch.randperm(len(batch[0]))
        outputs = model(share * batch[0] + (1 - share) * batch[0][order])
        return stepped(model, share * loss(outputs, batch[1]) + (1 - share) * loss(outputs, batch[1][order]), optimizer)

    model = Attending(batch_first)
    options: Any = {"optimizer": torch.optim.Adam(model.parameters()), "loss": nn.CrossEntropyLoss(), "step": step}
    said = asked(BATCH_MIXING, model, batches(x, y), **options)
    assert [one.code for one in said] == ["model.batch-mixing"] * (not batch_first)
    assert all("attention" in one.where for one in said)


class TimeFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.GRU(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0][-1])


def test_a_step_that_puts_time_first_blends_nothing() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(64, 8, 8), torch.arange(64) % 3

    def step(model: Any, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        return stepped(model, loss(model(batch[0].transpose(0, 1)), batch[1]), optimizer)

    model = TimeFirst()
    options: Any = {"optimizer": torch.optim.Adam(model.parameters()), "loss": nn.CrossEntropyLoss(), "step": step}
    assert not asked_or_silent(BATCH_MIXING, model, batches(x, y), **options)


class Column(nn.Module):
    def __init__(self, squeezed: bool) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        self.squeezed = squeezed

    def forward(self, x: Tensor) -> Tensor:
        column: Tensor = self.layers(x)
        return column.squeeze(1) if self.squeezed else column


class Flattened(nn.PoissonNLLLoss):
    def forward(self, log_input: Tensor, target: Tensor) -> Tensor:
        return super().forward(log_input.flatten(), target.flatten())


@pytest.mark.parametrize(
    ("squeezed", "loss", "wrong"),
    [(False, nn.PoissonNLLLoss(), True), (True, nn.PoissonNLLLoss(), False), (False, Flattened(), False)],
    ids=["column", "squeezed", "flattened by the loss"],
)
def test_a_column_against_numbers_of_which_torch_does_not_warn(squeezed: bool, loss: Any, wrong: bool) -> None:
    torch.manual_seed(0)
    model = Column(squeezed)
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 0.01), "loss": loss, "task": "regress"}
    said = asked(BROADCAST, model, batches(X, COUNTS), **options)
    assert [one.code for one in said] == ["loss.broadcast"] * wrong


@pytest.mark.parametrize(("kind", "decay"), [("Adam", 2000.0), ("RMSprop", 2000.0), ("Adam", 5e-4)])
def test_decay_beside_a_loss_that_falls_below_zero(kind: str, decay: float) -> None:
    torch.manual_seed(0)
    model = Column(True)
    optimizer = getattr(torch.optim, kind)(model.parameters(), 0.01, weight_decay=decay)
    options: Any = {"optimizer": optimizer, "loss": nn.PoissonNLLLoss(), "task": "regress"}
    said = asked(WEIGHT_DECAY_TOO_HIGH, model, batches(X, RATES), **options)
    assert [one.code for one in said] == ["optim.weight-decay-too-high"] * (decay > 1)


class Margin(nn.Module):
    def forward(self, scores: Tensor, signs: Tensor) -> Tensor:
        return (1 - signs * scores).clamp(min=0).square().mean()


class Scores(nn.Module):
    def __init__(self, blind: bool = False) -> None:
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(4, 64), nn.Tanh()), nn.Linear(64, 1)
        self.blind = blind

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.body(0 * x if self.blind else x))
        return scores.squeeze(1)


SIGNS = (X[:, 0] + X[:, 1] * X[:, 2]).sign()


@pytest.mark.parametrize(
    ("blind", "integers"), [(False, False), (False, True), pytest.param(True, False, marks=pytest.mark.slow)]
)
def test_scores_beyond_a_margin_are_right(blind: bool, integers: bool) -> None:
    torch.manual_seed(0)
    model, signs = Scores(blind), SIGNS.long() if integers else SIGNS
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 0.01), "loss": Margin()}
    said = asked(CANNOT_OVERFIT_BATCH, model, batches(X, signs), **options)
    assert [one.code for one in said] == ["fit.cannot-overfit-batch"] * blind


@pytest.mark.parametrize("few", [True, False])
def test_a_strong_decay_of_the_weights_of_a_margin_alone(few: bool) -> None:
    torch.manual_seed(0)
    model = Scores()
    groups = [
        {"params": model.body.parameters(), "weight_decay": 1e-4 if few else 0.05},
        {"params": model.head.parameters(), "weight_decay": 0.05},
    ]
    optimizer = torch.optim.SGD(groups, 0.05, momentum=0.9)
    said = asked(WEIGHT_DECAY_TOO_HIGH, model, batches(X, SIGNS), optimizer=optimizer, loss=Margin())
    assert [one.code for one in said] == ["optim.weight-decay-too-high"] * (not few)


def test_a_margin_loss_that_torch_refuses_of_other_shapes() -> None:
    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    loader = DataLoader(TensorDataset(x, x[:, 0].sign()), 16)
    (found,) = asked(BROADCAST, nn.Linear(8, 1), loader, loss=nn.SoftMarginLoss(), task="classify")
    assert "the loss raises RuntimeError" in found.measured
    assert "outputs.squeeze(1)" in found.remedy


def test_the_best_constant_of_counts_is_a_logarithm() -> None:
    generator = torch.Generator().manual_seed(0)
    counts = torch.poisson(torch.full((256, 1), 20.0), generator=generator)
    loader = DataLoader(TensorDataset(torch.randn(256, 4, generator=generator), counts), 64)
    setup = make_setup(nn.Linear(4, 1), loader, None, loss=nn.PoissonNLLLoss(), task="regress")
    with state_preserved(setup):
        trial = Evidence(setup, Clock(120.0)).trial
        chance = chance_of(trial, counts)
    mean = counts.mean()
    assert chance == pytest.approx((mean - mean * mean.log()).item(), rel=1e-3)
