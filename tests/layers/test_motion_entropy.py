"""The entropy of the directions of flow, against NumPy and against what it means."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from striate.errors import ShapeError
from striate.layers.motion_entropy import MotionEntropy


def moving(right: float, down: float, size: int = 16) -> torch.Tensor:
    motion = torch.tensor([right, down], dtype=torch.float32)
    return motion.view(1, 2, 1, 1, 1).expand(1, 2, 3, size, size).contiguous()


def test_it_is_that_of_numpy() -> None:
    x = torch.randn(2, 2, 3, 8, 8)
    right, down = x.double().numpy()[:, 0], x.double().numpy()[:, 1]
    speed, turns = np.hypot(right, down), np.arctan2(down, right) / (2 * np.pi) * 6
    shares = np.zeros((2, 6, 3))
    for number in range(6):
        apart = np.abs((turns - number + 3) % 6 - 3)
        shares[:, number] = (speed * np.maximum(0, 1 - apart)).mean((2, 3))
    shares /= shares.sum(1, keepdims=True) + 1e-3
    found = MotionEntropy(6)(x)
    assert found.shape == (2, 2, 3, 1, 1)
    assert np.allclose(found[:, 0, :, 0, 0], -(shares * np.log(shares + 1e-6)).sum(1), atol=1e-4)


def test_a_camera_that_turns_has_none_and_disorder_has_the_most() -> None:
    layer = MotionEntropy(4)
    assert float(layer(moving(0, 2)).max()) < 0.01
    every = torch.cat([moving(1, 0), moving(0, 1), moving(-1, 0), moving(0, -1)], 4)
    whole, local = layer(every)[0, :, 0, 0, 0].tolist()
    assert whole == pytest.approx(math.log(4), abs=0.01)
    assert local < 0.02, "each part of the frame moves one way"
    assert torch.allclose(layer(3 * every), layer(every), atol=0.01)


def test_what_stands_still_has_a_gradient() -> None:
    x = torch.zeros(1, 2, 2, 8, 8)
    x[0, 0, 0, 0, 0] = 1
    x.requires_grad_()
    MotionEntropy()(x).sum().backward()
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())
    with pytest.raises(ShapeError, match="motion to the right and down"):
        MotionEntropy()(torch.zeros(1, 3, 2, 8, 8))
