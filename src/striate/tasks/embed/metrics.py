"""The metrics of embeddings: keys, records of evaluation.json, lines in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from striate.statistics.calibration import Temperature
from striate.statistics.estimate import Estimate
from striate.tasks.assessment import Slice, SplitRecord, slice_lines, with_paths
from striate.tasks.metric import Metric
from striate.wording import formatted, percent

RECALL = Metric("recall@1", "recall@1", "share")
METRICS = (
    RECALL,
    Metric("recall@5", "recall@5", "share", brief=False),
    Metric("map@r", "MAP@R", "share"),
    Metric("auc", "AUC of pairs", "share"),
    Metric("eer", "EER", "share", higher_is_better=False, brief=False),
    Metric("threshold", "threshold", brief=False, interval_of="by this split alone"),
)
_PAIRS = 3


def similarity_text(cosine: float) -> str:
    """A cosine similarity or a threshold of it, with three decimals."""
    return formatted(cosine, ".3f")


@dataclass(frozen=True)
class SamplePair:
    """Two samples of a split, and the cosine of their embeddings."""

    paths: tuple[str, str]
    classes: tuple[str, str]
    similarity: float


@dataclass(frozen=True)
class EmbeddingMetrics(SplitRecord):
    """Everything about one split of embeddings, whose classes are not those of the training."""

    n: int
    """Number of samples."""
    classes: int
    """Number of classes."""
    metrics: Mapping[str, Estimate]
    """`recall@1`, `recall@5` and `map@r` over the samples that have another of their class, `auc` and `eer` over pairs,
    and the `threshold` that this split alone would choose. Intervals are by bootstrap over samples, or over groups
    where there are groups."""
    threshold: float
    """The threshold in use, chosen on validation."""
    wrong: tuple[float | None, float | None]
    """Share of the pairs of one class below it, and of the pairs of two classes above it; None where there are no such
    pairs."""
    curve: tuple[tuple[float, float], ...]
    """The ROC curve: pairs of false and true positive rate."""
    apart: tuple[SamplePair, ...]
    """Pairs of one class with the lowest cosines."""
    alike: tuple[SamplePair, ...]
    """Pairs of two classes with the highest cosines."""
    slices: tuple[Slice, ...]
    """Parts of the data."""
    left_out: tuple[str, ...] = ()
    """What was not computed, a sentence each."""

    def lines(self, temperature: Temperature | None) -> list[list[str]]:
        """The mistakes at the threshold, the hardest pairs, and slices."""
        del temperature
        return [self._threshold_lines(), self._pair_lines(), slice_lines(self.slices, RECALL)]

    def _threshold_lines(self) -> list[str]:
        missed, taken = ("–" if share is None else percent(share, 2) for share in self.wrong)
        return [
            f"  a similarity of at least {similarity_text(self.threshold)} counts as one class (chosen on val):",
            f"    {missed} of the pairs of one class are below it, {taken} of the others above",
        ]

    def _pair_lines(self) -> list[str]:
        lines = []
        for title, pairs in (("one class, least similar", self.apart), ("two classes, most similar", self.alike)):
            lines += [f"  {title}"] if pairs else []
            for pair in pairs[:_PAIRS]:
                lines += with_paths(f"    {similarity_text(pair.similarity):>6} ", *pair.paths)
        return lines
