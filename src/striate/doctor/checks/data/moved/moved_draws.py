"""Draws of the same samples, compared: do masks, boxes and points move where images are flipped or rotated?"""

from __future__ import annotations

from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.data import default_convert

from striate.doctor.checks.data.moved.corners import left_of_corners
from striate.doctor.checks.data.moved.left_behind import AUGMENTATION, BETWEEN, FEWEST_LEFT, left_behind
from striate.doctor.checks.data.moved.mirrored_numbers import left_of_numbers
from striate.doctor.checks.data.moved.moved_roughly import left_roughly
from striate.doctor.checks.data.moved.moves import MOVES, SIDES
from striate.doctor.checks.data.moved.named_sides import draws_of_labels, left_of_names
from striate.doctor.checks.data.moved.points_exchanged import left_of_points
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.read_batches import read_by_index
from striate.doctor.setup.batch import Path, leaves, main_tensor, parts
from striate.records import Finding
from striate.wording import several

_SAMPLES, _DRAWS = 24, 6
_CLEARLY = 0.5
"""The largest ratio of the distance to the nearest input to that to the second nearest, for an identified input."""
_OFTEN = 0.5
_SMALLEST = 4
_LIKE = 0.3
"""The largest distance of a flipped draw to another, as a share of that of the unflipped draws."""


def left_in_draws(evidence: Evidence) -> Finding | None:
    """A finding if targets stay in pairs of draws of a sample whose images are flipped or rotated; else None. Raises
    NoEvidence if there are no images that can be read again."""
    drawn = _read_draws(evidence.setup.train)
    left, moved, flips = Counter[str](), Counter[str](), defaultdict[str, list[tuple[Any, Any]]](list)
    samples = _Samples()
    for draws in drawn:
        samples.note(draws[0])
    for draws in drawn:
        first, *images = (main_tensor(parts(draw)[0]) for draw in draws)
        assert first is not None
        for image, draw in zip(images, draws[1:], strict=True):
            way = None if image is None else _move_between(first, image)
            if way is None or image is None:
                continue
            flips[way].append((draws[0], draw))
            stays = _targets_stay(draws[0], draw, first, way, samples)
            if stays:
                left[way] += 1
            elif stays is not None:
                moved[way] += 1
    for way, count in left.items():
        if count >= max(FEWEST_LEFT, _OFTEN * moved[way]):
            limit = (
                f"{FEWEST_LEFT} or more pairs of draws, one of them flipped or rotated, with a target that has a "
                "position in the image and never moves with it, or a map that moves in another way"
            )
            return _finding(way, count, moved[way], "are the same in both", limit)
    if (roughly := left_roughly(drawn)) is not None:
        limit = (
            "five pairs of draws whose images match best if one is flipped, whatever the shift, but whose masks match "
            "best unflipped, and at most 2.5 times as many in which both move"
        )
        return _finding(*roughly, "are the same in both, or only shifted", limit)
    if (corners := left_of_corners(drawn, lambda: _read_draws(evidence.setup.val))) is not None:
        return corners
    if (named := left_of_names(evidence, draws_of_labels(drawn), AUGMENTATION)) is not None:
        return named
    with suppress(NoEvidence):
        return left_of_points(evidence, flips[SIDES]) or left_of_numbers(evidence, flips)
    return None


def _finding(way: str, count: int, moved: int, how: str, limit: str) -> Finding:
    also = f"; in {several(moved, 'other')} they move: images and targets are flipped independently" if moved else ""
    return left_behind(
        AUGMENTATION,
        f"in {several(count, 'pair')} of draws of a sample, the second with {way}, the mask, box or points {how}{also}",
        limit,
        BETWEEN,
        "move targets with their images: `mask = mask.flip(-1)`, `box[[0, 2]] = width - box[[2, 0]]`, "
        "`points[:, 0] = width - points[:, 0]`",
    )


def _read_draws(loader: Any) -> list[list[Any]]:
    """Several draws of each of some samples with an image. Raises NoEvidence if there are none."""
    data = read_by_index(loader)
    drawn = list[list[Any]]()
    for number in range(min(_SAMPLES, len(data))):
        try:
            drawn.append([default_convert(data[number]) for _ in range(_DRAWS)])
        except Exception as error:  # a data set of the user's
            raise NoEvidence(f"the data set raises {type(error).__name__} when a sample is read") from None
        first = main_tensor(parts(drawn[-1][0])[0])
        if first is None or first.ndim != 3:
            raise NoEvidence("the samples are not images")
    return drawn


def _move_between(one: torch.Tensor, other: torch.Tensor) -> str | None:
    """The move that turns one draw of an image into the other, if any."""
    if one.shape != other.shape:
        return None
    apart = float((one.double() - other.double()).norm())
    for way, move in MOVES.items():
        moved = move(one.double())
        if apart > 0 and moved.shape == other.shape and float((moved - other.double()).norm()) < _LIKE * apart:
            return way
    return None


def _as_maps(target: torch.Tensor) -> list[torch.Tensor]:
    """A target (…, H, W), in each order in which axes of the sizes H and W are last: of (anchors, 6, 6, 6), the last
    axis may hold the numbers of a cell."""
    pairs = [(axis, axis + 1) for axis in range(target.ndim - 1)]
    return [
        target.movedim(pair, (-2, -1))
        for pair in pairs
        if [target.shape[axis] for axis in pair] == list(target.shape[-2:])
    ]


def _moves_differently(before: torch.Tensor, after: torch.Tensor, image: torch.Tensor, way: str) -> bool:
    """Whether maps are moved differently from their image, unless a symmetry of the image makes both moves equal.
    Channels are summed, since a flip may exchange them."""
    flat, its = (part.double().reshape(-1, *part.shape[-2:]).sum(0) for part in (before, after))
    shown = image.double()
    moved = MOVES[way](shown)

    def far(one: torch.Tensor, other: torch.Tensor, unit: torch.Tensor) -> bool:
        return one.shape != other.shape or float((one - other).norm()) > _CLEARLY * float((unit - other).norm())

    return far(MOVES[way](flat), its, flat) and any(
        not far(move(flat), its, flat) and far(move(shown), moved, shown)
        for other, move in MOVES.items()
        if other != way
    )


@dataclass
class _Samples:
    """What the tensors of samples have in common, by path."""

    first: dict[Path, torch.Tensor] = field(default_factory=dict)
    """Tensors of the first sample."""
    differing: set[Path] = field(default_factory=set)
    """Where tensors differ between samples."""
    no_corners: set[Path] = field(default_factory=set)
    """Where some tensor cannot be corners of boxes."""

    def note(self, sample: Any) -> None:
        for path, tensor in leaves(sample):
            known = self.first.setdefault(path, tensor)
            if known.shape != tensor.shape or not torch.equal(known, tensor):
                self.differing.add(path)
            if tensor.numel() and not _may_be_corners(tensor):
                self.no_corners.add(path)

    def is_smaller(self, path: Path, tensor: torch.Tensor, image: torch.Tensor) -> bool:
        """Whether a tensor is a smaller map of the image, such as a heat map, that differs between samples."""
        (high, wide), (height, width) = tensor.shape[-2:], image.shape[-2:]
        return path in self.differing and high * width == wide * height and _SMALLEST <= high < height


def _targets_stay(one: Any, other: Any, image: torch.Tensor, way: str, samples: _Samples) -> bool | None:
    """Whether targets with a position in the image are equal in two draws whose images are moved, or maps move
    differently; None if no target has a position, or if it looks the same when moved."""
    move, stays = MOVES[way], None
    pairs = list(zip(leaves(one), leaves(other), strict=False))
    for (path, before), (_, after) in pairs:
        if before is image or before.shape != after.shape or torch.equal(before, image):
            continue
        if before.ndim >= 2 and (before.shape[-2:] == image.shape[-2:] or samples.is_smaller(path, before, image)):
            if stays is None and not torch.equal(before, move(before)):
                # Contours that are drawn into a map afterwards need not match the moved contours of the other map.
                return torch.equal(before, after) or all(
                    _moves_differently(one_map, its_map, image, way)
                    for one_map, its_map in zip(_as_maps(before), _as_maps(after), strict=True)
                )
        elif before.is_floating_point() and _has_position(path, before, image, samples):
            if not torch.equal(before, after):
                return False  # tensors that stay are weights of points, or areas of boxes
            stays = True
    return stays


def _has_position(path: Path, target: torch.Tensor, image: torch.Tensor, samples: _Samples) -> bool:
    """Whether numbers are corners of boxes or points: by their key, or because they are ordered corners within the
    image in all samples."""
    key = str(path[-1]).lower()
    if any(word in key for word in ("box", "point", "joint", "landmark")):
        center = (target.max() + target.min()) / 2
        return bool((target - center).abs().max() > 0)
    if path in samples.no_corners or not _may_be_corners(target):
        return False
    corners = target.reshape(-1, 4)
    width = 1.0 if float(corners.max()) <= 1 else float(image.shape[-1])
    return bool((corners <= max(image.shape)).all()) and bool(
        ((corners[:, 0] + corners[:, 2] - width).abs() > 1e-3 * width).any()
    )


def _may_be_corners(target: torch.Tensor) -> bool:
    """Whether all rows of four numbers may be corners of boxes."""
    rows = target.reshape(-1, 4) if target.shape[-1:] == (4,) else target.new_empty(0, 4)
    return bool(len(rows)) and bool((rows[:, :2] < rows[:, 2:]).all()) and bool((rows >= 0).all())
