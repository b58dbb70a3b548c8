"""Rotated boxes: their overlaps agree with the definition, they move with their image, and a network predicts them
without a jump at any angle."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from striate import reference
from striate.api import load
from striate.cli import main
from striate.data.augment.augment import augment_batch
from striate.data.augment.warp import Warp
from striate.data.config import AugmentConfig
from striate.data.media.medium import Placement
from striate.data.rotated_boxes import common_area, corners, scale_boxes, transform_boxes, visible_shares
from striate.models.build import build_model
from striate.tasks.detect.assess import angle_errors, coco_metrics, rotated_metrics
from striate.tasks.detect.average_precision import average_precisions, overlaps_for, ranked, rotated_overlaps, rows_of
from striate.tasks.detect.move import resize_boxes, warp_boxes
from striate.tasks.detect.overlap import nms_mask
from striate.tasks.detect.rotated import boxes_of, ellipses, probiou_distance, rotated_iou
from striate.tasks.detect.task import Detect
from striate.tasks.exported import Frame

HEIGHT, WIDTH = 64, 80
TASK = Detect(("car", "truck"), (32, 48), (4, 8), 6.0, 0.3, rotated=True)


def _boxes(random: np.random.Generator, count: int, side: float = 20.0) -> np.ndarray:
    center, half = random.random((count, 2)) * side, 0.5 + random.random((count, 2)) * side / 3
    return np.column_stack([center - half, center + half, random.uniform(-200, 200, count)])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31))
def test_overlaps_are_those_of_the_definition(seed: int) -> None:
    random = np.random.default_rng(seed)
    a, b = _boxes(random, 8), _boxes(random, 8)
    b[0], b[1], b[2] = a[0], a[1], a[2]
    b[1, 4] += 180
    b[2, 4] += random.choice([1e-9, 1e-6, 90])
    b[3] = [a[3, 2], a[3, 1], a[3, 2] + 4, a[3, 3], 0]
    a[3, 4] = 0  # they share an edge
    found = rotated_iou(torch.tensor(a), torch.tensor(b)).numpy()
    assert found == pytest.approx(reference.rotated_box_iou(a, b), abs=1e-6)


def test_what_is_seen_of_a_box_is_what_it_has_in_common_with_the_image() -> None:
    boxes = _boxes(np.random.default_rng(2), 20)
    places, image = corners(boxes), np.array([[0, 0], [12, 0], [12, 9], [0, 9]], float)
    assert places == pytest.approx(reference.rotated_corners(boxes))
    common = [reference.polygon_area(reference.common_polygon(place, image)) for place in places]
    shares = np.array(common) / np.prod(boxes[:, 2:4] - boxes[:, :2], 1)
    assert visible_shares(boxes, 9, 12) == pytest.approx(shares, abs=1e-9)
    assert common_area(places[0], places[0]) == pytest.approx(reference.polygon_area(places[0]))


def test_an_explained_box_is_named_with_its_angle() -> None:
    found = torch.tensor([[4.0, 8, 24, 20, 1, 0.9, 30]])
    edges = "(left, top, right, bottom in pixels of the input, before it is turned by 30° counterclockwise)"
    assert TASK.explained(found).part == f"the truck at 4, 8, 24, 20 {edges}"


def test_known_overlaps() -> None:
    long, square = [0, 0, 4, 2, 0], [0, 0, 1, 1, 0]
    turned = reference.rotated_box_iou([long, square], [[*long[:4], 90], [*square[:4], 45]])
    eighth = 2 * (np.sqrt(2) - 1)  # the octagon that is left
    assert np.diag(turned) == pytest.approx([1 / 3, eighth / (2 - eighth)])
    random = np.random.default_rng(0)
    boxes = _boxes(random, 12)
    boxes[:, 4] = 0
    assert reference.rotated_box_iou(boxes, boxes) == pytest.approx(reference.box_iou(boxes[:, :4], boxes[:, :4]))
    corners = reference.rotated_corners([[0, 0, 4, 2, 90]])[0]
    assert corners == pytest.approx(np.array([[1, 3], [1, -1], [3, -1], [3, 3]])), "counterclockwise for the eye"


@settings(max_examples=2, deadline=None)
@given(st.integers(0, 2**31))
def test_suppression_is_greedy_also_beyond_a_block(seed: int) -> None:
    random = np.random.default_rng(seed)
    boxes, classes = _boxes(random, 72), random.integers(0, 2, 72)
    kept = nms_mask(torch.tensor(boxes)[None], torch.tensor(classes)[None], 0.4)[0]
    expected = reference.non_maximum_suppression(boxes, -np.arange(72.0), classes, 0.4)
    assert torch.nonzero(kept)[:, 0].tolist() == expected.tolist()


def test_a_box_is_what_its_ellipse_says() -> None:
    boxes = _boxes(np.random.default_rng(0), 40)
    again = boxes_of(ellipses(torch.tensor(boxes))).numpy()
    assert np.diag(reference.rotated_box_iou(boxes, again)) == pytest.approx(1, abs=1e-6)
    assert (again[:, 2] - again[:, 0] >= again[:, 3] - again[:, 1] - 1e-9).all()
    assert np.abs(again[:, 4]).max() <= 90


def test_the_distance_of_boxes_has_no_jump_and_finite_gradients() -> None:
    """1 − ProbIoU by its definition; across 90 degrees, at a square, and of a box with itself."""

    def distance(a: list[float], b: list[float]) -> float:
        shapes = []
        for box in (a, b):
            turn = np.radians(-box[4])
            axes = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
            shapes.append(axes @ np.diag([(box[2] - box[0]) ** 2 / 12, (box[3] - box[1]) ** 2 / 12]) @ axes.T)
        mean = sum(shapes) / 2
        step = np.array([b[0] + b[2] - a[0] - a[2], b[1] + b[3] - a[1] - a[3]]) / 2
        ratio = np.linalg.det(mean) / np.sqrt(np.linalg.det(shapes[0]) * np.linalg.det(shapes[1]))
        return float(np.sqrt(1 - np.exp(-(step @ np.linalg.solve(mean, step) / 8 + np.log(ratio) / 2))))

    a, b = [2.0, 3, 14, 8, 30], [3.0, 1, 13, 9, 75]
    one, other = (ellipses(torch.tensor([box], dtype=torch.float64)) for box in (a, b))
    assert float(probiou_distance(one, other)) == pytest.approx(distance(a, b), abs=1e-5)
    long = torch.tensor([[0.0, 0, 8, 2, 89.99], [0, 0, 8, 2, -89.99], [0, 0, 4, 4, 10], [0, 0, 8, 2, 90]])
    shapes = ellipses(long)
    assert torch.allclose(shapes[0], shapes[1], atol=2e-3), "a network predicts nearly the same numbers"
    given = torch.stack([shapes[2], shapes[3], shapes[3]]).requires_grad_()
    probiou_distance(given, shapes[3].expand(3, -1)).sum().backward()
    assert given.grad is not None
    assert torch.isfinite(given.grad).all()
    assert given.grad[0, 3].abs() > 0.01, "of a square too, it is known which way it should grow longer"


def test_where_no_box_is_turned_precision_is_that_of_coco() -> None:
    random = np.random.default_rng(0)
    targets, decoded = np.zeros((12, 6, 7), np.float32), np.zeros((12, 20, 7), np.float32)
    targets[..., 4], decoded[..., 4] = -1, -1
    for image in range(12):
        boxes = np.round(_boxes(random, 6, 80)[:, :4])
        boxes[:, 2:] += 2
        targets[image, :, :4], targets[image, :, 4] = boxes, random.integers(0, 2, 6)
        moved = np.concatenate([boxes, boxes, boxes])[:18] + random.normal(0, 1.5, (18, 4))
        decoded[image, :18, :4] = moved
        decoded[image, :18, 4], decoded[image, :18, 5] = np.tile(targets[image, :, 4], 3), random.random(18)
    assert overlaps_for(decoded, targets) is rotated_overlaps
    own = rotated_metrics(average_precisions(ranked(rows_of(decoded, targets, 2, rotated_overlaps))))
    assert own == pytest.approx(coco_metrics(decoded, targets, 2), abs=1e-6)
    assert 0.05 < own["map"] < 0.95


def test_angle_errors_are_of_the_longer_side() -> None:
    truth = np.array([[[0, 0, 20, 8, 0, 0, 10], [40, 40, 48, 60, 0, 0, 0], [80, 0, 90, 9, 0, 0, 0]]], float)
    found = np.array([[[0, 0, 20, 8, 0, 0.9, -167], [34, 46, 54, 54, 0, 0.8, 88], [80, 0, 90, 9, 0, 0.7, 40]]], float)
    errors = angle_errors(found, truth, 0.5)
    assert sorted(errors.tolist()) == pytest.approx([2, 3]), "of the square one nothing is asked"


# Moving


def _painted(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """An image for each box that is white there, and the boxes as targets."""
    random = np.random.default_rng(seed)
    images, targets = torch.zeros(count, 1, HEIGHT, WIDTH, dtype=torch.uint8), torch.zeros(count, 2, 7)
    targets[..., 4] = -1
    for k in range(count):
        x, y = WIDTH / 2 + random.uniform(-6, 6), HEIGHT / 2 + random.uniform(-5, 5)
        box = np.round(np.array([x - 11, y - 4, x + 11, y + 4]) * 256) / 256
        angle = float(np.float32(random.uniform(-180, 180)))
        fine = Image.new("L", (WIDTH * 4, HEIGHT * 4))
        ImageDraw.Draw(fine).polygon(
            [tuple(4 * p - 0.5) for p in reference.rotated_corners([[*box, angle]])[0]], fill=255
        )
        images[k, 0] = torch.from_numpy(np.asarray(fine.resize((WIDTH, HEIGHT), Image.Resampling.BOX)).copy())
        targets[k, 0] = torch.tensor([*box, 1, 0, angle])
    return images, targets


def _measured(image: torch.Tensor) -> tuple[float, float, float]:
    """Center and direction of what is white, by its moments; degrees counterclockwise, from 0 to 180."""
    weights = image[0].double().numpy()
    y, x = np.mgrid[: weights.shape[0], : weights.shape[1]] + 0.5
    total = weights.sum()
    cx, cy = (x * weights).sum() / total, (y * weights).sum() / total
    a, b, c = (((p - q) * (r - s) * weights).sum() for p, q, r, s in ((x, cx, x, cx), (x, cx, y, cy), (y, cy, y, cy)))
    return cx, cy, float(np.degrees(-np.arctan2(2 * b, a - c) / 2) % 180)


@pytest.mark.parametrize(
    "config",
    [
        AugmentConfig(flip=True, vertical_flip=True, shift=4),
        AugmentConfig(rotate=180, scale=0.2, flip=True),
        AugmentConfig(crop=0.6, flip=True),
        AugmentConfig(shear=15, rotate=180),
    ],
)
def test_a_box_lies_where_its_object_does(config: AugmentConfig) -> None:
    images, targets = _painted(16)
    moved, warp = augment_batch(images, AugmentConfig(**{**vars(config), "fill": "zero"}), 0, 0, torch.arange(16))
    assert warp is not None
    found = warp_boxes(targets, warp, (HEIGHT, WIDTH))
    checked = 0
    for image, rows in zip(moved, found, strict=True):
        assert rows[1, 4] == -1
        if rows[0, 4] < 0 or visible_shares(rows[:1, [0, 1, 2, 3, 6]].double().numpy(), HEIGHT, WIDTH)[0] < 1:
            continue
        cx, cy, angle = _measured(image)
        box = rows[0].tolist()
        assert ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2) == pytest.approx((cx, cy), abs=0.5)
        bend = 4 if config.shear or config.crop else 2  # of a parallelogram the long side and the moments differ
        assert abs((angle - box[6] + 90) % 180 - 90) < bend
        assert (box[2] - box[0]) * (box[3] - box[1]) == pytest.approx(float(image.double().sum() / 255), rel=0.12)
        checked += 1
    assert checked >= 6


def test_mirrored_twice_a_box_has_the_same_bits() -> None:
    _, targets = _painted(4)
    nothing = torch.zeros(4, 2, dtype=torch.int64)
    for mirror in (
        Warp(torch.ones(4, dtype=torch.bool), nothing),
        Warp(torch.ones(4) < 0, nothing, None, torch.ones(4) > 0),
    ):
        once = warp_boxes(targets, mirror, (HEIGHT, WIDTH))
        assert torch.equal(once[:, 0, 6], -targets[:, 0, 6])
        assert torch.equal(warp_boxes(once, mirror, (HEIGHT, WIDTH)), targets)


def test_what_leaves_the_image_stays_whole_and_is_then_dropped() -> None:
    targets = torch.tensor([[[10.0, 10, 30, 20, 1, 0, 90]]]).repeat(2, 1, 1)  # 15 to 25, and 5 to 25 down
    found = warp_boxes(targets, Warp(torch.zeros(2) > 0, torch.tensor([[-14, 0], [-16, 0]])), (HEIGHT, WIDTH))
    assert found[0, 0].tolist() == [10, -4, 30, 6, 1, 0, 90], "more than half is left"
    assert found[1, 0].tolist() == [0, 0, 0, 0, -1, 0, 0]


def test_boxes_are_scaled_with_their_image_and_back() -> None:
    boxes = _boxes(np.random.default_rng(1), 10)
    placed = Placement((40, 50), (80, 100), (2.0, 2.0), (3.0, -4.0))
    assert placed.rotated_boxes_in_file(placed.rotated_boxes(boxes)) == pytest.approx(boxes)
    assert scale_boxes(boxes, (2.0, 2.0))[:, 4] == pytest.approx(boxes[:, 4], abs=0)
    flat = scale_boxes(np.array([[0.0, 0, 20, 2, 45]]), (2.0, 1.0))[0]
    assert flat[4] == pytest.approx(np.degrees(np.arctan(0.5)), abs=1), "the long side says how it is turned"
    row = torch.tensor([[[*flat[:4], 1, 0, flat[4]]]], dtype=torch.float32)
    assert resize_boxes(row, (10, 10), (20, 20))[0, 0, 6] == row[0, 0, 6]


def test_a_bend_of_a_rotation_is_exact() -> None:
    turn = np.radians(25)
    matrix = ((np.cos(turn), np.sin(turn)), (-np.sin(turn), np.cos(turn)))  # counterclockwise where y runs down
    assert transform_boxes(8.0, 3.0, 40.0, matrix) == pytest.approx((8, 3, 65))


# Learning


def _targets(rows: list[list[tuple[float, ...]]]) -> torch.Tensor:
    targets = torch.zeros(len(rows), 3, 7)
    targets[..., 4] = -1
    for image, boxes in enumerate(rows):
        for place, box in enumerate(boxes):
            targets[image, place] = torch.tensor(box)
    return targets


def test_a_head_learns_the_angle_of_one_box() -> None:
    """The loss alone leads any first box to the true one: also from across, where an angle would have to turn back."""
    torch.manual_seed(0)
    network = TASK.attach(build_model("small-resnet(width=8)", (3, 32, 48), None), (3, 32, 48)).eval()
    with torch.no_grad():
        outputs = network(torch.zeros(2, 3, 32, 48))
    assert outputs.shape[2] == len(TASK.classes) + 8
    targets = _targets([[(10, 12, 34, 20, 1, 0, 88)], [(10, 12, 34, 20, 0, 0, -30)]])
    numbers = outputs[..., :7].clone().requires_grad_()
    optimizer = torch.optim.Adam([numbers], lr=0.1)
    for _ in range(120):
        optimizer.zero_grad()
        TASK.loss_sum(torch.cat([numbers, outputs[..., 7:]], 2), targets).backward()
        optimizer.step()
    found = TASK.decode(torch.cat([numbers.detach(), outputs[..., 7:]], 2))
    assert found.shape == (2, 100, 7)
    for image in range(2):
        best, true = found[image, 0], targets[image, 0]
        assert best[4] == true[4]
        rows = (row[None, [0, 1, 2, 3, 6]].double().numpy() for row in (best, true))
        assert reference.rotated_box_iou(*rows)[0, 0] > 0.9
    told = TASK.describe(found[0])["boxes"][0]
    assert abs((told["angle"] - 88 + 90) % 180 - 90) < 3
    metrics = TASK.measure(found, targets)
    assert metrics["map50"] == pytest.approx(1)
    assert metrics["angle_error"] < 3
    assert metrics["angle_objects"] == 2


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bars at any angle on noise; every fifth image has none."""
    folder, random = tmp_path_factory.mktemp("rotated"), np.random.default_rng(0)
    rows = ["path,x_min,y_min,x_max,y_max,label,angle"]
    for number in range(120):
        image = Image.fromarray(random.integers(40, 90, (32 * 4, 48 * 4, 3), dtype=np.uint8))
        for place in range(0 if number % 5 == 4 else int(random.integers(1, 3))):
            kind = int(random.integers(2))
            x, y, angle = 13 + 22 * place + random.uniform(-2, 2), 16 + random.uniform(-4, 4), random.uniform(-90, 90)
            half = (10, 3) if kind else (7, 4)
            box = [x - half[0], y - half[1], x + half[0], y + half[1]]
            fill = (220, 80, 60) if kind else (70, 200, 230)
            corners = reference.rotated_corners([[*box, angle]])[0]
            ImageDraw.Draw(image).polygon([tuple(4 * corner) for corner in corners], fill=fill)
            rows.append(
                f"{number:03}.png,{','.join(f'{edge:.2f}' for edge in box)},{('short', 'long')[kind]},{angle:.2f}"
            )
        if rows[-1].split(",")[0] != f"{number:03}.png":
            rows.append(f"{number:03}.png,,,,,,")
        image.resize((48, 32), Image.Resampling.BOX).save(folder / f"{number:03}.png")
    (folder / "boxes.csv").write_text("\n".join(rows) + "\n")
    return folder / "boxes.csv"


@pytest.mark.slow
def test_a_detector_learns_how_bars_are_turned(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--size", "32x48", "--model", "small-resnet(width=16)", "--epochs", "60", "--plan", "plain"]
    with torch.random.fork_rng():
        assert main(["train", str(table), *words, "--batch", "16", "--seed", "1", "--out", str(tmp_path / "run")]) == 0
    test = json.loads((tmp_path / "run" / "metrics.json").read_text())["test"]
    assert test["map50"] > 0.7
    assert test["angle_error"] < 8
    capsys.readouterr()
    picture = table.parent / "000.png"
    assert main(["predict", str(tmp_path / "run"), str(picture), "--draw", str(tmp_path / "drawn"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["boxes"]
    assert all(-90 <= box["angle"] <= 90 for box in told["boxes"])
    assert Path(told["drawn"]).is_file()
    assert main(["eval", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    assert "median angle error" in out
    assert re.search(rf"objects with an angle +{test['angle_objects']}\n", out)
    assert load(tmp_path / "run").task.rotated


def test_an_exported_detector_keeps_the_rotated_boxes_that_the_program_keeps() -> None:
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(3, 40, 2, generator=generator) - 1, torch.rand(3, 40, 2, generator=generator) * 30]
    parts += [torch.rand(3, 40, 1, generator=generator) + 1.2, torch.randn(3, 40, 2, generator=generator) * 0.4]
    outputs = torch.cat([*parts, torch.zeros(3, 40, 3)], 2)
    outputs[2, :, :2] = -9  # nothing
    frame = Frame(torch.tensor([0.5, 0.25]), torch.tensor([3.0, 1.0]), torch.tensor([96.0, 128.0]), (128, 96))
    right = TASK.decode(outputs).numpy()
    boxes, scores, labels = (part.numpy() for part in TASK.export(outputs, frame))
    assert np.array_equal(labels, right[..., 4].astype(np.int64)[:, : labels.shape[1]])
    assert scores == pytest.approx(right[:, : scores.shape[1], 5])
    assert 1 < (labels[0] >= 0).sum() < 80
    assert (labels[2] == -1).all()
    found = TASK.from_exported([boxes, scores, labels], (128, 96))
    placed = Placement((128, 96), (32, 48), (0.5, 0.25), (3.0, 1.0))
    for one, other in zip(right, found, strict=True):
        difference, same = TASK.disparity(np.asarray(TASK.in_file(torch.from_numpy(one), placed)), other)
        assert same
        assert difference < 1e-4
