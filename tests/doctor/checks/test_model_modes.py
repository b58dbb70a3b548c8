"""Dropout, batch norm, and samples that know of each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from asked import asked, digits, loop, perceptron
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.model.batch_dependence import BATCH_MIXING, BATCH_NORM_SMALL_BATCH
from striate.doctor.checks.model.dropout_too_high import DROPOUT_TOO_HIGH
from striate.doctor.checks.model.mode import MODE


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.01)


class Middle(nn.Module):
    """A perceptron with something in the middle."""

    def __init__(self, middle: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.act = nn.Linear(64, 24), nn.Linear(24, 10), middle

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.act(self.first(x.flatten(1)).relu()))


def convolutions(norm: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3, stride=2), norm, nn.ReLU(), nn.Flatten(), nn.Linear(72, 10))


def step_in_evaluation(model: nn.Module, *rest: Any) -> Tensor:
    model.eval()
    return loop(model, *rest)


def step_then_evaluation(model: nn.Module, *rest: Any) -> Tensor:
    value = loop(model, *rest)
    model.eval()
    return value


def step_with_both(model: nn.Module, batch: Any, *rest: Any) -> Tensor:
    model.train()
    value = loop(model, batch, *rest)
    model.eval()
    with torch.no_grad():
        model(batch[0])
    return value


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("step", [step_in_evaluation, step_then_evaluation])
@pytest.mark.parametrize(("part", "severity"), [(nn.BatchNorm1d(24), "error"), (nn.Dropout(0.3), "warning")])
def test_training_in_evaluation_mode(step: Any, part: nn.Module, severity: str) -> None:
    (found,) = asked(MODE, Middle(part), digits(), step=step, optimizer=adam)
    assert (found.code, found.severity, found.where) == ("model.mode", severity, "act")
    assert "`model.train()`" in found.remedy


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("part", [nn.ReLU(), nn.LayerNorm(24), nn.BatchNorm1d(24, track_running_stats=False)])
def test_evaluation_mode_that_changes_nothing(part: nn.Module) -> None:
    assert not asked(MODE, Middle(part), digits(), step=step_in_evaluation, optimizer=adam)


@pytest.mark.parametrize("part", [nn.BatchNorm1d(24), nn.Dropout(0.3)])
def test_a_step_that_goes_back_to_training(part: nn.Module) -> None:
    assert not asked(MODE, Middle(part).eval(), digits(), step=step_with_both, optimizer=adam)


@pytest.mark.slow
def test_a_network_handed_over_after_an_evaluation() -> None:
    model = Middle(nn.BatchNorm1d(24))
    for batch in list(digits())[:3]:
        loop(model, batch, adam(model.parameters()), nn.CrossEntropyLoss())
    assert not asked(MODE, model.eval(), digits(), optimizer=adam)
    (found,) = asked(MODE, Middle(nn.Dropout()).eval(), digits(), optimizer=adam)
    assert found.severity == "note"
    (fresh,) = asked(MODE, Middle(nn.BatchNorm1d(24)).eval(), digits(), optimizer=adam)
    assert fresh.severity == "error"


def test_one_batch_norm_left_in_evaluation_mode() -> None:
    model = Middle(nn.BatchNorm1d(24))
    model.act.eval()  # type: ignore[operator, union-attr]
    (found,) = asked(MODE, model, digits(), optimizer=adam)
    assert (found.severity, found.where) == ("error", "act")


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("momentum", [0.0, 1e-6])
def test_running_figures_that_stay(momentum: float) -> None:
    (found,) = asked(MODE, convolutions(nn.BatchNorm2d(8, momentum=momentum)), digits(), optimizer=adam)
    assert found.severity == "error"
    assert "momentum" in found.measured


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("momentum", [0.1, 0.01, None])
def test_running_figures_that_follow(momentum: float | None) -> None:
    assert not asked(MODE, convolutions(nn.BatchNorm2d(8, momentum=momentum)), digits(), optimizer=adam)


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("part", "severity"),
    [
        (lambda x: functional.dropout(x, 0.5), "error"),
        (lambda x: functional.dropout(x, p=0.2, training=True), "error"),
        (lambda x: x * (torch.rand_like(x) > 0.3), "warning"),
        (lambda x: x + 0.3 * torch.randn(x.shape), "warning"),
    ],
)
def test_answers_by_chance(part: Any, severity: str) -> None:
    (found,) = asked(MODE, Middle(part), digits(), optimizer=adam)
    assert found.severity == severity
    assert "two predictions for the same batch differ" in found.measured


class Stays(Middle):
    """Is never in evaluation mode."""

    def train(self, mode: bool = True) -> Stays:
        super().train(mode or True)
        return self


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("part", "severity"), [(nn.BatchNorm1d(24), "error"), (nn.Dropout(0.3), "warning")])
def test_parts_that_stay_in_training_mode(part: nn.Module, severity: str) -> None:
    (found,) = asked(MODE, Stays(part), digits(), optimizer=adam)
    assert (found.severity, found.where) == (severity, "act")
    assert "super().train(mode)" in found.remedy


def test_random_numbers_in_training_alone_and_samples_that_are_drawn() -> None:
    assert not asked(MODE, Middle(nn.Dropout(0.5)), digits(), optimizer=adam)
    noisy = Middle(lambda x: x + torch.randn_like(x))
    loss = nn.CrossEntropyLoss()
    assert not asked(MODE, noisy, digits(), optimizer=adam, loss=loss, task="reconstruct")


def hidden_step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> torch.Tensor:
    x = batch[0]
    optimizer.zero_grad()
    loss: torch.Tensor = functional.mse_loss(model(x), x.flatten(1)[:, :10])
    loss.backward()
    optimizer.step()
    return loss.detach()


@pytest.mark.parametrize("labeled", [False, True])
def test_what_is_hidden_by_chance_and_asked_for_again(labeled: bool) -> None:
    x, y = next(iter(digits(320)))
    data = TensorDataset(x, y) if labeled else TensorDataset(x)
    model = Middle(lambda x: x * (torch.rand_like(x) > 0.3))
    options: dict[str, Any] = {} if labeled else {"step": hidden_step}
    assert bool(asked(MODE, model, DataLoader(data, 32, shuffle=True), optimizer=adam, **options)) == labeled


def few(batch: int, count: int = 60, drop: bool = True) -> DataLoader[Any]:
    x, y = next(iter(digits(count)))
    return DataLoader(TensorDataset(x, y), batch, shuffle=True, drop_last=drop)


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("model", "batch"),
    [(convolutions(nn.BatchNorm2d(8)), 1), (convolutions(nn.BatchNorm2d(8)), 2), (Middle(nn.BatchNorm1d(24)), 4)],
)
def test_batch_norm_with_too_few_samples(model: nn.Module, batch: int) -> None:
    (found,) = asked(BATCH_NORM_SMALL_BATCH, model, few(batch), optimizer=adam)
    assert (found.code, found.severity) == ("model.batch-norm-small-batch", "warning")


@pytest.mark.parametrize("count", [33, 1])
def test_a_batch_of_one_that_raises(count: int) -> None:
    loader = few(32 if count > 1 else 1, 33, drop=False)
    (found,) = asked(BATCH_NORM_SMALL_BATCH, Middle(nn.BatchNorm1d(24)), loader, optimizer=adam)
    assert found.severity == "error"
    assert ("drop_last=True" in found.remedy) == (count > 1)


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("model", "loader"),
    [
        (convolutions(nn.GroupNorm(2, 8)), few(2)),
        (convolutions(nn.BatchNorm2d(8)), few(32, 33, drop=False)),
        (convolutions(nn.BatchNorm2d(8)), few(8)),
        (Middle(nn.BatchNorm1d(24)), few(16)),
        (Middle(nn.LayerNorm(24)), few(1)),
    ],
)
def test_enough_samples(model: nn.Module, loader: Any) -> None:
    assert not asked(BATCH_NORM_SMALL_BATCH, model, loader, optimizer=adam)


class Rows(nn.Module):
    """A recurrent network over the rows of a digit, or, with the wrong axis first, over the digits."""

    def __init__(self, first: bool, *, swap: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.over, self.last, self.swap = nn.LSTM(8, 16, batch_first=first), nn.Linear(16, 10), swap

    def forward(self, x: Tensor) -> Tensor:
        rows = x[:, 0]
        steps = self.over(rows.transpose(0, 1))[0].transpose(0, 1) if self.swap else self.over(rows)[0]
        return self.last(steps[:, -1])


@pytest.mark.parametrize(
    "network",
    [
        lambda: Rows(False),
        lambda: Middle(lambda x: x - x.mean(0)),
        lambda: Middle(lambda x: x.softmax(0)),
        lambda: Middle(lambda x: functional.normalize(x, dim=0)),
        lambda: Middle(lambda x: x.reshape(24, -1).T),
        lambda: Middle(lambda x: x / len(x)),
        lambda: Middle(lambda x: x + x.roll(1, 0)),
        lambda: Middle(lambda x: x / x.abs().max()),
    ],
)
def test_samples_that_know_of_each_other(network: Any) -> None:
    (found,) = asked(BATCH_MIXING, network(), digits(), optimizer=adam)
    assert (found.code, found.severity) == ("model.batch-mixing", "error")


def test_the_place_where_samples_are_mixed_is_named() -> None:
    (found,) = asked(BATCH_MIXING, Rows(False), digits(), optimizer=adam)
    assert found.where == "over"
    assert "batch_first=True" in found.remedy
    (norm,) = asked(BATCH_MIXING, Middle(nn.BatchNorm1d(24, track_running_stats=False)), digits(), optimizer=adam)
    assert (norm.severity, norm.where) == ("warning", "act")


def blended(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
    x, y = batch
    return loop(model, (0.7 * x + 0.3 * x.flip(0), y), optimizer, loss)


@pytest.mark.parametrize(
    "network",
    [
        lambda: Rows(True),
        lambda: Rows(False, swap=True),
        lambda: Middle(nn.BatchNorm1d(24)),
        lambda: Middle(nn.LayerNorm(24)),
        lambda: Middle(nn.Dropout(0.5)),
        lambda: Middle(lambda x: x / x.norm(dim=1, keepdim=True).clamp_min(1e-6)),
    ],
)
def test_samples_by_themselves(network: Any) -> None:
    assert not asked(BATCH_MIXING, network(), digits(), optimizer=adam)


def test_a_step_that_blends_samples_is_not_the_network() -> None:
    assert not asked(BATCH_MIXING, perceptron(), digits(), step=blended, optimizer=adam)


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("p", [0.9, 0.97])
@pytest.mark.parametrize("how", ["module", "function"])
def test_too_much_dropped(how: str, p: float) -> None:
    model = Middle(nn.Dropout(p) if how == "module" else lambda x: functional.dropout(x, p, training=True))
    (found,) = asked(DROPOUT_TOO_HIGH, model, digits(), optimizer=adam)
    assert (found.code, found.severity) == ("model.dropout-too-high", "error")
    judged = " in evaluation mode" if how == "module" else ""
    assert f"with 0.2 instead, the loss{judged} after" in found.measured


@pytest.mark.parametrize("part", [nn.Dropout(0.5), nn.Dropout(0.2), nn.ReLU()])
def test_as_much_dropped_as_is_usual(part: nn.Module) -> None:
    assert not asked(DROPOUT_TOO_HIGH, Middle(part), digits(), optimizer=adam)
