"""`data.targets-left-behind`: are masks and boxes flipped with their images? `data.step-labels`: does the step give the
loss the labels of the inputs that the network gets?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, default_convert

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.blends import (
    blended_batches,
    blended_by_loader,
    left_unblended,
    partners_named,
    swapped_shares,
)
from striate.doctor.checks.data.corners import corners_exchanged
from striate.doctor.checks.data.keypoints import exchanged_sides
from striate.doctor.checks.data.mirrored_by_step import left_by_step
from striate.doctor.checks.data.mirrored_numbers import kept_when_mirrored
from striate.doctor.checks.data.moved_roughly import every_way, left_roughly
from striate.doctor.checks.data.parts_apart import parts_apart
from striate.doctor.checks.data.rows_asked_for import (
    FEWEST_ASKED,
    MOST_RIGHT,
    rows_asked_for_others,
    rows_of_two_samples,
)
from striate.doctor.checks.data.shifted_places import MOVED, TOLD, left_when_shifted
from striate.doctor.checks.data.turned_apart import turned_apart
from striate.doctor.evidence.calls import LossCall, watch_calls
from striate.doctor.evidence.changed_by_asking import targets_changed_by_asking
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.batch import Path, leaf, leaves, main_tensor, parts
from striate.records import Finding
from striate.wording import several, show_shape

_SAMPLES, _DRAWS = 24, 6
_CLEARLY = 0.5
"""Of the distance to the second nearest, that to the nearest: so an input is known again."""
_TIE, _ALONE = 1e-6, 32
"""Numbers of outputs that are so far from each other, as a share of the largest, and how many are enough to follow."""
_FEWEST_BLENDED, _NAMED = 24, 0.6
"""Samples whose partner in a blend is known again, and of how many of them it has to be the one of the second label."""
_FEWEST_LEFT, _OFTEN = 3, 0.5
_LESS = 0.4
"""Of a blend: the other sample is more than half of it."""
_SMALLEST = 4
_LIKE = 0.3
"""Of the distance between two draws as they are: so near, they are flips of each other."""
_SIDES, _ENDS = "left and right exchanged", "top and bottom exchanged"
_BETWEEN = "Half of the targets lie where nothing of the object is: the network learns the mean of both places."
_STAYS = (
    f"{_FEWEST_LEFT} pairs of draws or more, one flipped or turned, with a target that has a place in the image and "
    "never moves with that, or a map that moves in another way"
)
_ROUGHLY = (
    "five pairs of draws in which the image looks clearly more like a flipped one, wherever it is shifted to, and the "
    "mask like one that is not, and less than 2.5 times as many in which both move"
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
        if (masks := turned_apart(evidence, every_way(_MOVES))) is not None:
            yield _of_masks(*masks)
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
        measured=f"in {several(left[still[0]], 'pair')} of draws of a sample, the second with {still[0]}, "
        f"the mask, box or points are the same in both{', or only shifted' if roughly else ''}"
        f"{_and_moved(moved[still[0]])}",
        limit=_ROUGHLY if roughly else _STAYS,
        why=_BETWEEN,
        remedy="move targets with their images: `mask = mask.flip(-1)`, `box[[0, 2]] = width - box[[2, 0]]`, "
        "`points[:, 0] = width - points[:, 0]`",
    )


def _drawn(loader: Any) -> list[list[Any]]:
    """Several draws of each of some samples with an image. Raises NoEvidence where there are none."""
    data = getattr(loader, "dataset", None)
    if not isinstance(loader, DataLoader) or isinstance(data, IterableDataset) or data is None:
        raise NoEvidence("the data set cannot be asked for a sample twice")
    drawn = list[list[Any]]()
    for number in range(min(_SAMPLES, len(data))):
        try:
            drawn.append([default_convert(data[number]) for _ in range(_DRAWS)])
        except Exception as error:  # a data set of the user's
            raise NoEvidence(f"the data set raises {type(error).__name__} when asked for a sample") from None
        first = main_tensor(parts(drawn[-1][0])[0])
        if first is None or first.ndim != 3:
            raise NoEvidence("the samples are no images")
    return drawn


def _of_the_held(changed: int, asked: int) -> Finding:
    return LEFT_BEHIND.finding(
        severity="error",
        where="the training data set",
        measured=f"what the data set holds of the target is another after it was asked for a sample, and the image is "
        f"as before: so of {changed} of {several(asked, 'sample')}",
        limit=f"{_FEWEST_LEFT} targets that the data set holds and changes when it is asked for samples, while their "
        "images stay",
        why="A target that is moved in place stays moved: later draws show the image as it is, or move the target "
        "once more.",
        remedy="move a copy: `points = self.points[index].copy()`, or `copy.deepcopy(record)` of a record with arrays",
    )


def _of_step(measured: str) -> Finding:
    return LEFT_BEHIND.finding(
        severity="error",
        where="the training step",
        measured=measured,
        limit="maps, or numbers that turn round with the image, that stay in eight samples or more which the step "
        "mirrors, and in nine of ten",
        why=_BETWEEN,
        remedy="move targets with their images: `masks = masks.flip(-1)`, "
        "`boxes[:, [0, 2]] = width - boxes[:, [2, 0]]`, `points[:, 0] = width - points[:, 0]`",
    )


def _of_a_shift(who: str, measured: str) -> Finding:
    return LEFT_BEHIND.finding(
        severity="error",
        where=f"the {who}",
        measured=measured,
        limit="inputs shifted in three pairs and a third of all, while targets along their axis stay: a ridge "
        f"regression's answers to shifted validation correlate by {TOLD:g} with targets that move along, and by "
        f"{MOVED:g} less with those that stay",
        why="What is asked for lies elsewhere than what is shown: most targets are those of other inputs.",
        remedy="move targets with their inputs, by as many of their own places: "
        "`x, y = x.roll(shift * bins_per_place, -1), y.roll(shift, -1)`",
    )


def _of_parts(count: str) -> Finding:
    return LEFT_BEHIND.finding(
        severity="error",
        where="the training data set",
        measured=f"in {count} the target, made as small as the input, is like it once it is shifted, and much less as "
        "it lies",
        limit="targets a whole number of times as large as their inputs, which are like them once they are shifted, "
        "in 40 % of the pairs",
        why="Input and target show different parts of the picture: what is asked for is not what is shown.",
        remedy="places of the large image are those of the small one times the scale: "
        "`large[:, scale * top :, scale * left :]` beside `small[:, top:, left:]`",
    )


def _of_masks(where: str, measured: str) -> Finding:
    return LEFT_BEHIND.finding(
        severity="error",
        where=where,
        measured=measured,
        limit="masks that, flipped or turned, go with brightness and texture twice as well as they lie",
        why="Each pixel is asked for the class of another place.",
        remedy="read images and masks with one order of axes, and flip and turn both: (H, W, C) becomes (C, H, W) by "
        "`image.transpose(2, 0, 1)`",
    )


def _of_corners(count: int) -> Finding:
    return LEFT_BEHIND.finding(
        severity="error",
        where="the augmentation of the training data set",
        measured=f"in {several(count, 'draw')} of samples the right edge of each box lies left of its left one, or the "
        "lower one above the upper one, and in other draws of the same samples it does not",
        limit=f"{_FEWEST_LEFT} draws with boxes whose edges are exchanged, and are not in other draws of their sample",
        why="A flip exchanges the edges of a box, too: without that it is less than nothing wide, and no prediction "
        "meets it.",
        remedy="exchange the edges as they are mirrored: `box[[0, 2]] = width - box[[2, 0]]`",
    )


def _numbers_kept(evidence: Evidence, flips: list[tuple[Any, Any]], way: str) -> Finding | None:
    kept = kept_when_mirrored(evidence, flips, -1 if way == _SIDES else -2)
    if kept is None:
        return None
    same, told, turned = kept
    return LEFT_BEHIND.finding(
        severity="error",
        where="the augmentation of the training data set",
        measured=f"in {several(same, 'pair')} of draws of a sample, the second with {way}, a number of the target is "
        f"the same in both; what a ridge regression says of new pictures correlates by {told:.2f} with it, of mirrored "
        f"ones by {turned:.2f}",
        limit="a number, of 32 at most, that stays in three pairs and half of all, and which a simple model tells of "
        "validation, and of its mirror images with the other sign",
        why="A place or an angle is another one in a mirrored picture: half of the targets are wrong.",
        remedy="`points[:, 0] = width - points[:, 0]`, `angle = -angle` beside the flip; or no flip",
    )


def _and_moved(count: int) -> str:
    return f"; in {several(count, 'other')} they move: each is flipped by a chance of its own" if count else ""


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
                return torch.equal(before, after) or _moves_otherwise(before, after, image, way)
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


def _by_position(evidence: Evidence) -> Finding | None:
    """Outputs of positions, (N, T, C) or (N, C, …), that the step brings into another order than their targets."""
    path, batch = evidence.asked_path, evidence.train.raw[0]
    asked = None if path is None else leaf(batch, path)
    words = [asked] if asked is not None else [part for _, part in leaves(batch) if not part.is_floating_point()]
    outputs = main_tensor(evidence.first.outputs)
    if outputs is None or outputs.ndim < 3 or not outputs.is_floating_point() or evidence.calls.moved_back:
        return None
    outputs = outputs.detach().cpu()
    whole = [part.cpu() for part in words if part.ndim >= 2]
    shifted = [part for tokens in whole if tokens.ndim == 2 for part in (tokens[:, 1:], tokens[:, :-1])]
    for call, wanted in product(evidence.calls.losses, [*whole, *shifted]):
        right = _right_places(outputs, wanted, call)
        wrong = right is not None and right < 0.5
        if wrong:
            return STEP_LABELS.finding(
                severity="error",
                where="the training step",
                measured=f"outputs of {show_shape(outputs.shape)} and targets of {show_shape(wanted.shape)} are "
                "flattened in different orders: the loss compares outputs of one position with the target of another",
                limit="outputs and targets of positions that are flattened in different orders",
                why="Most targets are those of other positions or samples: little can be learned.",
                remedy="give the classes axis 1 and flatten nothing: `loss(outputs.permute(0, 2, 1), targets)` of "
                "outputs (N, T, C), `loss(outputs, targets)` of outputs (N, C, T) or (N, C, H, W)",
            )
    return None


def _right_places(outputs: torch.Tensor, wanted: torch.Tensor, call: LossCall) -> float | None:
    """The share of the numbers that a loss compares with the target of their own position, known by their values; None
    where outputs or targets are changed on the way."""
    axis = next((a for a in (1, -1) if outputs.movedim(a, -1).shape[:-1] == wanted.shape), None)
    if axis is None or call.input.ndim != call.target.ndim + 1 or call.input.numel() != outputs.numel():
        return None
    given = call.input.cpu().movedim(1, -1).float()  # outputs of autocast may have been cast on the way
    values, order = outputs.float().flatten().sort()
    shown, places = given.flatten().sort()
    if given.shape[-1] != outputs.shape[axis] or not torch.allclose(values, shown, rtol=1e-3, atol=1e-5):
        return None
    number = torch.arange(wanted.numel()).reshape(wanted.shape)
    home = number.unsqueeze(axis).expand_as(outputs).flatten()
    found = torch.empty(len(home), dtype=torch.long)
    found[places] = home[order]
    apart = values.diff() > _TIE * float(values.abs().max())  # equal numbers may be anywhere
    alone = torch.zeros(len(home), dtype=torch.bool)
    alone[places[1:-1]] = apart[1:] & apart[:-1]
    if int(alone.sum()) < _ALONE:
        return None
    target, lying = call.target.cpu().flatten(), number
    if not torch.equal(wanted.flatten(), target):
        if wanted.ndim != 2 or not torch.equal(wanted.T.flatten(), target):
            return None
        lying = number.T
    right = found.reshape(-1, given.shape[-1]) == lying.flatten()[:, None]
    return float(right.flatten()[alone].double().mean())


def _never_changing(evidence: Evidence) -> Finding | None:
    """Targets that are the same for two batches whose labels differ, and could be labels of a third."""
    raw = evidence.train.raw
    labels = [wanted for batch in raw if (wanted := main_tensor(parts(batch)[1])) is not None]
    if len(raw) < 2 or len(labels) < len(raw) or labels[0].is_floating_point() or torch.equal(labels[0], labels[1]):
        return None
    known, used = torch.cat([wanted.flatten() for wanted in labels]).cpu(), evidence.calls.losses
    for call in used:
        if call.target.shape != labels[0].shape or call.target.is_floating_point() or len(call.target.unique()) < 2:
            continue
        if not bool(torch.isin(call.target.cpu(), known).all()) or _number_rows(call.target):
            continue
        again = watch_calls(evidence.setup, raw[1], evidence.clock.until(0.05)).losses
        if len(again) == len(used) and all(torch.equal(a.target, b.target) for a, b in zip(used, again, strict=True)):
            return STEP_LABELS.finding(
                severity="error",
                where="the training step",
                measured=f"the loss is given the same {several(len(call.target), 'label')} for two batches whose own "
                "labels differ",
                limit="the same labels for two batches whose own differ",
                why="The network is asked for labels of other samples: there is nothing to learn.",
                remedy="give the loss the labels of the batch that the network gets, by the name that the loop gives "
                "them",
            )
    return None


def _number_rows(target: torch.Tensor) -> bool:
    """Whether targets are 0, 1, 2, …: each row's own partner, not labels."""
    return target.ndim == 1 and torch.equal(target.cpu(), torch.arange(len(target), dtype=target.dtype))


def _blended(evidence: Evidence) -> Finding | None:
    collated = blended_by_loader(evidence)
    batches = collated or blended_batches(evidence)
    shares, (right, total) = swapped_shares(batches), partners_named(batches)
    if shares is not None:
        inputs, labels = shares
        measured = (
            f"samples are blended: what the network is shown is {inputs:.0%} the batch as it came, and its labels "
            f"count {labels:.0%}; so it is exchanged in several steps"
        )
        limit = "inputs that are mostly one sample, in several steps, and labels that count the other one more"
        why = "Each input is mostly asked for the label of the sample that it has least of."
    elif total >= _FEWEST_BLENDED and right < _NAMED * total:
        measured = (
            f"samples are blended, each with one other: of {total:,} of another class {right:,} have that class as "
            "their second label"
        )
        limit = f"the second label is that of the partner in less than {_NAMED:.0%} of the blended samples"
        why = "Each input is asked for the label of a sample that is not in it."
    else:
        alone = [] if total else left_unblended(evidence)
        mostly = [own for own in alone if own < _LESS]
        if len(alone) < _FEWEST_LEFT or len(mostly) < 2 or max(alone) < 1 - _LESS:
            return None
        measured = (
            f"samples are blended: what the network is shown is {mostly[0]:.0%} the batch as it came, and less than "
            f"{_LESS:.0%} in {len(mostly)} of {several(len(alone), 'step')}, and the loss is given its labels alone"
        )
        limit = f"less than {_LESS:.0%} of a blend is the sample whose label alone counts, in two steps or more"
        why = "Each input is asked for the labels of the sample that it has least of, as often as not."
    return STEP_LABELS.finding(
        severity="error",
        where="the collate function" if collated else "the training step",
        measured=measured,
        limit=limit,
        why=why,
        remedy="of inputs `lam * x + (1 - lam) * x[index]` the loss is "
        "`lam * criterion(out, y) + (1 - lam) * criterion(out, y[index])`, with one index for both",
    )


def _step_labels(evidence: Evidence) -> Iterator[Finding]:
    found = _by_position(evidence) or _never_changing(evidence) or _blended(evidence) or _put_together(evidence)
    found = found or _of_other_samples(evidence)
    yield from [] if found is None else [found]


def _put_together(evidence: Evidence) -> Finding | None:
    with suppress(NoEvidence):
        wrong, asked = rows_of_two_samples(evidence)
        if wrong >= FEWEST_ASKED and asked - wrong <= MOST_RIGHT:
            return STEP_LABELS.finding(
                severity="error",
                where="the training step",
                measured=f"of {wrong} of {several(asked, 'sample')} the two inputs of a batch reach different rows of "
                "the network's outputs: each row is made of two samples",
                limit=f"two inputs that never go into the same row, of {FEWEST_ASKED} samples or more and of all but "
                f"{MOST_RIGHT}, by the outputs that an exchanged input changes",
                why="The network is shown one sample beside what belongs to another: there is nothing to learn of it.",
                remedy="take all parts of a batch by one index: `index = lengths.argsort(descending=True); x, y = "
                "x[index], y[index]`",
            )
    return None


def _of_other_samples(evidence: Evidence) -> Finding | None:
    wrong, asked, blended = rows_asked_for_others(evidence)
    if wrong < FEWEST_ASKED or asked - wrong > MOST_RIGHT:
        return None
    return STEP_LABELS.finding(
        severity="error",
        where="the training step",
        measured=f"of {wrong} of {several(asked, 'sample')} the label reaches outputs of inputs that nothing of the "
        f"sample is in{': samples are blended, each with one other' if blended else ''}",
        limit=f"labels that reach outputs of other samples, of {FEWEST_ASKED} samples asked or more and of all but "
        f"{MOST_RIGHT}, by what an exchanged label and an exchanged input change",
        why="Each blend is asked for the label of a sample that is not in it."
        if blended
        else "The network is asked for labels of other samples: there is nothing to learn.",
        remedy="take inputs and labels by one index: `index = torch.randperm(len(x)); x, y = x[index], y[index]`; of "
        "mixed inputs `lam * criterion(out, y) + (1 - lam) * criterion(out, y[index])`",
    )


LEFT_BEHIND = Check(
    codes=("data.targets-left-behind",),
    question="Are masks, boxes, points and places moved with their inputs?",
    run=_left_behind,
    explains="data.label-noise data.labels-random data.augmentation fit.*",
)
STEP_LABELS = Check(
    codes=("data.step-labels",),
    question="Does the step give the loss the labels of the inputs that the network gets?",
    run=_step_labels,
    explains="data.augmentation data.labels-random data.label-noise loss.initial-off optim.lr-too-high "
    "optim.lr-too-low fit.*",
)
