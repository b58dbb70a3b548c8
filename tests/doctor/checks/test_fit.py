"""How well it fits: by heart only, not at all, no further, not even a handful."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from asked import asked, digits, loop, perceptron
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 — as everybody writes it
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.fit import stagnation
from striate.doctor.checks.fit.generalization import OVERFIT, UNDERFIT
from striate.doctor.checks.fit.stagnation import CANNOT_OVERFIT_BATCH, PLATEAU

LOSS = nn.CrossEntropyLoss()


def adam(model: nn.Module, lr: float = 5e-3, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr, **options)


def noisy(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """200 columns, of which one says something."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 200, generator=generator)
    return x, (x[:, 0] + 0.7 * torch.randn(count, generator=generator) > 0).long()


def rare(count: int, seed: int, *, told: bool) -> tuple[Tensor, Tensor]:
    """40 columns; one sample of 25 is of class 1, which the first column tells, or nothing does."""
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(count, 40, generator=generator), (torch.arange(count) % 25 == 0).long()
    x[:, 0] += 4.0 * y * told
    return x, y


@pytest.mark.slow
@pytest.mark.parametrize("told", [True, False])
def test_a_rare_class_that_was_learned_by_heart(told: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(40, 256), nn.ReLU(), nn.Linear(256, 2))
    train = DataLoader(TensorDataset(*rare(1000, 0, told=told)), 50, shuffle=True)
    found = asked(OVERFIT, model, train, val=rare(1500, 1, told=told), loss=LOSS, optimizer=adam(model))
    assert [finding.severity for finding in found] == ([] if told else ["warning"])
    assert told or "the commonest class alone: 96.0%" in found[0].measured


@pytest.mark.slow
def test_a_table_that_was_learned_by_heart() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(200, 64), nn.ReLU(), nn.Linear(64, 2))
    train = DataLoader(TensorDataset(*noisy(80, 0)), 16, shuffle=True)
    (found,) = asked(OVERFIT, model, train, val=noisy(200, 1), loss=LOSS, optimizer=adam(model))
    assert (found.code, found.severity) == ("fit.overfit", "warning")
    assert "100.0% right on 80 training samples" in found.measured
    assert "weight_decay" in found.remedy


def test_a_trained_network_is_judged_as_it_was_given() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(200, 64), nn.ReLU(), nn.Linear(64, 2))
    x, y = noisy(80, 0)
    optimizer = adam(model)
    for _ in range(100):
        loop(model, (x, y), optimizer, LOSS)
    train = DataLoader(TensorDataset(x, y), 16, shuffle=True)
    (found,) = asked(OVERFIT, model, train, val=noisy(200, 1), loss=LOSS, optimizer=optimizer)
    assert found.measured.startswith("as the network was given")


def test_all_training_samples_right_and_good_validation_is_healthy() -> None:
    model = perceptron(128)
    data: Any = digits(32, 640).dataset
    x, y = data.tensors
    train = DataLoader(TensorDataset(x[:500], y[:500]), 32, shuffle=True)
    assert not asked(OVERFIT, model, train, val=(x[500:], y[500:]), loss=LOSS, optimizer=adam(model))


def moons() -> DataLoader[Any]:
    """Four squares of a chess board: no straight line parts them."""
    generator = torch.Generator().manual_seed(0)
    x = 2 * torch.rand(400, 2, generator=generator) - 1
    return DataLoader(TensorDataset(x, (x[:, 0] * x[:, 1] > 0).long()), 50, shuffle=True, generator=generator)


@pytest.mark.slow
def test_a_straight_line_is_too_little() -> None:
    torch.manual_seed(0)
    model = nn.Linear(2, 2)
    (found,) = asked(UNDERFIT, model, moons(), loss=LOSS, optimizer=adam(model))
    assert (found.code, found.severity) == ("fit.underfit", "warning")
    assert "simple models get" in found.measured
    assert "6 parameters" in found.measured


def test_a_network_that_only_learns_slowly_does_not_underfit() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 2))
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    assert not asked(UNDERFIT, model, moons(), loss=LOSS, optimizer=optimizer)


def test_labels_that_nobody_can_know_are_no_underfit() -> None:
    generator = torch.Generator().manual_seed(0)
    data = TensorDataset(torch.randn(256, 64, generator=generator), torch.randint(4, (256,), generator=generator))
    model = nn.Linear(64, 4)
    assert not asked(UNDERFIT, model, DataLoader(data, 64), loss=LOSS, optimizer=adam(model))


def deep_sigmoids() -> nn.Sequential:
    torch.manual_seed(0)
    hidden: list[nn.Module] = []
    for _ in range(6):
        hidden += [nn.Linear(10, 10), nn.Sigmoid()]
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Sigmoid(), *hidden, nn.Linear(10, 10))


@pytest.mark.slow
def test_a_loss_that_stays_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stagnation, "longer", lambda evidence: evidence.trial)  # as if there were no time for more
    model = deep_sigmoids()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    (found,) = asked(PLATEAU, model, digits(), loss=LOSS, optimizer=optimizer)
    assert (found.code, found.severity) == ("fit.plateau", "warning")
    assert "no better than a guess" in found.measured
    assert "BatchNorm2d" in found.remedy


def trained(model: nn.Module, loader: Any, optimizer: torch.optim.Optimizer, epochs: int) -> None:
    for _ in range(epochs):
        for batch in loader:
            loop(model, batch, optimizer, LOSS)


@pytest.mark.slow
def test_steps_that_go_to_and_fro() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
    optimizer, loader = adam(model, 0.1), digits(8)
    trained(model, loader, optimizer, 6)
    (found,) = asked(PLATEAU, model, loader, loss=LOSS, optimizer=optimizer)
    assert "with a tenth of the learning rate it is" in found.measured
    assert "CosineAnnealingLR" in found.remedy


def test_a_network_that_has_learned_all_is_on_no_plateau() -> None:
    model = perceptron()
    optimizer = adam(model)
    trained(model, digits(), optimizer, 6)
    assert not asked(PLATEAU, model, digits(), loss=LOSS, optimizer=optimizer)


def test_a_loss_that_falls_is_on_no_plateau() -> None:
    model = perceptron()
    assert not asked(PLATEAU, model, digits(), loss=LOSS, optimizer=adam(model))


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
    assert "100% of 320 samples" in found.measured
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


def test_embeddings_are_no_answers() -> None:
    """Their second axis may be as long as there are classes, and says nothing of them."""

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        x, y = batch
        optimizer.zero_grad()
        spread = F.pdist(model(x))
        value = (spread - 1).square().mean() + 0 * y.float().mean()
        value.backward()
        optimizer.step()
        return value

    model = perceptron()
    for check in (CANNOT_OVERFIT_BATCH, PLATEAU, UNDERFIT):
        with pytest.raises(Exception, match="no predictions"):
            asked(check, model, digits(), step=step, optimizer=adam(model), task="embed")
