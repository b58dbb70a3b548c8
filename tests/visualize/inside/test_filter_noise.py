"""Filters that look like noise say so; those with structure do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from striate.visualize.inside.filters import find_filters, noise_words


def bank_of(weights: np.ndarray) -> str:
    layer = nn.Conv2d(weights.shape[1], len(weights), weights.shape[2:])
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weights))
    return noise_words(find_filters(nn.Sequential(layer)))


@pytest.mark.parametrize("shape", [(32, 3, 3, 3), (16, 1, 5, 5), (64, 3, 7, 7)])
def test_weights_drawn_at_random_are_noise(shape: tuple[int, ...]) -> None:
    assert "look like noise" in bank_of(np.random.default_rng(0).normal(size=shape))


def test_edges_colors_and_checkerboards_are_none() -> None:
    made = np.random.default_rng(0)
    y, x = np.mgrid[-3:4, -3:4]
    angles = np.linspace(0, np.pi, 16)[:, None, None]
    edges = np.sin(x * np.cos(angles) + y * np.sin(angles)) * np.exp(-(x**2 + y**2) / 8)
    assert bank_of(np.repeat(edges[:, None], 3, 1) + 0.1 * made.normal(size=(16, 3, 7, 7))) == ""
    colors = made.normal(size=(16, 3, 1, 1)) + 0.3 * made.normal(size=(16, 3, 3, 3))
    assert bank_of(colors) == ""
    assert bank_of(np.repeat(((x + y) % 2 - 0.5)[None, None], 16, 0)) == ""


def test_too_few_to_tell_say_nothing() -> None:
    assert bank_of(np.random.default_rng(0).normal(size=(4, 1, 3, 3))) == ""
