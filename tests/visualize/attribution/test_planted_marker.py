"""Where a marker alone decides the class, maps point at the marker."""

from __future__ import annotations

import pytest
import torch
from marked import MARKER, marked_digits, trained_on_markers
from torch import nn

from striate.models.preserved_state import on_trial
from striate.visualize.attribution.attribute import attribute
from striate.visualize.attribution.question import make_question

TOLERANCE = 1  # pixel; the pointing game of Zhang et al. (ECCV 2016) allows 15 of 224, which would be 2 of 32


def pointed(module: nn.Module, method: str, count: int, seed: int = 9) -> tuple[float, float]:
    """Of images that are answered right: the share whose map has its peak in the marker, and that is trusted."""
    x, y, places = marked_digits(count, seed)
    hits, trusted = [], []
    for image, label, (row, column) in zip(x, y.tolist(), places, strict=True):
        with on_trial(module):
            question = make_question(module, image[None])
            if question.target != label:
                continue
            found = attribute(question, method).chosen
        near = [
            first - TOLERANCE <= at < first + MARKER + TOLERANCE
            for at, first in zip(found.peak, (row, column), strict=True)
        ]
        hits.append(all(near))
        trusted.append(found.check.trusted)
    assert len(hits) > 0.9 * count, "the network has learned its task"
    return sum(hits) / len(hits), sum(trusted) / len(trusted)


@pytest.mark.slow
def test_maps_point_at_the_marker() -> None:
    module = trained_on_markers(0)
    with torch.random.fork_rng():
        assert min(pointed(module, "grad-cam", 25)) >= 0.95
        assert min(pointed(module, "auto", 4)) >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("method", "count"), [("grad-cam", 200), ("auto", 60)])
def test_maps_point_at_the_marker_in_nearly_all_images(seed: int, method: str, count: int) -> None:
    hits, trusted = pointed(trained_on_markers(seed, steps=150), method, count, seed=20 + seed)
    assert hits >= 0.95
    assert trusted >= 0.8
