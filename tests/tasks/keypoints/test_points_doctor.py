"""What predicted points say against a network, and that healthy ones say nothing."""

from __future__ import annotations

import numpy as np

from striate.tasks.evaluation import Evaluation
from striate.tasks.keypoints.task import Keypoints

TASK = Keypoints(("left", "right", "nose"), (60, 60), 0.4, pairs=(1, 0, 2))
SHAPE = np.array([[-0.2, -0.1], [0.2, -0.1], [0.0, 0.1]])


def truth(count: int = 40) -> np.ndarray:
    """(N, 3, 4) faces at other places in each image."""
    places = SHAPE + np.random.default_rng(0).uniform(-0.6, 0.6, (count, 1, 2))
    return np.concatenate([places, np.full_like(places, 30.0)], 2)


def codes(places: np.ndarray, targets: np.ndarray) -> list[str]:
    decoded = np.concatenate([places, np.full((*places.shape[:2], 1), 0.9)], 2)
    ids = np.arange(len(targets))
    found = Evaluation("made", "test", "keypoints", (), len(targets), {"nme": 0.1}, decoded, targets, ids)
    return [finding.code for finding in TASK.prediction_findings(found)]


def test_points_that_fit_have_nothing() -> None:
    targets = truth()
    assert codes(targets[..., :2] + np.random.default_rng(1).normal(0, 0.01, (40, 3, 2)), targets) == []


def test_left_and_right_that_were_not_exchanged_in_mirrored_images_are_told() -> None:
    targets = truth()
    places = targets[..., :2].copy()
    places[::4] = places[::4][:, [1, 0, 2]]
    assert codes(places, targets) == ["fit.sides-exchanged"]


def test_the_same_places_in_every_image_are_told() -> None:
    targets = truth()
    mean = np.broadcast_to(targets[..., :2].mean(0), (40, 3, 2))
    assert codes(mean, targets) == ["fit.points-still"]
