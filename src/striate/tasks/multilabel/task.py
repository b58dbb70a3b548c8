"""The task of sets of labels: any number out of K for each sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from striate.data.annotations.label_sets import BETWEEN
from striate.data.dataset import Dataset, SampleFacts
from striate.errors import UsageError, pasted
from striate.inference.agreement import agreement_of_classes
from striate.inference.plan import PredictionAgreement
from striate.runs.predictions import Predictions as SavedPredictions
from striate.statistics.calibration import Temperature
from striate.statistics.conformal import calibrate, fewest_for
from striate.tasks.accumulator import Accumulator, RowAccumulator
from striate.tasks.assessment import Assessment, SplitMetrics
from striate.tasks.baseline import Method
from striate.tasks.classify.decision import numbers_by_class
from striate.tasks.config import ByClass, TaskConfig, Validation
from striate.tasks.evaluation import Evaluation
from striate.tasks.headline import Headline, Rows, interval_of
from striate.tasks.losses import balanced_weights
from striate.tasks.multilabel.losses import asymmetric, binary_cross_entropy
from striate.tasks.multilabel.metrics import MAP, METRICS, MultilabelMetrics
from striate.tasks.multilabel.ranking import RankedLabels, best_thresholds, parts_of
from striate.tasks.outputs import constants
from striate.tasks.task import Explained, Task
from striate.visualize.page_parts import Picture, Section, Table
from striate.wording import listed, percent, probability_text, several

_THRESHOLD = "threshold_"
"""Prefix of a label's name, in the validation metric that holds its threshold."""


@dataclass(frozen=True)
class Multilabel(Task):
    """Sets of labels: logits (N, K), targets (N, K) float32 of 0 and 1; predictions are probabilities (N, K).

    The loss is the mean over labels, so that their number does not change the learning rate.
    """

    classes: tuple[str, ...]
    """Names of the K labels."""
    loss_name: str = "binary-cross-entropy"
    """`binary-cross-entropy`, or `asymmetric`: the loss of Ridnik et al. (2021)."""
    shares: tuple[float, ...] | None = None
    """Share of the training samples that have each label, where rare labels weigh more; else None."""
    positive: float = 0.0
    """Exponent of the asymmetric loss for labels that a sample has."""
    negative: float = 4.0
    """Exponent of the asymmetric loss for labels that a sample does not have."""
    shift: float = 0.05
    """What the asymmetric loss subtracts from the probability of labels that a sample does not have."""
    thresholds: tuple[float, ...] = ()
    """The probability from which each label is predicted: the best one on validation, unless `given`."""
    given: tuple[tuple[int, float], ...] = ()
    """Pairs of a label's number and the threshold that the user gave."""
    certain: tuple[tuple[float, float], ...] = ()
    """For each label two probabilities, where undecided samples are rejected: from the first on, the label may be
    there; up to the second, it may be absent."""

    name: ClassVar[str] = "multilabel"
    annotation: ClassVar[str] = "labels"
    metrics = METRICS
    losses: ClassVar[tuple[str, ...]] = ("binary-cross-entropy", "asymmetric")
    fields: ClassVar[Mapping[str, frozenset[str]]] = {
        "binary-cross-entropy": frozenset(("class_weights", "threshold")),
        "asymmetric": frozenset(("threshold", "positive_gamma", "negative_gamma", "negative_shift")),
    }
    mean_of_views: ClassVar[bool] = True
    rejects: ClassVar[bool] = True
    exports: ClassVar[tuple[str, ...]] = ("probabilities",)

    @classmethod
    def make(cls, data: Dataset, config: TaskConfig, loss: str) -> Self:
        """The task over the labels of the data, with weights by frequency in training if requested."""
        shares = None
        if config.class_weights == "balanced":
            counts = data.splits["train"].targets.double().sum(0).cpu()
            balanced_weights(counts, data.classes)  # refuses labels that no sample has
            balanced_weights(len(data.splits["train"]) - counts, data.classes)
            shares = tuple((counts / len(data.splits["train"])).tolist())
        exponents = config.positive_gamma, config.negative_gamma, config.negative_shift
        return cls(data.classes, loss, shares, *exponents)._given(config.threshold, "--task.threshold")

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The task whose `state()` this is."""
        made = super().from_state({key: value for key, value in state.items() if key != "given"})
        return replace(made, given=tuple((int(k), float(value)) for k, value in state["given"]))

    def state(self) -> dict[str, Any]:
        """Plain values for the checkpoint."""
        return {
            "classes": list(self.classes),
            "loss_name": self.loss_name,
            "shares": None if self.shares is None else list(self.shares),
            "positive": self.positive,
            "negative": self.negative,
            "shift": self.shift,
            "thresholds": list(self.thresholds),
            "given": [list(pair) for pair in self.given],
        }

    @property
    def counted(self) -> str:
        """`3 labels`."""
        return several(len(self.classes), "label")

    @property
    def outputs(self) -> int:
        """One logit a label."""
        return len(self.classes)

    # Thresholds

    @property
    def lowest(self) -> NDArray[np.float64]:
        """(K,) the probability from which each label is predicted; 0.5 where no threshold was chosen."""
        found = np.array(self.thresholds or (0.5,) * self.outputs)
        for k, value in self.given:
            found[k] = value
        return found

    def predicted_labels(self, decoded: Any) -> NDArray[np.bool_]:
        """(…, K) whether each label is predicted, from probabilities as an array or a tensor."""
        return np.asarray(np.asarray(torch.as_tensor(decoded).cpu()) >= self.lowest)

    def settled(self, val: Mapping[str, float]) -> Self:
        """The task with the thresholds that were best on validation."""
        found = tuple(val[f"{_THRESHOLD}{name}"] for name in self.classes if f"{_THRESHOLD}{name}" in val)
        return replace(self, thresholds=found) if len(found) == self.outputs else self

    def deciding(self, cost: ByClass, threshold: ByClass, validation: Validation | None = None) -> Self:
        """The task with other thresholds; without any, 0.5 for each label. A label without a number keeps its threshold
        of validation. Raises UsageError for costs, unknown labels, and numbers that are not probabilities."""
        del validation
        if cost:
            remedy = f"--threshold {pasted(f'{self.classes[0]}=0.2')}"
            raise UsageError("--cost", "a run that predicts sets of labels", "thresholds, one per label", remedy)
        return self._given(threshold, "--threshold") if threshold else replace(self, thresholds=(), given=())

    def _given(self, threshold: ByClass, option: str) -> Self:
        pairs = []
        for k, value in numbers_by_class(self.classes, threshold, option, 0.2).items():
            if value is not None and not 0 < value <= 1:
                got = f"{value:g} for {self.classes[k]!r}"
                remedy = f"{option} {pasted(f'{self.classes[k]}=0.2')}"
                raise UsageError(option, got, "a probability above 0, up to 1", remedy)
            pairs += [] if value is None else [(k, value)]
        return replace(self, given=tuple(sorted(pairs)))

    def rejecting(self, rate: float, validation: Validation) -> Self:
        """The task with two thresholds for each label, calibrated separately on samples with and without it, so that at
        most a share of `rate` of each is wrongly decided. Labels that both thresholds accept, or neither, are
        undecided. Raises UsageError where validation has too few samples of either kind for every label."""
        probabilities, truth = (np.asarray(part, np.float64) for part in validation())
        bounds, fewest = [], fewest_for(rate)
        for k in range(self.outputs):
            there = truth[:, k] > 0
            ends = []
            for own, values in ((there, probabilities[:, k]), (~there, 1 - probabilities[:, k])):
                none = np.zeros(int(own.sum()), np.int64)
                ends.append(calibrate(values[own][:, None], none, rate).least if own.sum() >= fewest else 0.0)
            bounds.append((ends[0], 1 - ends[1]))
        if all(low <= 0 and high >= 1 for low, high in bounds):
            got = f"{rate:g}, with {several(len(truth), 'validation sample')}"
            raise UsageError("--reject", got, f"at least {fewest:,} with a label, or without it", "--reject 0.1")
        return replace(self, certain=tuple(bounds))

    @property
    def decision_text(self) -> str:
        """The thresholds that the user gave, in words."""
        parts = [f"{self.classes[k]} if its probability is at least {value:g}" for k, value in self.given]
        return listed(parts, 5)

    # Loss

    def loss_sum(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Scalar sum over samples of the mean over labels."""
        logits, truth = outputs.float(), targets.float()
        if self.loss_name == "asymmetric":
            losses = asymmetric(logits, truth, self.positive, self.negative, self.shift)
        else:
            losses = binary_cross_entropy(logits, truth, self._weights(logits.device))
        return losses.mean(1).sum()

    def _weights(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Weights n / (2 n₁) and n / (2 n₀), so that samples with and without a label weigh the same in total (King and
        Zeng 2001)."""
        if self.shares is None:
            return None
        shares = constants(self.shares, device)
        return 0.5 / shares, 0.5 / (1 - shares)

    # Metrics

    def accumulator(self) -> Accumulator:
        """The loss, and on validation the rows for ranking."""
        return RowAccumulator(self, self._followed)

    def _followed(self, rows: Rows) -> dict[str, float]:
        scores, truth = parts_of(rows)
        thresholds = best_thresholds(scores, truth).tolist()
        named = {f"{_THRESHOLD}{name}": value for name, value in zip(self.classes, thresholds, strict=True)}
        return {"map": self.headline_metric().value(rows), **named}

    def decode(self, outputs: torch.Tensor) -> torch.Tensor:
        """(N, K) float32 probabilities."""
        return outputs.float().sigmoid()

    def exported_facts(self) -> dict[str, Any]:
        """The probability from which each label is predicted."""
        return {"thresholds": list(self.thresholds or (0.5,) * self.outputs)}

    def measure(self, decoded: torch.Tensor, targets: torch.Tensor) -> dict[str, Any]:
        """`map`, `macro_f1` (both over the labels that occur), `micro_f1`, `exact_match`, and `ap` of each label."""
        return self._measured(decoded, targets, self.predicted_labels(decoded))

    def measure_each(self, tasks: Sequence[Self], decoded: torch.Tensor, targets: torch.Tensor) -> dict[str, Any]:
        """The metrics, each sample with the thresholds of its own task."""
        return self._measured(decoded, targets, decoded.cpu().numpy() >= np.stack([task.lowest for task in tasks]))

    def _measured(self, decoded: torch.Tensor, targets: torch.Tensor, predicted: NDArray[np.bool_]) -> dict[str, Any]:
        from striate.tasks.multilabel.assess import set_metrics  # scikit-learn loads when training is over

        found = set_metrics(decoded.cpu().numpy(), targets.cpu().numpy(), predicted)
        return {**found, "ap": dict(zip(self.classes, found["ap"], strict=True))}

    @classmethod
    def rows(cls, decoded: NDArray[Any], targets: NDArray[Any], classes: int = 0) -> Rows:
        """(N, 2 K) probabilities and labels, which are ranked together."""
        del classes
        return np.concatenate([np.asarray(decoded, np.float64), np.asarray(targets, np.float64)], axis=1)

    @classmethod
    def headline_metric(cls) -> Headline:
        """Mean average precision of ranked samples."""
        return RankedLabels(MAP, lambda *_: 0.0)

    def interval(self, decoded: Any, targets: Any, groups: Sequence[str] = ()) -> dict[str, list[float] | None]:
        """The interval of each metric over all labels, by bootstrap over samples, or groups where there are any."""
        from striate.tasks.multilabel.assess import set_estimates

        found, _ = set_estimates(decoded, targets, self.predicted_labels(decoded), groups)
        return {f"{name}_interval": interval_of(figure) for name, figure in found.items()}

    def same(self, one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
        """(N,) share of labels that are predicted in both or in neither."""
        return np.asarray((self.predicted_labels(one) == self.predicted_labels(other)).mean(1), np.float64)

    def agreement(self, reference: torch.Tensor, outputs: torch.Tensor) -> PredictionAgreement:
        """The share of equal labels, and how far probabilities differ."""
        right, other = self.decode(reference).cpu(), self.decode(outputs).cpu()
        return agreement_of_classes(right, other, float(self.same(right.numpy(), other.numpy()).mean()))

    def sample_losses(self, evaluation: Evaluation) -> NDArray[np.float64]:
        """(N,) log losses, the mean over labels."""
        p = np.clip(np.asarray(evaluation.decoded, np.float64), 1e-12, 1 - 1e-12)
        return np.asarray(-np.where(evaluation.targets > 0, np.log(p), np.log(1 - p)).mean(1))

    def calibrated(self, temperature: float) -> Self:
        """Raises UsageError: no temperature is fitted."""
        del temperature
        got = "a run that predicts sets of labels, whose probabilities have no temperature"
        raise UsageError("--calibrated", got, "a classification", "leave out --calibrated")

    def assess(
        self, evaluation: Evaluation, facts: SampleFacts, temperature: Temperature | None, names: Sequence[str]
    ) -> SplitMetrics:
        """Each label, their co-occurrence, slices, and the worst samples."""
        from striate.tasks.multilabel.assess import assess_labels, threshold_effect

        del temperature, names
        rows, predicted, effect = self.rows_of(evaluation), self.predicted_labels(evaluation.decoded), None
        if self.given:
            was, named = replace(self, given=()).predicted_labels(evaluation.decoded), [k for k, _ in self.given]
            effect = threshold_effect(self.decision_text, named, self.classes, evaluation.targets > 0, was, predicted)
        return assess_labels(evaluation, facts, self.headline_metric(), rows, predicted, self.lowest.tolist(), effect)

    @classmethod
    def accepts_saved(cls, saved: SavedPredictions) -> bool:
        """Whether predictions have a probability, and targets 0 or 1, for each label."""
        shape = (len(saved.ids), len(saved.classes))
        return saved.predicted is None and saved.predictions.shape == saved.targets.shape == shape

    def baselines(self, data: Dataset) -> tuple[Method, ...]:
        """The frequency of each label; a linear classifier for each label, on pixels and on edges."""
        from striate.tasks.multilabel.baselines import label_methods

        return label_methods(data)

    # Predictions

    def describe(self, decoded: torch.Tensor) -> dict[str, Any]:
        """`labels`, the predicted ones as [label, probability], the most probable first; and `probabilities` of all.
        Where undecided labels are rejected: `labels` that are certain, `undecided` ones, and the `reason`."""
        shares = dict(zip(self.classes, (float(value) for value in decoded.tolist()), strict=True))
        names = [
            name for name, there in zip(self.classes, self.predicted_labels(decoded).tolist(), strict=True) if there
        ]
        undecided = []
        if self.certain:
            sides = {
                name: (shares[name] >= low, shares[name] <= high)
                for name, (low, high) in zip(self.classes, self.certain, strict=True)
            }
            names = [name for name, side in sides.items() if side == (True, False)]
            undecided = [name for name, (there, absent) in sides.items() if there == absent]
        labels = sorted(((name, shares[name]) for name in names), key=lambda pair: -pair[1])
        found = {"labels": [list(pair) for pair in labels], "probabilities": shares}
        if not self.certain:
            return found
        return found | {"undecided": undecided, "reason": f"undecided: {listed(undecided, 5)}" if undecided else None}

    def line(self, fields: Mapping[str, Any]) -> str:
        """The labels and their percentages."""
        text = (
            ", ".join(f"{name} {probability_text(share)}" for name, share in fields["labels"]) or "none of the labels"
        )
        return f"{text}  ({reason})" if (reason := fields.get("reason")) else text

    def explained(self, decoded: torch.Tensor) -> Explained:
        """The logit of the most probable label."""
        found = self.explained_part(decoded, self.classes[int(decoded.argmax())])
        note = f"Of {several(self.outputs, 'label')}, the most probable is explained; --part NAME names another."
        return replace(found, notes=(note, *found.notes))

    def explained_part(self, decoded: torch.Tensor, part: str) -> Explained:
        """The logit of this label. Raises UsageError for an unknown label."""
        if part not in self.classes:
            remedy = f"--part {pasted(self.classes[0])}"
            raise UsageError("--part", repr(part), f"a label: {listed(list(self.classes), 12)}", remedy)
        k = self.classes.index(part)
        note = f"{part} has a probability of {probability_text(float(decoded[k]))}; the map explains its logit."
        return Explained(lambda outputs: outputs[:, k : k + 1], 0, "number", f"the label {part}", (note,))

    # Reports

    def headline_text(self, evaluation: Evaluation) -> tuple[str, str]:
        """The mAP, and the share of exactly right sets."""
        metrics, span = evaluation.metrics, evaluation.span_of("map")
        return percent(metrics["map"]), (
            f"mean average precision{span} over {several(self.outputs, 'label')} on the {evaluation.of}. With a "
            f"threshold for each label, chosen on validation, micro F1 is {percent(metrics['micro_f1'])}, and "
            f"{percent(metrics['exact_match'])} of the sets are exactly right."
        )

    def pictures(
        self, folder: Path, evaluation: Evaluation, images: Any | None, *, names: Sequence[str] = ()
    ) -> tuple[Picture, ...]:
        """The worst, typical and best samples, and which labels occur together."""
        from striate.tasks.multilabel.show import label_pictures

        return label_pictures(folder, evaluation, images, self.predicted_labels(evaluation.decoded), names)

    def sections(self, assessment: Assessment, figures: SplitMetrics, of: str) -> tuple[Section, ...]:
        """Which labels occur together."""
        from striate.tasks.multilabel.show import cooccurrence_section

        del assessment
        return cooccurrence_section(figures, of) if isinstance(figures, MultilabelMetrics) else ()

    def tables(
        self, evaluation: Evaluation, figures: SplitMetrics | None, names: Sequence[str] = ()
    ) -> dict[str, Table | None]:
        """Over all labels, and each label."""
        from striate.tasks.multilabel.show import tables

        del names
        return tables(evaluation, figures) if isinstance(figures, MultilabelMetrics) else {}

    def columns(self, names: Sequence[str]) -> list[str]:
        """Sets of labels, and the probability of each label."""
        del names
        return ["truth", "prediction", *(f"probability {name}" for name in self.classes)]

    def cells(self, truth: Any, decoded: Any) -> list[Any]:
        """One sample's row."""
        sets = (
            BETWEEN.join(name for name, there in zip(self.classes, own, strict=True) if there)
            for own in (truth, self.predicted_labels(decoded))
        )
        return [*sets, *(f"{value:.6g}" for value in decoded)]

    def target_text(self, target: Any) -> str:
        """The labels."""
        own = torch.as_tensor(target).tolist()
        return ", ".join(name for name, there in zip(self.classes, own, strict=True) if there) or "none"
