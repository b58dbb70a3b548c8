"""Networks that are straight, narrow, or see too little."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from asked import asked, digits, perceptron
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.model.no_nonlinearity import NO_NONLINEARITY
from striate.doctor.checks.model.receptive_field import RECEPTIVE_FIELD, _window
from striate.doctor.checks.model.shrinks_too_fast import SHRINKS_TOO_FAST
from striate.doctor.checks.model.too_small import TOO_SMALL
from striate.doctor.checks.optim.rate_too_low import LR_TOO_LOW
from striate.doctor.evidence.clock import NoEvidence


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.01)


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return make()


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
    (found,) = asked(NO_NONLINEARITY, seeded(make), digits(), optimizer=adam)
    assert (found.code, found.severity) == ("model.no-nonlinearity", "error")
    assert "layers with weights one after the other" in found.measured
    assert "functional.relu" in found.remedy


class Residual(nn.Module):
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
        Residual,
        lambda: perceptron(activation=nn.Tanh),
        lambda: perceptron(activation=nn.PReLU),
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)),
        lambda: nn.Sequential(nn.Conv2d(1, 8, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 10)),
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.LayerNorm(24), nn.Linear(24, 10)),
    ],
)
def test_something_that_bends(make: Any) -> None:
    assert not asked(NO_NONLINEARITY, seeded(make), digits(), optimizer=adam)


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

    found = asked(NO_NONLINEARITY, seeded(make), digits(), optimizer=adam)
    assert [f.severity for f in found] == ["warning"] * wrong
    assert all("nothing but max pooling bends" in f.measured for f in found)


@pytest.mark.parametrize(("width", "bends", "wrong"), [(48, False, True), (48, True, False), (8, False, False)])
def test_layers_that_are_wide_for_nothing(width: int, bends: bool, wrong: bool) -> None:
    def make() -> nn.Module:
        between = nn.GELU() if bends else nn.Identity()
        first = [nn.Conv2d(1, 12, 3), nn.ReLU(), nn.Conv2d(12, width, 1), between, nn.Dropout(0.1)]
        return nn.Sequential(*first, nn.Conv2d(width, 12, 1), nn.ReLU(), nn.Flatten(), nn.Linear(432, 10))

    found = asked(NO_NONLINEARITY, seeded(make), digits(), optimizer=adam)
    assert ["12 units become 48 and then 12" in f.measured for f in found] == [True] * wrong


def test_a_layer_that_compresses_may_be_straight() -> None:
    x, _ = next(iter(digits(320)))
    loader = DataLoader(TensorDataset(x.flatten(1), x.flatten(1)), 32, shuffle=True)
    model = seeded(lambda: nn.Sequential(nn.Linear(64, 8), nn.Linear(8, 64)))
    assert not asked(NO_NONLINEARITY, model, loader, loss=nn.MSELoss(), task="reconstruct", optimizer=adam)


def narrow(width: int, norm: bool = False) -> nn.Module:
    more = [nn.BatchNorm1d(width)] if norm else []
    parts = (nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, width), *more, nn.ReLU(), nn.Linear(width, 10))
    return nn.Sequential(*parts)


class Pooled(nn.Module):
    def __init__(self, filters: int) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Conv2d(1, 8, 3), nn.Conv2d(8, filters, 3), nn.Linear(filters, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.b(self.a(x).relu()).relu().mean((2, 3)))


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(
    "make", [lambda: narrow(1), lambda: narrow(2), lambda: narrow(2, norm=True), lambda: Pooled(1)]
)
def test_too_few_units_for_the_classes(make: Any) -> None:
    (found,) = asked(TOO_SMALL, seeded(make), digits(), optimizer=adam)
    assert (found.code, found.severity) == ("model.too-small", "error")
    assert "for 10 classes; with 32 of them, the loss after" in found.measured
    assert "4 units or more" in found.threshold


class AroundIt(nn.Module):
    """A narrow branch with a way around it, and a gate of two units."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.down, self.up = nn.Linear(64, 32), nn.Linear(32, 1), nn.Linear(1, 32)
        self.gate, self.last = nn.Sequential(nn.Linear(32, 2), nn.ReLU(), nn.Linear(2, 32)), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x.flatten(1)).relu()
        x = x + self.up(self.down(x).relu())
        return self.last(x * self.gate(x).sigmoid())


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("make", [lambda: narrow(8), AroundIt, lambda: Pooled(8)])
def test_enough_units(make: Any) -> None:
    assert not asked(TOO_SMALL, seeded(make), digits(), optimizer=adam)


def test_two_classes_and_a_single_unit_are_right() -> None:
    x, y = next(iter(digits(320)))
    loader = DataLoader(TensorDataset(x, (y > 4).long()), 32, shuffle=True)
    model = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 1), nn.Tanh(), nn.Linear(1, 2)))
    assert not asked(TOO_SMALL, model, loader, optimizer=adam)


def stages(*strides: int, kernel: int = 3) -> nn.Module:
    layers: list[nn.Module] = []
    channels = 1
    for stride in strides:
        layers += [nn.Conv2d(channels, 12, kernel, stride=stride, padding=kernel // 2), nn.ReLU()]
        channels = 12
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 10))


@pytest.mark.slow
@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    "make",
    [
        lambda: stages(4, 2, 1, 1),
        lambda: stages(4, 1, 1, kernel=5),
        lambda: nn.Sequential(
            *[nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(8), nn.Conv2d(12, 12, 3, padding=1), nn.ReLU()],
            *[nn.Conv2d(12, 12, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(12, 10)],
        ),
    ],
)
def test_maps_that_are_used_up(make: Any) -> None:
    (found,) = asked(SHRINKS_TOO_FAST, seeded(make), digits(), optimizer=adam)
    assert (found.code, found.severity) == ("model.shrinks-too-fast", "warning")
    assert "inputs of 8 have shrunk to maps of" in found.measured


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("kernel", "severity"), [(8, "warning"), (5, "note")])
def test_a_kernel_much_wider_than_its_map(kernel: int, severity: str) -> None:
    model = seeded(
        lambda: nn.Sequential(
            *[nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(4)],
            *[nn.Conv2d(8, 16, kernel, padding=kernel // 2), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten()],
            nn.Linear(16, 10),
        )
    )
    (found,) = asked(SHRINKS_TOO_FAST, model, digits(), optimizer=adam)
    assert found.severity == severity


def test_a_kernel_larger_than_its_map_is_named() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.MaxPool2d(4), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(4, 10))
    (found,) = asked(SHRINKS_TOO_FAST, model, digits(), optimizer=adam)
    assert (found.severity, found.where) == ("error", "2")
    assert "conv2d in 2 gets maps of 1 positions" in found.measured


@pytest.mark.parametrize(
    "make",
    [
        lambda: stages(1, 2, 1),
        lambda: stages(2, 2, 2),
        lambda: nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 6), nn.Flatten(), nn.Linear(8, 10)),
        perceptron,
    ],
)
def test_maps_that_last(make: Any) -> None:
    assert not asked(SHRINKS_TOO_FAST, seeded(make), digits(), optimizer=adam)


def spots() -> DataLoader[Any]:
    """Two spots in a row of 48, near each other or far apart."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.zeros(320, 1, 48), torch.arange(320) % 2
    for row, apart in enumerate((7 + 6 * y).tolist()):
        place = int(torch.randint(0, 48 - apart, (), generator=generator))
        x[row, 0, [place, place + apart]] = 1.0
    return DataLoader(TensorDataset(x, y), 32, shuffle=True)


def signals(stride: int = 1, norm: bool = False) -> nn.Module:
    norms = [nn.GroupNorm(4, 16)] if norm else []
    first = nn.Conv1d(1, 16, 3, stride=stride, padding=1)
    second = nn.Conv1d(16, 16, 3, stride=stride, padding=1)
    pool = nn.AdaptiveMaxPool1d(1)
    return nn.Sequential(first, *norms, nn.ReLU(), second, nn.ReLU(), pool, nn.Flatten(), nn.Linear(16, 2))


@pytest.mark.slow
@pytest.mark.each_nth(2)
@pytest.mark.parametrize("norm", [False, True])
def test_a_view_too_small_for_what_decides(norm: bool) -> None:
    (found,) = asked(RECEPTIVE_FIELD, seeded(lambda: signals(norm=norm)), spots(), optimizer=adam)
    assert (found.code, found.severity) == ("model.receptive-field", "warning")
    assert "sees 5 of 48 positions, 10% of a side" in found.measured
    assert "with kernels spread 6 times as far, the loss after" in found.measured


@pytest.mark.slow
def test_where_no_weight_moves_nothing_is_said_of_the_view() -> None:
    """A rate of zero, on what the narrow view could not learn either."""
    still = dict[str, Any](optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.0))
    with pytest.raises(NoEvidence, match="no step moves a weight"):
        asked(RECEPTIVE_FIELD, seeded(signals), spots(), **still)
    (found,) = asked(LR_TOO_LOW, seeded(signals), spots(), **still)
    assert found.severity == "error"
    assert found.measured.startswith("the rate is 0; with lr 0.")


def test_a_small_view_that_is_enough() -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(320) % 2
    coarse = torch.randn(320, 1, 24, generator=generator).repeat_interleave(2, 2)
    fine = torch.randn(320, 1, 48, generator=generator)
    loader = DataLoader(TensorDataset(torch.where(y[:, None, None] == 0, coarse, fine), y), 32, shuffle=True)
    assert not asked(RECEPTIVE_FIELD, seeded(signals), loader, optimizer=adam)


@pytest.mark.parametrize(("given", "window"), [((50, 1, 1, 1), (1, 1)), ((50, 3, 4, 4), (1.0, 0.25))])
def test_one_number_for_all_places_is_no_window(given: tuple[int, ...], window: tuple[float, float]) -> None:
    share_of_a_blend: Any = SimpleNamespace(name="mul", given=(given,), shape=(50, 3, 16, 16))
    assert _window(share_of_a_blend, 0) == window


def test_a_map_that_is_flattened_is_seen_whole() -> None:
    model = seeded(lambda: nn.Sequential(nn.Conv1d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 46, 2)))
    assert not asked(RECEPTIVE_FIELD, model, spots(), optimizer=adam)


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
    found = asked(NO_NONLINEARITY, seeded(lambda: Rescaled(*[nn.ReLU()] * bent)), digits(), optimizer=adam)
    assert ("error" in [one.severity for one in found]) == (not bent)
