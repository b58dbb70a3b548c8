"""Numbers that change sign in mirrored images, such as an angle, but stay while images are mirrored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

import torch
from torch.nn.functional import adaptive_avg_pool2d
from torch.utils.data import DataLoader, IterableDataset, default_convert

from striate.doctor.checks.data.moved.left_behind import AUGMENTATION, left_behind
from striate.doctor.checks.data.moved.moves import ENDS, SIDES
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.samples import Samples, gathered
from striate.doctor.evidence.simple_models import halves, ridge_weights
from striate.doctor.setup.batch import Path, leaf, leaves, main_tensor, parts
from striate.records import Finding
from striate.wording import several

_FEWEST, _MOST, _SIDE = 40, 600, 24
_PAIRS, _OFTEN = 3, 0.5
_NUMBERS = 32
"""The most numbers of a target, such as points and boxes."""
_COLUMNS = 8
"""The most columns of a table, such as the edges and the class of boxes."""
_PREDICTED, _NEGATED = 0.6, -0.5
"""Correlations of a simple model's predictions for new images with their numbers: unchanged, and mirrored."""


def left_of_numbers(evidence: Evidence, flips: Mapping[str, list[tuple[Any, Any]]]) -> Finding | None:
    """A finding if numbers stay the same in pairs of draws; else None. `flips`: pairs of draws, by how the second is
    flipped."""
    for way, axis in ((SIDES, -1), (ENDS, -2)):
        if (kept := _kept_when_mirrored(evidence, flips.get(way, []), axis)) is not None:
            same, upright, mirrored = kept
            return left_behind(
                AUGMENTATION,
                f"in {several(same, 'pair')} of draws of a sample, the second with {way}, a number of the target "
                f"is the same in both; predictions of a ridge regression for new images correlate by {upright:.2f} "
                f"with it, and by {mirrored:.2f} for mirrored images",
                "a number, of at most 32, that stays the same in three pairs and half of all, and that a simple "
                "model predicts in validation, with the opposite sign for mirrored images",
                "A position or an angle changes in a mirrored image: half of the targets are wrong.",
                "`points[:, 0] = width - points[:, 0]`, `angle = -angle` with each flip; or do not flip",
            )
    return None


def _kept_when_mirrored(evidence: Evidence, flips: list[tuple[Any, Any]], axis: int) -> tuple[int, float, float] | None:
    """The number of pairs of draws, mirrored along an axis, in which a number is the same, and the correlations of a
    ridge regression's predictions with it, for unchanged and for mirrored validation images. For tables with a varying
    number of rows, such as boxes, the number is the mean of a column. None if no number that changes sign stays."""
    for path in _numbers_of(flips[0][0]) if flips else ():
        pairs = [(leaf(one, path), leaf(other, path)) for one, other in flips]
        of_one_shape = [
            (a, b) for a, b in pairs if a is not None and b is not None and a.shape == b.shape and a.numel()
        ]
        tables = _are_tables([a for a, _ in of_one_shape])
        if not tables and any(a.numel() > _NUMBERS for a, _ in of_one_shape):
            continue
        known = [tuple(part.mean(0) if tables else part.flatten() for part in pair) for pair in of_one_shape]
        if sum(bool((a == b).any()) for a, b in known) < _PAIRS:
            continue
        try:
            if tables:
                samples = _read_tables(evidence, path)
            else:
                samples = replace(evidence.val_samples, y=gathered(evidence.val.raw, path))
            predictable = sign_changing_number(samples, axis)
        except NoEvidence:
            return None
        if predictable is None or any(predictable[0] >= len(a) for a, _ in known):
            continue
        numbers = [(float(a[predictable[0]]), float(b[predictable[0]])) for a, b in known]
        same = sum(a == b for a, b in numbers if a)
        sure = sum(torch.equal(a, b) for a, b in known) >= _PAIRS or _changes_only_along(samples, predictable[0], axis)
        if sure and same >= max(_PAIRS, _OFTEN * len(known)):
            return (same, *predictable[1:])
    return None


def _numbers_of(draw: Any) -> list[Path]:
    """The paths of a few floating-point numbers, or rows of a few, in a draw of a sample."""
    return [
        path
        for path, part in leaves(draw)
        if part.is_floating_point() and (part.numel() <= _NUMBERS or (part.ndim == 2 and part.shape[1] <= _COLUMNS))
    ]


def _are_tables(found: Sequence[torch.Tensor]) -> bool:
    """Whether samples are tables with different numbers of rows."""
    return all(part.ndim == 2 for part in found) and len({len(part) for part in found}) > 1


def _read_tables(evidence: Evidence, path: Path) -> Samples:
    """Validation images, and the means of the columns of their tables. Samples are read one by one, since batches may
    hold tables in any form. Raises NoEvidence if they cannot be read so."""
    data, until = getattr(evidence.setup.val, "dataset", None), evidence.clock.until(0.05, 1.0)
    if not isinstance(evidence.setup.val, DataLoader) or isinstance(data, IterableDataset) or data is None:
        raise NoEvidence("the validation data set cannot be read by index")
    images, means, sizes = list[torch.Tensor](), list[torch.Tensor](), set[torch.Size]()
    for number in range(min(_MOST, len(data))):
        try:
            sample = default_convert(data[number])
        except Exception as error:  # a data set of the user's
            raise NoEvidence(f"the data set raises {type(error).__name__} when a sample is read") from None
        image, table = main_tensor(parts(sample)[0]), leaf(sample, path)
        if image is None or image.ndim != 3 or table is None or table.ndim != 2:
            raise NoEvidence("validation samples are not images with tables")
        if len(table):
            sizes |= {image.shape, table.shape[1:]}
            images.append(adaptive_avg_pool2d(image.float(), (min(_SIDE, image.shape[1]), min(_SIDE, image.shape[2]))))
            means.append(table.float().mean(0))
        if perf_counter() > until:
            break
    if len(sizes) != 2:  # of images, and of rows
        raise NoEvidence("validation samples are not images of one size with tables")
    return replace(evidence.val_samples, x=torch.stack(images), y=torch.stack(means))


def sign_changing_number(samples: Samples, axis: int = -1) -> tuple[int, float, float] | None:
    """The index of a target number that changes sign in mirrored images, such as a column coordinate, and the
    correlations of the number with predictions of a model that is fitted to half of the samples: for the other half,
    and for its mirror images along an axis. None if there is none. Binary numbers and rows of all boxes of a batch do
    not count."""
    x, y = samples.inputs[:_MOST].float(), samples.y
    if x.ndim != 4 or len(x) < _FEWEST or y is None or len(y) != len(samples.inputs):
        return None
    if not y.is_floating_point() or y[0].numel() > _NUMBERS:
        return None
    for place, column in enumerate(y[:_MOST].reshape(len(x), -1).double().T):
        if len(column.unique()) > 2:
            correlations = _correlations(x, column, axis)
            if correlations[0] >= _PREDICTED and correlations[1] <= _NEGATED:
                return (place, *correlations)
    return None


def _changes_only_along(samples: Samples, place: int, axis: int) -> bool:
    """Whether a target number changes sign along one axis and not along the other, also for the distance of images from
    their mean. Otherwise it may rightly stay: mirrored parts of other colors would look the same."""
    x = samples.inputs[:_MOST].float()
    assert samples.y is not None
    y = samples.y[:_MOST].reshape(len(x), -1)[:, place].double()
    return all(
        _correlations(shown, y, axis)[1] <= _NEGATED and _correlations(shown, y, -3 - axis)[1] >= -_NEGATED
        for shown in (x, (x - x.mean(0)).abs())
    )


def _correlations(x: torch.Tensor, y: torch.Tensor, axis: int) -> tuple[float, float]:
    small = torch.nn.functional.adaptive_avg_pool2d(x, (min(_SIDE, x.shape[2]), min(_SIDE, x.shape[3])))
    known, held_out = halves(len(x))
    mean, flat = small[known].mean(0), small.double()
    seen, as_is, mirrored = (
        (part - mean).flatten(1) for part in (flat[known], flat[held_out], flat[held_out].flip(axis))
    )
    weights = ridge_weights(seen, y[known] - y[known].mean())
    predicted = [part @ seen.T @ weights for part in (as_is, mirrored)]
    found = [float(torch.corrcoef(torch.stack([one, y[held_out]]))[0, 1]) for one in predicted]
    return found[0], found[1]
