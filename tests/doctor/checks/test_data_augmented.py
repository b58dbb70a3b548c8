"""Augmentation that leaves nothing to see, whatever the targets are."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
import torch
from asked import asked
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset, default_collate

from striate.doctor.checks.data.augmentation.augmentation import AUGMENTATION
from striate.doctor.checks.data.random_validation import RANDOM_VALIDATION
from striate.doctor.evidence.clock import NoEvidence


class Drawn(Dataset[tuple[Tensor, Tensor]]):
    """Images with two labels each, changed anew each time."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        generator = torch.Generator().manual_seed(0)
        self.y = (torch.rand(160, 2, generator=generator) < 0.5).float()
        self.x = 0.1 * torch.randn(160, 1, 16, 16, generator=generator)
        self.x[:, :, :8] += self.y[:, 0, None, None, None]
        self.x[:, :, 8:] += self.y[:, 1, None, None, None]
        self.change = change

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        return self.change(self.x[number]), self.y[number]


def cropped(x: Tensor, size: int) -> Tensor:
    top, left = torch.randint(0, 17 - size, (2,)).tolist()
    return x[:, top : top + size, left : left + size]


def found(change: Callable[[Tensor], Tensor]) -> list[str]:
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    model.append(nn.Linear(16, 2))
    train, val = (DataLoader(Drawn(way), 32) for way in (change, lambda x: x))
    try:
        return [f.measured for f in asked(AUGMENTATION, model, train, val=val, loss=nn.BCEWithLogitsLoss())]
    except NoEvidence:  # simple models need one class a sample
        return []


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("size", "wrong"), [(4, True), (12, False)])
def test_crops_of_next_to_nothing(size: int, wrong: bool) -> None:
    assert ["of the area" in told for told in found(lambda x: cropped(x, size))] == [True] * wrong


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("size", "wrong"), [(5.0, True), (0.2, False)])
def test_noise_far_above_the_signal(size: float, wrong: bool) -> None:
    noisy = found(lambda x: x.flip(2) + size * torch.randn_like(x))
    assert ["two draws of the same training sample" in told for told in noisy] == [True] * wrong


class Labeled(Drawn):
    """With one label each."""

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        x, y = super().__getitem__(number)
        return x, y[0].long()


@pytest.mark.parametrize("augmented", [True, False])
def test_validation_that_is_augmented_as_training_is(augmented: bool) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
    train = Labeled(lambda x: x + 0.1 * torch.randn_like(x))
    val = train if augmented else Labeled(lambda x: x)
    told = asked(RANDOM_VALIDATION, model, DataLoader(train, 32), val=DataLoader(val, 32))
    assert [f.code for f in told] == ["data.random-validation"] * augmented


class Wedges(Dataset[tuple[Tensor, Tensor]]):
    """Dark on the left, on the right, above, below; one image in five is changed."""

    def __init__(self, change: Callable[[Tensor], Tensor], samples: int) -> None:
        generator = torch.Generator().manual_seed(samples)
        self.y = torch.randint(4, (samples,), generator=generator)
        slope = torch.linspace(-1, 1, 12).expand(12, 12)
        kinds = torch.stack([slope, slope.flip(-1), slope.T, slope.T.flip(-2)])[:, None]
        self.x = kinds[self.y] + 0.3 * torch.randn(samples, 1, 12, 12, generator=generator)
        self.change = change

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        x = self.x[number]
        return (self.change(x) if torch.rand(()) < 0.2 else x), self.y[number]


@pytest.mark.slow
@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("change", "classes"),
    [
        (lambda x: x.flip(-1), "class 0 for class 1, and of 1 for 0"),
        (lambda x: x.flip(-2).roll(1, -1), "class 2 for class 3, and of 3 for 2"),
        (lambda x: x.roll(1, -1), ""),
        (lambda x: 0.8 * x, ""),
    ],
)
def test_flips_that_make_one_class_another(change: Callable[[Tensor], Tensor], classes: str) -> None:
    torch.manual_seed(0)
    train, val = Wedges(change, 300), Wedges(lambda x: x, 200)
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 4))
    said = asked(AUGMENTATION, model, DataLoader(train, 32, shuffle=True), val=DataLoader(val, 100))
    assert [classes in finding.measured for finding in said] == [True] * bool(classes)


@pytest.mark.parametrize(("noise", "equal"), [(0.0, True), (0.1, False)])
def test_views_of_a_sample_are_different(noise: float, equal: bool) -> None:
    def step(model: nn.Module, batch: Tensor, optimizer: torch.optim.Optimizer, _: object) -> Tensor:
        x = batch[0]
        views = model(torch.cat([x, x + noise * torch.randn_like(x)]))
        optimizer.zero_grad()
        loss: Tensor = (views[: len(x)] - views[len(x) :]).square().mean() - views.std()
        loss.backward()
        optimizer.step()
        return loss.detach()

    x = torch.rand(96, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    loader = DataLoader(TensorDataset(x, torch.zeros(96)), 32)
    try:
        said = asked(AUGMENTATION, model, loader, step=step, optimizer=torch.optim.SGD(model.parameters(), 0.1))
    except NoEvidence:
        said = []
    assert ["views of each" in finding.measured for finding in said] == [True] * equal


@pytest.mark.parametrize(("noise", "drowned"), [(30.0, True), (0.3, False)])
def test_noise_that_drowns_samples_without_validation(noise: float, drowned: bool) -> None:
    torch.manual_seed(0)
    train = Labeled(lambda x: x + noise * torch.randn_like(x))
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
    try:
        said = asked(AUGMENTATION, model, DataLoader(train, 32, shuffle=True))
    except NoEvidence:  # there is no validation for the rest of it
        said = []
    assert ["drawn again" in finding.measured for finding in said] == [True] * drowned


class Squares(Dataset[tuple[Tensor, Tensor]]):
    """Squares and how large they are, drawn a little zoomed, or by a chance of its own."""

    def __init__(self, first: int, closest: int, *, moves: bool) -> None:
        self.first, self.closest, self.moves = first, closest, moves

    def __len__(self) -> int:
        return 160

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        side = 2 + (self.first + 7 * number) % 8
        image = torch.zeros(1, 16, 16)
        image[:, 8 - side // 2 : 8 + (side + 1) // 2, 8 - side // 2 : 8 + (side + 1) // 2] = 1
        if self.moves:
            seen = int(torch.randint(self.closest, 17, ()))
            edge = (16 - seen) // 2
            image = image[:, edge : edge + seen, edge : edge + seen]
            image = nn.functional.interpolate(image[None], size=(16, 16))[0]
        noise = torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(self.first + number))
        return image + 0.05 * noise, torch.tensor([side - 5.5])


@pytest.mark.parametrize(("closest", "wrong"), [(4, True), (15, False)])
def test_a_size_is_not_zoomed(closest: int, wrong: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 1))
    train, val = (DataLoader(Squares(first, closest, moves=not first), 32, shuffle=not first) for first in (0, 1000))
    said = list[str]()
    with suppress(NoEvidence):  # for classes, where nothing is found
        said = [f.measured for f in asked(AUGMENTATION, model, train, val=val, loss=nn.MSELoss(), task="regress")]
    assert ["correlate" in text for text in said] == [True] * wrong


class Alike(Drawn):
    """Labeled by whether both halves are equally bright, which no part of them tells."""

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        x, y = super().__getitem__(number)
        return x, (y[0] == y[1]).long()


@pytest.mark.slow
@pytest.mark.parametrize(("size", "wrong"), [(2, True), (14, False)])
def test_a_collate_function_crops(size: int, wrong: bool) -> None:
    def collate(samples: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        x, y = default_collate(samples)
        return functional.interpolate(torch.stack([cropped(one, size) for one in x]), 16), y

    held = Alike(lambda x: x)
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
    train, val = DataLoader(held, 32, collate_fn=collate), DataLoader(held, 32)
    assert [f.severity for f in asked(AUGMENTATION, model, train, val=val)] == ["error"] * wrong
