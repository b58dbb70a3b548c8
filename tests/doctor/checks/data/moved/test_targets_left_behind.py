"""`data.targets-left-behind`: are masks and boxes flipped with their images?"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

from for_checks.asked import adam, asked, asked_in_script, loop, said, stepped
from for_checks.networks import TwoHeads
from for_checks.pictures import SIZE as FACE
from for_checks.pictures import Faces, told_of_points
from striate.doctor.checks.data.labels.step_labels import STEP_LABELS
from striate.doctor.checks.data.moved.moved_draws import _Samples, _targets_stay
from striate.doctor.checks.data.moved.targets_left_behind import LEFT_BEHIND
from striate.doctor.checks.loss.sign.sign import SIGN


@pytest.mark.parametrize("follows", [True, False])
def test_a_map_of_fewer_pixels_goes_along(follows: bool) -> None:
    image, heat = torch.rand(3, 16, 16), torch.rand(2, 8, 8)
    flipped = {"image": image.flip(-1), "map": heat.flip(-1) if follows else heat}
    maps = _Samples()
    maps.note({"image": image, "map": heat})
    assert _targets_stay({"image": image, "map": heat}, flipped, image, "left and right exchanged", maps) is None
    maps.note({"image": image, "map": heat + 1})
    assert _targets_stay({"image": image, "map": heat}, flipped, image, "left and right exchanged", maps) is not follows


@pytest.mark.parametrize("follows", [True, False])
def test_rows_and_columns_of_a_grid_may_come_before_its_numbers(follows: bool) -> None:
    """Two anchors for each of 6 x 6 cells, with six numbers each."""
    image, grid = torch.rand(3, 48, 48), torch.rand(2, 6, 6, 6)
    one, other = {"image": image, "grid": grid}, {"image": image.flip(-1), "grid": grid.flip(2) if follows else grid}
    maps = _Samples()
    maps.note(one)
    maps.note({"image": image, "grid": grid + 1})
    assert _targets_stay(one, other, image, "left and right exchanged", maps) is not follows


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("axis", "left"), [(-1, True), (-1, False), (-2, True), (-2, False)])
def test_maps_are_mirrored_with_noisy_images_of_positions(axis: int, left: bool) -> None:
    images = torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    maps = (images > 0.5).float()

    def step(net: nn.Module, rows: Any, own: Any, _: Any) -> Tensor:
        own.zero_grad()
        x, y = images[rows] + 0.01 * torch.randn(len(rows), 1, 8, 8), maps[rows]
        if torch.rand(()) < 0.5:
            x, y = x.flip(axis), y if left else y.flip(axis)
        value = functional.binary_cross_entropy_with_logits(net(x), y)
        value.backward()
        own.step()
        return value.detach()

    batches = list(torch.arange(60).split(20))
    found = said(LEFT_BEHIND, nn.Conv2d(1, 1, 3, padding=1), batches, optimizer=adam, step=step)
    assert ["keep their target map" in one.measured for one in found] == [True] * left


class Spot(Dataset[Any]):
    """A bright column, where it is, and how bright all is: the place stays when the picture is mirrored."""

    def __init__(self, first: int, flips: bool, moved: bool) -> None:
        self.first, self.flips, self.moved = first, flips, moved

    def __len__(self) -> int:
        return 120

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        drawn = torch.Generator().manual_seed(self.first + number)
        place = int(torch.randint(0, 15, (), generator=drawn))
        image = 0.1 * torch.randn(1, 8, 16, generator=drawn)
        image[:, :, place : place + 2] += 1
        size, across = image.sum(), (place - 7) / 7
        if self.flips and torch.rand(()) < 0.5:
            image, across = image.flip(-1), -across if self.moved else across
        return image, torch.tensor([across]), size


@pytest.mark.parametrize("moved", [False, True])
def test_one_of_several_targets_stays(moved: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(128, 2))

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        image, across, size = batch
        loss = functional.mse_loss(model(image), torch.cat([across, size[:, None]], 1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    train, val = (DataLoader(Spot(first, not first, moved), 24, shuffle=not first) for first in (0, 1000))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    said = asked(LEFT_BEHIND, model, train, val=val, optimizer=optimizer, step=step, task="regress")
    assert ["ridge regression" in one.measured for one in said] == [True] * (not moved)


class Chords(Dataset[Any]):
    """Spectra with three bins a note and some notes each; or a single note, whose number is asked for; or which of
    eight timbres sound, wherever."""

    def __init__(self, seed: int, asks: str, moves: str = "") -> None:
        generator = torch.Generator().manual_seed(seed)
        self.asks, self.moves = asks, moves
        self.notes = functional.one_hot(torch.randint(3, 13, (200, 1 if asks == "one" else 3), generator=generator), 16)
        self.spectra = 0.1 * torch.randn(200, 48, generator=generator)
        for note in self.notes.float().unbind(1):
            self.spectra += note.repeat_interleave(3, 1)
        self.notes = self.notes.amax(1).float()
        if asks == "none":
            self.notes = (torch.rand(200, 8, generator=generator) < 0.5).float()
            self.spectra += self.notes.mean(1, keepdim=True)

    def __len__(self) -> int:
        return 200

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x, y = self.spectra[index, None, None], self.notes[index]
        if self.moves:
            shift = int(torch.randint(-3, 4, ()))
            x, y = x.roll(3 * shift, -1), y if self.moves == "inputs" else y.roll(shift)
        return x, y.argmax() if self.asks == "one" else y


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("by_step", [False, True])
@pytest.mark.parametrize(("asks", "moves"), [("all", "inputs"), ("all", "both"), ("one", "inputs"), ("none", "inputs")])
def test_places_go_along_with_what_is_shifted(asks: str, moves: str, by_step: bool) -> None:
    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        x, y = batch
        shift = int(torch.randint(1, 4, ()))
        x, y = x.roll(3 * shift, -1), y if moves == "inputs" else y.roll(shift, -1)
        return loop(model, (x, y), optimizer, loss)

    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 8 if asks == "none" else 16))
    options: dict[str, Any] = {"val": DataLoader(Chords(1, asks), 50), "step": step if by_step else loop}
    options["optimizer"] = torch.optim.Adam(model.parameters(), 1e-2)
    options["loss"] = functional.cross_entropy if asks == "one" else functional.binary_cross_entropy_with_logits
    said = asked(LEFT_BEHIND, model, DataLoader(Chords(0, asks, "" if by_step else moves), 50), **options)
    assert ["shifted" in one.measured for one in said] == [True] * (asks != "none" and moves == "inputs")


def spots(count: int, seed: int, mapped: bool) -> DataLoader[Any]:
    """Bright columns, with their place from -1 to 1 and their height, or with a map of where they are."""
    generator = torch.Generator().manual_seed(seed)
    place = torch.randint(12, (count,), generator=generator)
    images = 0.1 * torch.randn(count, 1, 12, 12, generator=generator)
    images += (torch.arange(12) == place[:, None]).float()[:, None, None]
    points = torch.stack([place / 5.5 - 1, torch.rand(count, generator=generator)], 1)
    return DataLoader(TensorDataset(images, (images > 0.5).float() if mapped else points), 32)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("mapped", "left"), [(False, True), (False, False), (True, True), (True, False)])
def test_what_a_step_mirrors_takes_its_targets_along(mapped: bool, left: bool) -> None:
    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        x, y = batch
        if torch.rand(()) < 0.7:
            x = x.flip(-1)
            moved = y.flip(-1) if mapped else y * torch.tensor([-1.0, 1.0])
            y = y if left else moved
        optimizer.zero_grad()
        value: Tensor = loss(model(x), y)
        value.backward()
        optimizer.step()
        return value.detach()

    points = nn.Sequential(nn.Flatten(), nn.Linear(144, 2))
    model = nn.Conv2d(1, 1, 3, padding=1) if mapped else points
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    options = {"loss": functional.mse_loss, "optimizer": optimizer, "step": step, "val": spots(100, 1, mapped)}
    said = asked(LEFT_BEHIND, model, spots(320, 0, mapped), **options)
    assert ["steps mirror" in one.measured for one in said] == [True] * left


@pytest.mark.parametrize("back", [True, False])
@pytest.mark.parametrize("check", [LEFT_BEHIND, STEP_LABELS, SIGN], ids=lambda check: check.codes[0])
def test_logits_that_are_mirrored_back(check: Any, back: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(128, 1, 8, 8, generator=generator)
    loader = DataLoader(TensorDataset(x, (x[:, 0] > 0).long()), 32)
    torch.manual_seed(0)
    model = nn.Conv2d(1, 2, 3, padding=1)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        images, masks = batch
        moved = bool(torch.rand(()) < 0.5)
        logits = model(images.flip(-1) if moved else images)
        loss = functional.cross_entropy(logits.flip(-1) if moved and back else logits, masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    said = asked(check, model, loader, optimizer=optimizer, step=step, task="segment")
    assert bool(said) is (not back and check is LEFT_BEHIND)


class Road(Dataset[Any]):
    """A bright column that lies as far off the middle as the angle says."""

    def __init__(self, first: int, *, flips: bool = False, turned: bool = False, angle: bool = True) -> None:
        self.first, self.flips, self.turned, self.angle = first, flips, turned, angle

    def __len__(self) -> int:
        return 120

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        drawn = torch.Generator().manual_seed(self.first + number)
        place = int(torch.randint(0, 15, (), generator=drawn))
        image = 0.1 * torch.randn(1, 8, 16, generator=drawn)
        image[:, :, place : place + 2] += 1 + torch.rand((), generator=drawn)
        value = (place - 7) / 7 if self.angle else abs(place - 7) / 7
        if self.flips and torch.rand(()) < 0.5:
            image, value = image.flip(-1), -value if self.turned else value
        return image, torch.tensor([value])


@pytest.mark.parametrize(
    ("flips", "turned", "angle", "wrong"),
    [(True, False, True, True), (True, True, True, False), (False, False, True, False), (True, False, False, False)],
)
def test_an_angle_turns_round_with_its_picture(flips: bool, turned: bool, angle: bool, wrong: bool) -> None:
    torch.manual_seed(0)
    train, val = Road(0, flips=flips, turned=turned, angle=angle), Road(1000, angle=angle)
    model = nn.Sequential(nn.Flatten(), nn.Linear(128, 1))
    loaders = [DataLoader(data, 24, shuffle=data is train) for data in (train, val)]
    found = said(LEFT_BEHIND, model, loaders[0], val=loaders[1], loss=nn.MSELoss(), task="regress")
    assert ["ridge regression" in one.measured for one in found] == [True] * wrong


def squares(count: int = 32) -> tuple[Tensor, Tensor]:
    """Noisy images of one bright square each, and where it is."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.zeros(count, 12, 12, dtype=torch.long)
    for mask, (top, left) in zip(masks, torch.randint(0, 9, (count, 2), generator=generator).tolist(), strict=True):
        mask[top : top + 4, left : left + 4] = 1
    return masks[:, None] + 0.3 * torch.randn(count, 1, 12, 12, generator=generator), masks


class Flipped(Dataset[Any]):
    """Images mirrored now and then along one axis, and two maps of the squares, which change places, along another."""

    def __init__(self, axis: int) -> None:
        self.axis, self.images, self.masks = axis, *squares(24)
        self.flips = torch.Generator().manual_seed(1)

    def __len__(self) -> int:
        return 24

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        image, mask = self.images[number], self.masks[number].float()
        maps = torch.stack([mask, 2 * mask])
        if torch.rand((), generator=self.flips) < 0.5:
            image, maps = image.flip(self.axis), maps.flip(-1)[[1, 0]]
        return image, maps


@pytest.mark.parametrize(("axis", "wrong"), [(-2, True), (-1, False)])
def test_maps_are_flipped_as_their_images_are(axis: int, wrong: bool) -> None:
    model = nn.Conv2d(1, 2, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    said = asked_in_script(
        LEFT_BEHIND, model, DataLoader(Flipped(axis), 8), loss=nn.MSELoss(), optimizer=optimizer, task="regress"
    )
    assert [one.code for one in said] == ["data.targets-left-behind"] * wrong


@pytest.mark.parametrize(("turned", "two"), [(True, True), (True, False), (False, False)])
def test_masks_lie_as_their_images_do(turned: bool, two: bool) -> None:
    """As class numbers, and as 0 and 1 with a point."""
    images, masks = squares()
    data = TensorDataset(images.transpose(2, 3) if turned else images, masks[:, None].float() if two else masks)
    model = nn.Conv2d(1, 1 if two else 2, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    loss = nn.BCEWithLogitsLoss() if two else nn.CrossEntropyLoss()
    said = asked_in_script(LEFT_BEHIND, model, DataLoader(data, 16), loss=loss, optimizer=optimizer)
    assert [one.code for one in said] == ["data.targets-left-behind"] * turned


class Contoured(Dataset[Any]):
    """Ovals, now and then mirrored, with a contour on one side of each border; the masks of some are symmetric."""

    def __init__(self, moves: bool) -> None:
        self.moves = moves
        self.images = torch.rand(24, 1, 16, 16, generator=torch.Generator().manual_seed(0))
        self.masks = torch.zeros(24, 16, 16).long()
        for number, mask in enumerate(self.masks):
            mask[4:9, 5 : 11 if number % 4 == 0 else 9] = 1
        self.flips = torch.Generator().manual_seed(1)

    def __len__(self) -> int:
        return 24

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        image, mask = self.images[number], self.masks[number].clone()
        if torch.rand((), generator=self.flips) < 0.5:
            image, mask = image.flip(-1), mask.flip(-1) if self.moves else mask
        edge = torch.zeros_like(mask, dtype=torch.bool)
        edge[:, 1:] = mask[:, 1:] != mask[:, :-1]
        return image, mask.masked_fill(edge, 255)


@pytest.mark.parametrize(("moves", "wrong"), [(True, False), (False, True)])
def test_contours_drawn_after_a_flip(moves: bool, wrong: bool) -> None:
    model = nn.Conv2d(1, 2, 1)
    loss = nn.CrossEntropyLoss(ignore_index=255)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    said = asked(LEFT_BEHIND, model, DataLoader(Contoured(moves), 8), loss=loss, optimizer=optimizer)
    assert [one.code for one in said] == ["data.targets-left-behind"] * wrong


SIZE = 16


class Mirrored(Dataset[Any]):
    """Images of a bright box (left, top, right, bottom), and a target that is made of it and mirrored in one way."""

    def __init__(self, kind: str, moves: str, flips: bool) -> None:
        self.kind, self.moves, self.flips = kind, moves, flips

    def __len__(self) -> int:
        return 120

    def __getitem__(self, number: int) -> tuple[Tensor, Any]:
        drawn = random.Random(number)
        width, height = (8, 8) if self.kind == "of one size" else (drawn.randint(4, 8), drawn.randint(4, 8))
        left, top = drawn.randint(0, SIZE - width), drawn.randint(0, SIZE - height)
        image = 0.1 * torch.randn(1, SIZE, SIZE, generator=torch.Generator().manual_seed(number))
        image[:, top : top + height, left : left + width] += 1
        corners = torch.tensor([left, top, left + width, top + height]) / SIZE
        if self.flips and torch.rand(()) < 0.5:
            image = image.flip(-1)
            if self.moves in ("both edges", "other axis"):
                columns = [0, 2] if self.moves == "both edges" else [1, 3]
                corners[columns] = 1 - corners[columns[::-1]]
            elif self.moves == "no exchange":
                corners[[0, 2]] = 1 - corners[[0, 2]]
        low, high = corners[:2], corners[2:]
        if self.kind == "two points" and drawn.random() < 0.5:  # of an arrow to the left
            return image, corners[[2, 1, 0, 3]]
        if self.kind == "shares":
            return image, torch.rand(4, generator=torch.Generator().manual_seed(number)).softmax(0)
        if self.kind == "with weights":
            return image, {"box_weights": torch.tensor([1.0, 0.5]), "boxes": corners}
        by_center = self.kind in ("centers", "of one size")
        return image, torch.cat([(low + high) / 2, high - low]) if by_center else corners


@pytest.mark.parametrize(
    ("kind", "moves", "measured"),
    [
        ("of one size", "both edges", ""),
        ("corners", "both edges", ""),
        ("corners", "no exchange", "right edge"),
        ("two points", "no exchange", ""),
        ("shares", "", ""),
        ("with weights", "both edges", ""),
        ("with weights", "", "box or points"),
        ("centers", "both edges", ""),
        ("centers", "other axis", "ridge regression"),
    ],
)
def test_targets_of_mirrored_images(kind: str, moves: str, measured: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(SIZE * SIZE, 4))

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        wanted = batch[1]["boxes"] if isinstance(batch[1], dict) else batch[1]
        loss = (model(batch[0]) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    train, val = (DataLoader(Mirrored(kind, moves, flips), 24) for flips in (True, False))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    said = asked_in_script(LEFT_BEHIND, model, train, val=val, optimizer=optimizer, step=step)
    assert [one.code for one in said] == ["data.targets-left-behind"] * bool(measured)
    assert all(measured in one.measured for one in said)


def test_rows_of_all_boxes_of_a_batch_belong_to_no_image_by_their_number() -> None:
    def collated(batch: list[Any]) -> tuple[Tensor, Tensor]:
        images, boxes = (torch.stack(part) for part in zip(*batch, strict=True))
        return images, torch.cat([boxes, boxes[:1]])

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        loss = (model(batch[0]) - batch[1][:-1]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    train, val = (DataLoader(Mirrored("corners", "both edges", f), 24, collate_fn=collated) for f in (True, False))
    model = nn.Sequential(nn.Flatten(), nn.Linear(SIZE * SIZE, 4))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    assert not asked_in_script(LEFT_BEHIND, model, train, val=val, optimizer=optimizer, step=step)


@pytest.mark.parametrize("moved", [False, True])
def test_boxes_beside_classes_stay_where_the_step_mirrors(moved: bool) -> None:
    torch.manual_seed(0)
    places = torch.randint(0, 7, (240,))
    x = 0.1 * torch.randn(240, 1, 8, 8)
    x[torch.arange(240), 0, :, places] += 1
    across, kinds = (places.float() / 7)[:, None], torch.arange(240) % 3

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        image, kinds, across = batch
        chosen = torch.rand(len(image)) < 0.5
        image = torch.where(chosen[:, None, None, None], image.flip(-1), image)
        across = torch.where(chosen[:, None], 1 - across, across) if moved else across
        logits, found = model(image)
        loss = functional.cross_entropy(logits, kinds) + functional.mse_loss(found[:, None], across)
        return stepped(loss, optimizer)

    model, parts = TwoHeads(3), (x, kinds, across)
    train, val = (
        DataLoader(TensorDataset(*(part[rows] for part in parts)), 20) for rows in (slice(160), slice(160, 240))
    )
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    said = asked_in_script(LEFT_BEHIND, model, train, val=val, optimizer=optimizer, step=step)
    assert ["that some of 6 steps mirror" in one.measured for one in said] == [True] * (not moved)


class Marks(Dataset[Any]):
    """A bright and a dim spot, with column and row of each in parts of the side; or whether these are the smaller."""

    def __init__(self, first: int, axis: int = 0, *, moved: bool = True, placed: bool = True) -> None:
        self.first, self.axis, self.moved, self.placed = first, axis, moved, placed

    def __len__(self) -> int:
        return 160

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(self.first + index)
        points = torch.randint(12, (2, 2), generator=generator)
        image = 0.05 * torch.randn(1, 12, 12, generator=generator)
        for strength, (x, y) in zip((1.0, 0.3), points, strict=True):
            apart = (torch.arange(12) - x).square() + (torch.arange(12) - y).square()[:, None]
            image += strength * torch.exp(-apart / 8)
        if not self.placed:
            return image.flip(-1) if self.axis and torch.rand(()) < 0.5 else image, (points < 6).float()
        points = points / 11
        if self.axis and torch.rand(()) < 0.5:
            image = image.flip(self.axis)
            points[:, -1 - self.axis] = 1 - points[:, -1 - self.axis] if self.moved else points[:, -1 - self.axis]
        return image, points


@pytest.mark.parametrize("placed", [True, False])
@pytest.mark.parametrize("axis", [-1, -2])
@pytest.mark.parametrize("moved", [True, False])
def test_points_without_a_name_move_with_their_pictures(axis: int, moved: bool, placed: bool) -> None:
    train, val = (
        DataLoader(marks, 32) for marks in (Marks(0, axis, moved=moved, placed=placed), Marks(1000, placed=placed))
    )
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 4), nn.Unflatten(1, (2, 2)))
    found = asked(LEFT_BEHIND, model, train, val=val, loss=nn.MSELoss())
    assert len(found) == (placed and not moved)


class Objects(Dataset[Any]):
    """Images of one to three bright squares, and a row (column, row, width, height) of each."""

    def __init__(self, first: int, flipped: int = 0, moved: int = 0) -> None:
        self.first, self.flipped, self.moved = first, flipped, moved

    def __len__(self) -> int:
        return 120

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        drawn = random.Random(self.first + index)
        image = 0.05 * torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(self.first + index))
        rows = list[list[float]]()
        for _ in range(drawn.randint(1, 3)):
            left, top, width, height = drawn.randint(0, 12), drawn.randint(0, 12), *drawn.choices((3, 4), k=2)
            image[:, top : top + height, left : left + width] = 1
            rows.append([left + width / 2, top + height / 2, width, height])
        boxes = torch.tensor(rows)
        if self.flipped and torch.rand(()) < 0.5:
            image = image.flip(self.flipped)
            boxes[:, self.moved] = 16 - boxes[:, self.moved]
        return image, boxes


@pytest.mark.parametrize(("flipped", "moved"), [(-1, 0), (-2, 0), (-1, 1), (-2, 1)])
def test_the_coordinate_that_is_mirrored_is_that_of_the_flip(flipped: int, moved: int) -> None:
    torch.manual_seed(0)

    def collated(batch: list[Any]) -> tuple[Tensor, list[Tensor]]:
        images, boxes = zip(*batch, strict=True)
        return torch.stack(images), list(boxes)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        images, boxes = batch
        return stepped(functional.mse_loss(model(images), torch.stack([one.mean(0) for one in boxes]) / 16), optimizer)

    train, val = (
        DataLoader(objects, 24, collate_fn=collated) for objects in (Objects(0, flipped, moved), Objects(1000))
    )
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 4))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    found = asked(LEFT_BEHIND, model, train, val=val, optimizer=optimizer, step=step)
    assert ["ridge regression" in one.measured for one in found] == [True] * ((flipped, moved) in [(-2, 0), (-1, 1)])


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("times", "wrong"), [(1, True), (2, False)])
def test_the_part_that_is_shown_is_the_part_that_is_asked_for(times: int, wrong: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    large = functional.interpolate(torch.rand(48, 3, 8, 8, generator=generator), size=48, mode="bilinear")
    small = functional.avg_pool2d(large, 2)
    places = torch.randint(2, 9, (48, 2), generator=generator).tolist()
    x = torch.stack([one[:, a : a + 12, b : b + 12] for one, (a, b) in zip(small, places, strict=True)])
    y = torch.stack([one[:, times * a :, times * b :][:, :24, :24] for one, (a, b) in zip(large, places, strict=True)])
    model = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(3, 3, 3, padding=1))
    found = said(LEFT_BEHIND, model, DataLoader(TensorDataset(x, y), 16), loss=nn.MSELoss(), optimizer=adam)
    assert ["matches it only after a shift" in f.measured for f in found] == [True] * wrong


class Boxes(Dataset[Any]):
    """Images with one box (class, x1, y1, x2, y2), mirrored at chance."""

    def __init__(self, exchanged: bool) -> None:
        self.columns = [3, 1] if exchanged else [1, 3]

    def __len__(self) -> int:
        return 40

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(number)
        low, size = torch.rand(2, generator=generator) * 0.5, 0.1 + 0.3 * torch.rand(2, generator=generator)
        image, box = torch.zeros(1, 16, 16), torch.cat([torch.zeros(1), low, low + size])
        left, top, right, bottom = (16 * box[1:]).int().tolist()
        image[:, top : bottom + 1, left : right + 1] = 1.0
        if torch.rand(()) < 0.5:
            image = image.flip(-1)
            box[[1, 3]] = 1 - box[self.columns]
        return image, box


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("exchanged", [True, False])
def test_the_edges_of_a_box_are_exchanged_as_they_are_mirrored(exchanged: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 5))
    found = said(LEFT_BEHIND, model, DataLoader(Boxes(exchanged), 8), loss=nn.MSELoss(), task="regress")
    assert ["right edge" in one.measured for one in found] == [True] * (not exchanged)


@pytest.mark.slow
@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("data", "right"),
    [
        (Faces(flips=True, swaps=False), False),
        (Faces(flips=True), True),
        (Faces(flips=False), True),
        (Faces(flips=True, swaps=False, alike=False), True),  # head and tail keep their names
    ],
)
def test_the_left_of_two_that_look_alike_stays_the_left_one(data: Faces, right: bool) -> None:
    found = told_of_points(LEFT_BEHIND, data)
    assert ["keep their numbers" in finding.measured for finding in found] == [True] * (not right)


class FlatFaces(Faces):
    """The same with one row of numbers from -1 to 1 for all points, and the middle of each face."""

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        picture, _, points = super().__getitem__(number)
        return picture, (torch.cat([points, points.mean(0, keepdim=True)]) / (FACE / 2) - 1).flatten()


@pytest.mark.parametrize("swaps", [True, False])
def test_points_may_be_one_row_of_numbers(swaps: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(FACE * FACE, 8))
    train, val = (DataLoader(FlatFaces(flips, swaps), 32, shuffle=flips) for flips in (True, False))
    found = said(LEFT_BEHIND, model, train, val=val, loss=nn.MSELoss(), task="regress")
    assert ["keep their numbers" in finding.measured for finding in found] == [True] * (not swaps)


class Passes:
    """A loader as a generator that mirrors its batches, images alone or with their maps."""

    def __init__(self, axis: int, follows: bool, even: bool) -> None:
        self.images, self.axis, self.follows = torch.rand(64, 1, 12, 12, generator=SEED.manual_seed(0)), axis, follows
        self.maps = (functional.avg_pool2d(self.images, 3, 1, 1) > 0.5).float()
        if even:  # the same in mirrored images
            self.maps = torch.maximum(self.maps, self.maps.flip(axis))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in torch.randperm(64).split(8):
            x, y = self.images[rows], self.maps[rows]
            if torch.rand(()) < 0.5:
                x, y = x.flip(self.axis), y.flip(self.axis) if self.follows else y
            yield x, y


SEED = torch.Generator()


@pytest.mark.parametrize("axis", [-1, -2])
@pytest.mark.parametrize(("follows", "even"), [(False, False), (True, False), (False, True)])
def test_maps_are_mirrored_with_the_batches_of_a_loader(axis: int, follows: bool, even: bool) -> None:
    def step(net: nn.Module, batch: Any, own: Any, _: Any) -> Tensor:
        return stepped(functional.binary_cross_entropy_with_logits(net(batch[0]), batch[1]), own)

    model, train = nn.Conv2d(1, 1, 3, padding=1), Passes(axis, follows, even)
    found = said(LEFT_BEHIND, model, train, loss=functional.binary_cross_entropy_with_logits, optimizer=adam, step=step)
    assert ["two passes over the loader" in one.measured for one in found] == [True] * (not follows and not even)
