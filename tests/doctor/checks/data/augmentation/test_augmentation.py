"""`data.augmentation`: do augmented training inputs still show their targets?"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset, default_collate

from for_checks.asked import adam, asked, asked_in_script, digits, perceptron, read, said, stepped
from for_checks.embeddings import (
    Embedding,
    ImageTriplets,
    contrast_of_views,
    embedding,
    noisy,
    opposite,
    step_of_triplets,
)
from for_checks.pictures import Drawn, Labeled, ResidualDenoiser, Wedges, restored
from striate.doctor.causes import sort_out
from striate.doctor.checks.data.augmentation.augmentation import AUGMENTATION
from striate.doctor.checks.data.labels.step_labels import STEP_LABELS
from striate.doctor.checks.loss.degenerate.degenerate import DEGENERATE
from striate.doctor.evidence.clock import Clock, NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.training_setup import make_setup
from striate.records import Finding


def cropped(x: Tensor, size: int) -> Tensor:
    top, left = torch.randint(0, 17 - size, (2,)).tolist()
    return x[:, top : top + size, left : left + size]


def found_of_changes(change: Callable[[Tensor], Tensor]) -> list[str]:
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
    assert ["of the area" in told for told in found_of_changes(lambda x: cropped(x, size))] == [True] * wrong


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("size", "wrong"), [(5.0, True), (0.2, False)])
def test_noise_far_above_the_signal(size: float, wrong: bool) -> None:
    noisy = found_of_changes(lambda x: x.flip(2) + size * torch.randn_like(x))
    assert ["two draws of the same training sample" in told for told in noisy] == [True] * wrong


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
    assert ["two draws of a sample differ" in finding.measured for finding in said] == [True] * drowned


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


SHAPES = {
    "much noise": (lambda x: x + 5 * torch.randn_like(x), True),
    "a little noise": (lambda x: x + 0.1 * torch.randn_like(x), False),
    "bytes, turned round": (lambda x: 255 * x.flip(3), False),
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "restored"), [*((name, False) for name in SHAPES), ("much noise", True)])
def test_noise_of_the_step_that_drowns_what_is_shown(name: str, restored: bool) -> None:
    """Smooth pictures; where they are to be restored from noise, there may be far more."""
    change, wrong = SHAPES[name]
    torch.manual_seed(0)
    images = functional.interpolate(torch.randn(64, 1, 4, 4), size=16, mode="bilinear")
    targets = images if restored else images.mean((1, 2, 3)).unsqueeze(1)
    layers = [nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1)]
    model = nn.Sequential(*layers, *[nn.AdaptiveAvgPool2d(1), nn.Flatten()] * (not restored))

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        value = functional.mse_loss(model(change(batch[0])), batch[1])
        value.backward()
        optimizer.step()
        return value

    setup = make_setup(
        model, [(images[k : k + 16], targets[k : k + 16]) for k in range(0, 64, 16)], None,
        optimizer=torch.optim.Adam(model.parameters(), lr=0.01), step=step, task="regress",
    )  # fmt: skip
    found = []
    with suppress(NoEvidence):
        found = list(AUGMENTATION.run(Evidence(setup, Clock(20.0))))
    assert [one.severity for one in found] == ["error"] * (wrong and not restored)


class Erased(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Three images a sample, of which a square is made 0."""

    def __init__(self, side: int, *, whole: bool = False) -> None:
        self.images = torch.randn(120, 1, 16, 16, generator=torch.Generator().manual_seed(0))
        self.side, self.whole = side, whole

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        one, two, three = (self.cut(self.images[(number + step) % 120]) for step in range(3))
        return one, two, self.images[number] if self.whole else three

    def cut(self, image: Tensor) -> Tensor:
        top, left = torch.randint(0, 17 - self.side, (2,)).tolist()
        image = image.clone()
        image[:, top : top + self.side, left : left + self.side] = 0
        return image


@pytest.mark.parametrize(("side", "whole", "wrong"), [(14, False, True), (8, False, False), (14, True, False)])
def test_images_of_which_nearly_all_is_erased(side: int, whole: bool, wrong: bool) -> None:
    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: object) -> Tensor:
        one, two, three = (model(part) for part in batch)
        optimizer.zero_grad()
        loss = nn.functional.triplet_margin_loss(one, two, three)
        loss.backward()
        optimizer.step()
        return loss.detach()

    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 8))
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    try:
        said = asked(AUGMENTATION, model, DataLoader(Erased(side, whole=whole), 24), step=step, optimizer=optimizer)
    except NoEvidence:
        said = []
    assert ["of a training image are the same number" in finding.measured for finding in said] == [True] * wrong


def clips(count: int, seed: int) -> TensorDataset:
    """Four frames of a bar that moves to the right, to the left, or stays."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 3, (count,), generator=generator)
    places = 3.5 + torch.arange(-1.5, 2)[None] * torch.tensor([1.0, -1.0, 0.0])[y][:, None]
    x = torch.exp(-((torch.arange(8)[None, None] - places[..., None]) ** 2) / 2)[:, :, None, None].repeat(1, 1, 1, 8, 1)
    return TensorDataset(x + 0.1 * torch.randn(x.shape, generator=generator), y)


@pytest.mark.slow
@pytest.mark.parametrize("labels", ["kept", "exchanged"])
def test_clips_that_the_step_mirrors(labels: str) -> None:
    mirrored = torch.tensor([1, 0, 2] if labels == "exchanged" else [0, 1, 2])

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        x, y = batch
        flip = torch.rand(len(x)) < 0.5
        x, y = torch.where(flip[:, None, None, None, None], x.flip(-1), x), torch.where(flip, mirrored[y], y)
        return stepped(functional.cross_entropy(model(x), y), optimizer)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 3))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    loaders = DataLoader(clips(320, 0), 40, shuffle=True), DataLoader(clips(160, 1), 40)
    found = asked_in_script(AUGMENTATION, model, loaders[0], val=loaders[1], step=step, optimizer=optimizer)
    assert ["for class 1, and " in one.measured for one in found] == [True] * (labels == "kept")


class Noisy(ImageTriplets):
    """With noise before the numbers are clamped."""

    def __init__(self, images: Tensor, labels: Any, size: float) -> None:
        super().__init__(images, labels)
        self.size = size

    def __getitem__(self, number: int) -> tuple[Tensor, ...]:
        given = super().__getitem__(number)
        return tuple((part + self.size * torch.randn_like(part)).clamp(0, 1) for part in given)


@pytest.mark.parametrize(("size", "wrong"), [(12.0, True), (0.05, False)])
def test_noise_that_is_clamped_is_no_larger_than_images(size: float, wrong: bool) -> None:
    torch.manual_seed(0)
    images, labels = torch.rand(240, 1, 4, 4).repeat_interleave(2, 2).repeat_interleave(2, 3), torch.arange(240) % 3
    train = DataLoader(Noisy(images[:160], labels[:160], size), 40)
    val = DataLoader(TensorDataset(images[160:], labels[160:]), 40)
    model = Embedding()
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-3), "step": step_of_triplets, "val": val}
    said = asked_in_script(AUGMENTATION, model, train, **options)
    assert ["two draws of the same training sample" in one.measured for one in said] == [True] * wrong


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
    assert ["are permuted" in finding.measured for finding in found] == [True] * wrong


@pytest.mark.parametrize("gray", [0.0, 20.0, 5000.0])
def test_noise_of_bytes_is_added_before_they_are_scaled(gray: float) -> None:
    torch.manual_seed(0)
    x = (120 + 60 * torch.randn(320, 1, 3, 3)).repeat_interleave(4, 2).repeat_interleave(4, 3).clamp(0, 255).byte()

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        given = (batch[0] + gray * torch.randn(batch[0].shape) - 120) / 60
        return stepped(functional.cross_entropy(model(given), batch[1]), optimizer)

    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 2))
    loader = DataLoader(TensorDataset(x, (x[:, 0, 0, 0] > 120).long()), 32)
    found = read("for x, y in loader:\n    pass\n", AUGMENTATION, model, loader, step=step)
    assert ["noise that differs in each draw" in one.measured for one in found] == [True] * (gray > 100)


@pytest.mark.parametrize("sigma", [1.0, 30.0])
def test_of_what_drowns_in_noise_nothing_can_be_restored(sigma: float) -> None:
    said = restored(AUGMENTATION, sigma, ResidualDenoiser())
    assert ["as the network restores the sample" in one.threshold for one in said] == [True] * (sigma > 1)


class Points(Dataset[Any]):
    """A set of points for each of two classes, a line or a ball, in another order with each draw, with noise."""

    def __init__(self, noise: float, scale: float = 1.0) -> None:
        generator = torch.Generator().manual_seed(0)
        self.labels = torch.arange(128) % 2
        self.points = scale * torch.randn(128, 24, 3, generator=generator)
        self.points[self.labels == 0, :, 1:] = 0
        self.noise = noise

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        points = self.points[number][torch.randperm(24)]
        return points + self.noise * torch.randn(24, 3), self.labels[number]


class OfPoints(nn.Module):
    """A network of sets of points."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.each, self.last = nn.Sequential(nn.Linear(3, 32), nn.ReLU()), nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.each(x).amax(1))


@pytest.mark.parametrize(("noise", "scale", "drowned"), [(50.0, 1.0, True), (0.02, 1.0, False), (0.02, 5.0, False)])
def test_noise_that_drowns_points(noise: float, scale: float, drowned: bool) -> None:
    """Not where they are in another order with each draw, and larger than in validation."""
    model = OfPoints()
    options: Any = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.Adam(model.parameters(), 0.01)}
    train, val = DataLoader(Points(noise, scale), 32, shuffle=True), DataLoader(Points(0.0), 32)
    said = asked_in_script(AUGMENTATION, model, train, val=val, **options)
    assert ["differ by" in one.measured for one in said] == [True] * drowned


def test_labels_of_other_samples_explain_what_augmentation_seems_to_hide() -> None:
    given = {"severity": "error", "where": "", "measured": "", "limit": "", "why": "", "remedy": ""}
    roots, _ = sort_out([AUGMENTATION.finding(**given), STEP_LABELS.finding(**given)])  # type: ignore[arg-type]
    assert [one.code for one in roots] == ["data.step-labels"]


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("noise", "drowned"), [(0.1, False), (4.0, True)])
def test_a_pattern_that_is_shifted_and_has_another_scale_is_no_noise(noise: float, drowned: bool) -> None:
    """Stripes, moved by their own width from draw to draw, of which validation has the eighth part."""
    moved = itertools.count()

    def striped(x: Tensor, scale: float) -> Tensor:
        stripes = (torch.arange(16) // 4 + next(moved)) % 2 - 0.5
        return scale * (stripes.expand_as(x) + (noise if scale > 1 else 0.1) * torch.randn_like(x))

    train, val = (DataLoader(Drawn(lambda x, scale=scale: striped(x, scale)), 32) for scale in (8.0, 1.0))
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
    measured: list[str] = []
    with suppress(NoEvidence):  # simple models need one class a sample
        measured = [f.measured for f in asked(AUGMENTATION, model, train, val=val, loss=nn.BCEWithLogitsLoss())]
    assert ["two draws of the same training sample" in told for told in measured] == [True] * drowned


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("taken", [True, False])
def test_one_of_several_labels_is_taken_away(taken: bool) -> None:
    """The upper half tells one label, the lower half the other, of which noise hides nothing or all."""

    def change(x: Tensor) -> Tensor:
        lower = torch.rand(1, 1, 1).round() + 0.1 * torch.randn(1, 8, 16)
        return torch.cat([x[:, :8], lower], 1) if taken else x + 0.1 * torch.randn_like(x)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
    nn.init.zeros_(model[1].weight)  # else what it makes of the lower half is what it began with
    train, val = (DataLoader(Drawn(way), 32) for way in (change, lambda x: x))
    measured: list[str] = []
    with suppress(NoEvidence):
        measured = [f.measured for f in asked(AUGMENTATION, model, train, val=val, loss=nn.BCEWithLogitsLoss())]
    assert ["for label 1 of 2" in told for told in measured] == [True] * taken


def of_a_corner(x: Tensor) -> Tensor:
    """All but one pixel, somewhere, is blacked out."""
    place = torch.randint(64, (len(x), 1))
    return x * functional.one_hot(place, 64).reshape(x.shape)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("view", "wrong"), [(noisy, False), (of_a_corner, True)])
def test_views_have_something_in_common(view: Any, wrong: bool) -> None:
    options: dict[str, Any] = {"step": contrast_of_views(view, opposite), "optimizer": adam, "val": digits(64, 200)}
    found = said(AUGMENTATION, embedding(), digits(), **options)
    assert ["of a view's values are the same number" in f.measured for f in found] == [True] * wrong
    assert not said(DEGENERATE, embedding(), digits(), **options)


class Colored(Dataset[Any]):
    """Pictures of one color each, of which some draws are flipped along an axis, or shuffled in their colors."""

    def __init__(self, axis: int | None, shuffled: bool = False) -> None:
        generator = torch.Generator().manual_seed(0)
        self.labels = torch.arange(200) % 3
        self.images = 0.3 * torch.randn(200, 3, 12, 12, generator=generator)
        self.images += functional.one_hot(self.labels, 3)[:, :, None, None]
        self.axis, self.shuffled = axis, shuffled

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Any:
        image = self.images[index]
        if self.shuffled:
            image = image[torch.randperm(3)]
        elif self.axis is not None and torch.rand(()) < 0.5:
            image = image.flip(self.axis)
        return image, self.labels[index]


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("axis", "shuffled", "wrong"), [(0, False, True), (-1, False, False), (None, True, False)])
def test_a_flip_along_the_axis_of_colors(axis: int | None, shuffled: bool, wrong: bool) -> None:
    loaders = [DataLoader(Colored(a, s), 40, shuffle=True) for a, s in ((axis, shuffled), (None, False))]
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 144, 3))
    found = said(AUGMENTATION, model, loaders[0], val=loaders[1], optimizer=adam)
    assert any("exchanged in one of the two draws" in f.measured for f in found) is wrong


LOSS = nn.CrossEntropyLoss()


class Views(Dataset[Any]):
    def __init__(self, same: bool) -> None:
        self.same = same

    def __len__(self) -> int:
        return 64

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        image = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(number))
        one, other = (image + 0.1 * torch.randn(1, 8, 8) for _ in range(2))
        return one, one.clone() if self.same else other


@pytest.mark.parametrize("same", [False, True])
def test_two_views_that_are_given_one_by_one_differ(same: bool) -> None:
    model = perceptron()

    def step(net: nn.Module, batch: Any, own: torch.optim.Optimizer, _: Any) -> Tensor:
        own.zero_grad()
        one, other = (functional.normalize(net(view)) for view in batch)
        value = functional.cross_entropy(one @ other.T / 0.5, torch.arange(len(one)))
        value.backward()
        own.step()
        return value.detach()

    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    said: list[Finding] = []
    with suppress(NoEvidence):
        said = asked(AUGMENTATION, model, DataLoader(Views(same), 16), loss=LOSS, optimizer=optimizer, step=step)
    assert ["are identical" in one.measured for one in said] == [True] * same


@pytest.mark.parametrize(
    ("same", "dropout", "wrong"), [(True, False, True), (False, False, False), (True, True, False)]
)
def test_two_views_that_a_step_makes_differ(same: bool, dropout: bool, wrong: bool) -> None:
    """Where one pass of a sample is not like the next, equal inputs have different views."""
    model = nn.Sequential(perceptron(), nn.Dropout(0.2)) if dropout else perceptron()

    def step(net: nn.Module, batch: Any, own: torch.optim.Optimizer, _: Any) -> Tensor:
        own.zero_grad()
        view = batch[0] + 0.1 * torch.randn_like(batch[0])
        again = view if same else batch[0] + 0.1 * torch.randn_like(batch[0])
        one, other = (functional.normalize(net(x)) for x in (view, again))
        value = functional.cross_entropy(one @ other.T / 0.5, torch.arange(len(one)))
        value.backward()
        own.step()
        return value.detach()

    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    found = said(AUGMENTATION, model, digits(), loss=LOSS, optimizer=optimizer, step=step)
    assert ["are identical" in one.measured for one in found] == [True] * wrong


def test_a_classifier_that_is_called_twice_has_no_views() -> None:
    model = perceptron()

    def step(net: nn.Module, batch: Any, own: torch.optim.Optimizer, loss: Any) -> Tensor:
        own.zero_grad()
        value: Tensor = loss(net(batch[0]), batch[1])
        (net(batch[0]).argmax(1) == batch[1]).float().mean()
        value.backward()
        own.step()
        return value.detach()

    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    found = said(AUGMENTATION, model, digits(), loss=LOSS, optimizer=optimizer, step=step)
    assert not any("are identical" in one.measured for one in found)
