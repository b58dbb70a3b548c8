"""Strips of several leads, clips, and networks whose loss asks for no label: faults that were met in setups, and their
healthy twins."""

from __future__ import annotations

import pytest
import torch
from test_met_in_second_heads import asked_or_silent
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.inputs.scrambled import SCRAMBLED
from striate.doctor.checks.data.labels.class_balance import IMBALANCE, MISSING_CLASS
from striate.doctor.checks.data.splits.windows_shared import WINDOWS_SHARED
from striate.doctor.checks.loss.degenerate.degenerate import DEGENERATE
from striate.doctor.checks.loss.sign.sign import SIGN
from striate.doctor.checks.loss.task.wrong_for_task import WRONG_FOR_TASK
from striate.doctor.checks.model.mode import MODE
from striate.doctor.evidence.answering import predicts_targets
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.training_setup import make_setup


def clips(count: int) -> Tensor:
    """A block that moves one of four ways, in noise: (N, T, H, W, C)."""
    found = 0.1 * torch.randn(count, 6, 12, 12, 3)
    for clip, way, place in zip(found, torch.arange(count) % 4, torch.randint(12, (count, 2)).tolist(), strict=True):
        block = torch.zeros(12, 12, 3)
        block[:4, :4] = torch.empty(3).uniform_(0.7, 2.6)
        down, right = ((0, -1), (0, 1), (-1, 0), (1, 0))[int(way)]
        for time, frame in enumerate(clip):
            frame += block.roll((place[0] + down * time, place[1] + right * time), (0, 1))
    return found


@pytest.mark.parametrize("shared", [False, True])
def test_reshaped_clips_move_alike_and_are_of_no_common_video(shared: bool) -> None:
    torch.manual_seed(0)
    train, val = (clips(count).reshape(count, 3, 6, 12, 12) for count in (200, 40))
    val[:20] = train[:20] if shared else val[:20]
    loaders = [DataLoader(TensorDataset(x, torch.arange(len(x)) % 4), 32) for x in (train, val)]
    said = asked_or_silent(WINDOWS_SHARED, nn.Sequential(nn.Flatten(), nn.Linear(2592, 4)), loaders[0], val=loaders[1])
    assert [one.code for one in said] == ["data.leak"] * shared


@pytest.mark.parametrize("reshaped", [True, False])
def test_leads_that_are_interleaved_in_noise(reshaped: bool) -> None:
    torch.manual_seed(0)
    y = torch.arange(320) % 2
    wave = torch.exp(-(((torch.arange(48.0) - 12 - 20 * torch.rand(320, 1)) / 5) ** 2)) * (2 * y[:, None] - 1)
    x = wave[:, :, None] * torch.tensor([1.0, 0.6, -0.8, -0.5, 1.2]) + 0.5 * torch.randn(320, 48, 5)
    x = x.reshape(320, 5, 48) if reshaped else x.transpose(1, 2).contiguous()
    model = nn.Sequential(
        nn.Conv1d(5, 8, 7, padding=3), nn.ReLU(), nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(8, 2)
    )
    adam = torch.optim.Adam(model.parameters(), 5e-3)
    said = asked_or_silent(SCRAMBLED, model, DataLoader(TensorDataset(x, y), 32, shuffle=True), optimizer=adam)
    assert [one.code for one in said] == ["data.scrambled"] * reshaped


def of_views(z: Tensor, _: Tensor) -> Tensor:
    z = functional.normalize(z, dim=1)
    return functional.cross_entropy(z @ z.roll(1, 0).T, torch.arange(len(z)))


@pytest.mark.parametrize("asks", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.02])
def test_classes_that_no_loss_asks_for(share: float, asks: bool) -> None:
    torch.manual_seed(0)
    y = (torch.arange(640) < 640 * share).long()
    train = DataLoader(TensorDataset(torch.randn(640, 8), y), 64, shuffle=True)
    model = nn.Linear(8, 2)
    nn.init.zeros_(model.weight if asks else model.bias)  # one loss for all labels at first
    loss = functional.cross_entropy if asks else of_views
    said = [one.code for check in (MISSING_CLASS, IMBALANCE) for one in asked_or_silent(check, model, train, loss=loss)]
    assert said == (["data.imbalance" if share else "data.missing-class"] if asks else [])


class Denoiser(nn.Module):
    """It draws the noise that it is to find, and gives the error of each sample; or an answer of its own."""

    def __init__(self, errors: bool) -> None:
        super().__init__()
        self.errors = errors
        self.layers = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 8))

    def forward(self, x: Tensor) -> Tensor:
        noise = torch.randn_like(x)
        found: Tensor = self.layers(x + noise)
        return (found - noise).square().mean(1) if self.errors else found.mean(1)


@pytest.mark.parametrize("errors", [True, False])
def test_a_network_that_gives_its_own_errors(errors: bool) -> None:
    torch.manual_seed(0)
    y = torch.arange(320) % 5
    train = DataLoader(TensorDataset(0.2 * torch.randn(320, 8) + y[:, None], y), 32, shuffle=True)
    options = {"loss": lambda out, y: out.mean() if errors else (out - y).square().mean()}
    model = Denoiser(errors)
    options |= {"optimizer": torch.optim.Adam(model.parameters(), 1e-2)}
    checks = (WRONG_FOR_TASK, SIGN, DEGENERATE, MODE)
    said = [one.code for check in checks for one in asked_or_silent(check, model, train, **options)]
    assert said == ([] if errors else ["loss.wrong-for-task", "model.mode"])


class Rebuilt(nn.Module):
    """Rebuilds points by way of a noisy code, and gives them beside the points: two outputs, as there are classes."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.net(x + torch.randn_like(x)), x


@pytest.mark.parametrize("asks", [False, True])
def test_outputs_are_no_classes_where_the_loss_uses_none(asks: bool) -> None:
    def loss(outputs: tuple[Tensor, Tensor], y: Tensor) -> Tensor:
        told, x = outputs
        return functional.cross_entropy(told, y) if asks else functional.mse_loss(told, x)

    torch.manual_seed(0)
    x = torch.randn(200, 2)
    data = DataLoader(TensorDataset(x, (x[:, 0] > 0).long()), 25)
    assert predicts_targets(Evidence(make_setup(Rebuilt(), data, None, loss=loss), Clock(20.0))) == asks
