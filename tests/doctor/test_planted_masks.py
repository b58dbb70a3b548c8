"""Faults planted into maps of classes are named, and their healthy twin is left in peace."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import striate
from striate.doctor.evidence.simple_models import class_separation, match_own_maps


def shapes(count: int, seed: int, side: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    """Disks (1) and squares (2) on noise; the frame is not labeled (255)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    images = rng.normal(0, 0.3, (count, 3, side, side)).astype(np.float32)
    maps = np.zeros((count, side, side), np.int64)
    for image, classes in zip(images, maps, strict=True):
        row, column = rng.integers(3, side - 3, 2)
        disk = np.hypot(y - row, x - column) < 3.5
        row, column = rng.integers(3, side - 3, 2)
        square = np.maximum(abs(y - row), abs(x - column)) < 3
        image[0, disk] += 2
        image[0, square] = 0
        image[2, square] += 2
        classes[disk], classes[square] = 1, 2
    maps[:, 0] = 255
    return torch.from_numpy(images), torch.from_numpy(maps)


def diagnosed(train: tuple[torch.Tensor, torch.Tensor], val: tuple[torch.Tensor, torch.Tensor]) -> striate.Diagnosis:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1)
    )
    found = striate.diagnose(model, train, val, task="segment", budget_seconds=20)
    failed = {code: why for code, why in found.skipped.items() if "failed" in why}
    assert not failed, failed
    return found


def faults(found: striate.Diagnosis) -> list[str]:
    return [finding.code for finding in found.findings if finding.severity == "error"]


@pytest.mark.slow
def test_the_healthy_twin_has_no_error_and_says_what_was_not_asked() -> None:
    found = diagnosed(shapes(100, 0), shapes(40, 1))
    assert faults(found) == []
    assert "a class number for each position" in found.skipped["data.label-noise"]
    assert {"data.labels-random", "data.missing-class", "data.label-range"} <= set(found.looked_at)


def test_classes_counted_from_one_are_out_of_range() -> None:
    parts = [shapes(100, 0), shapes(40, 1)]
    moved = [(x, torch.where(maps == 255, maps, maps + 1)) for x, maps in parts]
    found = diagnosed(*moved)
    assert faults(found)[0] == "data.label-range"


@pytest.mark.slow
def test_maps_of_the_background_alone_lack_classes() -> None:
    (x, maps), val = shapes(100, 0), shapes(40, 1)
    found = diagnosed((x, torch.where(maps == 255, maps, 0)), val)
    assert faults(found)[0] == "data.missing-class"
    assert "none is of class 1, 2" in found.findings[0].measured


@pytest.mark.slow
def test_maps_that_belong_to_other_images() -> None:
    (x, maps), val = shapes(100, 0), shapes(40, 1)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    found = diagnosed((x, maps[order]), val)
    assert faults(found)[0] == "data.labels-random"


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("seed", range(5))
def test_own_maps_fit_better_than_others_whatever_all_have_in_common(seed: int) -> None:
    x, maps = shapes(40, seed)
    maps = torch.where(maps == 255, -1, maps)
    own, others = class_separation(x, maps)
    assert own > 2 * max(others)
    own, others = class_separation(x, maps.roll(7, 0))
    assert own < 2 * max(others)
    assert match_own_maps(maps.clamp(min=0), maps)
    assert not match_own_maps(torch.zeros_like(maps), maps)
    assert class_separation(x, torch.zeros_like(maps)) == (0.0, [])


def test_a_task_without_known_targets_needs_a_loss() -> None:
    with pytest.raises(striate.StriateError, match="none of classify, regress, segment"):
        striate.diagnose(nn.Linear(2, 2), (torch.ones(8, 2), torch.ones(8, 2)), task="embed")
