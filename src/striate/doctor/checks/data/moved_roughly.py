"""Masks that stay where their image is flipped and turned, and enlarged or cropped as well: seen in small copies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn.functional import adaptive_avg_pool2d, one_hot

from striate.doctor.setup.batch import leaves, main_tensor, parts

Move = Callable[[torch.Tensor], torch.Tensor]

_SIDE, _MOST_CLASSES = 8, 64
_CLEARLY, _ALIKE = 0.8, 0.8
"""Of the distance by the second nearest way, that by the nearest, in images and in masks; and the correlation of images
that are moved so."""
_FEWEST, _SHARE = 5, 0.4


def left_roughly(draws: Sequence[Sequence[Any]], moves: Mapping[str, Move]) -> tuple[str, int, int] | None:
    """Of draws of each of several samples: how images are moved most often where their masks stay, in how many pairs of
    draws they stay, and in how many they move with their images; None where that may be chance."""
    left, moved = Counter[str](), 0
    for first, *others in draws:
        mask = _mask(first)
        image = main_tensor(parts(first)[0])
        if mask is None or image is None:
            return None
        for draw in others:
            other, its_mask = main_tensor(parts(draw)[0]), _mask(draw)
            if other is None or its_mask is None or other.shape != image.shape or its_mask.shape != mask.shape:
                continue
            way = _way(_small(image), _small(other), moves)
            if way is None:
                continue
            classes = int(max(mask.max(), its_mask.max())) + 1
            before, after = _shares(mask, classes), _shares(its_mask, classes)
            stays = float((before - after).norm())
            moves_too = float((_all(moves)[way](before) - after).norm())
            if stays < _CLEARLY * moves_too:
                left[way] += 1
            elif moves_too < _CLEARLY * stays:
                moved += 1
    count = sum(left.values())
    return (left.most_common(1)[0][0], count, moved) if count >= max(_FEWEST, _SHARE * moved) else None


def _way(one: torch.Tensor, other: torch.Tensor, moves: Mapping[str, Move]) -> str | None:
    """How one image is moved to be like another, where one way and no other makes it so."""
    moved = {"": one} | {way: move(one) for way, move in _all(moves).items()}
    apart = {way: float((image - other).norm()) for way, image in moved.items()}
    best, second, *_ = sorted(apart, key=lambda way: apart[way])
    if not best or apart[best] > _CLEARLY * apart[second]:
        return None
    alike = float(torch.corrcoef(torch.stack([moved[best].flatten(), other.flatten()]))[0, 1])
    return best if alike >= _ALIKE else None


def _all(moves: Mapping[str, Move]) -> dict[str, Move]:
    other_diagonal = "rows and columns exchanged, and half a turn"
    return {**moves, other_diagonal: lambda image: image.rot90(2, (-2, -1)).transpose(-1, -2)}


def _mask(draw: Any) -> torch.Tensor | None:
    """The class numbers of pixels (H, W) of a sample."""
    image = main_tensor(parts(draw)[0])
    for _, tensor in leaves(draw) if image is not None and image.ndim == 3 else ():
        whole = not tensor.is_floating_point() and tensor.dtype != torch.bool and tensor is not image
        if whole and image is not None and tensor.squeeze().ndim == 2 and tensor.shape[-2:] == image.shape[-2:]:
            return tensor.squeeze().long() if bool(((tensor >= 0) & (tensor < _MOST_CLASSES)).all()) else None
    return None


def _small(image: torch.Tensor) -> torch.Tensor:
    values = image.double()
    return adaptive_avg_pool2d(values - values.mean((-1, -2), keepdim=True), _SIDE)


def _shares(mask: torch.Tensor, classes: int) -> torch.Tensor:
    return adaptive_avg_pool2d(one_hot(mask, classes).movedim(-1, 0).double(), _SIDE)
