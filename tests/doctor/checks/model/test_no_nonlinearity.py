"""`model.no-nonlinearity`: is a deep network equivalent to a single linear layer?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import asked, digits, perceptron, quick_adam, said
from for_checks.networks import seeded
from striate.doctor.checks.model.no_nonlinearity import NO_NONLINEARITY


def test_sigmoids_between_layers_bend_though_the_last_one_is_a_sigmoid_too() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Sigmoid(), nn.Linear(32, 16), nn.Sigmoid())
    model.extend([nn.Linear(16, 1), nn.Sigmoid()])
    x, y = digits().dataset.tensors  # type: ignore[attr-defined]
    data = DataLoader(TensorDataset(x, (y[:, None] > 4).float()), 32, shuffle=True)
    assert not said(NO_NONLINEARITY, model, data, loss=nn.BCELoss())
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Linear(32, 16), nn.Linear(16, 1), nn.Sigmoid())
    assert said(NO_NONLINEARITY, linear, data, loss=nn.BCELoss())


class StraightBranch(nn.Module):
    """Its branch is straight, or bends, but not with weights of zero, which stay there."""

    def __init__(self, straight: bool) -> None:
        super().__init__()
        self.straight, self.first, self.last = straight, nn.Linear(64, 20), nn.Linear(20, 10)
        for parameter in () if straight else self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x.flatten(1))
        bent = functional.relu(hidden) - (functional.relu(-hidden) if self.straight else 0)
        return x.flatten(1)[:, 20:30] + self.last(bent)


@pytest.mark.parametrize("straight", [True, False])
def test_weights_that_stay_at_zero_hide_what_bends(straight: bool) -> None:
    torch.manual_seed(0)
    model = StraightBranch(straight)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    findings = asked(NO_NONLINEARITY, model, digits(), loss=nn.CrossEntropyLoss(), optimizer=optimizer)
    assert [one.code for one in findings] == ["model.no-nonlinearity"] * straight


def linear(*more: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 24), *more, nn.Linear(24, 24), nn.Dropout(0.1), nn.Linear(24, 10))


class Products(nn.Module):
    """Matrices of its own, and logarithms at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(0.2 * torch.randn(64, 24)), nn.Parameter(0.2 * torch.randn(24, 10))

    def forward(self, x: Tensor) -> Tensor:
        return ((x.flatten(1) @ self.a) @ self.b).log_softmax(1)


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    "make",
    [
        linear,
        lambda: linear(nn.BatchNorm1d(24)),
        lambda: linear(nn.LayerNorm(24)),
        Products,
        lambda: nn.Sequential(nn.Conv2d(1, 8, 3), nn.AvgPool2d(2), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(8, 10)),
    ],
)
def test_layers_that_are_together_one(make: Any) -> None:
    (found,) = asked(NO_NONLINEARITY, seeded(make), digits(), optimizer=quick_adam)
    assert (found.code, found.severity) == ("model.no-nonlinearity", "error")
    assert "layers with weights one after the other" in found.measured
    assert "functional.relu" in found.remedy


class BranchOfZeros(nn.Module):
    """Straight at first, as its branch begins with zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner, self.last = nn.Linear(64, 24), nn.Linear(24, 24), nn.Linear(24, 10)
        self.scale = nn.Parameter(torch.zeros(24))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x.flatten(1))
        return self.last(x + self.scale * functional.gelu(self.inner(x)))


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    "make",
    [
        perceptron,
        BranchOfZeros,
        lambda: perceptron(activation=nn.Tanh),
        lambda: perceptron(activation=nn.PReLU),
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)),
        lambda: nn.Sequential(nn.Conv2d(1, 8, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 10)),
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.LayerNorm(24), nn.Linear(24, 10)),
    ],
)
def test_something_that_bends(make: Any) -> None:
    assert not asked(NO_NONLINEARITY, seeded(make), digits(), optimizer=quick_adam)


@pytest.mark.slow
@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("bends", "wrong"), [(False, True), (True, False)])
def test_max_pooling_alone_is_no_activation(bends: bool, wrong: bool) -> None:
    def make() -> nn.Module:
        between = nn.ReLU() if bends else nn.Identity()
        layers: list[nn.Module] = []
        for channels in (1, 12):
            layers += [nn.Conv2d(channels, 12, 3, padding=1), between, nn.Conv2d(12, 12, 3, padding=1), nn.MaxPool2d(2)]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(48, 10))

    found = asked(NO_NONLINEARITY, seeded(make), digits(), optimizer=quick_adam)
    assert [f.severity for f in found] == ["warning"] * wrong
    assert all("max pooling is the only nonlinearity" in f.measured for f in found)


@pytest.mark.parametrize(("width", "bends", "wrong"), [(48, False, True), (48, True, False), (8, False, False)])
def test_layers_that_are_wide_for_nothing(width: int, bends: bool, wrong: bool) -> None:
    def make() -> nn.Module:
        between = nn.GELU() if bends else nn.Identity()
        first = [nn.Conv2d(1, 12, 3), nn.ReLU(), nn.Conv2d(12, width, 1), between, nn.Dropout(0.1)]
        return nn.Sequential(*first, nn.Conv2d(width, 12, 1), nn.ReLU(), nn.Flatten(), nn.Linear(432, 10))

    found = asked(NO_NONLINEARITY, seeded(make), digits(), optimizer=quick_adam)
    assert ["12 units become 48 and then 12" in f.measured for f in found] == [True] * wrong


def test_a_layer_that_compresses_may_be_straight() -> None:
    x, _ = next(iter(digits(320)))
    loader = DataLoader(TensorDataset(x.flatten(1), x.flatten(1)), 32, shuffle=True)
    model = seeded(lambda: nn.Sequential(nn.Linear(64, 8), nn.Linear(8, 64)))
    assert not asked(NO_NONLINEARITY, model, loader, loss=nn.MSELoss(), task="reconstruct", optimizer=quick_adam)


class Rescaled(nn.Module):
    """Layers behind a product with a number."""

    def __init__(self, *more: nn.Module) -> None:
        super().__init__()
        self.layers = linear(*more)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x * 0.5 - 1).softmax(1)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("bent", [False, True])
def test_a_product_with_a_number_bends_nothing(bent: bool) -> None:
    found = asked(NO_NONLINEARITY, seeded(lambda: Rescaled(*[nn.ReLU()] * bent)), digits(), optimizer=quick_adam)
    assert ("error" in [one.severity for one in found]) == (not bent)
