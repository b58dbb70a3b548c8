"""Planted faults of boxes, masks and points: each is what a check of the data says first, and its healthy twin has no
fault at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from made_boxes import Boxes, made_images, save, split_of, write_table, write_yolo
from quick import few_quick
from striate.api import check_data

Scene = tuple[np.ndarray, Boxes]
COUNT = 48
WIDE, SQUARE = (96, 128), (96, 96)


def scenes(size: tuple[int, int] = WIDE) -> list[Scene]:
    """Two or three objects an image on a ground with a slope of its own, so that no two images are alike."""
    made = made_images(COUNT, size, seed=3)
    y, x = np.mgrid[: size[0], : size[1]]
    rng = np.random.default_rng(1)
    sloped = []
    for image, boxes in made:
        angle, phase, waves = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi), rng.uniform(2, 9)
        ground = 22 * np.sin(waves * (x * np.cos(angle) + y * np.sin(angle)) / size[1] + phase)
        sloped.append(((image + ground[..., None]).clip(0, 255).astype(np.uint8), boxes))
    return sloped


def moved(made: list[Scene], change: Callable[..., tuple[float, ...]]) -> list[Scene]:
    """The scenes with other edges of their boxes."""
    return [(image, [(*change(*box[:4]), box[4]) for box in boxes]) for image, boxes in made]


def shifted_boxes(folder: Path, fault: bool) -> Path:
    made = [one for one in scenes() if one[1]]
    wrong = [(image, made[(k + 1) % len(made)][1]) for k, (image, _) in enumerate(made)]
    return write_table(folder, wrong if fault else made)


def changed_boxes(
    change: Callable[..., tuple[float, ...]], size: tuple[int, int] = WIDE
) -> Callable[[Path, bool], Path]:
    def write(folder: Path, fault: bool) -> Path:
        return write_table(folder, moved(scenes(size), change) if fault else scenes(size))

    return write


def other_boxes(change: Callable[[list[Boxes]], list[Boxes]]) -> Callable[[Path, bool], Path]:
    def write(folder: Path, fault: bool) -> Path:
        made = scenes()
        wrong = change([boxes for _, boxes in made])
        return write_table(folder, list(zip([image for image, _ in made], wrong, strict=True)) if fault else made)

    return write


def each(chosen: Callable[[int], bool], change: Callable[..., Any]) -> Callable[[list[Any]], list[Any]]:
    """What changes only those whose number is chosen."""
    return lambda every: [change(one) if chosen(number) else one for number, one in enumerate(every)]


def sixth(number: int) -> bool:
    return number % 6 == 0


def counted_from_one(folder: Path, fault: bool) -> Path:
    source = write_yolo(folder, scenes())
    for file in (source / "labels").rglob("*.txt") if fault else ():
        lines = [line.split(" ", 1) for line in file.read_text().splitlines()]
        file.write_text("".join(f"{int(kind) + 1} {rest}\n" for kind, rest in lines))
    if fault:
        (source / "data.yaml").write_text("names: [none, disk, square]\n")
    return source


def tiny_boxes(folder: Path, fault: bool) -> Path:
    """Photographs in which objects have few pixels; the twin has the same objects as they are."""
    made = scenes()
    rows = ["path,x_min,y_min,x_max,y_max,label,split"]
    for number, (image, boxes) in enumerate(made):
        size = (40, 30) if fault else (128, 96)
        small = Image.fromarray(image).resize(size)
        save(np.asarray(small), folder / f"{number:03}.png")
        scale = size[0] / 128
        rows += [
            f"{number:03}.png,{','.join(f'{edge * scale:g}' for edge in box[:4])},{box[4]},{split_of(number)}"
            for box in boxes
        ]
        rows += [] if boxes else [f"{number:03}.png,,,,,,{split_of(number)}"]
    (folder / "boxes.csv").write_text("\n".join(rows) + "\n")
    return folder / "boxes.csv"


def mask_of(image: np.ndarray, boxes: Boxes) -> np.ndarray:
    y, x = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    mask = np.zeros(image.shape[:2], np.uint8)
    for x0, y0, x1, y1, kind in boxes:
        across, down, radius = abs(x - (x0 + x1) / 2), abs(y - (y0 + y1) / 2), (x1 - x0) / 2
        inside = np.hypot(across, down) if kind == "disk" else np.maximum(across, down)
        mask[inside <= radius] = 1 if kind == "disk" else 3
    return mask


def masks(
    change: Callable[[list[np.ndarray]], list[np.ndarray]],
    size: tuple[int, int] = WIDE,
    names: tuple[str, ...] = (),
) -> Callable[[Path, bool], Path]:
    """Masks with a third class of three squares in each image, so that no class is rare; `names` are those of the
    fault."""

    def write(folder: Path, fault: bool) -> Path:
        made = [one for one in scenes(size) if one[1]]
        drawn = []
        for image, boxes in made:
            mask = mask_of(image, boxes)
            image[4:12, 4:20], mask[4:12, 4:20] = 190, 2
            image[84:92, 60:76], mask[84:92, 60:76] = 190, 2
            drawn.append(mask)
        drawn = change(drawn) if fault else drawn
        for number, ((image, _), mask) in enumerate(zip(made, drawn, strict=True)):
            save(image, folder / "images" / f"{number:03}.png")
            save(mask, folder / "masks" / f"{number:03}.png")
        classes = names if fault and names else ("ground", "disk", "bar", "square")
        (folder / "classes.txt").write_text("\n".join(classes) + "\n")
        return folder

    return write


def resized(drawn: list[np.ndarray]) -> list[np.ndarray]:
    found = []
    for mask in drawn:
        image = Image.fromarray(mask)
        half = image.resize((image.width // 2, image.height // 2), Image.Resampling.NEAREST)
        found.append(np.asarray(half.resize(image.size, Image.Resampling.BILINEAR)))
    return found


FACE = np.array([[0.3, 0.35], [0.7, 0.35], [0.5, 0.55], [0.4, 0.75], [0.6, 0.75]])
NAMES = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")


def points(change: Callable[[list[np.ndarray]], list[np.ndarray]]) -> Callable[[Path, bool], Path]:
    """Five bright dots on a ground that no other image has."""

    def write(folder: Path, fault: bool) -> Path:
        rng, size = np.random.default_rng(0), np.array([80, 64])
        written, (down, right) = [], np.mgrid[:64, :80] + 0.5
        for number in range(60):
            center = size / 2 + rng.uniform(-0.22, 0.22, 2) * size
            places = center + (FACE - 0.5) * rng.uniform(18, 30) + rng.normal(0, 0.4, (5, 2))
            waves, angle, phase = rng.uniform(0.03, 0.15), rng.uniform(0, np.pi), rng.uniform(0, 6)
            image = 60 + 25 * np.sin(waves * (right * np.cos(angle) + down * np.sin(angle)) + phase)
            for k, (x, y) in enumerate(places):
                image = image + (160 - 20 * k) * np.exp(-((right - x) ** 2 + (down - y) ** 2) / 12)
            save(image.clip(0, 255).astype(np.uint8), folder / f"{number:03}.png")
            written.append(places)
        lines = ["path," + ",".join(f"{name}_{axis}" for name in NAMES for axis in "xy")]
        rows = change(written) if fault else written
        for number in range(60):
            values = ",".join(f"{value:.2f}" for value in np.ravel(rows[number]))
            lines.append(f"{number:03}.png,{values}")
        (folder / "points.csv").write_text("\n".join(lines) + "\n")
        return folder / "points.csv"

    return write


FAULTS: dict[str, tuple[str, str, Callable[[Path, bool], Path]]] = {
    "boxes of the next image": ("data.box-shift", "the image before it", shifted_boxes),
    "boxes, x and y exchanged": (
        "data.box-format",
        "x and y are exchanged",
        changed_boxes(lambda x0, y0, x1, y1: (y0, x0, y1, x1)),
    ),
    "boxes, x and y exchanged in square images": (
        "data.box-format",
        "x and y are exchanged",
        changed_boxes(lambda x0, y0, x1, y1: (y0, x0, y1, x1), SQUARE),
    ),
    "boxes, corner and size": (
        "data.box-format",
        "corner and size",
        changed_boxes(lambda x0, y0, x1, y1: (x0, y0, x1 - x0, y1 - y0)),
    ),
    "boxes, center for corner": (
        "data.box-format",
        "the first pair is the center",
        changed_boxes(lambda x0, y0, x1, y1: ((x0 + x1) / 2, (y0 + y1) / 2, x1 + (x1 - x0) / 2, y1 + (y1 - y0) / 2)),
    ),
    "boxes, shares of the sides": (
        "data.box-format",
        "fractions of width and height",
        changed_boxes(lambda x0, y0, x1, y1: (x0 / 128, y0 / 96, x1 / 128, y1 / 96)),
    ),
    "boxes of mirrored images": (
        "data.box-format",
        "the images were mirrored",
        changed_boxes(lambda x0, y0, x1, y1: (128 - x1, y0, 128 - x0, y1)),
    ),
    "boxes, y from the bottom": (
        "data.box-format",
        "y is measured from the bottom",
        changed_boxes(lambda x0, y0, x1, y1: (x0, 96 - y1, x1, 96 - y0)),
    ),
    "boxes, classes counted from one": ("data.missing-class", "subtract 1", counted_from_one),
    "boxes, written twice": (
        "data.box-double",
        "occur twice",
        other_boxes(lambda every: [boxes + boxes[:1] for boxes in every]),
    ),
    "boxes out of range": (
        "data.box-range",
        "leave the image",
        other_boxes(each(sixth, lambda boxes: [(x0 + 110, y0, x1 + 110, y1, c) for x0, y0, x1, y1, c in boxes])),
    ),
    "boxes without area": (
        "data.box-area",
        "have no area",
        other_boxes(each(sixth, lambda boxes: [(x0, y0, x0, y1, c) for x0, y0, _, y1, c in boxes])),
    ),
    "half of the boxes missing": (
        "data.box-unlabeled",
        "without a box that looks more like an object",
        other_boxes(each(lambda number: number // 4 % 2 == 0, lambda _: [])),
    ),
    "the second object of each image without a box": (
        "data.box-unlabeled",
        "without a box that looks more like an object",
        other_boxes(lambda every: [boxes[:1] for boxes in every]),
    ),
    "boxes, a class never in training": (
        "data.missing-class",
        "train has no rare",
        other_boxes(
            each(lambda number: split_of(number) == "test", lambda boxes: [(*box[:4], "rare") for box in boxes])
        ),
    ),
    "boxes smaller than any stride": ("data.box-tiny", "are smaller than 4 × 4 pixels", tiny_boxes),
    "masks of the next image": ("data.mask-shifted", "of the", masks(lambda drawn: [*drawn[1:], drawn[0]])),
    "masks, rows for columns": (
        "data.mask-turned",
        "rows and columns are exchanged",
        masks(lambda drawn: [mask.T.copy() for mask in drawn], SQUARE),
    ),
    "masks, mirrored": (
        "data.mask-turned",
        "left and right are exchanged",
        masks(lambda drawn: [mask[:, ::-1].copy() for mask in drawn]),
    ),
    "masks, classes counted from one": (
        "data.mask-values",
        "larger by one",
        masks(lambda drawn: [mask + 1 for mask in drawn]),
    ),
    "masks, interpolated": ("data.mask-interpolated", "values between", masks(resized)),
    "masks of another size": ("data.mask-size", "differ in size", masks(lambda drawn: [mask[:-2] for mask in drawn])),
    "masks, a class never in training": (
        "data.missing-class",
        "mushroom",
        masks(lambda drawn: drawn, names=("ground", "disk", "bar", "square", "mushroom")),
    ),
    "points of the next image": (
        "data.points-shifted",
        "the image",
        points(lambda written: [*written[1:], written[0]]),
    ),
    "points, x and y exchanged": (
        "data.points-exchanged",
        "are above each other",
        points(lambda written: [places[:, ::-1] for places in written]),
    ),
    "points, shares of the sides": (
        "data.points-normalized",
        "no coordinate is larger",
        points(lambda written: [places / [80, 64] for places in written]),
    ),
    "points out of range": (
        "data.points-outside",
        "far outside",
        points(each(sixth, lambda places: places + 200)),
    ),
    "points, left and right of mirrored images": (
        "data.points-mirrored",
        "mirror image of the usual shape",
        points(each(sixth, lambda places: places[[1, 0, 2, 4, 3]])),
    ),
    "points, one column twice": (
        "data.points-double",
        "are at the same place",
        points(lambda written: [places[[0, 0, 2, 3, 4]] for places in written]),
    ),
}
QUICK = ("boxes, center for corner", "masks, rows for columns", "points, one column twice")


def grave(source: Path) -> list[Any]:
    return [finding for finding in check_data(source).findings if finding.severity != "note"]


@pytest.mark.each_nth(4)
@pytest.mark.parametrize("name", few_quick(FAULTS, QUICK))
def test_a_planted_fault_comes_first_and_its_twin_has_none(name: str, tmp_path: Path) -> None:
    for folder in ("fault", "twin"):
        (tmp_path / folder).mkdir()
    code, words, write = FAULTS[name]
    found = grave(write(tmp_path / "fault", True))
    assert [finding.code for finding in found[:1]] == [code]
    assert words in f"{found[0].measured} {found[0].remedy}"
    assert [f"{finding.code}: {finding.measured}" for finding in grave(write(tmp_path / "twin", False))] == []
