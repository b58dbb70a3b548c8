"""Points at wrong places: outside the image, as fractions, with x and y exchanged, mirrored, or of another image."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from striate.data.annotations.points import pairs_of_names
from striate.data.audit.evidence import DataEvidence
from striate.data.audit.sample_finding import SampleFinding, each_left_out, one_group_each, severity_of, some
from striate.data.listing import Listing
from striate.records import Finding, Severity
from striate.wording import percent, several

Sizes = Mapping[int, tuple[int, int]]
"""Height and width of the files, by id."""

OUTSIDE = 0.1
"""Points are outside if they are further from their image than this share of its side."""
SHARES, LEAST_SIDE = 1.5, 16
"""If all coordinates are at most `SHARES`, in images with sides of at least `LEAST_SIDE` pixels, they are fractions."""
REFLECTED = 0.5
"""A shape is mirrored if its distance from the mirror image of the usual shape is less than this share of its distance
from the usual shape."""
_FEWEST, _LEAST_VISIBLE = 12, 3
_VARIED = 0.05
"""Standard deviation of the logarithm of width over height from which on aspect ratios distinguish x from y."""
_SHAPED = 0.35
"""A shape further than this from the usual one, and from its mirror image, is neither of them."""
SHIFTED, SURE = 0.85, 1e-4
"""Points of a neighboring image fit better if their error is below this share of the own error, with this p-value."""
_MOST, _FEWEST_SHIFTED, _FOLDS, _RIDGE = 1500, 40, 5, 1.0


def find_points(evidence: DataEvidence) -> tuple[SampleFinding, ...]:
    """Findings about the points of a data set; none where it has no points."""
    listing = evidence.listing
    if listing.annotation != "point":
        return ()
    medium = listing.medium
    sizes = {
        number: size
        for number, header in evidence.scan.headers.items()
        if number in evidence.splits and (size := medium.size_of(header)) is not None
    }
    found = [*points_before_training(listing, sizes)]
    shifted = None if found else find_shifted_points(evidence, sizes)
    others = (shifted, find_duplicate_points(listing, sizes), find_unseen_points(listing, sizes))
    return tuple(mark for mark in (*found, *others) if mark is not None)


def points_before_training(listing: Listing, sizes: Sizes) -> tuple[SampleFinding, ...]:
    """Findings that need no pixels: about the places of points and, where these are right, about their shapes."""
    if listing.annotation != "point" or not sizes:
        return ()
    if found := places_of_points(listing, sizes):
        return found
    turned = find_turned_shapes(listing, sizes) or find_pairs_above(listing, sizes)
    return () if turned is None else (turned,)


def places_of_points(listing: Listing, sizes: Sizes) -> tuple[SampleFinding, ...]:
    """`data.points-normalized`, `data.points-exchanged`, `data.points-outside`: by the sizes of the files."""
    ids = np.array(sorted(sizes))
    points, seen = _points(listing, ids)
    sides = np.array([sizes[number][::-1] for number in ids.tolist()], np.float64)[:, None]
    if not seen.any():
        return ()
    if points[seen].max() <= SHARES and (points[seen] >= -0.5).all() and sides.min() >= LEAST_SIDE:
        return (SampleFinding(_normalized(listing, float(points[seen].max()))),)

    def beyond(places: NDArray[np.float64]) -> NDArray[np.bool_]:
        return seen & ((places < -OUTSIDE * sides) | (places > (1 + OUTSIDE) * sides)).any(2)

    if _fit_exchanged(points, seen, sides):
        return (_exchanged(listing, ids, len(ids)),)
    if placeholder := _placeholders(listing, ids, points, seen):
        return (placeholder,)
    outside = beyond(points)
    rows = outside.any(1)
    if not rows.any():
        return ()
    swapped = rows & ~beyond(points[..., ::-1]).any(1)
    if swapped.sum() >= 0.9 * rows.sum():
        turned = find_turned_shapes(listing, sizes)  # may know more of them
        if turned is not None and turned.finding.code == "data.points-exchanged":
            return (turned,)
        if swapped.sum() >= _LEAST_VISIBLE:
            return (_exchanged(listing, ids[swapped], len(ids)),)
    bad = ids[rows]
    finding = Finding(
        code="data.points-outside",
        severity=severity_of(len(bad), len(ids)),
        where=listing.source,
        measured=f"{several(int(outside.sum()), 'point is', 'points are')} far outside of the image, in {len(bad):,} of"
        f" {several(len(ids), 'image')}: {some([listing.paths[k] for k in bad.tolist()])}",
        threshold=f"no further than {percent(OUTSIDE, 0)} of the side of the image beyond its edge",
        why="Such a point belongs to another image or another size of it, or its unit is wrong.",
        remedy="Correct the coordinates, or leave the fields empty where a point is not visible.",
    )
    return (each_left_out(finding, bad.tolist(), "point outside"),)


def _fit_exchanged(points: NDArray[np.float64], seen: NDArray[np.bool_], sides: NDArray[np.float64]) -> bool:
    """Whether relative places of points agree better among images of several aspect ratios once x and y are
    exchanged."""
    known = seen.any(1)
    proportions = np.log(sides[known, 0, 0] / sides[known, 0, 1])
    if known.sum() < _FEWEST_SHIFTED or proportions.std() < _VARIED:
        return False
    from scipy.stats import wilcoxon

    places = np.where(seen[known][..., None], points[known], np.nan)
    centers = np.nanmean(places, axis=1)

    def deviations(of: NDArray[np.float64]) -> NDArray[np.float64]:
        shares = centers / of
        return np.asarray(np.abs(shares - np.median(shares, axis=0)).sum(1))

    own, other = deviations(sides[known, 0]), deviations(sides[known, 0, ::-1])
    return bool(other.mean() < SHIFTED * own.mean() and wilcoxon(other, own, alternative="less").pvalue < SURE)


def _placeholders(
    listing: Listing, ids: NDArray[np.int64], points: NDArray[np.float64], seen: NDArray[np.bool_]
) -> SampleFinding | None:
    """`data.points-placeholder`: points at 0,0 or −1,−1, which some programs write where a point is not visible."""
    for value in (0.0, -1.0):
        there = seen & (points == value).all(2)
        rows = ids[there.any(1)].tolist()
        if len(rows) < _LEAST_VISIBLE:
            continue
        finding = Finding(
            code="data.points-placeholder",
            severity=severity_of(len(rows), len(ids)),
            where=listing.source,
            measured=f"{several(int(there.sum()), 'point is', 'points are')} at exactly {value:g},{value:g}, in"
            f" {len(rows):,} of {several(len(ids), 'image')}: {some([listing.paths[k] for k in rows])}",
            threshold="empty fields where a point is not visible",
            why="The network learns them as real positions, and they count in every metric.",
            remedy="Leave both fields empty where a point is not visible.",
        )
        return each_left_out(finding, rows, f"point at {value:g},{value:g}")
    return None


def _points(listing: Listing, ids: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(N, K, 2) places in pixels, and (N, K) whether a point is visible."""
    assert listing.targets is not None
    targets = listing.targets[ids].astype(np.float64)
    return targets[..., :2], targets[..., 2] > 0


def _normalized(listing: Listing, largest: float) -> Finding:
    return Finding(
        code="data.points-normalized",
        severity="error",
        where=listing.source,
        measured=f"no coordinate is larger than {largest:.4g}",
        threshold="pixels of the images",
        why="They are fractions of width and height: read as pixels, all points are in the first pixel.",
        remedy="Multiply each x by the width of its image in pixels, and each y by its height.",
    )


def _exchanged(listing: Listing, ids: NDArray[np.int64], total: int) -> SampleFinding:
    numbers = ids.tolist()
    finding = Finding(
        code="data.points-exchanged",
        severity=severity_of(len(numbers), total),
        where=listing.source,
        measured=f"x and y are exchanged in {len(numbers):,} of {several(total, 'image')}:"
        f" {some([listing.paths[k] for k in numbers])}",
        threshold="0 images",
        why="x points right, y points down. With x and y exchanged, the points fit their images or their usual shape.",
        remedy="Exchange the two columns of each point (only in these rows, if the others are right).",
    )
    return each_left_out(finding, numbers, "x and y exchanged")


def find_turned_shapes(listing: Listing, sizes: Sizes) -> SampleFinding | None:
    """`data.points-mirrored`, or `data.points-exchanged`: images whose points are the mirror image of the usual shape.

    This happens if an image was mirrored without exchanging left and right points, or if x and y are exchanged."""
    ids = np.array(sorted(sizes))
    points, seen = _points(listing, ids)
    whole: NDArray[np.bool_] = np.all(seen, axis=1)
    if whole.sum() < _FEWEST or points.shape[1] < _LEAST_VISIBLE:
        return None
    ids, shapes = ids[whole], _centered(points[whole])
    proper, reflected, angle = _distances(shapes)
    odd: NDArray[np.bool_] = np.asarray((reflected < REFLECTED * proper) & (reflected < _SHAPED))
    usual: NDArray[np.bool_] = np.asarray((proper < REFLECTED * reflected) & (proper < _SHAPED))
    if not odd.any() or np.median(np.minimum(proper, reflected)) > _SHAPED:
        return None
    odd = np.asarray(odd if odd.sum() <= usual.sum() else usual)
    diagonal = odd & (np.abs(np.abs(angle) - np.pi / 2) < np.pi / 4)
    if diagonal.sum() > 0.5 * odd.sum():
        return _exchanged(listing, ids[odd], len(sizes))
    numbers = ids[odd].tolist()
    finding = Finding(
        code="data.points-mirrored",
        severity="error" if len(numbers) >= 0.05 * len(sizes) else "warning",
        where=listing.source,
        measured=f"in {len(numbers):,} of {several(len(sizes), 'image')} the points are the mirror image of the usual"
        f" shape: {some([listing.paths[k] for k in numbers])}",
        threshold="0 images",
        why="The images were mirrored without exchanging left and right points: the network cannot tell left from"
        " right.",
        remedy="Exchange the points of each pair of left and right in these rows, or leave the mirrored images out.",
    )
    return each_left_out(finding, numbers, "left and right")


ABOVE, STEEP = 0.9, 2.0
"""x and y are reported as exchanged if left and right points lie above each other in at least this share of the images:
at least so many times further apart along y than along x."""


def find_pairs_above(listing: Listing, sizes: Sizes) -> SampleFinding | None:
    """`data.points-exchanged`: points named left and right that lie above each other in nearly all images."""
    pairs = pairs_of_names(listing.target_names)
    ids = np.array(sorted(sizes))
    points, seen = _points(listing, ids)
    left = [k for k, other in enumerate(pairs) if k < other]
    right = [pairs[k] for k in left]
    both = seen[:, left] & seen[:, right]
    apart = np.abs(points[:, left] - points[:, right])
    steep = both & (apart[..., 1] > STEEP * apart[..., 0])
    if both.sum() < _FEWEST or steep.sum() < ABOVE * both.sum():
        return None
    return SampleFinding(
        Finding(
            code="data.points-exchanged",
            severity="warning",
            where=listing.source,
            measured=f"{listing.target_names[left[0]]} and {listing.target_names[right[0]]}, and other left and right "
            f"points, are above each other in {percent(steep.sum() / both.sum(), 0)} of the images",
            threshold=percent(ABOVE, 0),
            why="x points right, y points down; here x and y seem to be exchanged.",
            remedy="Look at some images (striate data show), and exchange the two columns of each point.",
        )
    )


def _centered(points: NDArray[np.float64]) -> NDArray[np.complex128]:
    """(N, K) shapes of mean 0 and length 1."""
    shapes = points[..., 0] + 1j * points[..., 1]
    shapes = shapes - shapes.mean(1, keepdims=True)
    return np.asarray(shapes / np.maximum(np.linalg.norm(shapes, axis=1, keepdims=True), 1e-9))


def _distances(
    shapes: NDArray[np.complex128],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(N,) distance of each shape from the usual shape, and from its mirror image, both rotated and scaled to fit best;
    and the rotation of the mirror image. The usual shape is the one with the smallest median distance to others."""
    some_shapes = shapes[np.linspace(0, len(shapes) - 1, min(len(shapes), 60)).astype(int)]
    direct = np.abs(some_shapes.conj() @ some_shapes.T)
    usual = some_shapes[np.median(direct, axis=1).argmax()]
    with_usual, with_mirror = shapes @ usual.conj(), shapes @ (-usual.conj()).conj()
    proper, reflected = (np.sqrt(np.clip(1 - np.abs(fit) ** 2, 0, 1)) for fit in (with_usual, with_mirror))
    return proper, reflected, np.angle(with_mirror)


def find_shifted_points(evidence: DataEvidence, sizes: Sizes) -> SampleFinding | None:
    """`data.points-shifted`: the points of the image before or after fit each image better than its own points.

    A linear function of the descriptions of images predicts the points of held-out images. Its predictions are compared
    with the own points, and with those of the neighbors.
    """
    statistics, listing = evidence.image_statistics, evidence.listing
    ids = np.array(sorted(sizes))
    if statistics is None or len(ids) < _FEWEST_SHIFTED:
        return None
    ids = ids[:_MOST]
    points, seen = _points(listing, ids)
    sides = np.array([sizes[number][::-1] for number in ids.tolist()], np.float64)[:, None]
    ever: NDArray[np.bool_] = np.any(seen, axis=0)
    x, inner = statistics.descriptions[ids].astype(np.float64), slice(1, len(ids) - 1)
    errors: dict[int, NDArray[np.float64]] = {}
    for k in (0, -1, 1):
        # As fractions of the image whose points they are compared with.
        shares = np.where(np.roll(seen, -k, axis=0)[..., None], np.roll(points, -k, axis=0) / sides, np.nan)
        mean = np.nanmean(np.where(ever[:, None], shares, 0), axis=0)
        y = np.where(np.isnan(shares), mean, shares).reshape(len(ids), -1)
        errors[k] = _held_out(x[inner], y[inner])
    from scipy.stats import wilcoxon

    best = min((-1, 1), key=lambda k: errors[k].mean())
    if errors[best].mean() >= SHIFTED * errors[0].mean():
        return None
    if wilcoxon(errors[best], errors[0], alternative="less").pvalue > SURE:
        return None
    which = "before" if best < 0 else "after"
    return SampleFinding(
        Finding(
            code="data.points-shifted",
            severity="error",
            where=listing.source,
            measured=f"the points of the image {which} it fit each image better than its own points: a linear model of"
            f" the images predicts them with {percent(errors[best].mean() / errors[0].mean(), 0)} of the error",
            threshold=f"its own points fit best; {percent(SHIFTED, 0)} of their error",
            why="Rows and images are shifted by one: each image has the points of its neighbor.",
            remedy="Move the column of paths by one row against the others, and look at some of them.",
        )
    )


def _held_out(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) mean squared error of ridge regression on held-out samples, in units of the variance of each column."""
    order = np.random.default_rng(0).permutation(len(x))
    found = np.zeros(len(x))
    scale = y.std(0) + 1e-9
    for fold in np.array_split(order, _FOLDS):
        rest = np.setdiff1d(order, fold)
        center, mean = x[rest].mean(0), y[rest].mean(0)
        known = x[rest] - center
        weights = np.linalg.solve(known.T @ known + _RIDGE * np.eye(x.shape[1]), known.T @ (y[rest] - mean))
        found[fold] = ((((x[fold] - center) @ weights + mean - y[fold]) / scale) ** 2).mean(1)
    return found


DOUBLED = 0.9
"""Two names mean one point if they have the same place in at least this share of the images that show both."""


def find_duplicate_points(listing: Listing, sizes: Sizes) -> SampleFinding | None:
    """`data.points-double`: two points at the same place in many images."""
    ids = np.array(sorted(sizes))
    if len(ids) < _FEWEST:
        return None
    points, seen = _points(listing, ids)
    pairs, bad = [], np.zeros(len(ids), np.bool_)
    for one, other in combinations(range(points.shape[1]), 2):
        both = seen[:, one] & seen[:, other]
        same = both & (points[:, one] == points[:, other]).all(1)
        if same.sum() >= max(_LEAST_VISIBLE, DOUBLED * both.sum()):
            pairs.append(f"{listing.target_names[one]} and {listing.target_names[other]}")
            bad |= same
    if not pairs:
        return None
    numbers = ids[bad].tolist()
    finding = Finding(
        code="data.points-double",
        severity=severity_of(len(numbers), len(ids)),
        where=listing.source,
        measured=f"{some(pairs)} are at the same place in {len(numbers):,} of {several(len(ids), 'image')}:"
        f" {some([listing.paths[k] for k in numbers])}",
        threshold=f"{percent(DOUBLED, 0)} of the images",
        why="A column was copied: the network learns one point twice, and never learns the other.",
        remedy="Write the correct coordinates, or leave the fields of one of them empty.",
    )
    return each_left_out(finding, numbers, "two points at one place")


def find_unseen_points(listing: Listing, sizes: Sizes) -> SampleFinding | None:
    """`data.points-unseen`: points that no image shows, or images that show none."""
    ids = np.array(sorted(sizes))
    if listing.annotation != "point" or not len(ids):
        return None
    _, seen = _points(listing, ids)
    ever: NDArray[np.bool_] = np.any(seen, axis=0)
    names = [name for name, known in zip(listing.target_names, ever, strict=True) if not known]
    empty = ids[~seen.any(1)].tolist()
    if not names and not empty:
        return None
    parts = [f"{several(len(names), 'point')} not visible in any image: {some(names)}"] if names else []
    parts += [f"{several(len(empty), 'image')} without a point: {some([listing.paths[k] for k in empty])}"] * bool(
        empty
    )
    severity: Severity = "warning" if names else "note"
    if not seen.any():
        severity = "error"  # no training can start
    finding = Finding(
        code="data.points-unseen",
        severity=severity,
        where=listing.source,
        measured="; ".join(parts),
        threshold="each point visible in some images",
        why="A point that is never visible cannot be learned; the loss and the metrics leave it out.",
        remedy="Annotate them, or leave the columns or rows out.",
    )
    return SampleFinding(finding, one_group_each(empty), dict.fromkeys(empty, "no visible point"))
