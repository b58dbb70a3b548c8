"""Labels that are wrong, labels by chance, and labels that are merely hard."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from asked import asked, digits, perceptron
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.labels.label_noise import LABEL_NOISE
from striate.doctor.checks.data.labels.labels_random import LABELS_RANDOM
from striate.doctor.evidence.clock import Clock, NoEvidence
from striate.doctor.evidence.simple_models import consult


def pixels() -> tuple[Tensor, Tensor]:
    x, y = digits().dataset.tensors  # type: ignore[attr-defined]
    return x, y.clone()


def drawn(y: Tensor, share: float, classes: int = 10) -> Tensor:
    """Labels of which so many are another class."""
    generator = torch.Generator().manual_seed(1)
    wrong = torch.rand(len(y), generator=generator) < share
    moved = torch.randint(1, classes, (len(y),), generator=generator)
    return torch.where(wrong, (y + moved) % classes, y)


def by_chance(y: Tensor) -> Tensor:
    return y[torch.randperm(len(y), generator=torch.Generator().manual_seed(2))]


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("share", [0.2, 0.4])
def test_wrong_labels_are_estimated(share: float) -> None:
    x, y = pixels()
    (finding,) = asked(LABEL_NOISE, perceptron(), (x, drawn(y, share)))
    assert finding.severity == "warning"
    assert abs(int(finding.measured.split("%")[0]) / 100 - share) < 0.08


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("share", [0.0, 0.03])
def test_clean_labels_are_let_pass(share: float) -> None:
    x, y = pixels()
    assert not asked(LABEL_NOISE, perceptron(), (x, drawn(y, share)))


def test_classes_that_overlap_are_not_noisy() -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(500) % 2
    x = torch.randn(500, 2, generator=generator) + 1.5 * y[:, None]
    assert not asked(LABEL_NOISE, nn.Linear(2, 2), (x, y))


def test_images_with_two_labels() -> None:
    x, y = pixels()
    twice = torch.cat([x, x[:40]]), torch.cat([y, (y[:40] + 1) % 10])
    (finding,) = asked(LABEL_NOISE, perceptron(), twice)
    assert "40 images occur with two labels or more" in finding.measured


@pytest.mark.slow
def test_labels_by_chance() -> None:
    x, y = pixels()
    (finding,) = asked(LABELS_RANDOM, perceptron(), (x, by_chance(y)))
    assert finding.severity == "error"
    assert "standard errors better than chance on samples held out" in finding.measured
    assert not asked(LABELS_RANDOM, perceptron(), (x, y))


@pytest.mark.slow
def test_target_numbers_by_chance() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 6, generator=generator)
    y = x[:, :1] - x[:, 1:2] + 0.3 * torch.randn(300, 1, generator=generator)
    options = {"loss": nn.MSELoss(), "task": "regress"}
    assert asked(LABELS_RANDOM, nn.Linear(6, 1), (x, by_chance(y)), **options)
    assert not asked(LABELS_RANDOM, nn.Linear(6, 1), (x, y), **options)


@pytest.mark.slow
def test_labels_of_a_rare_class_at_random() -> None:
    torch.manual_seed(0)
    x = torch.randn(2000, 6)
    y = (x[:, 0] + 0.5 * torch.randn(2000) > 1.6).long()
    mixed = y[torch.randperm(2000)]
    assert y.float().mean() < 0.1
    for labels, wrong in ((y, False), (mixed, True)):
        found = asked(LABELS_RANDOM, nn.Linear(6, 2), DataLoader(TensorDataset(x, labels), 32))
        assert bool(found) is wrong
        others = torch.randn(800, 6)
        val = (others, (others[:, 0] > 1.4).long())
        found = asked(LABELS_RANDOM, nn.Linear(6, 2), DataLoader(TensorDataset(x, labels), 32), val=val)
        assert bool(found) is wrong


@pytest.mark.slow
def test_labels_by_chance_that_are_one_in_a_row_of_zeros() -> None:
    """For a cross entropy of one's own, which is given targets first."""

    def step(model: nn.Module, batch: list[Tensor], optimizer: Any, _: object) -> Tensor:
        optimizer.zero_grad()
        loss = -(batch[1] * model(batch[0]).log_softmax(1)).sum(1).mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    x, y = digits().dataset.tensors  # type: ignore[attr-defined]
    for labels, found in ((y, False), (by_chance(y), True)):
        loader = DataLoader(TensorDataset(x, nn.functional.one_hot(labels, 10).float()), 32, shuffle=True)
        assert bool(asked(LABELS_RANDOM, perceptron(), loader, step=step)) is found


def test_a_scale_that_comes_last_in_a_batch_is_no_target() -> None:
    """Windows, what follows, and the mean that both were divided by; the loss is none of torch's."""
    generator = torch.Generator().manual_seed(0)
    past, scale = torch.rand(300, 8, generator=generator) + 0.5, torch.rand(300, generator=generator) + 1

    def step(model: nn.Module, batch: list[Tensor], optimizer: Any, _: object) -> Tensor:
        optimizer.zero_grad()
        error = batch[1] - model(batch[0])
        loss = torch.maximum(0.1 * error, -0.9 * error).mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    loader = DataLoader(TensorDataset(past, past[:, -2:], scale), 32)
    with pytest.raises(NoEvidence, match="which tensors of a batch are targets"):
        asked(LABELS_RANDOM, nn.Linear(8, 2), loader, step=step)


def test_a_weak_relation_is_one() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(600, 4, generator=generator)
    y = (x[:, 0] + 2 * torch.randn(600, generator=generator) > 0).long()
    assert not asked(LABELS_RANDOM, nn.Linear(4, 2), (x, y))


def test_what_only_the_network_sees_is_no_chance() -> None:
    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(0, 2, (800, 8), generator=generator).float() * 2 - 1
    y = (bits[:, :3].prod(1) > 0).long()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 2))
    assert not asked(LABELS_RANDOM, model, (bits, y), optimizer=lambda p: torch.optim.Adam(p, lr=2e-2))


def test_the_reference_knows_no_answer_beforehand() -> None:
    """Copies of a sample on both sides of a fold would tell its label."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(100, 8, generator=generator), torch.arange(100) % 2
    reference = consult(x.repeat(5, 1), y.repeat(5), Clock(30.0))
    assert len(reference.rows) == 100
    assert all(abs(reference.accuracy(name) - 0.5) < 0.2 for name in reference.opinions)


class TwoTables(nn.Module):
    """Numbers and a category."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.out = nn.Embedding(4, 3), nn.Linear(7, 1)

    def forward(self, numbers: torch.Tensor, kind: torch.Tensor) -> torch.Tensor:
        return self.out(torch.cat([numbers, self.embed(kind)], 1))


def over_two_tables(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> torch.Tensor:
    numbers, kind, y = batch
    value = nn.functional.mse_loss(model(numbers, kind)[:, 0], y)
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    return value.detach()


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("mixed", [True, False])
def test_targets_of_several_tables(mixed: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x, kind = torch.randn(400, 4, generator=generator), torch.randint(0, 4, (400,), generator=generator)
    y = x[:, 0] + kind + 0.1 * torch.randn(400, generator=generator)
    loader = DataLoader(TensorDataset(x, kind, by_chance(y) if mixed else y), 32)
    options: dict[str, Any] = {"step": over_two_tables, "task": "regress"}
    assert bool(asked(LABELS_RANDOM, TwoTables(), loader, **options)) is mixed
