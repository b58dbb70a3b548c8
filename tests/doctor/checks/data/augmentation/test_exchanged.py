"""Flips and rotations of training images that turn one class into another."""

from __future__ import annotations

import pytest
import torch

from striate.doctor.checks.data.augmentation.exchanged import change_places, moved_back
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.simple_models import fit_simple_models


@pytest.mark.parametrize("flips", [True, False])
def test_samples_that_look_like_another_class_until_they_are_flipped_back(flips: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = torch.zeros(2, 1, 8, 8)
    shapes[0, :, :, :3] = 1.0  # a bar at the left, and one at the right
    shapes[1, :, :, 5:] = 1.0
    labels = torch.arange(400) % 2
    x = shapes[labels] + 0.3 * torch.randn(400, 1, 8, 8, generator=generator)
    shown = x.clone()
    if flips:
        shown[:100] = shown[:100].flip(-1)
    found = moved_back(fit_simple_models(x, labels, Clock(30.0)), shown, labels)
    assert found == (("flipped left to right", 0, 1) if flips else None)


@pytest.mark.parametrize(("axis", "exchanged"), [(-1, True), (-2, False)])
def test_two_classes_that_change_places_among_classes_that_no_model_tells(axis: int, exchanged: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = torch.zeros(6, 1, 8, 8)
    shapes[0, :, :, :3] = 1.0  # a bar at the left, and one at the right; the others are all the same
    shapes[1, :, :, 5:] = 1.0
    labels = torch.arange(600) % 6
    x = shapes[labels] + 0.5 * torch.randn(600, 1, 8, 8, generator=generator)
    plain = fit_simple_models(x, labels, Clock(30.0))
    assert max(plain.accuracy(name) for name in plain.out_of_fold) < 0.7
    said = {name: plain.predict(x[plain.rows].flip(axis), name) for name in plain.out_of_fold}
    assert change_places(plain, said) == ((0, 1) if exchanged else None)
