"""The task of image captioning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from striate.data.annotations.captions import LETTERS, NOTHING, caption_rows, captions_in, word_rows
from striate.data.augment.warp import Warp
from striate.data.config import AugmentConfig
from striate.data.dataset import Dataset, SampleFacts
from striate.errors import UsageError
from striate.records import Finding
from striate.reference.captions import bleu
from striate.runs.predictions import Predictions as SavedPredictions
from striate.statistics.calibration import Temperature
from striate.tasks.accumulator import Accumulator, RowAccumulator
from striate.tasks.assessment import Assessment, SplitMetrics
from striate.tasks.baseline import Baseline, BaselineComparison, Method, compare_rows
from striate.tasks.caption.assess import (
    assess_captions,
    bleu_rows,
    caption_words,
    cider_rows,
    estimates,
    image_rows,
    joined_text,
    metrics_of,
)
from striate.tasks.caption.doctor import same_caption, short_captions
from striate.tasks.caption.head import CaptionNetwork
from striate.tasks.caption.metrics import CIDER, METRICS, CaptionMetrics
from striate.tasks.config import TaskConfig
from striate.tasks.evaluation import Evaluation
from striate.tasks.exported import Frame
from striate.tasks.headline import Headline, Rows, interval_of
from striate.tasks.outputs import Outputs
from striate.tasks.task import Explained, Feature, Task
from striate.visualize.page_parts import Picture, Section
from striate.wording import percent, probability_text, several

LONGEST = 40
"""Largest number of words of a predicted caption, however long the training captions are."""
CROP = 0.8
"""Smallest crop as a share of the image: smaller ones would cut off what captions describe."""
EXCHANGED = {
    "flip": (("left", "right"),),
    "vertical_flip": (("above", "below"), ("top", "bottom"), ("over", "under"), ("upper", "lower")),
}
"""Words that are exchanged in the captions of mirrored images, by the direction of the mirror."""


@dataclass(frozen=True)
class Caption(Task):
    """Captions in words.

    Outputs are those of `CaptionNetwork`. Targets (N, M, LETTERS) int8 are those of
    `striate.data.annotations.captions`. Predictions (N, T, LETTERS + 1 + L) float32 have a row for each word: its
    bytes, its log-probability, and the attention to each cell. The loss is the cross-entropy of each true word, and of
    the end, after the true words before it; padding rows do not count.
    """

    words: tuple[str, ...] = ()
    """The vocabulary: the words that occur often enough in training, the most frequent first."""
    longest: int = 1
    """Number of words of the longest caption that is written."""
    beam: int = 3
    """Width of the beam search for the most probable caption."""

    name: ClassVar[str] = "caption"
    annotation: ClassVar[str] = "caption"
    needs: ClassVar[Feature] = "pyramid"
    metrics = METRICS
    losses: ClassVar[tuple[str, ...]] = ("cross-entropy",)
    fields: ClassVar[Mapping[str, frozenset[str]]] = {"cross-entropy": frozenset(("beam", "least_count"))}
    reads_tree: ClassVar[bool] = True
    exports: ClassVar[tuple[str, ...]] = ("tokens", "log_probabilities", "attention")
    draws: ClassVar[bool] = True
    refused_augmentation: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("mixup", "cutmix"), "nothing, since two captions cannot be blended"),
        "quarter_turns": "nothing, since rotations change what captions say about positions",
    }
    loss_name: ClassVar[str] = "cross-entropy"  # type: ignore[misc]

    @classmethod
    def make(cls, data: Dataset, config: TaskConfig, loss: str) -> Self:
        """The task with the vocabulary of the training captions."""
        del loss
        captions = [words for target in data.splits["train"].targets.cpu().numpy() for words in captions_in(target)]
        counts = Counter(word for words in captions for word in words)
        known = [word for word, count in counts.items() if count >= config.least_count]
        known.sort(key=lambda word: (-counts[word], word))
        if not known:
            raise UsageError(
                "--task.least_count",
                f"{config.least_count}: no word occurs that often in the training captions",
                f"at most {max(counts.values())}",
                "--task.least_count 1",
            )
        return cls(tuple(known), min(LONGEST, max(map(len, captions))), config.beam)

    def state(self) -> dict[str, Any]:
        """Plain values for the checkpoint."""
        return {"words": list(self.words), "longest": self.longest, "beam": self.beam}

    @property
    def outputs(self) -> int:
        """One for each word."""
        return len(self.words)

    def attach(self, network: nn.Module, input_shape: tuple[int, ...]) -> nn.Module:
        """The network's maps with a decoder."""
        if isinstance(network, CaptionNetwork):
            return network
        made = CaptionNetwork(network, input_shape, self.words, self.longest, self.beam)
        return made.to(next(network.parameters(), torch.empty(0)).device)

    def bare(self, network: nn.Module) -> nn.Module:
        """The network of the maps."""
        return network.grid.pyramid.body if isinstance(network, CaptionNetwork) else network

    def outputs_for(self, network: Callable[..., Outputs], inputs: torch.Tensor, targets: torch.Tensor) -> Outputs:
        """The network gets the true captions (teacher forcing)."""
        return network(inputs, targets)

    # Loss

    def weight(self, targets: torch.Tensor) -> torch.Tensor:
        """The number of words, with the ends of captions; a little above 0 where there are none."""
        return (targets[..., 0] != NOTHING).sum().float().clamp(min=1e-12)

    def loss_sum(self, outputs: Outputs, targets: torch.Tensor) -> torch.Tensor:
        """Scalar: minus the sum of the log-probabilities of the true words, or, where the network did not get them, of
        the predicted words."""
        del targets
        if "truth" in outputs:
            return -outputs["truth"].sum()  # type: ignore[no-any-return]
        return -outputs["predicted"][..., LETTERS].sum()  # type: ignore[no-any-return]

    def constant_loss(self, targets: torch.Tensor) -> float:
        """The entropy of the frequencies of words and ends, regardless of the words before."""
        counts = targets[targets[..., 0] != NOTHING].unique(dim=0, return_counts=True)[1].double()
        return float(-(counts / counts.sum()).log().mul(counts / counts.sum()).sum())

    def metrics_of_loss(self, loss: float) -> dict[str, Any]:
        """`perplexity`: the number of equally probable words among which the next one would be as hard to predict."""
        return {"perplexity": None if self.own_loss else exp(min(loss, 700.0))}

    def warp_targets(self, targets: torch.Tensor, warp: Warp) -> torch.Tensor:
        """Captions of images mirrored from left to right exchange left and right; of those mirrored from top to bottom,
        above and below."""
        turned = targets
        for direction, pairs in EXCHANGED.items():
            mirrored = getattr(warp, direction)
            for pair in pairs if mirrored is not None else ():
                rows = [torch.from_numpy(row.copy()).to(targets.device) for row in word_rows(pair)]
                for one, other in (rows, rows[::-1]):
                    there = (targets == one).all(2) & mirrored.to(targets.device)[:, None]
                    turned = torch.where(there[..., None], other, turned)
        return turned

    def augmentation(self, usual: AugmentConfig, request: AugmentConfig) -> tuple[AugmentConfig, str]:
        """Crops keep most of the image."""
        del request
        return replace(usual, crop=max(usual.crop or 1.0, CROP)), ""

    # Metrics

    def accumulator(self) -> Accumulator:
        """The loss, and BLEU-4 of the captions of validation images."""
        return RowAccumulator(self, lambda rows: {"bleu4": bleu(rows.sum(0))})

    def decode(self, outputs: Outputs) -> torch.Tensor:
        """(N, T, LETTERS + 1 + L) float32."""
        return outputs["predicted"].float()  # type: ignore[no-any-return]

    def export(self, outputs: Outputs, frame: Frame | None) -> tuple[torch.Tensor, ...]:
        """`tokens` (N, T), the numbers of words, 0 from the end on; `log_probabilities` (N, T) of the words;
        `attention` (N, T, L) of the words to the cells of the image. The file computes all steps of the search, also
        those after the end."""
        del frame
        predicted = self.decode(outputs)
        return outputs["tokens"], predicted[..., LETTERS], predicted[..., LETTERS + 1 :]

    def exported_facts(self) -> dict[str, Any]:
        """The vocabulary, by the numbers of words."""
        return {"words": ["<end>", "<unknown>", *self.words]}

    def from_exported(self, arrays: Sequence[NDArray[Any]], size: tuple[int, int] | None) -> NDArray[np.float32]:
        """(N, T, LETTERS + 1 + L)."""
        del size
        tokens, logs, attention = arrays
        letters = word_rows(["", "", *self.words])[tokens].astype(np.uint8).astype(np.float32)
        return np.concatenate([letters, logs[..., None], attention], axis=2)

    def disparity(self, right: NDArray[Any], found: NDArray[Any]) -> tuple[float, bool]:
        """How far log-probabilities and attention differ, and whether the words are the same."""
        one, other = (np.asarray(part, np.float64) for part in (right, found))
        same = caption_words(one[None]) == caption_words(other[None])
        return float(np.abs(one[:, LETTERS:] - other[:, LETTERS:]).max()) if same else float("inf"), same

    def measure(self, decoded: torch.Tensor, targets: torch.Tensor) -> dict[str, Any]:
        """`bleu4`, `cider`, `rouge_l` and `exact_match`."""
        return metrics_of(image_rows(decoded.cpu(), targets.cpu()).sum(0))

    @classmethod
    def rows(cls, decoded: NDArray[Any], targets: NDArray[Any], classes: int = 0) -> Rows:
        """(N, 10) what each image adds to BLEU."""
        del classes
        return bleu_rows(decoded, targets)

    @classmethod
    def headline_of(cls, total: Rows, n: int) -> float:
        """BLEU-4 of the corpus."""
        del n
        return bleu(total)

    def interval(self, decoded: Any, targets: Any, groups: Sequence[str] = ()) -> dict[str, list[float] | None]:
        """The interval of each metric, by bootstrap over images or groups."""
        found = estimates(image_rows(decoded, targets), groups)
        return {f"{name}_interval": interval_of(figure) for name, figure in found.items()}

    def same(self, one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
        """1 where both captions are the same."""
        pairs = zip(caption_words(one), caption_words(other), strict=True)
        return np.array([one == theirs for one, theirs in pairs], np.float64)

    def assess(
        self, evaluation: Evaluation, facts: SampleFacts, temperature: Temperature | None, names: Sequence[str]
    ) -> SplitMetrics:
        """Each metric with its interval, the worst images, and slices."""
        del temperature, names
        return assess_captions(evaluation, facts, self.headline_metric())

    @classmethod
    def accepts_saved(cls, saved: SavedPredictions) -> bool:
        """Whether predictions and targets have rows of words."""
        rows = saved.predicted is None and saved.predictions.ndim == saved.targets.ndim == 3
        return rows and saved.predictions.shape[2] > LETTERS + 1 and saved.targets.shape[2] == LETTERS

    def prediction_findings(self, evaluation: Evaluation) -> tuple[Finding, ...]:
        """Findings on images that get the same caption, and on captions that are too short for BLEU-4."""
        return (*same_caption(evaluation), *short_captions(evaluation))

    def baselines(self, data: Dataset) -> tuple[Method, ...]:
        """One caption for all images; a caption of the most similar training images."""
        from striate.tasks.caption.baselines import caption_methods  # loads only where it is needed

        return caption_methods(data)

    def compare_baseline(
        self, network: Evaluation, baseline: Baseline, seed: int = 0, groups: Sequence[str] = ()
    ) -> BaselineComparison:
        """The comparison by CIDEr-D, a mean over images, by which the number of neighbors is chosen too."""
        theirs, ours = (cider_rows(decoded, network.targets) for decoded in (baseline.decoded, network.decoded))
        headline = Headline(CIDER, lambda total, n: float(total / n))
        return compare_rows(headline.over(groups), baseline.name, theirs, ours, seed)

    # Predictions

    def describe(self, decoded: torch.Tensor) -> dict[str, Any]:
        """`caption`, and its `probability`: the product over its words and its end."""
        words = caption_words(decoded[None])[0]
        return {"caption": " ".join(words), "probability": float(decoded[:, LETTERS].double().sum().exp())}

    def line(self, fields: Mapping[str, Any]) -> str:
        """The caption and its probability."""
        return f"{fields['caption']}  ({probability_text(fields['probability'])})"

    def draw(self, image: NDArray[np.uint8], decoded: Any, truth: Any = None) -> NDArray[np.uint8]:
        """The image, with the attention of each word."""
        from striate.tasks.caption.show import picture_of

        return picture_of(image, np.asarray(decoded), None if truth is None else np.asarray(truth))

    def target_text(self, target: Any) -> str:
        """The captions."""
        return joined_text(captions_in(torch.as_tensor(target).cpu()))

    # Reports

    def headline_text(self, evaluation: Evaluation) -> tuple[str, str]:
        """CIDEr-D, and the other metrics."""
        metrics, n = evaluation.metrics, evaluation.n
        of = f"{several(n, 'image')} of the {evaluation.split} split of {evaluation.data}"
        span = evaluation.span_of("cider", "{:.3f}".format)
        return f"CIDEr-D {metrics['cider']:.3f}", (
            f"how well the predicted captions agree with the true ones{span}, on the {of}. BLEU-4 is "
            f"{percent(metrics['bleu4'])}, ROUGE-L {percent(metrics['rouge_l'])}; {percent(metrics['exact_match'])} of "
            f"the predicted captions equal a true one word for word."
        )

    def pictures(
        self, folder: Path, evaluation: Evaluation, images: Any | None, *, names: Sequence[str] = ()
    ) -> tuple[Picture, ...]:
        """Samples with the attention of each word: random, worst, typical and best ones."""
        from striate.tasks.caption.show import caption_pictures  # drawing loads only where it is needed

        return caption_pictures(folder, evaluation, images, names)

    def sections(self, assessment: Assessment, figures: SplitMetrics, of: str) -> tuple[Section, ...]:
        """The predicted captions."""
        from striate.tasks.caption.show import caption_sections

        del assessment
        return caption_sections(figures, of) if isinstance(figures, CaptionMetrics) else ()

    def columns(self, names: Sequence[str]) -> list[str]:
        """The true captions, and the predicted one."""
        del names
        return ["captions", "prediction"]

    def cells(self, truth: Any, decoded: Any) -> list[Any]:
        """One sample's row."""
        return [joined_text(captions_in(truth)), " ".join(caption_words(np.asarray(decoded)[None])[0])]

    def explained(self, decoded: torch.Tensor) -> Explained:
        """The whole caption, by the sum of the log-probabilities of its words and its end."""
        note = "The map explains the log-probability of this caption, which stays fixed while the image changes."
        several_words = "--part WORD explains one word; striate predict --draw DIR draws the attention of each word."
        return self._explained_words(decoded, slice(None), "the whole caption", (note, several_words))

    def explained_part(self, decoded: torch.Tensor, part: str) -> Explained:
        """A word, at its first position in the caption. Raises UsageError for a word that is not in it."""
        words = caption_words(decoded[None])[0]
        if part not in words:
            expected = f"a word of the caption: {' '.join(words)}"
            raise UsageError("--part", repr(part), expected, f"--part {words[0]}" if words else "leave out --part")
        place = words.index(part)
        note = "The map explains the log-probability of this word, given the words before it."
        return self._explained_words(decoded, slice(place, place + 1), f"the word {part}", (note,))

    def _explained_words(self, decoded: torch.Tensor, places: slice, part: str, notes: tuple[str, ...]) -> Explained:
        words = caption_words(decoded[None])[0]
        caption = torch.from_numpy(caption_rows([words], len(words) + 1))

        def force(network: nn.Module) -> None:
            network.forced_caption = caption.to(next(network.parameters()).device)

        return Explained(
            lambda outputs: outputs["truth"][:, places].sum(1, keepdim=True), 0, "number", part, notes, prepare=force
        )
