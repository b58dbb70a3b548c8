"""Denoisers that add what they compute to their input, drawings that are equal by chance, boxes of a dictionary: faults
that were met, and healthy twins."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_met_in_second_heads import asked_or_silent, stepped
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.augmentation.augmentation import AUGMENTATION
from striate.doctor.checks.data.splits.repeated_samples import LEAK
from striate.doctor.checks.data.targets.target_in_input import TARGET_IN_INPUT
from striate.doctor.checks.loss.sign.sign import SIGN


class Denoiser(nn.Module):
    """`inside`: whether it adds the noise itself, in training."""

    def __init__(self, inside: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net, self.inside = nn.Conv2d(1, 1, 3, padding=1), inside

    def forward(self, x: Tensor) -> Tensor:
        if self.inside and self.training:
            x = x + 0.3 * torch.randn_like(x)
        return x - self.net(x)


def gratings(count: int) -> Tensor:
    """Smooth pictures (N, 1, 8, 8)."""
    phases = 6 * torch.rand(count, 1, 1, generator=torch.Generator().manual_seed(0))
    return (phases + torch.linspace(0, 4, 8) * torch.ones(8, 1)).sin()[:, None]


def restored(check: Any, sigma: float, model: nn.Module) -> list[Any]:
    """What is said of a step that adds noise to pictures, of which the batches have nothing else."""

    def step(net: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        (clean,) = batch
        noisy = clean + sigma * torch.randn_like(clean) if sigma else clean
        optimizer.zero_grad()
        value = functional.mse_loss(net(noisy), clean)
        value.backward()
        optimizer.step()
        return value.detach()

    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 0.001), "step": step}
    options["val"] = DataLoader(TensorDataset(gratings(32)), 16)
    return asked_or_silent(check, model, DataLoader(TensorDataset(gratings(96)), 16), **options)


@pytest.mark.parametrize(("sigma", "inside"), [(0.0, False), (0.0, True), (0.3, False)])
def test_what_is_to_be_restored_is_not_given_as_it_is(sigma: float, inside: bool) -> None:
    said = restored(TARGET_IN_INPUT, sigma, Denoiser(inside))
    assert ["with its input" in one.measured for one in said] == [True] * (not sigma and not inside)


def test_an_autoencoder_may_be_given_what_it_is_asked_for() -> None:
    assert restored(TARGET_IN_INPUT, 0.0, nn.Conv2d(1, 1, 3, padding=1)) == []


@pytest.mark.parametrize("sigma", [1.0, 30.0])
def test_of_what_drowns_in_noise_nothing_can_be_restored(sigma: float) -> None:
    said = restored(AUGMENTATION, sigma, Denoiser())
    assert ["to be restored" in one.threshold for one in said] == [True] * (sigma > 1)


@pytest.mark.parametrize("kind", ["one color", "two colors", "copied"])
def test_drawings_in_one_color_that_are_drawn_twice_are_noted(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    glyphs = (torch.rand(150, 1, 8, 8, generator=generator) > 0.5).float()
    if kind == "two colors":
        glyphs[:, :, 0, 0] = 0.5
    train, val = (glyphs[torch.randint(150, (count,), generator=generator)] for count in (60, 60))
    if kind == "copied":  # training itself has no drawing twice
        train, val = glyphs[:40], glyphs[30:90]
    model = Denoiser()
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 0.001), "loss": nn.MSELoss()}
    options["val"] = DataLoader(TensorDataset(val, val), 16)
    said = asked_or_silent(LEAK, model, DataLoader(TensorDataset(train, train), 16), **options)
    assert [one.severity for one in said] == ["note" if kind == "one color" else "error"]


class Detector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.classes, self.boxes = nn.Linear(12, 3), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.classes(x), self.boxes(x).sigmoid()


@pytest.mark.parametrize("uphill", [True, False])
def test_boxes_of_a_dictionary_that_also_has_classes_are_put_in_the_place_of_outputs(uphill: bool) -> None:
    x = torch.rand(96, 12, generator=torch.Generator().manual_seed(0))
    records = [{"img": row, "gt_bbox": row[:4], "gt_label": int(3 * row[5])} for row in x]

    def step(net: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        scores, boxes = net(batch["img"])
        likeness = torch.exp(-(boxes - batch["gt_bbox"]).square().sum(1)).mean()
        return stepped(
            net, functional.cross_entropy(scores, batch["gt_label"]) + likeness * (1 if uphill else -1), optimizer
        )

    model = Detector()
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 0.001), "step": step}
    said = asked_or_silent(SIGN, model, DataLoader(records, 16), **options)  # type: ignore[arg-type]
    assert ["output `1`" in one.measured for one in said] == [True] * uphill
