"""Masks that stay while their image is flipped or rotated, and also enlarged, cropped or shifted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn.functional import adaptive_avg_pool2d, one_hot

from striate.doctor.checks.data.moved.moves import EVERY_WAY, Move
from striate.doctor.evidence.nearness import correlation_by_shift
from striate.doctor.setup.batch import leaves, main_tensor, parts

_SIDE, _MOST_CLASSES = 8, 64
_CLEARLY, _ALIKE = 0.8, 0.8
"""The largest ratio of the distance after the best move to that after the second best, in images and in masks; and the
least correlation of images after the best move."""
_FEWEST, _SHARE = 5, 0.4
_MOST_SIDE, _AS_LIKELY, _SAME, _OTHER = 48, 0.05, 0.8, 0.2
"""The most pixels of a side; and correlations: how far a likely move may be below the best one, the least of a mask
that is only shifted, and by how much its correlation is lower after the move of its image."""


def left_roughly(draws: Sequence[Sequence[Any]]) -> tuple[str, int, int] | None:
    """The most frequent move of images whose masks stay, and the numbers of pairs of draws in which masks stay and in
    which they move with their images; None if that may be chance. `draws`: several draws of each sample."""
    pairs = list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]]()
    for first, *others in draws:
        mask, image = _mask(first), main_tensor(parts(first)[0])
        if mask is None or image is None:
            return None
        for draw in others:
            other, its_mask = main_tensor(parts(draw)[0]), _mask(draw)
            if (
                other is not None
                and its_mask is not None
                and (other.shape, its_mask.shape) == (image.shape, mask.shape)
            ):
                pairs.append((image, other, mask, its_mask))
    for compare in (_in_small_copies, _over_shifts):
        left, moved = Counter[str](), 0
        for pair in pairs:
            way, stays = compare(*pair)
            left[way] += stays is True
            moved += stays is False
        count = sum(left.values())
        if count >= max(_FEWEST, _SHARE * moved):
            return left.most_common(1)[0][0], count, moved
    return None


def _in_small_copies(
    image: torch.Tensor, other: torch.Tensor, mask: torch.Tensor, its_mask: torch.Tensor
) -> tuple[str, bool | None]:
    """The move between both images, and whether the mask stays (None where unknown), by small copies of both."""
    way = _move_between(_small_copy(image), _small_copy(other))
    if way is None:
        return "", None
    classes = int(max(mask.max(), its_mask.max())) + 1
    before, after = _class_shares(mask, classes), _class_shares(its_mask, classes)
    stays = float((before - after).norm())
    moves_too = float((EVERY_WAY[way](before) - after).norm())
    return way, True if stays < _CLEARLY * moves_too else False if moves_too < _CLEARLY * stays else None


def _over_shifts(
    image: torch.Tensor, other: torch.Tensor, mask: torch.Tensor, its_mask: torch.Tensor
) -> tuple[str, bool | None]:
    """The same if images and masks are also shifted: compares every move and shift."""
    classes, side = int(max(mask.max(), its_mask.max())) + 1, min(_MOST_SIDE, *image.shape[-2:])
    ways: Mapping[str, Move] = {"": lambda image: image, **EVERY_WAY}

    def by_shift(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return correlation_by_shift(torch.stack([move(one) for move in ways.values()]), other[None])

    seen = by_shift(_small_copy(image, side), _small_copy(other, side))
    likely = seen > seen.max() - _AS_LIKELY
    if float(seen.max()) < _ALIKE or bool(likely[0].any()):
        return "", None
    known = by_shift(_class_shares(mask, classes, side), _class_shares(its_mask, classes, side))
    there, kept = float(known[likely].max()), float(known[0].max())
    stays = True if kept > _SAME and there < kept - _OTHER else False if there > known.max() - _AS_LIKELY else None
    return list(ways)[int(seen.flatten(1).amax(1).argmax())], stays


def _move_between(one: torch.Tensor, other: torch.Tensor) -> str | None:
    """The move that turns one image into another, if exactly one does."""
    moved = {"": one} | {way: move(one) for way, move in EVERY_WAY.items()}
    apart = {way: float((image - other).norm()) for way, image in moved.items()}
    best, second, *_ = sorted(apart, key=lambda way: apart[way])
    if not best or apart[best] > _CLEARLY * apart[second]:
        return None
    alike = float(torch.corrcoef(torch.stack([moved[best].flatten(), other.flatten()]))[0, 1])
    return best if alike >= _ALIKE else None


def _mask(draw: Any) -> torch.Tensor | None:
    """The class map (H, W) of a sample, with -1 for pixels without a class; None if it has none."""
    image = main_tensor(parts(draw)[0])
    for _, tensor in leaves(draw) if image is not None and image.ndim == 3 else ():
        whole = not tensor.is_floating_point() and tensor.dtype != torch.bool and tensor is not image
        if whole and image is not None and tensor.squeeze().ndim == 2 and tensor.shape[-2:] == image.shape[-2:]:
            known = (tensor >= 0) & (tensor < _MOST_CLASSES)
            of_classes = bool(known.any()) and len(tensor[~known].unique()) <= 1
            return tensor.long().where(known, -1).squeeze() if of_classes else None
    return None


def _small_copy(image: torch.Tensor, side: int = _SIDE) -> torch.Tensor:
    values = image.double()
    return adaptive_avg_pool2d(values - values.mean((-1, -2), keepdim=True), side)


def _class_shares(mask: torch.Tensor, classes: int, side: int = _SIDE) -> torch.Tensor:
    """The share of each class (classes, side, side); zeros where pixels have no class."""
    return adaptive_avg_pool2d(one_hot(mask + 1, classes + 1)[..., 1:].movedim(-1, 0).double(), side)
