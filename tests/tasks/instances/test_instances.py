"""Masks in their boxes, how far they overlap, what is learned of them, and predictions in pixels of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from striate.data.annotations.instances import objects_of
from striate.data.augment.augment import augment_batch
from striate.data.augment.warp import Warp
from striate.data.config import AugmentConfig
from striate.data.mask_codes import decode
from striate.data.media.medium import Placement
from striate.models.build import build_model
from striate.tasks.instances import show
from striate.tasks.instances.box_masks import SIDE, gathered, packed, pasted, unpacked
from striate.tasks.instances.decode import MASK, WIDTH, inside, instance_map
from striate.tasks.instances.grouping import OFFSET, agreement, objects_in, places
from striate.tasks.instances.metrics import mask_metrics
from striate.tasks.instances.overlap import MaskOverlaps
from striate.tasks.instances.task import Instances

SIZE = (40, 48)
TASK = Instances(("round", "square"), SIZE, typical=6.0, threshold=0.3, most=20)


def _row(mask: np.ndarray, kind: int, score: float) -> torch.Tensor:
    """A detection of exactly these pixels."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, left, bottom, right = rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
    edges = np.array([left, top, right, bottom], np.float32)
    shares = gathered(mask[top:bottom, left:right], (int(top), int(left)), edges)
    return torch.cat([torch.tensor([*edges, kind, score]), packed(torch.from_numpy(shares))])


def _disk(x: float, y: float, radius: float) -> np.ndarray:
    down, across = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    return np.hypot(across - x, down - y) <= radius


def _decoded(*images: list[torch.Tensor]) -> torch.Tensor:
    found = torch.zeros(len(images), TASK.most, WIDTH)
    found[..., 4] = -1
    for image, rows in enumerate(images):
        for place, row in enumerate(rows):
            found[image, place] = row
    return found


def _target(*objects: tuple[np.ndarray, int, int]) -> torch.Tensor:
    """Masks with class and crowd, numbered as the data does."""
    target = np.zeros(SIZE, np.int16)
    for number, (mask, kind, crowd) in enumerate(objects):
        target[mask] = 1 + 2 * (number * 2 + kind) + crowd
    return torch.from_numpy(target)


def test_a_mask_survives_its_grid() -> None:
    for radius in (3.0, 8.0, 14.0):
        mask = _disk(20, 20, radius)
        row = _row(mask, 0, 1.0).numpy()
        part, (top, left) = pasted(unpacked(row[MASK:]), row, SIZE)
        again = np.zeros(SIZE, np.bool_)
        again[top : top + part.shape[0], left : left + part.shape[1]] = inside(part)
        assert (again & mask).sum() / (again | mask).sum() > 0.9
    shares = torch.linspace(0, 1, SIDE * SIDE).view(SIDE, SIDE)
    assert np.abs(unpacked(packed(shares).numpy()) - shares.numpy()).max() <= 0.5 / 15 + 1e-6


def test_touching_objects_stay_apart() -> None:
    """A point between two middles is of the nearer one, though both boxes hold it."""
    left, right = _disk(14, 20, 8), _disk(30, 20, 8)
    found = torch.stack([_row(left, 0, 0.9), _row(right, 0, 0.8)]).numpy()
    numbers = instance_map(found, SIZE)
    assert set(np.unique(numbers)) == {0, 1, 2}
    assert (numbers[left & ~right] == 1).mean() > 0.95
    assert (numbers[right & ~left] == 2).mean() > 0.95


def test_any_network_says_of_each_pixel_what_it_is_of() -> None:
    torch.manual_seed(0)
    network = TASK.attach(build_model("small-resnet(width=8)", (3, *SIZE), None), (3, *SIZE)).eval()
    with torch.no_grad():
        outputs = network(torch.rand(2, 3, *SIZE))
    assert outputs.shape == (2, 2 + OFFSET, *SIZE)
    assert TASK.decode(outputs).shape == (2, 20, WIDTH)


def test_overlaps_are_those_of_pixels() -> None:
    truth = [(_disk(12, 12, 6), 0, 0), (_disk(30, 20, 9), 1, 0), (_disk(40, 34, 5), 0, 1)]
    masks = [_disk(13, 12, 6), _disk(31, 22, 8), _disk(40, 34, 4), _disk(25, 15, 10)]
    decoded = _decoded([], [_row(mask, 0, 0.5) for mask in masks])
    targets = torch.stack([_target(), _target(*truth)])
    overlaps = MaskOverlaps(decoded.numpy(), targets.numpy(), 2)
    shares = overlaps(overlaps.found[1, :4], overlaps.objects[1, :3])
    for place, mask in enumerate(masks):
        row = decoded[1, place].numpy()
        part, (top, left) = pasted(unpacked(row[MASK:]), row, SIZE)
        seen = np.zeros(SIZE, np.bool_)
        seen[top : top + part.shape[0], left : left + part.shape[1]] = inside(part)
        assert (seen & mask).sum() / (seen | mask).sum() > 0.9
        for number, (other, _, crowd) in enumerate(truth):
            common, union = (seen & other).sum(), (seen | other).sum()
            assert shares[place, number] == pytest.approx(common / (seen.sum() if crowd else union))


def _random(seed: int, images: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    random = np.random.default_rng(seed)
    targets, rows = [], []
    for _ in range(images):
        objects = []
        for _ in range(int(random.integers(0, 5))):
            mask = _disk(*random.uniform(6, 34, 2), random.uniform(3, 7))
            objects.append((mask, int(random.integers(2)), int(random.random() < 0.1)))
        targets.append(_target(*objects))
        found = []
        for mask, kind, _ in objects:
            for _ in range(int(random.integers(0, 3))):
                moved = np.roll(mask, tuple(random.integers(-2, 3, 2)), (0, 1))
                kind = kind if random.random() < 0.8 else 1 - kind
                found.append(_row(moved, kind, float(random.integers(1, 20)) / 20))
        rows.append(found)
    return _decoded(*rows), torch.stack(targets)


def test_figures_are_those_of_coco() -> None:
    decoded, targets = _random(0)
    found = mask_metrics(decoded.numpy(), targets.numpy(), 2)
    rows = TASK.rows_for(decoded, targets)
    assert TASK.headline_metric().value(rows) == pytest.approx(found["mask_map"], abs=1e-9)
    assert 0.05 < found["mask_map"] < found["mask_map50"] < 1
    with_pycocotools = _by_pycocotools(decoded.numpy(), targets.numpy())
    assert [found["mask_map"], found["mask_map50"]] == pytest.approx(with_pycocotools, abs=1e-6)


def _by_pycocotools(decoded: np.ndarray, targets: np.ndarray) -> list[float]:
    import contextlib
    import io

    from pycocotools import mask as codes
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def entry(image: int, row: np.ndarray, mask: np.ndarray) -> dict[str, Any]:
        code = codes.encode(np.asfortranarray(mask.astype(np.uint8)))
        return {"image_id": image + 1, "category_id": int(row[4]) + 1, "segmentation": code}

    truth, found = [], []
    for image, (rows, target) in enumerate(zip(decoded, targets, strict=True)):
        boxes, values = (part[0].numpy() for part in objects_of(torch.from_numpy(target[None]), 2))
        for row, value in zip(boxes, values, strict=True):
            if value:
                one = entry(image, row, target == value) | {"iscrowd": int(row[5]), "id": len(truth) + 1}
                truth.append(one | {"area": float((target == value).sum())})
        for row in rows[rows[:, 4] >= 0]:
            part, (top, left) = pasted(unpacked(row[MASK:]), row, SIZE)
            mask = np.zeros(SIZE, np.bool_)
            mask[top : top + part.shape[0], left : left + part.shape[1]] = inside(part)
            found.append(entry(image, row, mask) | {"score": float(row[5])})
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = {
            "images": [{"id": k + 1, "height": SIZE[0], "width": SIZE[1]} for k in range(len(targets))],
            "categories": [{"id": k + 1} for k in range(2)],
            "annotations": truth,
        }
        known.createIndex()
        evaluation = COCOeval(known, known.loadRes(found), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(evaluation.stats[0]), float(evaluation.stats[1])]


def test_masks_move_as_their_images_do() -> None:
    """Whatever type holds the numbers, each mask lies where a mask of its own would."""
    truth = _target((_disk(12, 12, 6), 0, 0), (_disk(30, 20, 9), 1, 0)).expand(6, -1, -1).contiguous()
    images = truth[:, None].clamp(0, 1).to(torch.uint8) * 200
    config = AugmentConfig(flip=True, shift=3, rotate=20.0, crop=0.7)
    _, warp = augment_batch(images, config, 0, 1, torch.arange(6))
    assert isinstance(warp, Warp)
    for kind in (torch.int16, torch.int32):
        moved = TASK.warp_targets(truth.to(kind), warp)
        assert moved.dtype == kind
        for value in torch.unique(truth)[1:]:
            one = warp.apply((truth == value)[:, None].to(torch.uint8), nearest=True, fill=0)[:, 0]
            assert torch.equal(moved == value, one > 0)


def _outputs(target: torch.Tensor, noise: float = 0.0) -> torch.Tensor:
    """What a network would say that knows the targets (N, H, W), but for its guesses of centers, which are wrong by
    `noise` pixels (σ)."""
    objects = objects_in(target, 2)
    known = functional.one_hot(objects.kind, 2).movedim(-1, 1) * objects.there[:, None]
    random = torch.Generator().manual_seed(0)
    offset = (
        objects.center - places(*SIZE, target.device) + noise * torch.randn(len(target), 2, *SIZE, generator=random)
    )
    return torch.cat([8.0 * known - 4.0, offset / TASK.typical], 1)


TOUCHING = (((_disk(10, 20, 7), 0, 0), (_disk(24, 20, 7), 1, 0), (_disk(37, 20, 5.6), 0, 0)),)


def test_objects_have_centers_and_areas() -> None:
    target = torch.stack(
        [_target(), _target((_disk(12, 12, 6), 0, 0), (_disk(30, 20, 9), 1, 0), (_disk(40, 35, 3), 0, 1))]
    )
    objects = objects_in(target, 2)
    assert objects.each.tolist() == [0, 2], "a crowd is none"
    assert objects.center[1, :, 20, 30].tolist() == pytest.approx([30, 20], abs=0.05)
    assert objects.area[1, 12, 12] == _disk(12, 12, 6).sum()
    assert (objects.there[1] & (objects.kind[1] == 1)).sum() == _disk(30, 20, 9).sum()


@pytest.mark.parametrize("noise", [0.0, 1.5])
def test_pixels_that_name_the_same_center_are_one_object(noise: float) -> None:
    """Touching disks stay apart, also where each pixel's guess is wrong by a fifth of a radius."""
    truth = _target(*TOUCHING[0])[None]
    found = TASK.decode(_outputs(truth, noise))
    assert (found[0, :, 4] >= 0).sum() == 3
    figures = mask_metrics(found.numpy(), truth.numpy(), 2)
    assert figures["mask_map50"] == pytest.approx(1)
    assert sorted(found[0, :3, 4].tolist()) == [0, 0, 1]


def test_the_mean_logit_over_a_mask_is_explained() -> None:
    mask = _disk(24, 20, 7)
    outputs = torch.randn(1, 4, *SIZE, generator=torch.Generator().manual_seed(0))
    asked = TASK.explained_part(_decoded([_row(mask, 1, 0.9)])[0], "1")
    assert (asked.kind, asked.target) == ("number", 0)
    assert asked.score(outputs).item() == pytest.approx(outputs[0, 1][torch.from_numpy(mask)].mean().item(), abs=1e-5)
    assert "a score of 0.9; the map explains the mean logit of its class over its mask" in asked.notes[0]


def test_pixels_that_disagree_about_their_center_are_less_sure() -> None:
    """A disk whose pixels name its middle; its halves name two places, or all of them one beside it."""
    disk = _disk(20, 20, 8)
    here, numbers = places(*SIZE, torch.device("cpu")), disk.astype(np.int32)

    def agreed(x: torch.Tensor, y: torch.Tensor) -> float:
        (found,) = agreement(numbers, torch.stack([x, y]) - here)
        return float(found)

    middle = torch.full(SIZE, 20.0)
    halves = torch.where(here[0] < 20, 16.0, 24.0)
    radius = np.sqrt(disk.sum() / np.pi)
    assert agreed(middle, middle) == pytest.approx(1, abs=1e-3)
    assert agreed(halves, middle) == pytest.approx(np.exp(-4 / radius), abs=1e-3)
    assert agreed(middle + 4, middle) == pytest.approx(np.exp(-4 / radius), abs=1e-3)
    assert not len(agreement(np.zeros(SIZE, np.int32), torch.zeros(2, *SIZE)))


def test_a_mirror_image_says_the_same() -> None:
    truth = _target(*TOUCHING[0])[None]
    mirrored = _outputs(truth.flip(-1))
    assert torch.allclose(TASK.move_back(mirrored, mirrored=True, shift=(0, 0)), _outputs(truth), atol=1e-5)
    assert torch.equal(TASK.move_back(mirrored, mirrored=False, shift=(0, 0)), mirrored)
    below = _outputs(truth.flip(-2))
    assert torch.allclose(
        TASK.move_back(below, mirrored=False, shift=(0, 0), upside_down=True), _outputs(truth), atol=1e-5
    )


def test_nothing_is_found_in_nothing() -> None:
    found = TASK.decode(torch.full((2, 4, *SIZE), -4.0))
    assert (found[..., 4] == -1).all()


def test_what_is_wrong_costs_by_image() -> None:
    truth = _target(*TOUCHING[0])[None]
    right, wrong = _outputs(truth), _outputs(truth, 3.0)
    assert float(TASK.loss(right, truth)) < 0.1 < float(TASK.loss(wrong, truth))
    assert float(TASK.loss(-right, truth)) > 2
    both = float(TASK.loss_sum(torch.cat([right, wrong]), truth.repeat(2, 1, 1)))
    each = float(TASK.loss(right, truth) + TASK.loss(wrong, truth))
    assert both == pytest.approx(each * float(TASK.weight(truth)), rel=1e-5)
    assert float(TASK.weight(torch.cat([truth, 0 * truth]))) == pytest.approx(1 + (1 + len(TOUCHING[0])) ** 0.5)
    crowd = torch.where(truth > 0, truth + (truth % 2), truth)  # all of them in crowds: nothing is asked of them
    assert float(TASK.loss(right, crowd)) < 1.2


def test_predictions_are_in_pixels_of_the_file(tmp_path: Path) -> None:
    """A file twice as large, in the middle of a padded input."""
    mask = _disk(24, 20, 8)
    placed = Placement((80, 60), SIZE, (0.5, 0.5), (9.0, 0.0))
    told = TASK.describe_in_file(_decoded([_row(mask, 1, 0.9), _row(mask, 0, 0.1)])[0], placed)
    (box,) = told["boxes"]
    assert (told["width"], told["height"]) == (60, 80)
    assert box["label"] == "square"
    assert box["box"] == pytest.approx([14, 24, 46, 56], abs=1)
    pixels = decode(box["mask"]["counts"].encode(), tuple(box["mask"]["size"]))
    y, x = np.mgrid[:80, :60] + 0.5
    truth = np.hypot(x - 30, y - 40) <= 16
    assert (pixels & truth).sum() / (pixels | truth).sum() > 0.92
    many = [_row(_disk(3 + 3 * (k % 14), 3 + 3 * (k // 14), 1.4), 0, 0.9) for k in range(20)]
    written = TASK.write_prediction(tmp_path, "a/photo.jpg", _decoded(many)[0], placed)
    with Image.open(written["mask"]) as opened:
        numbers = np.array(opened)
    assert numbers.shape == (80, 60)
    assert numbers.dtype == np.uint8
    assert set(np.unique(numbers)) <= set(range(21))
    large = torch.stack(many).repeat(13, 1)
    written = TASK.write_prediction(tmp_path, "a/photo.jpg", large, placed)
    assert Path(written["mask"]).name == "photo-1.png", "nothing is overwritten"
    with Image.open(written["mask"]) as opened:
        assert opened.mode == "I;16"


def test_kinds_of_mistakes_are_of_masks() -> None:
    """A mask around two objects is badly placed for each, though its box fits neither; a second one is found twice."""
    left, right = _disk(12, 20, 7), _disk(28, 20, 7)
    targets = torch.stack([_target((left, 0, 0), (right, 0, 0))])
    decoded = _decoded([_row(left, 0, 0.9), _row(left, 0, 0.8), _row(_disk(40, 34, 4), 0, 0.7)])
    from striate.tasks.detect.assess import mistakes

    overlaps = MaskOverlaps(decoded.numpy(), targets.numpy(), 2)
    found = mistakes(overlaps.found, overlaps.objects, 2, 0.3, overlaps)
    assert {kind: one["count"] for kind, one in found.items() if one["count"]} == {
        "duplicate": 1,
        "background": 1,
        "missed": 1,
    }


def test_drawn_predictions_have_their_classes_and_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    monkeypatch.setattr(show, "drawn_picture", lambda _, boxes, __: drawn.extend(box.text for box in boxes))
    rows = [_row(_disk(20, 12, 6), 1, 0.87), _row(_disk(40, 34, 4), 0, 0.9)]
    TASK.draw(np.full((3, *SIZE), 90, np.uint8), _decoded(rows)[0].numpy())
    assert sorted(drawn) == sorted([f"{TASK.classes[1]} 87 %", f"{TASK.classes[0]} 90 %"])


def test_drawn_objects_have_colors_of_their_own() -> None:
    truth = _target((_disk(12, 20, 7), 0, 0), (_disk(28, 20, 7), 0, 0)).numpy()
    image = np.full((3, *SIZE), 90, np.uint8)
    drawn = TASK.draw(image, truth)
    assert drawn.shape == (*SIZE, 3)
    assert (drawn[20, 12] != drawn[20, 28]).any()
    assert (drawn[2, 2] == 90).all()
    wrong = TASK.draw(image, _decoded([_row(_disk(40, 34, 4), 0, 0.9)])[0].numpy(), truth)
    assert (wrong[34, 40] == 90).all(), "what is wrong has no tint"
