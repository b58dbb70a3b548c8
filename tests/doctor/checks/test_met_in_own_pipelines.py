"""Pipelines of one's own: flips of image and mask, lists that are repeated before a split, colors that a step deals
anew, what is added to an enlarged image, small images of validation, and their twins."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import torch
from asked import asked
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

from striate.doctor.checks.data.augmentation.augmentation import AUGMENTATION
from striate.doctor.checks.data.moved.moved_roughly import left_roughly
from striate.doctor.checks.data.moved.targets_moved import _MOVES
from striate.doctor.checks.data.shift.shift import SHIFT
from striate.doctor.checks.data.splits.repeated_samples import LEAK
from striate.doctor.checks.model.last_layer import LAST_LAYER_CLIPPED
from striate.doctor.evidence.clock import NoEvidence

SIDE, REACH, VOID = 24, 3, 255


class Shifted(Dataset[dict[str, Tensor]]):
    """A noisy square off the center, flipped by chance and shifted with its mask; what comes in is void."""

    def __init__(self, together: bool) -> None:
        self.together, self.random = together, torch.Generator().manual_seed(0)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        own = torch.Generator().manual_seed(number)
        top, left = torch.randint(1, 14, (2,), generator=own).tolist()
        mask = torch.zeros(SIDE, SIDE, dtype=torch.long)
        mask[top : top + 8, left : left + 8] = 1 + number % 2
        image = 0.5 * mask.sign()[None] + 0.1 * torch.randn(3, SIDE, SIDE, generator=own)
        flipped = torch.rand(2, generator=self.random) < 0.5
        image = image.flip(-1) if flipped[0] else image
        mask = mask.flip(-1) if flipped[0 if self.together else 1] else mask
        top, left = torch.randint(0, 2 * REACH + 1, (2,), generator=self.random).tolist()
        image, mask = (functional.pad(x, [REACH] * 4, value=fill) for x, fill in ((image, 0), (mask, VOID)))
        rows, columns = slice(top, top + SIDE), slice(left, left + SIDE)
        return {"pixel_values": image[:, rows, columns], "labels": mask[rows, columns]}


@pytest.mark.parametrize("together", [True, False])
def test_masks_of_images_that_are_shifted_too(together: bool) -> None:
    data = Shifted(together)
    found = left_roughly([[data[number] for _ in range(6)] for number in range(24)], _MOVES)
    assert (found is None) == together
    assert found is None or found[0] == "left and right exchanged"


class Listed(Dataset[tuple[Tensor, int]]):
    """Images with labels in a list, shifted at random for training."""

    def __init__(self, samples: list[tuple[Tensor, int]], train: bool) -> None:
        self.samples, self.train = samples, train

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        image, label = self.samples[number]
        shift = torch.randint(-2, 3, (2,)).tolist() if self.train else (0, 0)
        return image.roll(shift, (-2, -1)) + 0.3 * self.train * torch.randn_like(image), label


@pytest.mark.parametrize("times", [1, 2])
def test_a_list_is_split_before_it_is_repeated(times: int) -> None:
    images = torch.randn(120, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    samples = [(image, number % 3) for number, image in enumerate(images)] * times
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(0)).tolist()
    train, val = ([samples[number] for number in part] for part in (order[40:], order[:40]))
    loaders = DataLoader(Listed(train, True), 16, shuffle=True), DataLoader(Listed(val, False), 20)
    network = nn.Sequential(nn.Flatten(), nn.Linear(144, 3))
    found = asked(LEAK, network, loaders[0], val=loaders[1])
    assert [finding.code for finding in found] == ["data.leak"] * (times - 1)


def scenes(count: int, seed: int, *, by_color: bool) -> DataLoader[Any]:
    """A bar in one of two colors on noise, upright or not; its color is asked for, or how it stands."""
    drawn = torch.Generator().manual_seed(seed)
    color, upright = torch.randint(2, (2, count), generator=drawn)
    images = 0.1 * torch.randn(count, 3, 12, 12, generator=drawn)
    for image, red, up in zip(images, color, upright, strict=True):
        image[2 * red, slice(1, 10) if up else slice(4, 6), slice(4, 6) if up else slice(1, 10)] += 1
    labels = torch.stack([color, 1 - color] if by_color else [upright, 1 - upright], 1).float()
    return DataLoader(TensorDataset(images, labels), 20)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(
    ("by_color", "deals", "wrong"), [(True, True, True), (False, True, False), (True, False, False)]
)
def test_colors_that_are_asked_for_keep_their_order(by_color: bool, deals: bool, wrong: bool) -> None:
    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        shown = batch[0].flip(-1) * (0.9 + 0.2 * torch.rand(len(batch[0]), 1, 1, 1))
        optimizer.zero_grad()
        outputs = model(shown[:, torch.randperm(3)] if deals else shown)
        value = functional.binary_cross_entropy_with_logits(outputs, batch[1])
        value.backward()
        optimizer.step()
        return value.detach()

    loaders = [scenes(count, count, by_color=by_color) for count in (240, 120)]
    found = list[Any]()
    with suppress(NoEvidence):
        found += asked(
            AUGMENTATION, nn.Sequential(nn.Flatten(), nn.Linear(432, 2)), loaders[0], val=loaders[1], step=step
        )
    assert ["have their colors in another order" in finding.measured for finding in found] == [True] * wrong


class Enlarging(nn.Module):
    """Adds what it computes to the enlarged image."""

    def __init__(self, last: nn.Module, clamped: bool) -> None:
        super().__init__()
        self.branch, self.clamped = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.PixelShuffle(2), last), clamped

    def forward(self, x: Tensor) -> Tensor:
        large = functional.interpolate(x, scale_factor=2, mode="bilinear") + self.branch(x)
        return large.clamp(0, 1) if self.clamped else large


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


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("noise", "nearest", "wrong"), [(0, True, True), (0, False, False), (0.3, True, False)])
def test_small_images_are_made_in_one_way(noise: float, nearest: bool, wrong: bool) -> None:
    torch.manual_seed(0)
    large = functional.interpolate(torch.rand(80, 1, 16, 16), size=24, mode="bilinear")
    small = functional.avg_pool2d(large, 2) + noise * torch.randn(80, 1, 12, 12)
    sampled = large[..., ::2, ::2] if nearest else small
    parts = ((small, slice(48)), (sampled, slice(48, 80)))
    train, val = (DataLoader(TensorDataset(x[rows], large[rows]), 16) for x, rows in parts)
    found = asked(SHIFT, Enlarging(nn.Identity(), clamped=False), train, val=val, loss=nn.L1Loss(), task="regress")
    assert ["made smaller in another way" in finding.measured for finding in found] == [True] * wrong
