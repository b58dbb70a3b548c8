"""Is a network better than a baseline, or is the difference noise? Both answered for the same samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from striate.statistics.paired import FEW, LEVEL, bootstrap_interval, p_text, permutation_p, signed
from striate.tasks.headline import Headline, Rows


@dataclass(frozen=True)
class BaselineComparison:
    """How a network stands against one baseline on the same test samples.

    `difference` is in the network's favor where positive: samples that it alone has right minus those that the
    baseline alone has right (classes), else how much better its headline metric is. `p_value` of McNemar's exact test
    for classes, of a paired permutation test for others; `interval` (95 %) of the difference by a paired bootstrap for
    20 samples or more, else None. `beats`: the difference is positive and more than noise.
    """

    baseline: str
    difference: float
    p_value: float
    interval: tuple[float, float] | None
    beats: bool
    sentence: str

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain values, without the baseline's name."""
        return {
            "difference": self.difference,
            "p_value": self.p_value,
            "interval": None if self.interval is None else list(self.interval),
            "beats": self.beats,
            "sentence": self.sentence,
        }


def compare_rows(headline: Headline, baseline: str, theirs: Rows, ours: Rows, seed: int = 0) -> BaselineComparison:
    """The comparison of a network with the baseline of this name, from what each sample adds to the headline metric:
    a paired permutation test and a paired bootstrap."""
    rng, n, metric = np.random.default_rng(seed), len(ours), headline.metric
    difference = headline.lead(theirs, ours)
    p = permutation_p(theirs, ours, headline.lead, rng)
    interval = bootstrap_interval(theirs, ours, headline.lead, rng) if n >= FEW else None
    certain, figure = p < LEVEL, metric.name
    scale, unit = metric.lead
    better, worse = ("higher", "lower") if metric.higher_is_better else ("lower", "higher")
    how = f"{abs(scale * difference):.3g}{unit} {better if difference > 0 else worse}"
    test = f"paired permutation test over {n:,} test {samples_word(n)}, p {p_text(p)}"
    if interval is not None:
        low, high = (signed(scale * end) for end in interval)
        test += f"; 95 % interval of its lead {low} to {high}{unit}, paired bootstrap"
    if difference > 0 and certain:
        sentence = f"The network's {figure} is {how} than that of {called(baseline)}: more than noise ({test})."
    elif difference == 0:
        sentence = f"The network does not beat {called(baseline)}: the {figure} is the same."
    else:
        noise = "more than noise" if certain else "which noise alone may do"
        sentence = f"The network does not beat {called(baseline)}: its {figure} is {how}, {noise} ({test})."
    return BaselineComparison(baseline, difference, p, interval, difference > 0 and certain, sentence)


def samples_word(n: int) -> str:
    """`sample` or `samples`."""
    return "sample" if n == 1 else "samples"


def called(baseline: str) -> str:
    """A name within a sentence: `the mean`, but `ridge regression`."""
    return f"the {baseline}" if baseline.split()[0] in ("majority", "mean", "random") else baseline
