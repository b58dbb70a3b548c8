"""Images that something else lies on: a blank, or fragments of other images around the middle."""

from __future__ import annotations

import math

import numpy as np
import torch

from striate.evaluation.robustness.draws import Draws

_FRAGMENT = 5
"""A fragment's sides are this part of the image's."""


def occlude(images: torch.Tensor, percent: float, draws: Draws) -> torch.Tensor:
    """A rectangle of the image's own mean color, as wide to high as the image, lies on so much of its area."""
    share, sides = math.sqrt(percent / 100), images.shape[2:]
    inside = []
    for drawn, side in zip(torch.from_numpy(draws.uniform(2)).T, sides, strict=True):
        length = max(1, round(share * side))
        first = (drawn * (side - length + 1)).long()[:, None]
        places = torch.arange(side)[None]
        inside.append((places >= first) & (places < first + length))
    covered = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    mean = images.float().mean((2, 3), keepdim=True).round().to(torch.uint8)
    return torch.where(covered, mean, images)


def clutter(images: torch.Tensor, fragments: float, draws: Draws) -> torch.Tensor:
    """So many fragments of other images, each a fifth of the sides long, lie around the middle: their centers outside
    of the inner half of height and width. In the manner of the cluttered MNIST of V. Mnih et al., 2014."""
    count, (height, width) = int(fragments), images.shape[2:]
    lengths = [max(1, round(side / _FRAGMENT)) for side in (height, width)]
    # Five numbers a fragment, in its order: so a weaker strength has the first fragments of a stronger one.
    drawn = draws.uniform(5 * count).reshape(len(images), count, 5)
    others = (draws.places[:, None] + 1 + (drawn[..., 0] * max(1, len(draws.pool) - 1)).astype(np.int64)) % len(
        draws.pool
    )
    cut = _firsts(drawn[..., 1:3], (height, width), lengths)
    put = np.clip(_around(drawn[..., 3:5], (height, width)) - np.array(lengths) / 2, 0, None).round().astype(np.int64)
    put = np.minimum(put, np.array([height, width]) - lengths)
    out, pool = images.clone().numpy(), draws.pool.numpy()
    for image in range(len(out)):
        for piece in range(count):
            (a, b), (c, d) = put[image, piece], cut[image, piece]
            source = pool[others[image, piece]]
            out[image, :, a : a + lengths[0], b : b + lengths[1]] = source[:, c : c + lengths[0], d : d + lengths[1]]
    return torch.from_numpy(out)


def _firsts(drawn: np.ndarray, sides: tuple[int, int], lengths: list[int]) -> np.ndarray:
    """Where pieces of these lengths begin, anywhere inside."""
    first: np.ndarray = (drawn * (np.array(sides) - lengths + 1)).astype(np.int64)
    return first


def _around(drawn: np.ndarray, sides: tuple[int, int]) -> np.ndarray:
    """Points evenly spread over the frame around the inner half of both sides."""
    angle = math.tau * drawn[..., 0]
    way = np.stack([np.sin(angle), np.cos(angle)], axis=-1)
    way /= np.abs(way).max(-1, keepdims=True)
    reach = np.sqrt(0.25 + 0.75 * drawn[..., 1])[..., None]
    points: np.ndarray = (1 + reach * way) * np.array(sides) / 2
    return points
