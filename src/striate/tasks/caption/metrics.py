"""The metrics of captions: keys, records of evaluation.json, lines in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from striate.errors import one_line
from striate.statistics.calibration import Temperature
from striate.statistics.estimate import Estimate
from striate.tasks.assessment import Slice, SplitRecord, cut_text, slice_lines, span_text, with_paths
from striate.tasks.metric import Metric
from striate.wording import several

BLEU = Metric("bleu4", "BLEU-4", "share")
CIDER = Metric("cider", "CIDEr-D")
METRICS = (
    BLEU,
    CIDER,
    Metric("rouge_l", "ROUGE-L", "share", brief=False),
    Metric("exact_match", "exact match", "share"),
    Metric("perplexity", "perplexity", higher_is_better=False),
)
_IMAGES = 5


@dataclass(frozen=True)
class ImageCaption:
    """The caption of one image."""

    id: int
    """Id of the sample."""
    path: str
    """Its path."""
    predicted: str
    """The predicted caption."""
    true: str
    """The first of the true captions."""
    cider: float
    """Its CIDEr-D."""


@dataclass(frozen=True)
class CaptionMetrics(SplitRecord):
    """Everything about one split of captions."""

    n: int
    """Number of images."""
    metrics: Mapping[str, Estimate]
    """`bleu4` of the corpus, and means over images of `cider` (0 to 10; a sequence of words weighs more, the fewer
    images of this split have it), `rouge_l` and `exact_match`. Intervals are by bootstrap over images, or over groups
    where there are groups."""
    different: int
    """Number of different captions among the predictions."""
    worst: tuple[ImageCaption, ...]
    """Images, beginning with the lowest CIDEr-D."""
    slices: tuple[Slice, ...]
    """Parts of the data."""
    left_out: tuple[str, ...] = ()
    """What was not computed, a sentence each."""

    def lines(self, temperature: Temperature | None) -> list[list[str]]:
        """The metrics, slices, and the images with the lowest CIDEr-D."""
        del temperature
        names = {metric.key: metric for metric in METRICS}
        rows = [
            f"  {names[key].name:<24}{names[key].text(figure.value):>10}   "
            + span_text(figure, *((100, ".2f") if names[key].is_share else (1, ".3f")))
            for key, figure in self.metrics.items()
        ]
        head = f"  {'over all images':<24}{'':>10}   95 % interval"
        count = f"  {several(self.different, 'caption', 'different captions')} for {several(self.n, 'image')}"
        return [[head, *rows, count], slice_lines(self.slices, BLEU), self._worst_lines()]

    def _worst_lines(self) -> list[str]:
        lines = []
        for one in self.worst[:_IMAGES]:
            lines += with_paths(f"  {one.cider:6.3f} ", one.path)
            lines += [f"     predicted: {cut_text(one_line(one.predicted), 62)}"]
            lines += [f"          true: {cut_text(one_line(one.true), 62)}"]
        return ["  images with the lowest CIDEr-D", *lines] if lines else []
