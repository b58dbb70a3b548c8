"""The order of samples, the places of numbers, and their scale."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import torch
from asked import asked, perceptron
from asked import digits as loader_of_digits
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.inputs.not_normalized import NOT_NORMALIZED
from striate.doctor.checks.data.inputs.scrambled import MIXED_UP, SCRAMBLED, reread, roughness
from striate.doctor.checks.data.not_shuffled import NOT_SHUFFLED, between_stretches
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.setup.batch import dealt_anew


def pixels(count: int = 640) -> tuple[Tensor, Tensor]:
    x, y = loader_of_digits().dataset.tensors  # type: ignore[attr-defined]
    return x[:count], y[:count]


def adam(parameters: object) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=1e-3)  # type: ignore[arg-type]


def momentum(parameters: object) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9)  # type: ignore[arg-type]


class Located(nn.Module):
    """A class and a place for each image."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU())
        self.classes, self.places = nn.Linear(32, 10), nn.Linear(32, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.hidden(x)
        return self.classes(hidden), self.places(hidden)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("ordered", [True, False])
def test_a_class_beside_a_place_has_an_order(ordered: bool) -> None:
    x, y = pixels(320)
    order = y.argsort(stable=True) if ordered else torch.arange(len(y))
    data = TensorDataset(x[order], y[order], torch.rand(len(y), 2, generator=torch.Generator().manual_seed(0)))

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        classes, places = model(batch[0])
        value = functional.smooth_l1_loss(places, batch[2]) + functional.cross_entropy(classes, batch[1])
        value.backward()
        optimizer.step()
        return value

    torch.manual_seed(0)
    found: list[Any] = []
    with suppress(NoEvidence):
        found = asked(NOT_SHUFFLED, Located(), DataLoader(data, 32), optimizer=momentum, step=step, task="regress")
    assert [one.code for one in found] == ["data.not-shuffled"] * ordered


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("size", [8, 32, 64])
def test_sorted_classes_are_found_whatever_the_batch(size: int) -> None:
    x, y = pixels()
    order = y.argsort(stable=True)
    loader = DataLoader(TensorDataset(x[order], y[order]), size)
    (finding,) = asked(NOT_SHUFFLED, perceptron(), loader, optimizer=momentum)
    assert "with shuffled batches the accuracy after" in finding.measured
    assert "shuffle=True" in finding.remedy


def test_numbers_in_order_are_found() -> None:
    x = torch.randn(480, 5, generator=torch.Generator().manual_seed(0)).sort(dim=0).values
    y = x.sum(1, keepdim=True)
    loader = DataLoader(TensorDataset(x, y), 24)
    found = asked(NOT_SHUFFLED, nn.Linear(5, 1), loader, loss=nn.MSELoss(), task="regress")
    assert [finding.code for finding in found] == ["data.not-shuffled"]


def test_an_order_by_chance_needs_no_shuffling() -> None:
    assert not asked(NOT_SHUFFLED, perceptron(), DataLoader(TensorDataset(*pixels()), 32))


def test_the_variance_between_stretches() -> None:
    sorted_ones = functional.one_hot(torch.arange(4).repeat_interleave(40)).double()
    turns = functional.one_hot(torch.arange(4).repeat(40)).double()
    assert between_stretches(sorted_ones, 20) == pytest.approx(1)
    assert between_stretches(turns, 20) == 0
    assert between_stretches(torch.ones(80, 1).double(), 20) == 0


def test_batches_are_dealt_anew_whatever_their_form() -> None:
    batches = [{"x": torch.arange(6) + 6 * n, "y": [torch.arange(6) + 6 * n]} for n in range(3)]
    dealt = dealt_anew(batches)
    assert dealt is not None
    assert torch.cat([batch["x"] for batch in dealt]).sort().values.tolist() == list(range(18))
    assert all(torch.equal(batch["x"], batch["y"][0]) for batch in dealt)
    assert dealt_anew([(torch.zeros(2, 3), torch.zeros(2)), (torch.zeros(2, 4), torch.zeros(2))]) is None


def colored(count: int = 160) -> tuple[Tensor, Tensor]:
    """Smooth pictures (N, 16, 16, 3) with three brightnesses, and where they are brightest."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(count, 3, 4, 4, generator=generator)
    smooth = functional.interpolate(coarse, 16, mode="bilinear", align_corners=False)
    return smooth.permute(0, 2, 3, 1).contiguous(), (coarse[:, 0, :, :2].mean((1, 2)) > 0).long()


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 2))


@pytest.mark.slow
def test_view_where_permute_was_meant() -> None:
    x, y = colored()
    (finding,) = asked(SCRAMBLED, small_network(), (x.reshape(-1, 3, 16, 16), y))
    assert "(16, 16, 3) and were only viewed as (3, 16, 16)" in finding.measured
    assert "x.permute(0, 3, 1, 2)" in finding.remedy
    assert not asked(SCRAMBLED, small_network(), (x.permute(0, 3, 1, 2).contiguous(), y))


@pytest.mark.slow
def test_view_inside_forward_also_before_a_function() -> None:
    class Viewing(nn.Module):
        def __init__(self, right: bool) -> None:
            super().__init__()
            self.right = right
            self.weight = nn.Parameter(0.2 * torch.randn(8, 3, 3, 3))
            self.last = nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = x.permute(0, 3, 1, 2) if self.right else x.reshape(-1, 3, 16, 16)
            return self.last(functional.conv2d(x, self.weight).relu().mean((2, 3)))  # type: ignore[no-any-return]

    (finding,) = asked(SCRAMBLED, Viewing(False), colored())
    assert finding.where == "forward, before the first convolution"
    assert not asked(SCRAMBLED, Viewing(True), colored())


@pytest.mark.slow
def test_signals_of_a_sensor_with_exchanged_axes() -> None:
    generator = torch.Generator().manual_seed(0)
    turns = torch.cumsum(torch.randn(120, 40, 3, generator=generator), 1)  # (N, time, axis)
    y = torch.arange(120) % 2
    model = nn.Sequential(nn.Conv1d(3, 8, 5), nn.ReLU(), nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(8, 2))
    assert asked(SCRAMBLED, model, (turns.reshape(-1, 3, 40), y))
    assert not asked(SCRAMBLED, model, (turns.transpose(1, 2).contiguous(), y))


def test_noise_is_as_rough_in_every_order() -> None:
    x = torch.randn(100, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert not asked(SCRAMBLED, small_network(), (x, torch.arange(100) % 2))


@pytest.mark.slow
def test_samples_that_are_one_place_of_many() -> None:
    x, y = pixels()
    stored = x[:, 0].permute(1, 2, 0).contiguous()  # (H, W, N)
    (finding,) = asked(MIXED_UP, perceptron(), (stored.reshape(x.shape), y))
    assert finding.code == "data.scrambled"
    assert "np.moveaxis(x, -1, 0)" in finding.remedy
    assert not asked(MIXED_UP, perceptron(), (x, y))
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    assert not asked(MIXED_UP, perceptron(), (noise, y))


def test_reading_anew_undoes_a_view() -> None:
    x = torch.randn(2, 4, 5, 3)
    viewed = x.reshape(2, 3, 4, 5)
    assert torch.equal(reread(viewed, (2, 3, 1)), x.permute(0, 3, 1, 2))
    assert roughness(torch.arange(12.0).reshape(1, 1, 3, 4), 1) < roughness(
        torch.tensor([0.0, 9, 0, 9]).view(1, 1, 4), 1
    )


def test_bytes_hurt_a_plain_network_and_the_remedy_is_tried() -> None:
    x, y = pixels()
    gray = 80 * x + 120
    (finding,) = asked(NOT_NORMALIZED, perceptron(), (gray, y), optimizer=momentum)
    assert "with standardized inputs the accuracy after" in finding.measured
    assert "`x = (x - " in finding.remedy


def test_bytes_are_why_the_first_predictions_are_sure() -> None:
    x, y = pixels()
    (finding,) = asked(NOT_NORMALIZED, perceptron(64), (80 * x + 120, y), optimizer=adam)
    assert finding.severity == "warning"
    assert "the first loss is" in finding.measured


def test_bytes_do_not_hurt_where_the_network_normalizes() -> None:
    x, y = pixels()
    normed = nn.Sequential(nn.BatchNorm2d(1), perceptron())
    assert not asked(NOT_NORMALIZED, normed, (80 * x + 120, y), optimizer=momentum)


def test_pixels_between_zero_and_one_are_healthy() -> None:
    x, y = pixels()
    assert not asked(NOT_NORMALIZED, perceptron(), ((x + 1) / 3, y), optimizer=momentum)


def test_columns_in_their_own_units() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 4, generator=generator)
    y = (x[:, 0] + x[:, 1] > 0).long()
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    uneven = x * torch.tensor([1.0, 1.0, 1.0, 900.0])
    (finding,) = asked(NOT_NORMALIZED, model, (uneven, y), optimizer=lambda p: torch.optim.SGD(p, lr=0.05))
    assert "columns with means" in finding.measured
    assert "x_train.mean(0)" in finding.remedy


@pytest.mark.slow
def test_rows_as_channels_are_no_scramble() -> None:
    x, y = pixels()
    model = nn.Sequential(nn.Conv1d(8, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 10))
    assert not asked(SCRAMBLED, model, (x[:, 0].contiguous(), y))
    assert not asked(SCRAMBLED, model, (x[:, 0].transpose(1, 2).contiguous(), y))


@pytest.mark.parametrize("ordered", [True, False])
def test_classes_one_after_the_other_of_a_network_that_embeds(ordered: bool) -> None:
    torch.manual_seed(0)
    labels = torch.arange(40).repeat_interleave(8) if ordered else torch.randperm(320) % 40
    centers, network = nn.Parameter(torch.randn(40, 6)), nn.Linear(6, 6)

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(batch[0]) @ centers.T, batch[1])
        loss.backward()
        optimizer.step()
        return loss.detach()

    batches = DataLoader(TensorDataset(torch.randn(320, 6), labels), 32)
    found = asked(NOT_SHUFFLED, network, batches, step=step)
    assert [one.code for one in found] == ["data.not-shuffled"] * ordered
