"""`data.scrambled` within the network: `view` and `reshape` where axes should be exchanged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import asked, digits
from striate.doctor.checks.data.inputs.reshaped_axes import RESHAPED_AXES, _of_scores


class Reading(nn.Module):
    """A convolution, and its map (N, 6, 8, 8), or rows of it (N, 64, 6), in another shape before the last layer."""

    def __init__(self, read: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.read, self.maps, self.last = read, nn.Conv2d(1, 6, 3, padding=1), nn.Linear(384, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.read(self.maps(x)).flatten(1))


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(
    ("read", "wrong"),
    [
        (lambda x: x.reshape(len(x), 8, 8, 6), True),
        (lambda x: x.permute(0, 2, 3, 1).reshape(len(x), 6, 8, 8), True),
        (lambda x: x.view(len(x), 64, 6), True),
        (lambda x: x.relu().flatten(2).view(len(x), 64, 6), True),
        (lambda x: x.flatten(2).transpose(1, 2).reshape(len(x), 2, 64, 3), True),
        (lambda x: x.flatten(2).transpose(1, 2).reshape(len(x), 64, 2, 3).transpose(1, 2).reshape(len(x), 64, 6), True),
        (lambda x: x.permute(0, 2, 3, 1), False),
        (lambda x: x.view(len(x), 6, 64), False),
        (lambda x: x.view(len(x), 2, 3, 64), False),
        (lambda x: x.flatten(2).transpose(1, 2).reshape(len(x), 64, 2, 3).transpose(1, 2), False),
        (lambda x: x.mean(1, keepdim=True).reshape(len(x), 8, 8, 1).expand(-1, -1, -1, 6), False),
    ],
)
def test_axes_are_exchanged_by_permute(read: Callable[[Tensor], Tensor], wrong: bool) -> None:
    found = asked(RESHAPED_AXES, Reading(read), digits())
    assert [one.code for one in found] == ["data.scrambled"] * wrong


@pytest.mark.parametrize("dealt", [True, False])
def test_classes_of_a_mask_come_to_the_front_by_permute(dealt: bool) -> None:
    torch.manual_seed(0)

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        optimizer.zero_grad()
        scores = model(batch[0])
        marked = nn.functional.one_hot(batch[1], 3)
        wanted = (marked.view(scores.shape) if dealt else marked.permute(0, 3, 1, 2)).float()
        loss = nn.functional.binary_cross_entropy_with_logits(scores, wanted)
        loss.backward()
        optimizer.step()
        return loss.detach()

    images = torch.rand(64, 1, 6, 8)
    batches = DataLoader(TensorDataset(images, (3 * images[:, 0]).long().clamp(max=2)), 16)
    found = asked(RESHAPED_AXES, nn.Conv2d(1, 3, 3, padding=1), batches, step=step)
    assert [one.code for one in found] == ["data.scrambled"] * dealt


class Points(nn.Module):
    """Points (N, 16, 3), turned by drawn numbers, or by weights, to a convolution that wants channels first."""

    def __init__(self, read: str, learned: bool) -> None:
        super().__init__()
        self.read, self.learned, self.turns = read, learned, nn.Parameter(torch.randn(3, 3))
        self.first, self.last = nn.Conv1d(3, 8, 1), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        turns = self.turns.expand(len(x), 3, 3) if self.learned else torch.randn(len(x), 3, 3)
        x = torch.bmm(x, turns)
        x = x.transpose(1, 2) if self.read == "transpose" else x.reshape(len(x), 3, -1)
        return self.last(self.first(x).relu().amax(2))


@pytest.mark.parametrize(("read", "learned"), [("reshape", False), ("reshape", True), ("transpose", False)])
def test_what_is_turned_by_drawn_numbers_is_not_learned(read: str, learned: bool) -> None:
    model, train = Points(read, learned), DataLoader(TensorDataset(torch.randn(64, 16, 3), torch.arange(64) % 2), 32)
    said = asked(RESHAPED_AXES, model, train, optimizer=torch.optim.SGD(model.parameters(), 0.01))
    assert [one.code for one in said] == ["data.scrambled"] * (read == "reshape" and not learned)


def test_scores_of_places_are_no_rows_of_classes() -> None:
    said = "as if this moved the classes last", "x.movedim(1, -1).reshape(-1, 4)"
    assert _of_scores((32, 4, 24, 24), (32 * 24 * 24, 4)) == said
    assert _of_scores((32, 24, 24, 4), (32 * 24 * 24, 4)) is None
    assert _of_scores((32, 10, 1, 1), (32, 10)) is None  # of one position
    assert _of_scores((32, 4, 24, 24), (32, 4, 24 * 24)) is None
    assert _of_scores((32, 4, 24, 4), (32 * 24 * 4, 4)) is None  # whose last axis may be that of classes


def test_scores_are_read_for_a_loss_along_their_own_axes() -> None:
    assert _of_scores((64, 11, 38), (64, 38, 11)) == (
        "as if this moved the classes before the positions",
        "x.transpose(1, 2)",
    )
    assert _of_scores((64, 11, 38), (64, 11, 38)) is None
    assert _of_scores((64, 11, 1), (64, 1, 11)) is None


class Places(nn.Module):
    """Places, times or points (N, …, C) or (N, …, C, H, W) to a convolution that wants channels first."""

    def __init__(self, shape: tuple[int, ...], read: str, learned: bool = False) -> None:
        super().__init__()
        self.learned, self.clips, self.read = learned, len(shape) == 4, read
        channels = shape[1]
        kind = nn.Conv3d if self.clips else nn.Conv1d
        self.before, self.first, self.last = nn.Linear(shape[-1], shape[-1]), kind(channels, 8, 1), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x) if self.learned else x
        x = x.transpose(1, 2) if self.read == "transpose" else x.reshape(len(x), x.shape[2], x.shape[1], *x.shape[3:])
        return self.last(self.first((x - 0.1).contiguous()).relu().flatten(2).amax(2))


@pytest.mark.parametrize("shape", [(6, 3, 4, 4), (16, 3)])
@pytest.mark.parametrize(("read", "learned"), [("reshape", False), ("reshape", True), ("transpose", False)])
def test_another_axis_read_as_channels(read: str, learned: bool, shape: tuple[int, ...]) -> None:
    """What weights have made may be cut into places."""
    model = Places(shape, read, learned)
    train = DataLoader(TensorDataset(torch.randn(64, *shape), torch.arange(64) % 2), 32)
    found = asked(RESHAPED_AXES, model, train, optimizer=torch.optim.SGD(model.parameters(), 0.01))
    assert [one.code for one in found] == ["data.scrambled"] * (read == "reshape" and not learned)


@pytest.mark.parametrize("dealt", [False, True])
def test_channels_of_a_recording_come_to_the_front_by_permute(dealt: bool) -> None:
    """However rough it is."""
    recordings, labels = torch.randn(64, 20, 2), torch.arange(64) % 2

    def collate(samples: Any) -> Any:
        x = torch.stack([x for x, _ in samples])
        x = x.reshape(len(x), x.shape[2], x.shape[1]) if dealt else x.permute(0, 2, 1)
        return x, torch.stack([y for _, y in samples])

    loader = DataLoader(TensorDataset(recordings, labels), 16, collate_fn=collate)
    model = nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 2))
    assert [one.code for one in asked(RESHAPED_AXES, model, loader)] == ["data.scrambled"] * dealt
