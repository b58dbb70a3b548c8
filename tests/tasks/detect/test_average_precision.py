"""Metrics agree with COCO's own code, and with faster-coco-eval."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest

from striate.statistics.ranking import mean_of_known
from striate.tasks.detect.assess import best_threshold, coco_metrics, counts_of, mistakes
from striate.tasks.detect.average_precision import RankedHeadline, average_precisions, ranked, rows_of
from striate.tasks.detect.metrics import MAP

CLASSES = 3


def _made(seed: int, images: int = 30, *, crowds: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Detections (N, 100, 6) and objects (N, 8, 6): moved, of another class, twice, missed."""
    random = np.random.default_rng(seed)
    targets, decoded = np.zeros((images, 8, 6), np.float32), np.zeros((images, 100, 6), np.float32)
    targets[..., 4], decoded[..., 4] = -1, -1
    for image in range(images):
        count = int(random.integers(0, 8))
        first = random.integers(0, 160, (count, 2)) / 2
        boxes = np.concatenate([first, first + random.integers(8, 80, (count, 2)) / 2], 1)
        targets[image, :count, :4], targets[image, :count, 4] = boxes, random.integers(0, CLASSES, count)
        targets[image, :count, 5] = crowds * (random.random(count) < 0.15)
        rows = []
        for row in targets[image, :count]:
            for _ in range(int(random.integers(0, 4))):
                moved = row[:4] + random.normal(0, 3, 4)
                kind = row[4] if random.random() < 0.8 else random.integers(0, CLASSES)
                rows.append([*moved[:2], *np.maximum(moved[2:], moved[:2] + 1), kind, random.integers(1, 20) / 20])
        rows += [[*(b := random.random(2) * 80), *(b + 10), random.integers(0, CLASSES), 0.3] for _ in range(3)]
        decoded[image, : len(rows)] = rows
    return decoded, targets


def _coco(decoded: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def entry(image: int, row: np.ndarray) -> dict[str, Any]:
        x0, y0, x1, y1 = row[:4].astype(float).tolist()
        return {"image_id": image + 1, "category_id": int(row[4]) + 1, "bbox": [x0, y0, x1 - x0, y1 - y0]}

    truth = [entry(k, row) | {"iscrowd": int(row[5])} for k, rows in enumerate(targets) for row in rows if row[4] >= 0]
    truth = [one | {"id": n + 1, "area": one["bbox"][2] * one["bbox"][3]} for n, one in enumerate(truth)]
    found = [entry(k, row) | {"score": float(row[5])} for k, rows in enumerate(decoded) for row in rows if row[4] >= 0]
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = {
            "images": [{"id": k + 1} for k in range(len(targets))],
            "categories": [{"id": k + 1} for k in range(CLASSES)],
            "annotations": truth,
        }
        known.createIndex()
        evaluation = COCOeval(known, known.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(("map", "map50", "map75"), evaluation.stats[:3].tolist(), strict=True))


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_is_that_of_coco(seed: int) -> None:
    decoded, targets = _made(seed)
    rows = rows_of(decoded, targets, CLASSES)
    each = average_precisions(ranked(rows))
    own = {"map": mean_of_known(each), "map50": mean_of_known(each[:, 0]), "map75": mean_of_known(each[:, 5])}
    assert own == pytest.approx(_coco(decoded, targets), abs=1e-9)
    assert own["map50"] == RankedHeadline(MAP, lambda *_: 0.0, ious=(0, 1)).value(rows)
    assert own == pytest.approx(coco_metrics(decoded, targets, CLASSES), abs=1e-6)
    assert 0.01 < own["map"] < 0.9


def test_resamples_count_images_that_are_drawn_twice_twice() -> None:
    decoded, targets = _made(1, 12)
    rows, drawn = rows_of(decoded, targets, CLASSES), np.array([0, 1, 1, 4, 5, 5, 5, 7, 8, 8, 10, 11])
    weights = np.bincount(drawn, minlength=12).astype(float)
    by_weight = mean_of_known(average_precisions(ranked(rows), weights))
    assert by_weight == pytest.approx(RankedHeadline(MAP, lambda *_: 0.0).value(rows[drawn]), abs=2e-3)


def test_images_without_a_group_are_drawn_each_by_itself() -> None:
    decoded, targets = _made(1, 30)
    rows = rows_of(decoded, targets, CLASSES)
    some = RankedHeadline(MAP, lambda *_: 0.0, groups=("a", "a", *[""] * 28)).estimate(rows).interval
    alone = RankedHeadline(MAP, lambda *_: 0.0).estimate(rows).interval
    assert some is not None
    assert alone is not None
    assert some.high - some.low == pytest.approx(alone.high - alone.low, rel=0.4)
    assert RankedHeadline(MAP, lambda *_: 0.0, groups=("a", "b") * 15).estimate(rows).interval is None


def test_an_absent_class_is_unknown_and_not_zero() -> None:
    decoded, targets = _made(2)
    targets[targets[..., 4] == 2] = [0, 0, 0, 0, -1, 0]
    each = average_precisions(ranked(rows_of(decoded, targets, CLASSES)))
    assert np.isnan(each[2]).all()
    assert mean_of_known(each) == pytest.approx(coco_metrics(decoded, targets, CLASSES)["map"], abs=1e-6)


def test_the_threshold_has_the_best_f1() -> None:
    rows = rows_of(*_made(3), CLASSES)

    def f1(threshold: float) -> float:
        counts, _ = counts_of(rows, threshold)
        hits, wrong, missed = (part.sum() for part in counts)
        return float(2 * hits / (2 * hits + wrong + missed))

    best = f1(best_threshold(rows))
    assert best == pytest.approx(max(f1(k / 40 + 0.01) for k in range(40)))


def test_counts_of_images_with_thresholds_of_their_own_are_those_of_each_part() -> None:
    decoded, targets = _made(3)
    limits = np.where(np.arange(len(decoded)) % 2, 0.3, 0.7)
    each, by_class = counts_of(rows_of(decoded, targets, CLASSES), limits)
    for k, threshold in enumerate((0.7, 0.3)):
        part, _ = counts_of(rows_of(decoded[k::2], targets[k::2], CLASSES), threshold)
        for all_hits, hits in zip(each, part, strict=True):
            assert np.array_equal(all_hits[k::2], hits)
    assert by_class.sum() == sum(part.sum() for part in each)


def test_mistakes_are_sorted() -> None:
    targets = np.full((1, 4, 6), -1.0, np.float32)
    targets[0, :, 4] = -1
    targets[0, :3] = [[0, 0, 10, 10, 0, 0], [20, 0, 30, 10, 1, 0], [40, 0, 50, 10, 0, 0]]
    decoded = np.zeros((1, 100, 6), np.float32)
    decoded[..., 4] = -1
    decoded[0, :6] = [
        [0, 0, 10, 10, 0, 0.9],  # right
        [0, 0, 10, 9, 0, 0.8],  # a duplicate
        [20, 0, 30, 10, 0, 0.7],  # of another class
        [43, 3, 53, 13, 0, 0.6],  # badly placed
        [80, 80, 90, 90, 1, 0.5],  # nothing there
        [0, 0, 10, 9, 0, 0.1],  # below the threshold
    ]
    found = mistakes(decoded, targets, 2, 0.3)
    counts = {kind: one["count"] for kind, one in found.items()}
    assert counts == {"class": 1, "localization": 1, "both": 0, "duplicate": 1, "background": 1, "missed": 0}
    assert all(found[kind]["gain"] >= 0 for kind in found)
    assert found["class"]["gain"] > found["background"]["gain"]
    nothing = mistakes(decoded, targets, 2, 0.95)
    assert nothing["missed"] == {"count": 3, "gain": None}, "without them no object is left"
