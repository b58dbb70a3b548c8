"""Named points (keypoints) as targets."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from striate.data.annotations.annotation import AnnotationKind, or_split
from striate.data.annotations.mask_pixels import MaskPixels
from striate.data.config import Fit
from striate.data.fingerprint import content_digest
from striate.data.listing import Listing
from striate.data.media.medium import Placement
from striate.errors import ConfigError, DataError
from striate.wording import listed, percent, several


class Points(AnnotationKind):
    """(N, K, 4) float32 for K points: x and y in the input, −1 to 1 over it, to the right and down; and the pixels of
    the file in a unit along each axis, 0 where the point is not visible.

    A listing has (N, K, 3) float32: x and y in pixels of the file, from the corner of its first pixel, and 1; three
    zeros where the point is not visible.
    """

    name: ClassVar[str] = "point"
    word: ClassVar[str] = "points"
    texts: ClassVar[str] = "points"
    task: ClassVar[str] = "keypoints"
    of_places: ClassVar[bool] = True
    layout: ClassVar[str] = ", or a manifest with the columns path,x1,y1,… or path,nose_x,nose_y,…"
    fit: ClassVar[Fit] = "pad"

    def choose_size(self, listing: Listing, sizes: Mapping[int, tuple[int, int]]) -> tuple[tuple[int, int], str] | None:
        """A size at which the box around the points of a median image has sides of `SPAN` pixels; with the aspect ratio
        of the images where they agree, else square."""
        assert listing.targets is not None
        ids = [number for number in sorted(sizes) if (listing.targets[number, :, 2] > 0).sum() > 1]
        if not ids or max(map(max, sizes.values())) <= _SMALL:
            return None
        points = np.where(listing.targets[ids, :, 2:] > 0, listing.targets[ids, :, :2], np.nan)
        spans = np.sqrt(np.prod(np.nanmax(points, axis=1) - np.nanmin(points, axis=1), axis=1))
        sides = np.array([sizes[number] for number in ids], np.float64)
        share = max(float(np.median(spans / sides.max(1))), 1e-3)
        longest = int(np.median([max(size) for size in sizes.values()]))
        wanted = SPAN / share
        side = max(
            (value for value in SIDES if value <= max(longest, SIDES[0])), key=lambda value: -abs(value - wanted)
        )
        aspects = np.sort(sides[:, 0] / sides[:, 1])
        low, middle, high = (float(aspects[int(q * (len(aspects) - 1))]) for q in (0.05, 0.5, 0.95))
        aspect = middle if high <= 1.05 * low else 1.0
        height, width = (max(32, 32 * round(side * part / 32)) for part in (min(1, aspect), min(1, 1 / aspect)))
        span = f"{percent(share, 0)} of the longer side, here {share * side:.0f} pixels"
        why = f"in the median image the points span {span}"
        return (height, width), f"Size: {height} × {width} pixels (height × width): {why} (--size sets another)."

    def label_keys(self, listing: Listing, ids: Sequence[int]) -> dict[int, object]:
        """Digests of the points."""
        assert listing.targets is not None
        return {number: content_digest(listing.targets[number].tobytes()) for number in ids}

    def placed_targets(
        self,
        listing: Listing,
        ids: NDArray[np.int64],
        masks: MaskPixels | None,
        classes: tuple[str, ...],
        place: Callable[[int], Placement | None],
    ) -> NDArray[Any]:
        """(N, K, 4), see `Points`."""
        targets = self.targets(listing, ids, masks, classes)
        placements = [place(number) for number in ids.tolist()]
        known = [how for how in placements if how is not None]
        assert len(known) == len(ids), "points are those of files"
        sides = np.array([how.canvas[::-1] for how in known], np.float64)[:, None]
        scale = np.array([how.scale for how in known], np.float64)[:, None]
        offset = np.array([how.offset for how in known], np.float64)[:, None]
        visible = targets[..., 2:] > 0
        places = np.where(visible, 2 * (targets[..., :2] * scale + offset) / sides - 1, 0)
        units = np.where(visible, sides / (2 * scale), 0)
        return np.concatenate([places, units], axis=2).astype(np.float32)

    def check(self, listing: Listing, ids: Mapping[str, NDArray[np.int64]], targets: Mapping[str, Any]) -> None:
        """Each split needs a visible point: without any, there is nothing to learn or to measure."""
        del ids
        for name, own in targets.items():
            if len(own) and not bool(own[..., 2:].any()):
                raise DataError(
                    f"data {listing.source}",
                    f"no visible point in the {several(len(own), 'sample')} of {name}",
                    "at least one in each split",
                    f"annotate some of them{or_split(listing, 'leave out the column split')}",
                )

    def counted(self, listing: Listing, ids: Sequence[int]) -> str:
        """`5 points: nose, left_eye, …`, and how many are not visible."""
        assert listing.targets is not None
        names = listing.target_names
        hidden = int((listing.targets[list(ids), :, 2] == 0).sum())
        lacking = f"; {hidden:,} of {len(ids) * len(names):,} are not visible" if hidden else ""
        return f"{several(len(names), 'point')} per sample: {listed(names, 12)}{lacking}"

    def manifest_columns(self, listing: Listing) -> tuple[str, ...]:
        """Two columns for each point."""
        pairs = ((f"x{n}", f"y{n}") if n.isdigit() else (f"{n}_x", f"{n}_y") for n in listing.target_names)
        return tuple(column for pair in pairs for column in pair)

    def manifest_fields(self, listing: Listing, number: int) -> tuple[str, ...]:
        """x and y, empty where a point is not visible."""
        assert listing.targets is not None
        points = listing.targets[number].tolist()
        return tuple(f"{value:.7g}" if seen else "" for *place, seen in points for value in place)

    def check_count(self, listing: Listing, targets: int) -> None:
        """Samples must have as many points as the network predicts."""
        assert listing.targets is not None
        count = listing.targets.shape[1]
        if count != targets:
            raise DataError(
                f"data {listing.source}",
                f"{several(count, 'point')} per sample: {listed(listing.target_names, 10)}",
                f"{targets}, as many as the network predicts",
                "evaluate it on data with the same points",
            )


def point_columns(columns: Sequence[str]) -> dict[str, tuple[str, str]]:
    """The names of the two columns (`x1,y1`, or `nose_x,nose_y`) of each point, by its name; empty where there are
    none."""
    known, found = set(columns), {}
    for column in columns:
        if match := re.fullmatch(r"x_?(\d+)", column):
            other = f"y{column[1:]}"
        elif match := re.fullmatch(r"(.+)([_. ])x", column):
            other = f"{match[1]}{match[2]}y"
        if match and other in known:
            found[match[1]] = column, other
    return found


SIDES, SPAN, _SMALL = (64, 96, 128, 160, 192, 224, 256), 48, 96
"""Sides of inputs in pixels; the pixels that points should span; images up to `_SMALL` pixels are not resized."""

# Left and right

_SIDES = {"left": "right", "l": "r"}
_OPPOSITE = _SIDES | {right: left for left, right in _SIDES.items()}


def _opposite(name: str) -> str | None:
    """The name with left and right exchanged, for names such as `left_eye`, `l_eye`, `eye-R` or `leftEye`; None for a
    name without a side."""
    words = re.split(r"([\W_]+|(?<=[a-z])(?=[A-Z]))", name)
    places = [place for place, word in enumerate(words) if word.lower() in _OPPOSITE]
    if len(places) == 1:
        word = words[places[0]]
        other = _OPPOSITE[word.lower()]
        words[places[0]] = other.upper() if word.isupper() else other.capitalize() if word[0].isupper() else other
        return "".join(words)
    match = re.match(r"(left|right)", name)
    return None if match is None or places else f"{_OPPOSITE[match[1]]}{name[match.end() :]}"


def pairs_of_names(names: Sequence[str]) -> tuple[int, ...]:
    """For each point, its counterpart in a mirror image, by left and right in the `names`; the point itself where its
    name has no side. Empty where no name has a side, or a counterpart is missing."""
    place = {name: number for number, name in enumerate(names)}
    others = [_opposite(name) for name in names]
    if not any(others) or any(other is not None and other not in place for other in others):
        return ()
    return tuple(number if other is None else place[other] for number, other in enumerate(others))


def read_pairs(text: str, names: Sequence[str]) -> tuple[int, ...]:
    """For each point, its counterpart in a mirror image, from `--task.flip_pairs`: `left_eye=right_eye,1=17`. Points
    that are not named, and all points for `none`, are their own counterparts. Raises ConfigError."""
    place = {name: number for number, name in enumerate(names)}
    found = list(range(len(names)))
    if text.strip().lower() == "none":
        return tuple(found)
    for pair in filter(None, (part.strip() for part in text.split(","))):
        one, _, two = (part.strip() for part in pair.partition("="))
        if one not in place or two not in place or one == two:
            raise _no_pair(text, pair, names)
        if found[place[one]] != place[one] or found[place[two]] != place[two]:
            raise _no_pair(text, f"{pair}, with a point that is named twice", names)
        found[place[one]], found[place[two]] = place[two], place[one]
    return tuple(found)


def _no_pair(text: str, got: str, names: Sequence[str]) -> ConfigError:
    first = names[: 2 * (len(names) // 2)][:4]
    usual = ",".join(f"{one}={two}" for one, two in zip(first[::2], first[1::2], strict=True))
    return ConfigError(
        "task.flip_pairs",
        f"{got!r}" if got == text else f"{got} in {text[:80]!r}",
        f"pairs of two points, {usual or 'left=right'}, of {listed(list(names), 20)}",
        "correct the pair; --task.flip_pairs none if mirroring exchanges no points",
    )


def suggested_pairs(names: Sequence[str], mean: NDArray[np.float64]) -> str:
    """A guess of the pairs, `1=17,2=16`, for the user to check; it is never used without that.

    The mean shape (K, 2) must be nearly symmetric, with each point nearest to the mirror image of its counterpart; else
    the guess is empty."""
    known = np.isfinite(mean).all(1)
    if not known.all() or len(mean) < 3:
        return ""
    center, size = mean.mean(0), np.ptp(mean, axis=0).max()
    mirrored = (mean - center) * [-1, 1] + center
    distance = np.linalg.norm(mirrored[:, None] - mean[None], axis=2)
    nearest = distance.argmin(1)
    if not size or (nearest[nearest] != np.arange(len(mean))).any() or distance.min(1).max() > _SYMMETRIC * size:
        return ""
    return ",".join(f"{names[one]}={names[two]}" for one, two in enumerate(nearest.tolist()) if one < two)


_SYMMETRIC = 0.1


def visible_points(columns: Mapping[str, tuple[str, str]], values: Sequence[Sequence[float | None]]) -> NDArray[Any]:
    """(N, K, 3) as in a listing, from two numbers for each point, which are None where it is not visible."""
    numbers = np.array([[np.nan if v is None else v for v in row] for row in values], np.float32)
    places = numbers.reshape(len(values), len(columns), 2)
    seen = ~np.isnan(places).any(2, keepdims=True)
    return np.concatenate([np.where(seen, places, 0), seen], axis=2).astype(np.float32)
