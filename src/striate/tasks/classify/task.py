"""One class out of K for each sample."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from striate.data.annotations.masks import class_counts
from striate.data.dataset import Dataset, SampleFacts
from striate.errors import UsageError
from striate.inference.agreement import agreement_of_classes
from striate.inference.plan import PredictionAgreement
from striate.records import Finding, Interval
from striate.runs.predictions import Predictions as SavedPredictions
from striate.statistics.calibration import Temperature, fit_temperature, rare_class_note, with_temperature
from striate.statistics.conformal import Conformal, calibrate, fewest_for
from striate.statistics.intervals import METHOD, hits_interval
from striate.statistics.paired import Difference, difference_of_classes
from striate.tasks.assessment import Assessment, Gap, SplitMetrics
from striate.tasks.baseline import Baseline, BaselineComparison, Method
from striate.tasks.classify.assess import compare_hits, gap_of_hits
from striate.tasks.classify.decision import MOST_PROBABLE, DecisionRule, make_rule, rare_class_findings, rule_of_state
from striate.tasks.classify.metrics import METRICS, ClassificationMetrics
from striate.tasks.config import ByClass, TaskConfig, Validation
from striate.tasks.evaluation import ClassRow, Evaluation, only_predicted_class, views_text
from striate.tasks.headline import Rows
from striate.tasks.losses import balanced_weights
from striate.tasks.outputs import constants
from striate.tasks.task import Diagnosed, Explained, Task
from striate.visualize.page_parts import Picture, Section, Table
from striate.wording import listed, percent, probability_text, several

_MOST_SMOOTHED = 0.5
"""With more label smoothing, the loss of the best predictions may be near that of equal probabilities."""


@dataclass(frozen=True)
class Classify(Task):
    """Classification: logits (N, K), targets (N,) int64; predictions are class probabilities (N, K)."""

    classes: tuple[str, ...]
    """Names of the K classes."""
    loss_name: str = "cross-entropy"
    """`cross-entropy` after a softmax, or `hinge`: the multi-class hinge loss of Weston and Watkins (1999), summed over
    the wrong classes and averaged over samples."""
    label_smoothing: float = 0.0
    """Share of each target that is spread over all classes."""
    class_weights: tuple[float, ...] | None = None
    """K factors; None for equal ones."""
    margin: float = 1.0
    """Margin of the hinge loss."""
    temperature: float = 1.0
    """Divisor of the logits where calibrated probabilities were requested; the loss is that of the undivided logits."""
    rule: DecisionRule = MOST_PROBABLE
    """How a class is chosen from probabilities; in training it is the most probable one."""
    conformal: Conformal | None = None
    """The threshold by which samples are rejected; None rejects none."""

    name: ClassVar[str] = "classify"
    diagnosed_as: ClassVar[Diagnosed | None] = Diagnosed("labels", functional.cross_entropy)
    metrics = METRICS
    losses: ClassVar[tuple[str, ...]] = ("cross-entropy", "hinge")
    fields: ClassVar[Mapping[str, frozenset[str]]] = {
        "cross-entropy": frozenset(("label_smoothing", "class_weights", "cost", "threshold")),
        "hinge": frozenset(("class_weights", "margin", "cost", "threshold")),
    }
    mean_of_views: ClassVar[bool] = True
    rejects: ClassVar[bool] = True
    exports: ClassVar[tuple[str, ...]] = ("probabilities",)

    @classmethod
    def make(cls, data: Dataset, config: TaskConfig, loss: str) -> Self:
        """The task over the classes of the data, with class weights by frequency in training if requested."""
        weights = None
        if config.class_weights == "balanced":
            weights = balanced_weights(class_counts(data.splits["train"].targets, len(data.classes)), data.classes)
        options = ("--task.cost", "--task.threshold")
        rule = make_rule(data.classes, config.cost, config.threshold, options=options)
        return cls(data.classes, loss, config.label_smoothing or 0.0, weights, config.margin, rule=rule)

    @property
    def outputs(self) -> int:
        """One logit a class."""
        return len(self.classes)

    @property
    def guessed_classes(self) -> int:
        """K for cross-entropy, weighted by class or moderately smoothed; 0 for others."""
        # With class weights and smoothing, torch's mean is not ln K for equal probabilities.
        most = _MOST_SMOOTHED if self.class_weights is None else 0.0
        known = self.loss_name == "cross-entropy" and not self.own_loss and self.label_smoothing <= most
        return len(self.classes) if known else 0

    def weight(self, targets: torch.Tensor) -> torch.Tensor | float:
        """The number of samples, or the sum of the weights of their classes."""
        weights = self._weights(targets.device)
        return float(len(targets)) if weights is None else weights[targets].sum()

    def _weights(self, device: torch.device) -> torch.Tensor | None:
        return None if self.class_weights is None else constants(self.class_weights, device)

    def loss_sum(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Scalar sum over samples, times the weights of their classes; with label smoothing if requested."""
        return self._loss_sum(outputs, targets, self.label_smoothing)

    def _loss_sum(self, outputs: torch.Tensor, targets: torch.Tensor, smoothing: float) -> torch.Tensor:
        outputs, weights = outputs.float(), self._weights(outputs.device)
        if self.loss_name == "hinge":
            # torch divides by K; the definition does not.
            total = outputs.shape[1] * functional.multi_margin_loss(
                outputs, targets, margin=self.margin, weight=weights, reduction="sum"
            )
            return total + 0 * outputs.sum()  # torch's hinge loss of NaN is 0
        return functional.cross_entropy(outputs, targets, weight=weights, label_smoothing=smoothing, reduction="sum")

    def tally(self, outputs: torch.Tensor, targets: torch.Tensor, loss_sum: torch.Tensor | None = None) -> torch.Tensor:
        """(4,) number of samples, summed loss, summed weight, number of correct predictions. Unless `loss_sum` is
        given, the loss is that of the labels without smoothing, which is meant for training alone."""
        tally = torch.full((4,), float(len(targets)), dtype=torch.float64, device=outputs.device)
        tally[1] = self._loss_sum(outputs, targets, 0.0) if loss_sum is None else loss_sum
        if self.class_weights is not None:
            tally[2] = self.weight(targets)
        tally[3] = (outputs.argmax(1) == targets).sum()
        return tally

    def summarize(self, tally: torch.Tensor) -> dict[str, float]:
        """`loss` and `accuracy`."""
        count, total, weight, correct = tally.tolist()
        return {"loss": total / weight, "accuracy": correct / count}

    def score(self, metrics: Mapping[str, float]) -> tuple[float, ...]:
        """The higher accuracy; at equal accuracy the lower loss."""
        return (metrics["accuracy"], -metrics["loss"])

    def decode(self, outputs: torch.Tensor) -> torch.Tensor:
        """(N, K) float32 softmax probabilities."""
        return (outputs.float() / self.temperature).softmax(1)

    def exported_facts(self) -> dict[str, Any]:
        """The rule that chooses a class, where it is not the most probable class."""
        return {"rule": self.decision_text} if self.rule else {}

    def disparity(self, right: NDArray[Any], found: NDArray[Any]) -> tuple[float, bool]:
        """The largest difference of probabilities; whether the class is the same, or two are equally probable."""
        difference = float(np.abs(right - found).max())
        one, other = (int(self.predicted(part[None])[0]) for part in (right, found))
        return difference, one == other or abs(float(right[one] - right[other])) <= 2 * difference < 1e-3

    def measure(self, decoded: torch.Tensor, targets: torch.Tensor) -> dict[str, Any]:
        """`accuracy`, `top5` (among the min(5, K) most probable) and `macro_f1`, each from 0 to 1."""
        predicted, truth = self.predicted(decoded), targets.cpu().numpy()
        top = decoded.topk(min(5, self.outputs), dim=1).indices
        # scikit-learn takes a second to load, as long as a short training.
        right, counts = truth == predicted, np.bincount(truth, minlength=self.outputs)
        hits = np.bincount(truth[right], minlength=self.outputs)
        both = counts + np.bincount(predicted, minlength=self.outputs)
        return {
            "accuracy": float(right.mean()),
            "top5": float((top == targets[:, None]).any(1).float().mean()),
            "macro_f1": float((2 * hits[both > 0] / both[both > 0]).mean()),
        }

    def describe(self, decoded: torch.Tensor) -> dict[str, Any]:
        """`label`, its `probability`, and the `top` five as [label, probability]."""
        values, places = decoded.topk(min(5, self.outputs))
        top = [[self.classes[i], float(p)] for p, i in zip(values.tolist(), places.tolist(), strict=True)]
        chosen = int(self.predicted(decoded[None])[0])
        fields = {"label": self.classes[chosen], "probability": float(decoded[chosen]), "top": top}
        return fields if self.conformal is None else fields | self._with_set(decoded, self.conformal)

    def _with_set(self, decoded: torch.Tensor, conformal: Conformal) -> dict[str, Any]:
        """`set`, the classes that may be right; `label`, the class where the set has exactly one, else None; and
        `reason`, why it is None."""
        names = [self.classes[int(k)] for k in np.flatnonzero(conformal.sets(decoded.numpy()))]
        if len(names) == 1:
            return {"label": names[0], "probability": float(decoded[self.classes.index(names[0])]), "set": names}
        reason = f"undecided: {listed(names, 5)}"
        if not names:
            likely = f"{float(decoded.max()):.3g} for {self.classes[int(decoded.argmax())]}"
            reason = f"none of these: {likely} is the highest probability, below {conformal.least:.3g}"
        return {"label": None, "set": names, "reason": reason}

    def line(self, fields: Mapping[str, Any]) -> str:
        """The class, its percentage, and the next two; or why no class is predicted."""
        if fields["label"] is None:
            return str(fields["reason"])
        rest = [(label, p) for label, p in fields["top"] if label != fields["label"]]
        others = ", ".join(f"{label} {probability_text(p)}" for label, p in rest[:2])
        return f"{fields['label']}  {probability_text(fields['probability'])}" + (f"  ({others})" if others else "")

    def agreement(self, reference: torch.Tensor, outputs: torch.Tensor) -> PredictionAgreement:
        """The share of equal classes, and how far probabilities differ."""
        right, other = self.decode(reference).cpu(), self.decode(outputs).cpu()
        return agreement_of_classes(right, other, float((self.predicted(right) == self.predicted(other)).mean()))

    @classmethod
    def rows(cls, decoded: NDArray[Any], targets: NDArray[Any], classes: int = 0) -> Rows:
        """(N,) 1 for a hit; `decoded` are class numbers (N,), or probabilities (N, K) of which the largest counts."""
        del classes
        predicted = decoded if decoded.ndim == 1 else MOST_PROBABLE.choose(decoded)
        return np.asarray(predicted == targets, np.float64)

    def rows_for(self, decoded: Any, targets: Any) -> Rows:
        """(N,) 1 for a hit by the rule of this task."""
        truth = targets.cpu().numpy() if isinstance(targets, torch.Tensor) else targets
        return self.rows(decoded if decoded.ndim == 1 else self.predicted(decoded), truth)

    def same(self, one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
        """1 where the class is the same."""
        return np.asarray(self.predicted(one) == self.predicted(other), np.float64)

    def predicted(self, decoded: Any) -> NDArray[np.int64]:
        """(N,) class numbers from probabilities (N, K), as the rule chooses them."""
        return self.rule.choose(decoded.cpu() if isinstance(decoded, torch.Tensor) else decoded)

    def deciding(self, cost: ByClass, threshold: ByClass, validation: Validation | None = None) -> Self:
        """The task with the rule of these costs and thresholds; the probabilities of `validation` are those of
        temperature 1."""

        def calibrated() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
            assert validation is not None, "given below"
            probabilities, truth = validation()
            return (
                probabilities if self.temperature == 1 else with_temperature(probabilities, self.temperature)
            ), truth

        rule = make_rule(self.classes, cost, threshold, None if validation is None else calibrated)
        return replace(self, rule=rule)

    def rejecting(self, rate: float, validation: Validation) -> Self:
        """The task with sets of classes that hold the true one with a probability of 1 − `rate`. A class is predicted
        where its set has no other. Raises UsageError where validation has too few samples."""
        probabilities, truth = validation()
        if len(truth) < (fewest := fewest_for(rate)):
            got = f"{rate:g}, with {several(len(truth), 'validation sample')}"
            lowest = math.ceil(1e4 / (len(truth) + 1)) / 1e4
            raise UsageError("--reject", got, f"at least {fewest:,} for such a rate", f"--reject {lowest:g}")
        if self.temperature != 1:
            probabilities = with_temperature(probabilities, self.temperature)
        return replace(self, conformal=calibrate(probabilities, truth, rate))

    @property
    def decision_text(self) -> str:
        """The rule in words; empty for the most probable class."""
        return self.rule.text(self.classes) if self.rule else ""

    @classmethod
    def headline_interval(cls, rows: Rows, groups: Sequence[str] = ()) -> Interval:
        """Wilson's interval of the accuracy; by bootstrap over groups, where samples have any."""
        return hits_interval(rows > 0, groups)

    def table_of_classes(
        self, decoded: NDArray[Any], targets: NDArray[Any], groups: Sequence[str] = ()
    ) -> tuple[NDArray[np.int64], tuple[ClassRow, ...]]:
        """The confusion matrix (true, predicted), and a row for each class; `groups`: that of each sample."""
        from striate.tasks.classify.assess import table_of_classes  # scikit-learn loads when training is over

        return table_of_classes(self.predicted(decoded), targets, self.classes, groups)

    def interval(self, decoded: NDArray[Any], targets: NDArray[Any], groups: Sequence[str] = ()) -> dict[str, Any]:
        """`accuracy_interval` (Wilson); with groups also `accuracy_interval_method`, which names their number."""
        ends = hits_interval(self.rows_for(decoded, targets), groups)
        method = {} if ends.method == METHOD else {"accuracy_interval_method": ends.method}
        return {"accuracy_interval": [ends.low, ends.high], **method}

    def sample_losses(self, evaluation: Evaluation) -> NDArray[np.float64]:
        """(N,) log losses."""
        right = np.asarray(evaluation.decoded[np.arange(evaluation.n), evaluation.targets], np.float64)
        return -np.log(np.maximum(right, 1e-12))

    def fit_temperature(self, val: Evaluation) -> Temperature | None:
        """The temperature fitted on validation; None where validation does not determine it."""
        fitted = fit_temperature(val.targets, val.decoded, val.split)
        return None if fitted is None else replace(fitted, few=rare_class_note(val.targets, val.classes))

    def validation_findings(self, decoded: Any, targets: Any, run: str) -> tuple[Finding, ...]:
        """Rare classes for which a cost improves predictions by more than noise; empty where there is a rule
        already."""
        return () if self.rule else rare_class_findings(self.classes, decoded, targets, run)

    def calibrated(self, temperature: float) -> Self:
        """The task whose logits are divided by the temperature."""
        return replace(self, temperature=temperature)

    def assess(
        self, evaluation: Evaluation, facts: SampleFacts, temperature: Temperature | None, names: Sequence[str]
    ) -> SplitMetrics:
        """Classes, calibration, notable predictions and slices."""
        from striate.tasks.classify.assess import assess_classes

        del names
        return assess_classes(evaluation, facts, temperature, self.rule)

    def gap(self, train: Evaluation, val: Evaluation) -> Gap:
        """The gap in accuracy, with Newcombe's interval."""
        return gap_of_hits(self.rows_of(train) > 0, self.rows_of(val) > 0, (train.groups, val.groups))

    @classmethod
    def difference(cls, ours: Rows, theirs: Rows, seed: int = 0, groups: Sequence[str] = ()) -> Difference:
        """McNemar's exact test; for samples in groups, a permutation test over groups."""
        if not any(groups):
            return difference_of_classes(ours > 0, theirs > 0, seed)
        return replace(
            super().difference(ours, theirs, seed, groups), differing=int(((ours > 0) != (theirs > 0)).sum())
        )

    @classmethod
    def accepts_saved(cls, saved: SavedPredictions) -> bool:
        """Whether the predictions have class numbers."""
        return saved.predicted is not None

    def baselines(self, data: Dataset) -> tuple[Method, ...]:
        """The most frequent class; logistic regression; for images HOG and a linear SVM."""
        from striate.tasks.classify.baselines import classify_methods  # scikit-image loads only where it is needed

        return classify_methods(data)

    def compare_baseline(
        self, network: Evaluation, baseline: Baseline, seed: int = 0, groups: Sequence[str] = ()
    ) -> BaselineComparison:
        """McNemar's exact test; for samples in groups, a permutation test over groups."""
        theirs, ours = self.rows(baseline.decoded, network.targets), self.rows_of(network)
        grouped = self.difference(ours, theirs, seed, groups) if any(groups) else None
        return compare_hits(baseline.name, theirs > 0, ours > 0, grouped)

    def headline_text(self, evaluation: Evaluation) -> tuple[str, str]:
        """The accuracy, and that of always predicting the most frequent class."""
        metrics, n = evaluation.metrics, evaluation.n
        low, high = metrics["accuracy_interval"]
        method = metrics.get("accuracy_interval_method", METHOD)
        most = max(row.n for row in evaluation.per_class) / n
        always = (
            f"Always predicting the most frequent of the {several(len(evaluation.classes), 'class', 'classes')} "
            f"among these samples would reach {percent(most)}."
        )
        if named := only_predicted_class(evaluation):
            reached = f"always predicting the most frequent class reaches {percent(most)}"
            always = f"It predicts {named} for every sample; {reached}."
        right = round(metrics["accuracy"] * n)
        of = f"{n:,} {evaluation.split} {'sample' if n == 1 else 'samples'} of {evaluation.data}"
        by_rule = f"; the prediction is {self.decision_text}" if self.rule else ""
        return percent(metrics["accuracy"]), (
            f"of the {of} are classified correctly: {right:,} of {n:,}{views_text(metrics, self.metrics[0])}{by_rule}. "
            f"The network was not trained on them. Of other samples like these, expect {percent(low)} to "
            f"{percent(high)} (95 % interval, {method}). "
            f"{always}"
        )

    def pictures(
        self, folder: Path, evaluation: Evaluation, images: Any | None, *, names: Sequence[str] = ()
    ) -> tuple[Picture, ...]:
        """The confusion matrix, and galleries of mistakes, unsure correct predictions and random samples."""
        from striate.tasks.classify import show  # drawing loads only where it is needed
        from striate.visualize.canvas import of_split

        title = of_split(evaluation.data, evaluation.split, evaluation.n)
        galleries = () if images is None else show.galleries(folder, evaluation, images, title, names)
        return (show.confusion_picture(folder, evaluation, title), *galleries)

    def sections(self, assessment: Assessment, figures: SplitMetrics, of: str) -> tuple[Section, ...]:
        """Thresholds, and how far to trust the probabilities."""
        from striate.tasks.classify import show
        from striate.tasks.show import calibration_section

        assert isinstance(figures, ClassificationMetrics)
        trust = calibration_section(figures.calibration, figures.calibrated, assessment.temperature, of)
        return (*show.decision_sections(figures, of), *show.thresholds_sections(figures, of), trust)

    def tables(
        self, evaluation: Evaluation, figures: SplitMetrics | None, names: Sequence[str] = ()
    ) -> dict[str, Table | None]:
        """Tables over all classes, of each class, of the confused pairs, and the confusion matrix."""
        from striate.tasks.classify import show

        del names
        return show.tables(evaluation, figures if isinstance(figures, ClassificationMetrics) else None)

    def columns(self, names: Sequence[str]) -> list[str]:
        """The names of the true and the predicted class, and the probability of the latter."""
        del names
        return ["truth", "prediction", "probability"]

    def cells(self, truth: Any, decoded: Any) -> list[Any]:
        """One sample's row."""
        chosen = int(self.predicted(decoded[None])[0])
        return [self.classes[int(truth)], self.classes[chosen], f"{decoded[chosen]:.6g}"]

    def pooled(
        self, folder: Path, truth: Any, decoded: Any, title: str, of: str, names: Sequence[str]
    ) -> tuple[Picture | None, Table | None]:
        """The confusion matrix."""
        from striate.tasks.classify import show

        del names
        return show.pooled_confusion(folder, truth, self.predicted(decoded), self.classes, title, of)

    def explained(self, decoded: torch.Tensor) -> Explained:
        """The logit of the class that is predicted."""
        chosen = int(self.predicted(decoded[None])[0])
        return Explained(lambda outputs: outputs, chosen, "logits", choose=self.predicted if self.rule else None)

    def target_text(self, target: Any) -> str:
        """The name of the class."""
        return self.classes[int(target)]

    def state(self) -> dict[str, Any]:
        """Plain values for the checkpoint."""
        return {
            "classes": list(self.classes),
            "loss_name": self.loss_name,
            "label_smoothing": self.label_smoothing,
            "class_weights": None if self.class_weights is None else list(self.class_weights),
            "margin": self.margin,
            **({"rule": self.rule.state()} if self.rule else {}),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The task whose `state()` this is."""
        made = super().from_state({key: value for key, value in state.items() if key != "rule"})
        return replace(made, rule=rule_of_state(state["rule"], len(made.classes))) if "rule" in state else made
