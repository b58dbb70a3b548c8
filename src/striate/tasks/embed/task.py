"""The task of embeddings: vectors that are near one another for samples of a class, also for classes that are not in
training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from striate.data.augment.warp import Warp
from striate.data.config import AugmentConfig
from striate.data.dataset import Dataset, SampleFacts
from striate.data.loader import order_by_class
from striate.errors import ConfigError
from striate.records import Finding
from striate.runs.predictions import Predictions as SavedPredictions
from striate.statistics.calibration import Temperature
from striate.tasks.accumulator import Accumulator
from striate.tasks.assessment import Assessment, SplitMetrics
from striate.tasks.baseline import Method
from striate.tasks.config import TaskConfig
from striate.tasks.embed.assess import assess_embeddings, neighbor_estimates
from striate.tasks.embed.head import EmbeddingNetwork
from striate.tasks.embed.losses import BY_PROXY, loss_of
from striate.tasks.embed.metrics import METRICS, EmbeddingMetrics
from striate.tasks.embed.mirrors import ENOUGH, mirrors_keep_class
from striate.tasks.embed.retrieval import neighbor_rows, verification_estimates, verify_pairs
from striate.tasks.evaluation import Evaluation
from striate.tasks.headline import Rows, interval_of
from striate.tasks.task import Explained, Task
from striate.visualize.page_parts import Picture, Section, Table
from striate.wording import formatted, percent, several

_MANY = 1000
"""Number of classes from which rotated images are not needed as additional classes."""
CROP, ROTATE, SCALE = 0.7, 10.0, 0.1
"""Augmentation: smallest crop as a share of the image, largest rotation in degrees, largest change of scale."""
_COLLAPSED = 0.55
"""Area under the ROC curve of pairs below which there is a finding; 0.5 is chance."""


@dataclass(frozen=True)
class Embed(Task):
    """Embeddings of length 1.

    Outputs (N, D + K) are embeddings and, where the loss has proxies, their cosines with a proxy of each of K training
    classes. Targets (N,) int64, predictions (N, D) float32. With `turned_classes`, a target is a class number plus the
    number of classes times the number of its rotation.
    """

    classes: tuple[str, ...] = ()
    """Names of the classes."""
    seen: tuple[int, ...] = ()
    """Class numbers of the training split; other classes have no proxy, and do not count in the training loss."""
    dimensions: int = 128
    """Number D of dimensions of an embedding."""
    loss_name: str = "arcface"
    """Name of the loss."""
    each: int = 4
    """Number of samples of a class that follow one another in a batch."""
    threshold: float = 0.5
    """The cosine from which two samples are predicted to be of one class; chosen on validation."""
    slope: float = 10.0
    """How steeply the probability of that rises at the threshold; chosen on validation."""
    mirrored: bool = False
    """Whether mirror images have the same class, so that an embedding is that of both."""
    turned_classes: int = 1
    """Number of rotations of training images, each a class with a proxy of its own: 1, 2 (by 0 and 180°), or 4 (by 0,
    90, 180 and 270°)."""
    mirror_ratio: float | None = field(default=None, compare=False)
    """The measured ratio that decided `mirrored`; None where the user decided."""

    name: ClassVar[str] = "embed"
    annotation: ClassVar[str] = "identity"
    metrics = METRICS
    losses: ClassVar[tuple[str, ...]] = ("arcface", "proxy-anchor", "triplet", "supcon")
    fields: ClassVar[Mapping[str, frozenset[str]]] = dict.fromkeys(
        losses, frozenset(("dimensions", "samples_per_class", "mirrored", "turned_classes"))
    )
    gives_vector: ClassVar[bool] = True
    outputs_field: ClassVar[str] = "task.dimensions"
    exports: ClassVar[tuple[str, ...]] = ("embedding",)
    refused_augmentation: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("mixup", "cutmix"), "nothing, since a blend of two classes has no target embedding"
    )

    @classmethod
    def make(cls, data: Dataset, config: TaskConfig, loss: str) -> Self:
        """The task for the classes of the training split."""
        seen = torch.unique(data.splits["train"].targets).tolist()
        ratio = mirrors_keep_class(data) if config.mirrored is None else None
        mirrored = (ratio or 0.0) >= ENOUGH if config.mirrored is None else config.mirrored
        sizes = config.dimensions, loss, config.samples_per_class
        images = data.medium.pictures and len(data.input_shape) == 3
        if config.turned_classes and not images:
            got, remedy = f"true, for {data.medium.values}", "--task.turned_classes false"
            raise ConfigError("task.turned_classes", got, "images, which can be rotated", remedy)
        # Losses that compare samples need several with the same rotation in a batch.
        few = images and not mirrored and len(seen) < _MANY and loss in BY_PROXY
        turned = few if config.turned_classes is None else config.turned_classes
        rotations = 1 if not turned else 4 if data.input_shape[1] == data.input_shape[2] else 2
        return cls(data.classes, tuple(seen), *sizes, mirrored=mirrored, turned_classes=rotations, mirror_ratio=ratio)

    def decided(self, config: TaskConfig) -> TaskConfig:
        """The configuration, with whether images are mirrored, and whether rotated ones are classes."""
        return replace(config, mirrored=self.mirrored, turned_classes=self.turned_classes > 1)

    @property
    def _proxies(self) -> int:
        return len(self.seen) * self.turned_classes if self.loss_name in BY_PROXY else 0

    @property
    def outputs(self) -> int:
        """The embedding, and a cosine for each proxy."""
        return self.dimensions + self._proxies

    @property
    def built_outputs(self) -> int:
        """The dimensions of the embedding."""
        return self.dimensions

    @property
    def batch_unit(self) -> int:  # type: ignore[override]
        """The number of samples of one class."""
        return self.each

    @property
    def compares_samples(self) -> bool:  # type: ignore[override]
        """True for all losses but ArcFace."""
        return self.loss_name != "arcface"

    def attach(self, network: nn.Module, input_shape: tuple[int, ...]) -> nn.Module:
        """The network with embeddings of length 1, and proxies."""
        del input_shape
        if isinstance(network, EmbeddingNetwork):
            return network
        made = EmbeddingNetwork(network, self.dimensions, self._proxies, mirrored=self.mirrored)
        return made.to(next(network.parameters(), torch.empty(0)).device)

    def bare(self, network: nn.Module) -> nn.Module:
        """The network whose outputs are the embeddings."""
        return network.body if isinstance(network, EmbeddingNetwork) else network

    def settled(self, val: Mapping[str, float]) -> Self:
        """The task with the threshold and the slope of validation, where they are known."""
        threshold, slope = (float(val.get(name, np.nan)) for name in ("threshold", "slope"))
        return replace(self, threshold=threshold, slope=slope) if np.isfinite([threshold, slope]).all() else self

    def augmentation(self, usual: AugmentConfig, request: AugmentConfig) -> tuple[AugmentConfig, str]:
        """Small rotations and changes of scale; large crops, since unseen classes may differ in any part of the image;
        mirroring where it keeps the class."""
        del request
        varied = replace(usual, crop=max(usual.crop or 1.0, CROP), rotate=ROTATE, scale=SCALE)
        notes = []
        if self.mirrored:
            varied = replace(varied, flip=usual.flip or True)
            ratio = self.mirror_ratio
            near = "" if ratio is None else f" (nearest to it {ratio:.2f} times as often as the original images)"
            mean = "embeddings are the mean over both (--task.mirrored false turns this off)"
            notes.append(f"mirror images have the class of their image{near}: {mean}")
        if self.turned_classes > 1:
            varied = replace(varied, quarter_turns=True)
            turn = "by 90, 180 and 270°" if self.turned_classes > 2 else "by 180°"
            notes.append(f"images rotated {turn} are additional classes (--task.turned_classes false turns this off)")
        return varied, "; ".join(notes)

    def epoch_order(self, targets: torch.Tensor, seed: int, epoch: int) -> torch.Tensor:
        """An order in which `each` samples of a class follow one another."""
        return order_by_class(targets, self.each, seed, epoch)

    def warp_targets(self, targets: torch.Tensor, warp: Warp) -> torch.Tensor:
        """Where rotated images are additional classes: the class number plus the number of classes times the number of
        the image's rotation among the `turned_classes`."""
        if self.turned_classes == 1 or warp.turns is None:
            return targets
        places = warp.turns // (4 // self.turned_classes)
        return targets + len(self.classes) * places.to(targets.device)

    # Loss

    def weight(self, targets: torch.Tensor) -> torch.Tensor:
        """The number of samples of training classes; a little above 0 where there are none."""
        return (self._places(targets) >= 0).sum().float().clamp(min=1e-12)

    def _places(self, targets: torch.Tensor) -> torch.Tensor:
        """(N,) position of each class among the training classes, those of rotated images last; −1 for other
        classes."""
        seen, count = torch.tensor(self.seen, device=targets.device), max(1, len(self.classes))
        numbers, rotations = targets % count, targets // count
        places = torch.searchsorted(seen, numbers).clamp(max=len(self.seen) - 1)
        known = (seen[places] == numbers) & (rotations < self.turned_classes)
        return torch.where(known, places + rotations * len(self.seen), -1)

    def loss_sum(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Scalar: the mean loss of `loss_of` times the number of samples of training classes."""
        places, outputs = self._places(targets), outputs.float()
        known = places >= 0
        given = outputs[known, self.dimensions :] if self._proxies else outputs[known]
        nothing = 0 * outputs.sum()
        if not len(given):
            return nothing
        return loss_of(self.loss_name, self._proxies)(given, places[known]) * len(given) + nothing

    # Metrics

    def accumulator(self) -> Accumulator:
        """The loss, and on validation the metrics of embeddings."""
        from striate.tasks.embed.accumulate import EmbeddingAccumulator

        return EmbeddingAccumulator(self, whole=True)

    def collector(self, samples: int) -> Accumulator:
        """The loss of neighbors alone; `measure` computes the metrics."""
        del samples
        from striate.tasks.embed.accumulate import EmbeddingAccumulator

        return EmbeddingAccumulator(self, whole=False)

    def decode(self, outputs: torch.Tensor) -> torch.Tensor:
        """(N, D) float32 of length 1."""
        return functional.normalize(outputs[:, : self.dimensions].float())

    def exported_facts(self) -> dict[str, Any]:
        """The cosine from which two samples are predicted to be of one class, and the slope of its probability
        there."""
        return {"threshold": self.threshold, "slope": self.slope}

    def measure(self, decoded: torch.Tensor, targets: torch.Tensor) -> dict[str, Any]:
        """`recall@1`, `recall@5` and `map@r` of samples with another of their class, and `auc` and `eer` of pairs, None
        where there are no such samples or pairs; and the threshold chosen on validation."""
        found = {name: figure.value for name, figure in neighbor_estimates(self._rows4(decoded, targets)).items()}
        pairs = verify_pairs(decoded, targets)
        for name in ("auc", "eer"):
            found[name] = None if np.isnan(getattr(pairs, name)) else getattr(pairs, name)
        return {**found, "threshold": self.threshold}

    def measure_each(self, tasks: Sequence[Self], decoded: torch.Tensor, targets: torch.Tensor) -> dict[str, Any]:
        """The metrics, with the mean of the thresholds."""
        return self.measure(decoded, targets) | {"threshold": float(np.mean([task.threshold for task in tasks]))}

    @staticmethod
    def _rows4(decoded: Any, targets: Any) -> Rows:
        return neighbor_rows(*(x.cpu().numpy() if isinstance(x, torch.Tensor) else x for x in (decoded, targets)))

    @classmethod
    def rows(cls, decoded: NDArray[Any], targets: NDArray[Any], classes: int = 0) -> Rows:
        """(N, 2) whether the nearest neighbor has the class, and whether there is another sample of the class."""
        del classes
        return neighbor_rows(decoded, targets)[:, [0, 3]]

    @classmethod
    def headline_of(cls, total: Rows, n: int) -> float:
        """The mean over the samples with another of their class."""
        del n
        return float(total[0] / total[1]) if total[1] else 0.0

    def interval(self, decoded: Any, targets: Any, groups: Sequence[str] = ()) -> dict[str, list[float] | None]:
        """The interval of each metric, by bootstrap over samples or groups. That of the threshold belongs to the
        threshold of these samples alone; on validation, this is the threshold in use."""
        found = {
            **neighbor_estimates(self._rows4(decoded, targets), groups),
            **verification_estimates(decoded, targets, groups),
        }
        return {
            f"{name}_interval": interval_of(found[name]) for name in ("recall@1", "map@r", "auc", "eer", "threshold")
        }

    def classes_of_split(self, targets: Any) -> int:
        """The number of classes that occur: no class is in two splits."""
        return len(np.unique(targets))

    def prediction_findings(self, evaluation: Evaluation) -> tuple[Finding, ...]:
        """A finding where the embeddings hardly separate the classes."""
        area = evaluation.metrics.get("auc")
        if area is None or area >= _COLLAPSED:
            return ()
        vectors = np.asarray(evaluation.decoded, np.float64)
        length = float(np.linalg.norm(vectors.mean(0)))
        why = "Pairs of one class are hardly more similar than others: the network has not learned the classes yet."
        if length > 0.9:
            why = "All embeddings are nearly the same (collapse): the loss has pulled everything to one point."
        return (
            Finding(
                code="fit.not-apart",
                severity="warning",
                where=f"{evaluation.split} split",
                measured=f"the area under the ROC curve of pairs is {percent(area)}; the mean embedding has length "
                f"{length:.2f}",
                threshold=percent(_COLLAPSED),
                why=why,
                remedy="Train for longer, with a smaller learning rate, or with --task.loss arcface.",
            ),
        )

    def assess(
        self, evaluation: Evaluation, facts: SampleFacts, temperature: Temperature | None, names: Sequence[str]
    ) -> SplitMetrics:
        """ROC, the hardest pairs, and slices."""
        del temperature, names
        rows = self._rows4(evaluation.decoded, evaluation.targets)
        return assess_embeddings(evaluation, facts, self.headline_metric(), rows, self.threshold)

    @classmethod
    def accepts_saved(cls, saved: SavedPredictions) -> bool:
        """Whether there is a vector for each class number."""
        vectors = saved.predicted is None and saved.predictions.ndim == 2 and saved.predictions.dtype.kind == "f"
        return vectors and saved.targets.ndim == 1 and saved.targets.dtype.kind in "iu"

    def baselines(self, data: Dataset) -> tuple[Method, ...]:
        """The inputs themselves; for images, histograms of oriented gradients."""
        from striate.tasks.embed.baselines import embed_methods

        return embed_methods(data)

    # Predictions

    def describe(self, decoded: torch.Tensor) -> dict[str, Any]:
        """`embedding`."""
        return {"embedding": [round(value, 7) for value in decoded.tolist()]}

    def line(self, fields: Mapping[str, Any]) -> str:
        """The first components."""
        values = fields["embedding"]
        first = " ".join(formatted(value, "+.3f") for value in values[:_FIRST])
        return f"{first} … ({several(len(values), 'number')})"

    def threshold_of_pairs(self, similarity: float = 0.0) -> tuple[float, float]:
        """The threshold of validation, and the probability if pairs of one class and of two are equally frequent."""
        return self.threshold, float(1 / (1 + np.exp(-self.slope * (similarity - self.threshold))))

    def explained(self, decoded: torch.Tensor) -> Explained:
        """The largest component, which determines most of the direction of the embedding."""
        place = int(decoded.abs().argmax())
        note = "The map explains the largest component of the embedding, since the length of the whole is always 1."
        return Explained(
            lambda outputs: outputs[:, : self.dimensions],
            place,
            "number",
            f"number {place + 1} of the embedding",
            (note,),
        )

    def target_text(self, target: Any) -> str:
        """The name of the class, and the rotation of a training image."""
        turn, number = divmod(int(target), len(self.classes))
        return self.classes[number] + (f", rotated by {360 // self.turned_classes * turn}°" if turn else "")

    def columns(self, names: Sequence[str]) -> list[str]:
        """The class, and the embedding."""
        del names
        return ["class", "embedding"]

    def cells(self, truth: Any, decoded: Any) -> list[Any]:
        """One sample's row."""
        return [self.classes[int(truth)], " ".join(f"{value:.6g}" for value in np.ravel(decoded))]

    # Reports

    def headline_text(self, evaluation: Evaluation) -> tuple[str, str]:
        """How often the nearest neighbor has the class, and how well pairs are separated."""
        metrics = evaluation.metrics
        span = evaluation.span_of("recall@1")
        classes = several(self.classes_of_split(evaluation.targets), "class", "classes")
        return percent(metrics["recall@1"]), (
            f"of the {evaluation.n:,} {evaluation.split} samples of {evaluation.data} have a sample of their own class"
            f" as nearest neighbor{span}, among {classes} that were not in training. For pairs of samples, the"
            f" similarity predicts with an area under the ROC curve of {percent(metrics['auc'])} whether both have one"
            f" class; the equal error rate is {percent(metrics['eer'])}."
        )

    def pictures(
        self, folder: Path, evaluation: Evaluation, images: Any | None, *, names: Sequence[str] = ()
    ) -> tuple[Picture, ...]:
        """The map of the embeddings, and the hardest pairs."""
        from striate.tasks.embed.show import embedding_pictures  # drawing loads only where it is needed

        return embedding_pictures(folder, evaluation, images, names)

    def sections(self, assessment: Assessment, figures: SplitMetrics, of: str) -> tuple[Section, ...]:
        """ROC, and the hardest pairs."""
        from striate.tasks.embed.show import embedding_sections

        val = assessment.splits.get("val")
        chosen = val.metrics["threshold"].interval if isinstance(val, EmbeddingMetrics) else None
        return embedding_sections(figures, of, chosen) if isinstance(figures, EmbeddingMetrics) else ()

    def tables(
        self, evaluation: Evaluation, figures: SplitMetrics | None, names: Sequence[str] = ()
    ) -> dict[str, Table | None]:
        """The metrics over all samples."""
        from striate.tasks.embed.show import overall_table
        from striate.tasks.show import split_text

        del names
        return (
            {"averages": overall_table(figures, split_text(evaluation))}
            if isinstance(figures, EmbeddingMetrics)
            else {}
        )

    def state(self) -> dict[str, Any]:
        """Plain values for the checkpoint."""
        return {
            "classes": list(self.classes),
            "seen": list(self.seen),
            "dimensions": self.dimensions,
            "loss_name": self.loss_name,
            "each": self.each,
            "threshold": self.threshold,
            "slope": self.slope,
            "mirrored": self.mirrored,
            "turned_classes": self.turned_classes,
        }


_FIRST = 6
