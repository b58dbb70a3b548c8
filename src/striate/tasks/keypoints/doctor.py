"""Typical mistakes with points that predictions show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from striate.records import Finding
from striate.tasks.evaluation import Evaluation
from striate.tasks.keypoints.assess import errors_of
from striate.wording import listed, percent, several

BETTER, SHARE = 0.5, 0.05
"""An image has left and right exchanged where exchanging them reduces its error to less than this share; and the share
of such images from which there is a finding."""
STILL, FAR, FEWEST = 0.2, 0.1, 12
"""There is a finding where predicted points have less than this share of the true points' standard deviation, from this
error and this number of images on."""


def sides_exchanged(evaluation: Evaluation, pairs: Sequence[int], names: Sequence[str]) -> tuple[Finding, ...]:
    """`fit.sides-exchanged` where predictions fit better with left and right exchanged."""
    if not pairs:
        return ()
    decoded, targets = evaluation.decoded, evaluation.targets
    own, other = (_mean(errors_of(one, targets)) for one in (decoded, decoded[:, list(pairs)]))
    known = np.isfinite(own) & np.isfinite(other)
    odd = known & (other < BETTER * own) & (own > FAR)
    count, of = int(odd.sum()), int(known.sum())
    if not count or count < SHARE * of:
        return ()
    both = [f"{names[k]} and {names[other]}" for k, other in enumerate(pairs) if k < other]
    finding = Finding(
        code="fit.sides-exchanged",
        severity="warning",
        where=f"{evaluation.split} split",
        measured=f"in {count:,} of {several(of, 'image')} the predicted points fit if {listed(both, 3)} are exchanged",
        threshold=percent(SHARE),
        why="The network cannot tell left from right: images were mirrored without exchanging their points, or the "
        "pairs of --task.flip_pairs are wrong.",
        remedy="Look at the images (striate data show), and check for mirrored points: striate data check.",
    )
    return (finding,)


def same_everywhere(evaluation: Evaluation) -> tuple[Finding, ...]:
    """`fit.points-still` where predicted points are nearly the same in all images, and true ones are not."""
    error = _mean(errors_of(evaluation.decoded, evaluation.targets))
    error = error[np.isfinite(error)]
    seen = evaluation.targets[..., 2] > 0
    if len(error) < FEWEST or error.mean() < FAR or not seen.any():
        return ()
    moves = [
        np.where(seen[..., None], places, np.nan)
        for places in (evaluation.decoded[..., :2], evaluation.targets[..., :2])
    ]
    some = seen.sum(0) >= FEWEST
    if not some.any():
        return ()
    predicted, true = (float(np.nanstd(places[:, some], axis=0).mean()) for places in moves)
    if not true or predicted >= STILL * true:
        return ()
    finding = Finding(
        code="fit.points-still",
        severity="warning",
        where=f"{evaluation.split} split",
        measured=f"the standard deviation of predicted points over images is {percent(predicted / true)} of that of "
        f"the true points; NME is {percent(float(error.mean()))}",
        threshold=percent(STILL),
        why="The network predicts the mean position of each point: it has not learned to use the image yet, or each "
        "image has the points of another.",
        remedy="Train for longer. If that does not help: striate data check finds points of other images.",
    )
    return (finding,)


def _mean(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) means of (N, K) errors; NaN where no point is visible."""
    seen = ~np.isnan(errors)
    count = seen.sum(1)
    return np.where(count > 0, np.where(seen, errors, 0).sum(1) / np.maximum(count, 1), np.nan)
