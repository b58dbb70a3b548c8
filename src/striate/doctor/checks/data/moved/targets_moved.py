"""`data.targets-left-behind`: are masks and boxes flipped with their images?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.data import default_convert

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.moved.corners import corners_exchanged
from striate.doctor.checks.data.moved.mirrored_by_step import left_by_step
from striate.doctor.checks.data.moved.mirrored_numbers import kept_when_mirrored
from striate.doctor.checks.data.moved.moved_roughly import every_way, left_roughly
from striate.doctor.checks.data.moved.parts_apart import parts_apart
from striate.doctor.checks.data.moved.shifted_places import MOVED, TOLD, left_when_shifted
from striate.doctor.checks.data.moved.told_sides import sides_kept
from striate.doctor.checks.data.moved.turned_apart import turned_apart
from striate.doctor.checks.data.moved.words_dropped import FEWEST_KEPT, dropped_apart
from striate.doctor.checks.data.targets.keypoints import exchanged_sides
from striate.doctor.evidence.changed_by_asking import targets_changed_by_asking
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.reading import read_by_index
from striate.doctor.setup.batch import Path, leaves, main_tensor, parts
from striate.records import Finding
from striate.wording import several

_SAMPLES, _DRAWS = 24, 6
_SHOWN = 60
"""Letters of a text."""
_CLEARLY = 0.5
"""Of the distance to the second nearest, that to the nearest: so an input is known again."""
_FEWEST_LEFT, _OFTEN = 3, 0.5
_SMALLEST = 4
_LIKE = 0.3
"""Of the distance between two draws as they are: so near, they are flips of each other."""
_SIDES, _ENDS = "left and right exchanged", "top and bottom exchanged"
_BETWEEN = "Half of the targets are at positions without the object: the network learns the mean of both positions."
_STAYS = (
    f"{_FEWEST_LEFT} or more pairs of draws, one of them flipped or rotated, with a target that has a position in "
    "the image and never moves with it, or a map that moves in another way"
)
_ROUGHLY = (
    "five pairs of draws in which the image looks clearly more like a flipped one, whatever the shift, and the "
    "mask like an unflipped one, and less than 2.5 times as many in which both move"
)
_MOVES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    _SIDES: lambda image: image.flip(-1),
    _ENDS: lambda image: image.flip(-2),
    "rows and columns exchanged": lambda image: image.transpose(-1, -2),
    "a quarter turn": lambda image: image.rot90(1, (-2, -1)),
    "a quarter turn back": lambda image: image.rot90(-1, (-2, -1)),
    "half a turn": lambda image: image.rot90(2, (-2, -1)),
}


def _left_behind(evidence: Evidence) -> Iterator[Finding]:
    spoiled = targets_changed_by_asking(evidence.setup.train)
    if spoiled is not None and spoiled[0] >= _FEWEST_LEFT:
        yield _of_the_held(*spoiled)
        return
    if (cut := parts_apart(evidence)) is not None:
        yield _of_parts(cut)
        return
    with suppress(NoEvidence):
        if (kept := left_by_step(evidence)) is not None:
            yield _of_step(kept)
            return
    with suppress(NoEvidence):
        if (shifted := left_when_shifted(evidence)) is not None:
            yield _of_a_shift(*shifted)
            return
    with suppress(NoEvidence):
        kept_tags, lost = dropped_apart(evidence.setup.train, evidence.clock.until(0.05))
        if kept_tags >= FEWEST_KEPT and lost <= kept_tags / 10:
            yield _of_sequences(kept_tags)
            return
    with suppress(NoEvidence):
        if (masks := turned_apart(evidence, every_way(_MOVES))) is not None:
            yield _of_masks(*masks)
            return
    with suppress(NoEvidence):
        if (sides := sides_kept(evidence.setup.train)) is not None:
            yield _of_sides(*sides)
            return
    drawn = _drawn(evidence.setup.train)
    left, moved, flips = Counter[str](), Counter[str](), defaultdict[str, list[tuple[Any, Any]]](list)
    samples = _Samples()
    for draws in drawn:
        samples.note(draws[0])
    for draws in drawn:
        first, *images = (main_tensor(parts(draw)[0]) for draw in draws)
        assert first is not None
        for image, draw in zip(images, draws[1:], strict=True):
            way = None if image is None else _flipped(first, image)
            if way is None or image is None:
                continue
            flips[way].append((draws[0], draw))
            told = _targets_stay(draws[0], draw, first, way, samples)
            if told:
                left[way] += 1
            elif told is not None:
                moved[way] += 1
    still = [way for way in left if left[way] >= max(_FEWEST_LEFT, _OFTEN * moved[way])]
    roughly = None if still else left_roughly(drawn, _MOVES)
    if roughly is not None:
        still, left[roughly[0]], moved[roughly[0]] = [roughly[0]], *roughly[1:]
    if not still and corners_exchanged(drawn, drawn) >= _FEWEST_LEFT:
        known = drawn
        with suppress(NoEvidence):
            known = _drawn(evidence.setup.val)
        if (turned := corners_exchanged(drawn, known)) >= _FEWEST_LEFT:
            yield _of_corners(turned)
            return
    if not still:
        with suppress(NoEvidence):
            found = exchanged_sides(evidence, flips[_SIDES])
            found = (
                found or _numbers_kept(evidence, flips[_SIDES], _SIDES) or _numbers_kept(evidence, flips[_ENDS], _ENDS)
            )
            yield from [] if found is None else [found]
        return
    yield LEFT_BEHIND.finding(
        severity="error",
        where="the augmentation of the training data set",
        measured=f"in {several(left[still[0]], 'pair')} of draws of a sample, the second with {still[0]}, the mask, "
        f"box or points are the same in both{', or only shifted' if roughly else ''}{_and_moved(moved[still[0]])}",
        limit=_ROUGHLY if roughly else _STAYS,
        why=_BETWEEN,
        remedy="move targets with their images: `mask = mask.flip(-1)`, `box[[0, 2]] = width - box[[2, 0]]`, "
        "`points[:, 0] = width - points[:, 0]`",
    )


def _drawn(loader: Any) -> list[list[Any]]:
    """Several draws of each of some samples with an image. Raises NoEvidence where there are none."""
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


def _of_the_held(changed: int, asked: int) -> Finding:
    return LEFT_BEHIND.finding(
        severity="error",
        where="the training data set",
        measured="reading samples changes their stored targets, while the images stay the same: this happens to "
        f"{changed} of {several(asked, 'sample')}",
        limit=f"{_FEWEST_LEFT} stored targets that change when samples are read, while their images stay the same",
        why="A target that is moved in place stays moved: later draws show the image unmoved, or move the target "
        "once more.",
        remedy="move a copy: `points = self.points[index].copy()`, or `copy.deepcopy(record)` for a record with arrays",
    )


def _of_step(measured: str) -> Finding:
    return LEFT_BEHIND.finding(
        severity="error",
        where="the training step",
        measured=measured,
        limit="maps, or numbers that change sign with the image, that stay the same in eight or more samples that "
        "the step mirrors, and in nine of ten",
        why=_BETWEEN,
        remedy="move targets with their images: `masks = masks.flip(-1)`, "
        "`boxes[:, [0, 2]] = width - boxes[:, [2, 0]]`, `points[:, 0] = width - points[:, 0]`",
    )


def _of_a_shift(who: str, measured: str) -> Finding:
    return LEFT_BEHIND.finding(
        severity="error",
        where=f"the {who}",
        measured=measured,
        limit="inputs shifted in three pairs and a third of all, while targets along their axis stay; predictions "
        f"of a ridge regression for shifted validation correlate by {TOLD:g} with targets that move along, and by "
        f"{MOVED:g} less with targets that stay",
        why="Targets and inputs are at different positions: most targets belong to other inputs.",
        remedy="move targets with their inputs, by the same number of their own positions: `x, y = x.roll(shift * "
        "bins_per_place, -1), y.roll(shift, -1)`",
    )


def _of_sequences(kept: int) -> Finding:
    return LEFT_BEHIND.finding(
        severity="error",
        where="the augmentation of the training data set",
        measured=f"in draws of {several(kept, 'sample')} elements of the input are left out, and the targets stay at "
        "their positions: all behind the first one left out belong to other elements",
        limit=f"draws of {FEWEST_KEPT} samples and of nine in ten in which elements of the input are left out, and the "
        "targets are the same position by position, but not element by element",
        why="Most targets of such a sequence belong to other elements.",
        remedy="leave out both: `words, tags = [words[i] for i in kept], [tags[i] for i in kept]`",
    )


def _of_parts(count: str) -> Finding:
    return LEFT_BEHIND.finding(
        severity="error",
        where="the training data set",
        measured=f"in {count} the target, downscaled to the size of the input, matches it only after a shift",
        limit="targets a whole number of times as large as their inputs, which match them only after a shift, in "
        "40 % of the pairs",
        why="Input and target show different parts of the image: the input does not show what the target asks for.",
        remedy="positions in the large image are those in the small one times the scale: `large[:, scale * top :, "
        "scale * left :]` beside `small[:, top:, left:]`",
    )


def _of_sides(kept: int, text: str) -> Finding:
    said = text if len(text) <= _SHOWN else f"{text[:_SHOWN]} …"
    return LEFT_BEHIND.finding(
        severity="error",
        where="the augmentation of the training data set",
        measured=f"{several(kept, 'sample')} whose texts name left or right are mirrored in some draws, and have the "
        f"same text in all of them, such as `{said}`",
        limit="3 samples that are mirrored in some draws, whose texts name left or right and stay the same; one text "
        "in 20 names them",
        why="In a mirrored image what was on the left is on the right: half of these texts are wrong.",
        remedy="do not mirror such samples, or exchange the words: `left` and `right`",
    )


def _of_masks(where: str, measured: str) -> Finding:
    return LEFT_BEHIND.finding(
        severity="error",
        where=where,
        measured=measured,
        limit="masks that fit brightness and texture twice as well if they are flipped or rotated",
        why="Each pixel gets the class of another position.",
        remedy="read images and masks with the same order of axes, and flip and rotate both: `image.transpose(2, "
        "0, 1)` turns (H, W, C) into (C, H, W)",
    )


def _of_corners(count: int) -> Finding:
    return LEFT_BEHIND.finding(
        severity="error",
        where="the augmentation of the training data set",
        measured=f"in {several(count, 'draw')} of samples the right edge of each box is left of its left edge, or "
        "the lower edge above the upper one, but not in other draws of the same samples",
        limit=f"{_FEWEST_LEFT} draws with exchanged box edges, which are not exchanged in other draws of the same "
        "sample",
        why="A flip also exchanges the edges of a box. Otherwise its width is negative, and no prediction overlaps it.",
        remedy="exchange the edges when they are mirrored: `box[[0, 2]] = width - box[[2, 0]]`",
    )


def _numbers_kept(evidence: Evidence, flips: list[tuple[Any, Any]], way: str) -> Finding | None:
    kept = kept_when_mirrored(evidence, flips, -1 if way == _SIDES else -2)
    if kept is None:
        return None
    same, told, turned = kept
    return LEFT_BEHIND.finding(
        severity="error",
        where="the augmentation of the training data set",
        measured=f"in {several(same, 'pair')} of draws of a sample, the second with {way}, a number of the target "
        f"is the same in both; predictions of a ridge regression for new images correlate by {told:.2f} with it, "
        f"and by {turned:.2f} for mirrored images",
        limit="a number, of at most 32, that stays the same in three pairs and half of all, and that a simple "
        "model predicts in validation, with the opposite sign for mirrored images",
        why="A position or an angle changes in a mirrored image: half of the targets are wrong.",
        remedy="`points[:, 0] = width - points[:, 0]`, `angle = -angle` with each flip; or do not flip",
    )


def _and_moved(count: int) -> str:
    return f"; in {several(count, 'other')} they move: images and targets are flipped independently" if count else ""


def _flipped(one: torch.Tensor, other: torch.Tensor) -> str | None:
    """How one draw of an image is moved to be the other, where it is."""
    if one.shape != other.shape:
        return None
    apart = float((one.double() - other.double()).norm())
    for way, move in _MOVES.items():
        moved = move(one.double())
        if apart > 0 and moved.shape == other.shape and float((moved - other.double()).norm()) < _LIKE * apart:
            return way
    return None


def _as_maps(target: torch.Tensor) -> list[torch.Tensor]:
    """A target (…, H, W), and with other axes of the same sizes last: of (anchors, 6, 6, 6) the last may hold the
    numbers of each cell of a grid."""
    pairs = [(axis, axis + 1) for axis in range(target.ndim - 1)]
    return [
        target.movedim(pair, (-2, -1))
        for pair in pairs
        if [target.shape[axis] for axis in pair] == list(target.shape[-2:])
    ]


def _moves_otherwise(before: torch.Tensor, after: torch.Tensor, image: torch.Tensor, way: str) -> bool:
    """Whether maps, all channels together, since a flip may exchange them, are moved in one of the other ways, which no
    symmetry of the image makes the same."""
    flat, its = (part.double().reshape(-1, *part.shape[-2:]).sum(0) for part in (before, after))
    shown = image.double()
    moved = _MOVES[way](shown)

    def far(one: torch.Tensor, other: torch.Tensor, unit: torch.Tensor) -> bool:
        return one.shape != other.shape or float((one - other).norm()) > _CLEARLY * float((unit - other).norm())

    return far(_MOVES[way](flat), its, flat) and any(
        not far(move(flat), its, flat) and far(move(shown), moved, shown)
        for other, move in _MOVES.items()
        if other != way
    )


@dataclass
class _Samples:
    """Where samples have tensors that differ from sample to sample, or are no corners in some. `first`: those of the
    first one."""

    first: dict[Path, torch.Tensor] = field(default_factory=dict)
    differing: set[Path] = field(default_factory=set)
    no_corners: set[Path] = field(default_factory=set)

    def note(self, sample: Any) -> None:
        for path, tensor in leaves(sample):
            known = self.first.setdefault(path, tensor)
            if known.shape != tensor.shape or not torch.equal(known, tensor):
                self.differing.add(path)
            if tensor.numel() and not _in_order(tensor):
                self.no_corners.add(path)

    def is_smaller(self, path: Path, tensor: torch.Tensor, image: torch.Tensor) -> bool:
        """Whether it is a map of the image with fewer pixels, as a heat map, that says something of this sample."""
        (high, wide), (height, width) = tensor.shape[-2:], image.shape[-2:]
        return path in self.differing and high * width == wide * height and _SMALLEST <= high < height


def _targets_stay(one: Any, other: Any, image: torch.Tensor, way: str, samples: _Samples) -> bool | None:
    """Whether what has a place in the image is equal in two draws that are moved, or a map moves in another way; None
    where nothing has a place, or where it looks the same when moved."""
    move, stays = _MOVES[way], None
    pairs = list(zip(leaves(one), leaves(other), strict=False))
    for (path, before), (_, after) in pairs:
        if before is image or before.shape != after.shape or torch.equal(before, image):
            continue
        if before.ndim >= 2 and (before.shape[-2:] == image.shape[-2:] or samples.is_smaller(path, before, image)):
            if stays is None and not torch.equal(before, move(before)):
                # Contours that are drawn into it afterwards need not lie where those of the other one are moved to.
                return torch.equal(before, after) or all(
                    _moves_otherwise(one_map, its_map, image, way)
                    for one_map, its_map in zip(_as_maps(before), _as_maps(after), strict=True)
                )
        elif before.is_floating_point() and _is_place(path, before, image, samples):
            if not torch.equal(before, after):
                return False  # what stays beside it are weights of points, or areas of boxes
            stays = True
    return stays


def _is_place(path: Path, target: torch.Tensor, image: torch.Tensor, samples: _Samples) -> bool:
    """Whether numbers are corners of boxes or points: by their key, or as corners in order and within the image, as
    they are in all samples."""
    key = str(path[-1]).lower()
    if any(word in key for word in ("box", "point", "joint", "landmark")):
        center = (target.max() + target.min()) / 2
        return bool((target - center).abs().max() > 0)
    if path in samples.no_corners or not _in_order(target):
        return False
    corners = target.reshape(-1, 4)
    width = 1.0 if float(corners.max()) <= 1 else float(image.shape[-1])
    return bool((corners <= max(image.shape)).all()) and bool(
        ((corners[:, 0] + corners[:, 2] - width).abs() > 1e-3 * width).any()
    )


def _in_order(target: torch.Tensor) -> bool:
    """Whether all rows of four may be corners of boxes."""
    rows = target.reshape(-1, 4) if target.shape[-1:] == (4,) else target.new_empty(0, 4)
    return bool(len(rows)) and bool((rows[:, :2] < rows[:, 2:]).all()) and bool((rows >= 0).all())


LEFT_BEHIND = Check(
    codes=("data.targets-left-behind",),
    question="Are masks, boxes, points and positions moved together with their inputs?",
    run=_left_behind,
    explains="data.label-noise data.labels-random data.augmentation fit.*",
)
