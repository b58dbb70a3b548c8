"""The metrics of keypoints: keys, records of evaluation.json, lines in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from striate.statistics.calibration import Temperature
from striate.statistics.estimate import Estimate
from striate.tasks.assessment import Slice, SplitRecord, fit_text, slice_lines, span_text, with_paths
from striate.tasks.metric import Metric
from striate.wording import percent

NME = Metric("nme", "NME", "share", higher_is_better=False)
METRICS = (NME, Metric("pck", "PCK at 0.1", "share"), Metric("auc", "PCK area to 0.1", "share", brief=False))

_POINTS, _IMAGES = 20, 5


@dataclass(frozen=True)
class PointMetrics:
    """One point; distances as in `KeypointMetrics`."""

    name: str
    """Name of the point."""
    n: int
    """Number of samples in which it is visible."""
    nme: Estimate
    """Its mean distance."""
    pck: Estimate
    """Share of its distances within 0.1."""


@dataclass(frozen=True)
class ImageNme:
    """One image, and the mean distance of its points."""

    id: int
    path: str
    nme: float


@dataclass(frozen=True)
class KeypointMetrics(SplitRecord):
    """Everything about one split of keypoints; distances are shares of √(w · h) of the box around the true points."""

    n: int
    """Number of images."""
    metrics: Mapping[str, Estimate]
    """`nme`, the mean over images of the mean over their visible points; `pck`, the share of points within 0.1; `auc`,
    the area under the curve of that share for distances of 0 to 0.1, as a share of what is possible. Intervals are by
    bootstrap over images, or over groups where there are groups."""
    points: tuple[PointMetrics, ...]
    """A row for each point."""
    curve: tuple[tuple[float, float], ...]
    """Pairs of a distance and the share of points within it."""
    worst: tuple[ImageNme, ...]
    """Images, beginning with the largest NME."""
    slices: tuple[Slice, ...]
    """Parts of the data."""
    left_out: tuple[str, ...] = ()
    """What was not computed, a sentence each."""

    def lines(self, temperature: Temperature | None) -> list[list[str]]:
        """Each point, slices, and the images with the largest error."""
        del temperature
        return [self._point_lines(), self._curve_lines(), slice_lines(self.slices, NME), self._worst_lines()]

    def _point_lines(self) -> list[str]:
        rows, rest = list(self.points), []
        if len(rows) > _POINTS:
            rest = [f"  … and {len(rows) - _POINTS} more points with smaller NME"]
            rows = sorted(rows, key=lambda row: -(row.nme.value or 0))[:_POINTS]
        head = f"  {'point':<24} {'visible':>8} {'NME':>9}  {'95 % interval':<17} {'PCK at 0.1':>10}"
        lines = [
            f"  {fit_text(row.name, 24)} {row.n:>8,} {percent(row.nme.value, 2):>9}  "
            f"{span_text(row.nme, 100, '.2f'):<17} {percent(row.pck.value, 2):>10}"
            for row in rows
        ]
        return [head, *lines, *rest]

    def _curve_lines(self) -> list[str]:
        shown = [(at, share) for at, share in self.curve if round(1000 * at) in (25, 50, 75, 100, 150, 200)]
        return [
            f"  {'within':<24} " + "".join(f"{at:>8.3f}" for at, _ in shown),
            f"  {'share of points':<24} " + "".join(f"{100 * share:>7.1f}%" for _, share in shown),
        ]

    def _worst_lines(self) -> list[str]:
        lines = [line for one in self.worst[:_IMAGES] for line in with_paths(f"  {percent(one.nme, 2):>8} ", one.path)]
        return ["  images with the largest NME", *lines] if lines else []
