"""Histograms of the directions of flow, against NumPy and against what they mean."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from striate.errors import ShapeError
from striate.layers.motion_histograms import MotionHistograms


def moving(right: float, down: float, size: int = 16) -> torch.Tensor:
    return torch.tensor([right, down], dtype=torch.float32).view(1, 2, 1, 1, 1).expand(1, 2, 3, size, size).contiguous()


def test_shares_are_those_of_numpy() -> None:
    x = torch.randn(2, 2, 3, 8, 8)
    right, down = x.double().numpy()[:, 0], x.double().numpy()[:, 1]
    speed, turns = np.hypot(right, down), np.arctan2(down, right) / (2 * np.pi) * 6
    expected = np.zeros((2, 6, 3))
    for number in range(6):
        apart = np.abs((turns - number + 3) % 6 - 3)
        expected[:, number] = (speed * np.maximum(0, 1 - apart)).mean((2, 3))
    expected /= expected.sum(1, keepdims=True) + 1e-3
    layer = MotionHistograms(6)
    found = layer(x)
    assert found.shape == (2, layer.channels, 3, 1, 1)
    assert np.allclose(found[:, :6, :, 0, 0], expected, atol=1e-5)
    entropy = -(expected * np.log(expected + 1e-6)).sum(1)
    assert np.allclose(found[:, 6, :, 0, 0], entropy, atol=1e-4)


def test_a_camera_that_turns_has_no_entropy_and_disorder_has_the_most() -> None:
    layer = MotionHistograms(4)
    turned = layer(moving(0, 2.0))[0, :, 0, 0, 0]
    assert turned[:4].argmax() == 1, "down"
    assert turned[4] < 0.01
    assert turned[6] == pytest.approx(math.log(2), abs=1e-3)
    every = torch.cat([moving(1, 0), moving(0, 1), moving(-1, 0), moving(0, -1)], 4)
    whole, local = layer(every)[0, 4:6, 0, 0, 0].tolist()
    assert whole == pytest.approx(math.log(4), abs=0.01)
    assert local < 0.02, "each part of the frame moves one way"


def test_what_stands_still_has_a_gradient() -> None:
    x = torch.zeros(1, 2, 2, 8, 8)
    x[0, 0, 0, 0, 0] = 1
    x.requires_grad_()
    MotionHistograms()(x).sum().backward()
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())
    with pytest.raises(ShapeError, match="motion to the right and down"):
        MotionHistograms()(torch.zeros(1, 3, 2, 8, 8))
