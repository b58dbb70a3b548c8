"""The assessment of predicted masks for a split.
Since masks have no probabilities, a sample of labeled pixels stores those of the network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from striate.data.annotations.masks import IGNORED
from striate.data.dataset import SampleFacts
from striate.statistics.calibration import Temperature, measure_calibration, with_temperature
from striate.statistics.estimate import Estimate, estimate_of
from striate.statistics.intervals import drawn_count, resampled_means
from striate.tasks.accumulator import Sums
from striate.tasks.evaluation import Evaluation
from striate.tasks.groups import FEWEST, sample_groups, too_few
from striate.tasks.headline import Headline, Rows
from striate.tasks.segment.borders import border_f1, border_rows
from striate.tasks.segment.metrics import ClassPixels, ImageIou, SegmentationMetrics

MOST_PIXELS = 200_000
"""Number of pixels of a split whose probabilities are stored, about as many from each image."""


@dataclass(frozen=True, eq=False)
class Pixels:
    """`truth` (P,) int64 class numbers and `probabilities` (P, K) float32."""

    truth: NDArray[np.int64]
    probabilities: NDArray[np.float32]


class SampledPixels(Sums):
    """Sums that also store a fixed random sample of the labeled pixels of a split of `samples` images; it depends only
    on the position of the image in the split."""

    def __init__(
        self,
        count: Callable[[Any, Any, torch.Tensor | None], torch.Tensor],
        summarize: Callable[[torch.Tensor], dict[str, float]],
        samples: int,
    ) -> None:
        super().__init__(count, summarize)
        self._each, self._step = max(1, MOST_PIXELS // samples), -(-samples // MOST_PIXELS)
        self._images = 0
        self._truth: list[torch.Tensor] = []
        self._probabilities: list[torch.Tensor] = []

    def update(self, outputs: torch.Tensor, targets: torch.Tensor, loss_sum: torch.Tensor | None = None) -> None:
        """Add the sums of a batch, and store some of its pixels."""
        super().update(outputs, targets, loss_sum)
        flat, truth = outputs.flatten(2), targets.flatten(1)
        for row in range(len(targets)):
            if self._images % self._step == 0:
                drawn = np.random.default_rng((0, self._images))
                count = truth.shape[1]
                places = torch.from_numpy(drawn.choice(count, min(count, self._each), replace=False)).to(flat.device)
                known = truth[row, places].cpu()
                labeled = known != IGNORED
                probabilities = flat[row][:, places].float().softmax(0).T.cpu()
                self._truth.append(known[labeled].long())
                self._probabilities.append(probabilities[labeled])
            self._images += 1

    def merge(self, other: Sums) -> None:
        """Add the sums and the pixels of `other`."""
        super().merge(other)
        if isinstance(other, SampledPixels):
            self._images += other._images
            self._truth += other._truth
            self._probabilities += other._probabilities

    def state_dict(self) -> dict[str, Any]:
        """The sums and the pixels."""
        pixels = {"images": self._images, "truth": self._truth, "probabilities": self._probabilities}
        return super().state_dict() | pixels

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the sums and the pixels."""
        super().load_state_dict(state)
        self._images = state["images"]
        self._truth, self._probabilities = list(state["truth"]), list(state["probabilities"])

    def pixels(self) -> Pixels:
        """The stored pixels."""
        return Pixels(torch.cat(self._truth).numpy(), torch.cat(self._probabilities).numpy())


WORST = 10
"""Number of images with the lowest IoU that are listed."""


def assess_masks(
    evaluation: Evaluation, facts: SampleFacts, headline: Headline, rows: Rows, temperature: Temperature | None
) -> SegmentationMetrics:
    """The assessment of predicted masks; `rows` (N, 3, K) are pixels in intersection, union and truth."""
    n, pixels = evaluation.n, evaluation.sampled
    groups = sample_groups(facts, n, brightness=evaluation.brightness)
    own_groups = facts.columns.get("group", ())
    each = headline.each(rows)
    order = np.argsort(each, kind="stable")[:WORST]
    calibration = calibrated = None
    if isinstance(pixels, Pixels) and len(pixels.truth):
        calibration = measure_calibration(pixels.truth, pixels.probabilities)
        if temperature is not None:
            changed = with_temperature(pixels.probabilities, temperature.value)
            calibrated = measure_calibration(pixels.truth, changed)
    borders = border_rows(evaluation.decoded, evaluation.targets, len(evaluation.classes))
    figures, classes = _figures(rows, borders, evaluation.targets, evaluation.classes, own_groups)
    return SegmentationMetrics(
        n=n,
        metrics=figures,
        classes=classes,
        worst=tuple(ImageIou(int(evaluation.ids[k]), facts.paths[k], float(each[k])) for k in order),
        pixels=0 if calibration is None else len(pixels.truth),
        calibration=calibration,
        calibrated=calibrated,
        slices=headline.over(own_groups).slices(groups, rows),
        left_out=_left_out(n, calibration is not None, temperature),
    )


def _left_out(n: int, probable: bool, temperature: Temperature | None) -> tuple[str, ...]:
    sentences = [*too_few(n)]
    if not probable:
        sentences.append("No calibration: saved masks have no probabilities.")
    elif temperature is None:
        sentences.append("No calibrated metrics: no temperature was fitted on the validation split.")
    return tuple(sentences)


def _figures(
    rows: Rows, borders: Rows, targets: NDArray[np.uint8], names: tuple[str, ...], groups: Sequence[str]
) -> tuple[dict[str, Estimate], tuple[ClassPixels, ...]]:
    """The metrics over all classes, and of each class, with intervals by bootstrap over images, or groups."""
    n, count = len(rows), rows.shape[2]
    whole = rows.sum(0)[None]
    many = drawn_count(groups, n) >= FEWEST
    draws = resampled_means(rows.reshape(n, -1), groups=groups).reshape(-1, 3, count) if many else None

    def estimate(of: NDArray[np.float64], drawn: NDArray[np.float64] | None) -> Estimate:
        return estimate_of(float(of[0]), drawn)

    iou, dice = (quotients(whole, twice=twice) for twice in (False, True))
    some_iou, some_dice = (None if draws is None else quotients(draws, twice=twice) for twice in (False, True))
    edges = resampled_means(borders.reshape(n, -1), groups=groups).reshape(-1, 4, count) if many else None
    figures = {
        "iou": estimate(_mean(iou), None if some_iou is None else _mean(some_iou)),
        "dice": estimate(_mean(dice), None if some_dice is None else _mean(some_dice)),
        "boundary_f1": estimate(border_f1(borders.sum(0)[None]), None if edges is None else border_f1(edges)),
        "pixel_accuracy": estimate(_hits(whole), None if draws is None else _hits(draws)),
    }
    occurs = np.stack([(targets == k).reshape(len(targets), -1).sum(1) for k in range(count)])
    labeled = max(1, int((targets != IGNORED).sum()))
    classes = tuple(
        ClassPixels(
            names[k],
            int((occurs[k] > 0).sum()),
            float(occurs[k].sum() / labeled),
            estimate(iou[:, k], None if some_iou is None else some_iou[:, k]),
            estimate(dice[:, k], None if some_dice is None else some_dice[:, k]),
        )
        for k in range(count)
    )
    return figures, classes


def quotients(sums: NDArray[np.float64], *, twice: bool) -> NDArray[np.float64]:
    """(B, K) IoU, or Dice where the intersection counts `twice`, from (B, 3, K) pixels in intersection, union and
    truth; NaN for a class that does not occur in the truth: its predicted pixels already count against other classes,
    and a single one would otherwise lower the mean by a whole class."""
    hits, union, true = sums[:, 0], sums[:, 1], sums[:, 2]
    over = (2 * hits, union + hits) if twice else (hits, union)
    found: NDArray[np.float64] = np.divide(*over, out=np.full(hits.shape, np.nan), where=true > 0)
    return found


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(B,) mean over the classes that occur."""
    known = ~np.isnan(values)
    sums = np.where(known, values, 0).sum(1)
    found: NDArray[np.float64] = np.divide(sums, known.sum(1), out=np.full(len(values), np.nan), where=known.any(1))
    return found


def _hits(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """(B,) share of labeled pixels that are right."""
    hits, labeled = sums[:, 0].sum(1), sums[:, 2].sum(1)
    found: NDArray[np.float64] = np.divide(hits, labeled, out=np.full(len(sums), np.nan), where=labeled > 0)
    return found
