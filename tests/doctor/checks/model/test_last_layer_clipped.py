"""`model.last-layer-clipped`: can the network produce the predictions that the loss asks for?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import asked, digits, perceptron, quick_adam, read, stepped
from for_checks.pictures import Enlarging
from striate.doctor.checks.model.double_softmax import DOUBLE_SOFTMAX
from striate.doctor.checks.model.last_layer_clipped import LAST_LAYER_CLIPPED


class CosineHead(nn.Module):
    """Cosines with a weight for each class, as they are or times a scale."""

    def __init__(self, scale: float | None, *, trained: bool = False, by_norm: bool = False) -> None:
        super().__init__()
        self.body, self.by_norm = perceptron(), by_norm
        self.weight = nn.Parameter(torch.randn(10, 10, generator=torch.Generator().manual_seed(0)))
        self.scale: Any = nn.Parameter(torch.tensor(16.0)) if trained else scale

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        rows = x / x.norm(dim=1, keepdim=True) if self.by_norm else functional.normalize(x)
        cosines = functional.linear(rows, functional.normalize(self.weight))
        return cosines if self.scale is None else self.scale * cosines


@pytest.mark.parametrize("by_norm", [False, True])
def test_cosines_of_classes_without_a_scale(by_norm: bool) -> None:
    (found,) = asked(LAST_LAYER_CLIPPED, CosineHead(None, by_norm=by_norm), digits(), optimizer=quick_adam)
    assert "-1 to 1" in found.measured
    assert "self." not in found.remedy  # of a user's class no attribute is known
    assert "cannot fall below 0.80 for 10 classes" in found.measured


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("head", [CosineHead(16), CosineHead(None, trained=True)])
def test_cosines_with_a_scale(head: nn.Module) -> None:
    assert not asked(LAST_LAYER_CLIPPED, head, digits(), optimizer=quick_adam)


class Views(nn.Module):
    """Embeddings of two views, each compared with those of all others."""

    def __init__(self) -> None:
        super().__init__()
        self.body = perceptron()

    def forward(self, x: Tensor) -> Tensor:
        return functional.normalize(self.body(x), dim=1)


def contrast(times: float) -> Any:
    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        x = batch[0]
        optimizer.zero_grad()
        z = torch.cat([model(x), model(x + 0.1 * torch.randn_like(x))])
        own = torch.eye(len(z), dtype=torch.bool)
        scores = (z @ z.T * times).masked_fill(own, float("-inf"))
        other = torch.arange(len(z)).roll(len(x))
        loss = functional.cross_entropy(scores, other)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def test_a_temperature_that_is_multiplied() -> None:
    (found,) = asked(LAST_LAYER_CLIPPED, Views(), digits(), step=contrast(0.1), optimizer=quick_adam)
    assert "-0.1 to 0.1" in found.measured


@pytest.mark.parametrize(("times", "wrong"), [(0.07, True), (1 / 0.07, False)])
def test_a_temperature_beside_rows_that_no_loader_gives(times: float, wrong: bool) -> None:
    words = torch.randn(64, 20, generator=torch.Generator().manual_seed(0))
    second = nn.Linear(20, 10)

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        texts = functional.normalize(second(words[: len(batch[0])]), dim=1)
        scores = model(batch[0]) @ texts.t() * times
        return stepped(functional.cross_entropy(scores, torch.arange(len(scores))), optimizer)

    found = asked(LAST_LAYER_CLIPPED, Views(), digits(), step=step, optimizer=quick_adam)
    assert ["-0.07 to 0.07" in one.measured for one in found] == [True] * wrong


def test_a_temperature_that_is_divided_by() -> None:
    assert not asked(LAST_LAYER_CLIPPED, Views(), digits(), step=contrast(1 / 0.1), optimizer=quick_adam)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("kept", [True, False])
def test_probabilities_that_never_fall_below_a_half(kept: bool) -> None:
    x, y = digits().dataset.tensors  # type: ignore[attr-defined]
    model = nn.Sequential(perceptron(), nn.ReLU() if kept else nn.Identity(), nn.Sigmoid())
    loader = DataLoader(TensorDataset(x, functional.one_hot(y, 10).float()), 32)
    found = asked(LAST_LAYER_CLIPPED, model, loader, loss=nn.BCELoss())
    assert ["relu" in finding.measured for finding in found] == [True] * kept


LOOP = "for x, y in loader:\n    pass\n"


@pytest.mark.parametrize(("low", "wrong"), [(-1.0, True), (0.0, False), (None, False)])
@pytest.mark.parametrize("by_function", [False, True])
def test_a_sigmoid_before_an_error_that_the_step_computes(low: float | None, wrong: bool, by_function: bool) -> None:
    """Where -1 stands for what is missing, nothing lies outside."""
    torch.manual_seed(0)
    x, y = torch.randn(64, 6), torch.rand(64, 4)
    y = y.where(torch.rand(64, 4) < 0.8, -1.0) if low is None else low + (1 - low) * y

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        error, counted = model(batch[0]) - batch[1], (batch[1] > -1).float()
        error = error.abs() if by_function else error * error
        return stepped((error * counted).sum() / counted.sum(), optimizer)

    model = nn.Sequential(nn.Linear(6, 4), nn.Sigmoid())
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-3), "step": step}
    findings = read(LOOP, LAST_LAYER_CLIPPED, model, DataLoader(TensorDataset(x, y), 16), **options)
    assert [one.code for one in findings] == ["model.last-layer-clipped"] * wrong


@pytest.mark.slow
@pytest.mark.parametrize(
    ("last", "clamped", "wrong"),
    [(nn.ReLU(), False, True), (nn.ReLU(), True, True), (nn.Tanh(), False, False), (nn.Identity(), True, False)],
)
def test_what_is_added_may_darken(last: nn.Module, clamped: bool, wrong: bool) -> None:
    torch.manual_seed(0)
    large = torch.rand(64, 1, 12, 12)
    batches = DataLoader(TensorDataset(functional.avg_pool2d(large, 2), large), 16)
    found = asked(LAST_LAYER_CLIPPED, Enlarging(last, clamped), batches, loss=nn.L1Loss(), task="regress")
    assert [finding.code for finding in found] == ["model.last-layer-clipped"] * wrong


@pytest.mark.parametrize("wide", [False, True])
def test_masked_boxes_are_within_the_range_of_a_sigmoid(wide: bool) -> None:
    x = torch.randn(96, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    boxes = torch.rand(96, 4, generator=torch.Generator().manual_seed(1)) * (4 if wide else 1)
    there = torch.arange(96) % 3 > 0
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.Sigmoid())

    def step(net: nn.Module, batch: Any, own: torch.optim.Optimizer, _: Any) -> Tensor:
        own.zero_grad()
        value = functional.mse_loss(net(batch[0])[batch[2]], batch[1][batch[2]])
        value.backward()
        own.step()
        return value.detach()

    loader = DataLoader(TensorDataset(x, boxes, there), 32)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    findings = asked(
        LAST_LAYER_CLIPPED, model, loader, loss=nn.MSELoss(), optimizer=optimizer, step=step, task="regress"
    )
    assert len(findings) == wide


class With(nn.Module):
    """A perceptron with something behind it."""

    def __init__(self, end: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.body, self.end = perceptron(), end

    def forward(self, x: Tensor) -> Any:
        return self.end(self.body(x))


def own_softmax(x: Tensor) -> Tensor:
    grown = (x - x.amax(1, keepdim=True)).exp()
    return grown / grown.sum(1, keepdim=True)


def by_hand(outputs: Tensor, y: Tensor) -> Tensor:
    return -(functional.log_softmax(outputs, 1) * functional.one_hot(y, 10)).sum(1).mean()


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("end", "loss"),
    [
        (nn.Softmax(dim=1), None),
        (own_softmax, nn.CrossEntropyLoss()),
        (lambda x: (x.softmax(1), x), lambda outputs, y: functional.cross_entropy(outputs[0], y)),
        (lambda x: functional.softmax(x, -1), by_hand),
        (lambda x: {"logits": torch.softmax(x, 1)}, lambda outputs, y: functional.cross_entropy(outputs["logits"], y)),
    ],
)
def test_softmax_before_a_loss_that_has_one(end: Any, loss: Any) -> None:
    (found,) = asked(DOUBLE_SOFTMAX, With(end), digits(), loss=loss, optimizer=quick_adam)
    assert (found.code, found.severity) == ("model.double-softmax", "error")
    assert "cannot fall below 1.46 for 10 classes" in found.measured


@pytest.mark.parametrize(
    ("end", "loss"),
    [
        (lambda x: x.log_softmax(1), nn.NLLLoss()),
        (lambda x: x.softmax(1), lambda p, y: functional.nll_loss(p.log(), y)),
        (lambda x: (x, x.softmax(1)), lambda outputs, y: functional.cross_entropy(outputs[0], y)),
        (lambda x: x.softmax(1), lambda p, y: functional.mse_loss(p, functional.one_hot(y, 10).float())),
        (nn.Identity(), nn.CrossEntropyLoss(label_smoothing=0.1)),
    ],
)
def test_one_softmax_is_right(end: Any, loss: Any) -> None:
    assert not asked(DOUBLE_SOFTMAX, With(end), digits(), loss=loss, optimizer=quick_adam)


def test_log_softmax_twice_is_harmless() -> None:
    (found,) = asked(DOUBLE_SOFTMAX, With(nn.LogSoftmax(1)), digits(), optimizer=quick_adam)
    assert found.severity == "note"


@pytest.mark.each_nth(4)
@pytest.mark.parametrize(
    ("end", "severity"),
    [
        (torch.relu, {"warning", "error"}),
        (nn.Tanh(), {"error"}),
        (nn.Sigmoid(), {"error"}),
        (lambda x: x.clamp(0, 1), {"error"}),
        (nn.Hardtanh(-2, 2), {"error"}),
        (nn.ReLU6(), {"warning", "error"}),
        (nn.Sequential(nn.ReLU(), nn.Dropout(0.1)), {"warning", "error"}),
    ],
)
def test_scores_cut_off(end: Any, severity: set[str]) -> None:
    (found,) = asked(LAST_LAYER_CLIPPED, With(end), digits(), optimizer=quick_adam)
    assert found.code == "model.last-layer-clipped"
    assert found.severity in severity


def test_the_bound_of_the_loss_is_reported() -> None:
    (found,) = asked(LAST_LAYER_CLIPPED, With(nn.Tanh()), digits(), optimizer=quick_adam)
    assert "cannot fall below 0.80 for 10 classes" in found.measured
    assert "Remove the tanh" in found.remedy


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    "end", [nn.Identity(), lambda x: x.clamp(-20, 20), lambda x: 10 * torch.tanh(x), nn.LeakyReLU(), nn.Softmax(1)]
)
def test_scores_left_free(end: Any) -> None:
    assert not asked(LAST_LAYER_CLIPPED, With(end), digits(), optimizer=quick_adam)


def numbers(low: float, high: float) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 5, generator=generator)
    y = x[:, :1].tanh() + 0.5 * x[:, 1:2].sin()
    y = low + (high - low) * (y - y.min()) / (y.max() - y.min())
    return DataLoader(TensorDataset(x, y), 32, shuffle=True)


def answering(end: Any) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 1), end)


def own_squares(outputs: Tensor, y: Tensor) -> Tensor:
    return ((outputs - y) ** 2).mean()


@pytest.mark.each_nth(4)
@pytest.mark.parametrize("loss", [None, nn.L1Loss(), own_squares])
@pytest.mark.parametrize(("end", "low", "high"), [(nn.ReLU(), -2, 2), (nn.Sigmoid(), 0, 40), (nn.Tanh(), -3, 3)])
def test_targets_out_of_reach(end: nn.Module, low: float, high: float, loss: Any) -> None:
    (found,) = asked(
        LAST_LAYER_CLIPPED, answering(end), numbers(low, high), loss=loss, task="regress", optimizer=quick_adam
    )
    assert found.severity == "error"
    assert "% of the targets are outside" in found.measured


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("end", "low", "high"), [(nn.ReLU(), 0, 2), (nn.Sigmoid(), 0, 1), (nn.Tanh(), -1, 1)])
def test_targets_within_reach(end: nn.Module, low: float, high: float) -> None:
    assert not asked(LAST_LAYER_CLIPPED, answering(end), numbers(low, high), task="regress", optimizer=quick_adam)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("clipped", [True, False])
def test_what_is_taken_from_the_input_may_be_of_either_sign(clipped: bool) -> None:
    class Restoring(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.noise = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            noise = self.noise(x)
            return x - (noise.relu() if clipped else noise)

    torch.manual_seed(0)
    clean = torch.rand(128, 8)
    batches = DataLoader(TensorDataset(clean + 0.2 * torch.randn(128, 8), clean), 32)
    found = asked(LAST_LAYER_CLIPPED, Restoring(), batches, loss=nn.MSELoss(), optimizer=quick_adam)
    assert [one.code for one in found] == ["model.last-layer-clipped"] * clipped
