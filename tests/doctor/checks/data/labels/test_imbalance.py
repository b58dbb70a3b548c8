"""`data.imbalance`: does the loader yield each class often enough?"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import asked, digits, perceptron, pixels, said, stepped
from for_checks.rewards import OwnLoss, _own_step
from striate.doctor.checks.data.labels.imbalance import IMBALANCE
from striate.doctor.evidence.clock import NoEvidence


def rare(share: int) -> tuple[Tensor, Tensor]:
    x, y = pixels(640)
    kept = (y != 8) | (torch.arange(len(y)) % share == 0)
    return x[kept], y[kept]


def test_a_rare_class_is_told_with_its_recall() -> None:
    x, y = rare(30)
    slow = torch.optim.SGD
    (finding,) = asked(IMBALANCE, perceptron(), (x, y), optimizer=lambda p: slow(p, lr=0.01))
    assert finding.severity == "warning"
    assert "as class 8 (" in finding.measured


def test_weights_in_the_loss_balance_classes() -> None:
    x, y = rare(30)
    weights = 1 / torch.bincount(y).clamp_min(1).float()
    assert not asked(IMBALANCE, perceptron(), (x, y), loss=nn.CrossEntropyLoss(weight=weights))


def test_a_few_times_more_is_healthy() -> None:
    assert not asked(IMBALANCE, perceptron(), rare(4))


X = torch.randn(640, 4, generator=torch.Generator().manual_seed(0))

CLICKS = (X[:, 0] > 1.4).float()

RARE = float((1 - CLICKS).sum() / CLICKS.sum())


def loss_of(kind: str, logits: Tensor, clicks: Tensor) -> Tensor:
    weight = 1 + (RARE - 1) * clicks
    if kind == "positives":
        return functional.binary_cross_entropy_with_logits(logits, clicks, pos_weight=torch.tensor(RARE))
    if kind == "samples":
        return functional.binary_cross_entropy(logits.sigmoid(), clicks, weight=weight)
    each = functional.binary_cross_entropy_with_logits(logits, clicks, reduction="none")
    return (each * weight if kind == "by hand" else each).mean()


@pytest.mark.parametrize("kind", ["positives", "samples", "by hand", "none"])
def test_rare_positives_that_the_step_weighs_are_not_imbalanced(kind: str) -> None:
    """Also where the first batch has none of them."""
    order = CLICKS.argsort(stable=True)
    rows = torch.cat([order[:16], order[16:][torch.randperm(624, generator=torch.Generator().manual_seed(0))]])
    model = nn.Sequential(nn.Linear(4, 1), nn.Flatten(0))

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        return stepped(loss_of(kind, model(batch[0]), batch[1]), optimizer)

    options: dict[str, Any] = {"optimizer": torch.optim.SGD(model.parameters(), 1e-3), "step": step}
    said = asked(IMBALANCE, model, DataLoader(TensorDataset(X[rows], CLICKS[rows]), 16), **options)
    assert [one.code for one in said] == ["data.imbalance"] * (kind == "none")


@pytest.mark.parametrize("weighted", [True, False])
def test_weights_of_a_loss_within_count(weighted: bool) -> None:
    x, y = digits().dataset.tensors  # type: ignore[attr-defined]
    kept = (y != 3) | (torch.arange(len(y)) < 60)
    x, y = x[kept], y[kept]
    counts = torch.bincount(y, minlength=10).double()
    model = OwnLoss((counts.sum() / (10 * counts)).float() if weighted else None)
    optimizer = torch.optim.SGD(model.parameters(), 1e-6)
    loader = DataLoader(TensorDataset(x, y), 32, shuffle=True)
    found = said(IMBALANCE, model, loader, optimizer=optimizer, step=_own_step)
    assert bool(found) is not weighted


@pytest.mark.parametrize("as_classes", [True, False])
def test_items_that_are_looked_up_are_no_classes(as_classes: bool) -> None:
    torch.manual_seed(0)
    readers, books = torch.randint(0, 20, (256,)), torch.randint(0, 30, (256,)) * torch.randint(0, 2, (256,))

    class Loans(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.readers, self.books = nn.Embedding(20, 8), nn.Embedding(30, 8)

        def forward(self, reader: Tensor) -> Tensor:
            found: Tensor = self.readers(reader) @ self.books.weight.T
            return found

    def step(net: Any, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        optimizer.zero_grad()
        if as_classes:
            value = functional.cross_entropy(net(batch[0]), batch[1])
        else:
            own, other = (
                (net.readers(batch[0]) * net.books(b)).sum(1) for b in (batch[1], torch.randint(0, 30, (32,)))
            )
            value = -functional.logsigmoid(own - other).mean()
        value.backward()
        optimizer.step()
        return value.detach()

    model = Loans()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    data = DataLoader(TensorDataset(readers, books), 32)
    with suppress(NoEvidence):
        found = asked(IMBALANCE, model, data, optimizer=optimizer, step=step)
        assert as_classes
        assert found
        return
    assert not as_classes


@pytest.mark.parametrize("adjusted", [True, False])
def test_a_loss_that_knows_how_often_classes_occur(adjusted: bool) -> None:
    """Outputs are adjusted by the logarithm of the classes' frequency, in the loss alone (Menon et al. 2021)."""
    torch.manual_seed(0)
    y = (torch.arange(800) % 20 == 0).long()
    x = torch.randn(800, 6) + 1.2 * y[:, None]
    prior = torch.tensor([0.95, 0.05]).log() * adjusted

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        return stepped(functional.cross_entropy(model(batch[0]) + prior, batch[1]), optimizer)

    loader = DataLoader(TensorDataset(x, y), 50, shuffle=True)
    found = asked(IMBALANCE, nn.Linear(6, 2), loader, step=step, optimizer=lambda p: torch.optim.Adam(p, lr=0.03))
    assert [one.severity for one in found] == ["note" if adjusted else "warning"]


def test_positions_that_are_drawn_are_no_classes() -> None:
    """A batch of curves with the numbers of the points that are given, as for a neural process."""
    generator = torch.Generator().manual_seed(0)
    numbers = [(torch.rand(12, generator=generator) ** 4 * 20).long() for _ in range(12)]
    batches = [(torch.randn(64, 20, 1, generator=generator), given) for given in numbers]

    def step(net: nn.Module, batch: Any, optimizer: Any, _: object) -> torch.Tensor:
        return stepped(net(batch[0])[:, batch[1]].square().mean(), optimizer)

    with pytest.raises(NoEvidence, match="positions, not classes"):
        asked(IMBALANCE, nn.Linear(1, 1), batches, step=step)
