"""The gain of pretrained weights at each number of labels: the same trainings from these and from random weights."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from striate.studies.learning_curve.learning_curve import PretrainingGain, SizeGain
from striate.tasks.headline import Headline, Rows
from striate.tasks.registry import metric_named
from striate.wording import formatted, several

_DRAWS, _NORMAL = 1000, 1.959964


def gain_at(n: int, headline: Headline, pairs: Sequence[tuple[Rows, Rows]]) -> SizeGain:
    """The gain of `pairs`, one per seed: what each test sample adds to the headline metric from random weights, and
    from pretrained ones.

    The interval adds two variances: that of the test samples, the same for all trainings (paired bootstrap), and that
    of the mean over the seeds (Student's t).
    """
    from scipy.stats import t

    found = [headline.lead(random, pretrained) for random, pretrained in pairs]
    mean, count = statistics.fmean(found), len(found)
    sampled = _NORMAL * _deviation_of_tests(headline, pairs, np.random.default_rng(0))
    trained = float(t.ppf(0.975, count - 1)) * statistics.stdev(found) / math.sqrt(count) if count > 1 else 0.0
    half = math.hypot(sampled, trained)
    low, high = mean - half, mean + half
    return SizeGain(n, mean, (low, high), tuple(found), count > 1, low > 0 or high < 0)


def _deviation_of_tests(headline: Headline, pairs: Sequence[tuple[Rows, Rows]], rng: np.random.Generator) -> float:
    """Standard deviation of the mean gain over bootstrap samples of the test samples."""
    count = len(pairs[0][0])

    def drawn(places: NDArray[np.int64]) -> float:
        return statistics.fmean(headline.lead(random[places], pretrained[places]) for random, pretrained in pairs)

    return statistics.stdev(drawn(rng.integers(0, count, count)) for _ in range(_DRAWS))


def gain_sentence(found: PretrainingGain, metric: str) -> str:
    """What the weights bring at each size, in words."""
    name, (scale, unit) = metric_named(metric).name, metric_named(metric).lead
    parts = [_at_size(gain, scale, unit) for gain in found.gains]
    luck = (
        ""
        if found.gains[0].luck
        else " One training each: the intervals do not include the variation between trainings."
    )
    return f"Starting from the weights of {found.weights} changes the test {name}: {'; '.join(parts)}.{luck}"


def _at_size(gain: SizeGain, scale: float, unit: str) -> str:
    low, value, high = (
        formatted(scale * number, "+.3g") for number in (gain.interval[0], gain.value, gain.interval[1])
    )
    verdict = "" if gain.told else ", not significant"
    better = "" if scale == 100 else " (above 0: better)"
    return f"with {several(gain.n, 'label')} by {value}{unit}{better} (95 %: {low} to {high}){verdict}"
