"""The task of several targets of one sample, each with a task of its own, on a shared network."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from striate.data.annotations.target_columns import Column, columns_of, data_of, parts_of
from striate.data.dataset import Dataset, SampleFacts
from striate.data.store.stored import take_rows
from striate.errors import ConfigError, UsageError, pasted
from striate.inference.agreement import agreement_of_numbers
from striate.inference.plan import PredictionAgreement
from striate.records import Finding
from striate.runs.predictions import Predictions as SavedPredictions
from striate.statistics.calibration import Temperature
from striate.statistics.paired import Difference
from striate.tasks.accumulator import Accumulator
from striate.tasks.assessment import Assessment, SplitMetrics
from striate.tasks.baseline import Fitted, Method
from striate.tasks.classify.task import Classify
from striate.tasks.config import ByClass, TaskConfig, Validation
from striate.tasks.evaluation import Evaluation
from striate.tasks.exported import Frame
from striate.tasks.groups import sample_groups, too_few
from striate.tasks.headline import Rows
from striate.tasks.metric import Metric
from striate.tasks.multilabel.task import Multilabel
from striate.tasks.regress.task import Regress
from striate.tasks.several.head import with_heads
from striate.tasks.several.measured import TargetAccumulators
from striate.tasks.several.metrics import METRICS, SeveralMetrics
from striate.tasks.task import Explained, Task
from striate.visualize.page_parts import Picture, Section, Table
from striate.wording import listed, several

_OF_KIND: dict[str, type[Task]] = {"number": Regress, "class": Classify, "labels": Multilabel}
"""The task of each kind of column."""


def _both(predictions: NDArray[Any], targets: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    return predictions, targets


@dataclass(frozen=True)
class Several(Task):
    """Several targets of one sample, each learned by a task of its own.

    Outputs (N, ΣK) and predictions (N, ΣD) are those of all tasks, concatenated. Targets (N, M) are those of
    `striate.data.annotations.target_columns`. The loss is Σ weight × mean loss of the target.
    """

    target_columns: tuple[Column, ...]
    """The targets."""
    tasks: tuple[Task, ...]
    """The task of each target, in the same order."""
    units: tuple[float, ...]
    """For each target the mean weight of a training sample, 0 for one without it: a target that few samples have counts
    as much as one that all have."""
    scales: tuple[float, ...]
    """For each target what counts as an error of 1: for numbers, the mean error of always predicting their mean."""
    weights: tuple[float, ...]
    """Weight of the loss of each target."""
    weighting: str = "fixed"
    """`fixed` weights; `uncertainty`: learned variances (Kendall et al. 2018); `gradient-norm`: all targets change the
    shared network equally."""

    name: ClassVar[str] = "several"
    annotation: ClassVar[str] = "columns"
    metrics = METRICS
    losses: ClassVar[tuple[str, ...]] = ("sum",)
    fields: ClassVar[Mapping[str, frozenset[str]]] = {
        "sum": frozenset(("weighting", "target_weights", "class_weights")),
    }
    loss_name: ClassVar[str] = "sum"  # type: ignore[misc]

    @classmethod
    def make(cls, data: Dataset, config: TaskConfig, loss: str) -> Self:
        """The task for the columns of the data; each column's task is made from the training samples that have a
        value."""
        del loss
        columns = columns_of(data.target_names, data.classes)
        tasks, units, scales = [], [], []
        for number, column in enumerate(columns):
            own, found = data_of(data, number), _OF_KIND[column.kind]
            balanced = config.class_weights if column.kind != "number" else "none"
            task = found.make(own, TaskConfig(class_weights=balanced), found.losses[0])
            truth = own.splits["train"].targets.cpu()
            tasks.append(task)
            units.append(float(task.weight(truth)) / len(data.splits["train"]))
            scales.append(1.0 if column.kind != "number" else _usual_error(task, truth))
        weights = _read_weights(config.target_weights, [column.name for column in columns])
        return cls(columns, tuple(tasks), tuple(units), tuple(scales), weights, config.weighting)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The task whose `state()` this is."""
        columns = tuple(Column(str(name), str(kind), tuple(classes)) for name, kind, classes in state["columns"])
        pairs = zip(columns, state["tasks"], strict=True)
        tasks = tuple(_OF_KIND[column.kind].from_state(one) for column, one in pairs)
        units, scales, weights = (tuple(map(float, state[key])) for key in ("units", "scales", "weights"))
        return cls(columns, tasks, units, scales, weights, str(state["weighting"]))

    def state(self) -> dict[str, Any]:
        """Plain values for the checkpoint."""
        return {
            "columns": [[column.name, column.kind, list(column.classes)] for column in self.target_columns],
            "tasks": [task.state() for task in self.tasks],
            "units": list(self.units),
            "scales": list(self.scales),
            "weights": list(self.weights),
            "weighting": self.weighting,
        }

    @property
    def counted(self) -> str:
        """`3 targets`."""
        return several(len(self.target_columns), "target")

    @property
    def classes(self) -> tuple[str, ...]:  # type: ignore[override]
        """`gender=f` for each class of each target."""
        return tuple(f"{column.name}={name}" for column in self.target_columns for name in column.classes)

    @property
    def outputs(self) -> int:
        """The outputs of all tasks."""
        return sum(task.outputs for task in self.tasks)

    @property
    def survives_moves(self) -> bool:  # type: ignore[override]
        """Whether those of all tasks do."""
        return all(task.survives_moves for task in self.tasks)

    @property
    def mean_of_views(self) -> bool:  # type: ignore[override]
        """Whether the predictions of all tasks may be."""
        return all(task.mean_of_views for task in self.tasks)

    @property
    def target_count(self) -> int:
        """One for each column."""
        return len(self.target_columns)

    @property
    def data_targets(self) -> str | None:
        """The columns with their kinds."""
        return ",".join(f"{column.name}:{column.word}" for column in self.target_columns)

    def attach(self, network: nn.Module, input_shape: tuple[int, ...]) -> nn.Module:
        """The network; with `TargetHeads` where weights are not fixed."""
        del input_shape
        sizes = [task.outputs for task in self.tasks]
        return network if self.weighting == "fixed" else with_heads(network, sizes, self.weighting)

    # Each target

    def parts(self, outputs: torch.Tensor, targets: torch.Tensor) -> list[tuple[torch.Tensor, ...]]:
        """For each target: (N,) whether samples have a value, its outputs or predictions, and its values."""
        found = outputs.split([task.outputs for task in self.tasks], dim=1)
        truth = parts_of(targets, self.target_columns)
        return [(known, own, values) for own, (known, values) in zip(found, truth, strict=True)]

    def _of(self, name: str) -> tuple[int, Task, slice]:
        """The number, the task and the outputs of a target. Raises UsageError for an unknown name."""
        names = [column.name for column in self.target_columns]
        if name not in names:
            remedy = f"--part {pasted(names[0])}"
            raise UsageError("--part", repr(name), f"a target: {listed(names, 12)}", remedy)
        number = names.index(name)
        start = sum(task.outputs for task in self.tasks[:number])
        return number, self.tasks[number], slice(start, start + self.tasks[number].outputs)

    def _each(self, decoded: Any) -> list[tuple[Column, Task, Any]]:
        """The column, task and predictions of each target, for one sample or many."""
        return [
            (column, task, decoded[..., self._of(column.name)[2]])
            for column, task in zip(self.target_columns, self.tasks, strict=True)
        ]

    def evaluations(self, evaluation: Evaluation) -> dict[str, tuple[Task, Evaluation, NDArray[np.int64]]]:
        """For each target: its task, its part of an evaluation, and the rows of the samples that have a value."""
        found = {}
        parts = self.parts(*(torch.as_tensor(x) for x in (evaluation.decoded, evaluation.targets)))
        for column, task, (known, own, truth) in zip(self.target_columns, self.tasks, parts, strict=True):
            rows = np.flatnonzero(known.numpy())
            decoded, targets = own.numpy()[rows], truth.numpy()[rows]
            groups = tuple(evaluation.groups[k] for k in rows) if evaluation.groups else ()
            confusion, per_class = task.table_of_classes(decoded, targets, groups) if len(rows) else (None, ())
            found[column.name] = (
                task,
                replace(
                    evaluation,
                    data=f"{evaluation.data}, {column.name}",
                    task=task.name,
                    classes=column.classes,
                    n=len(rows),
                    metrics=evaluation.metrics["targets"][column.name],
                    decoded=decoded,
                    targets=targets,
                    ids=evaluation.ids[rows],
                    confusion=confusion,
                    per_class=per_class,
                    groups=groups,
                    brightness=None if evaluation.brightness is None else evaluation.brightness[rows],
                    shown=task.metrics,
                    predicted=task.predicted(decoded),
                    counted=task.counted,
                    figures=None,
                    findings=(),
                    notes=(),
                ),
                rows,
            )
        return {name: part for name, part in found.items() if part[1].n}

    # Loss

    def loss_sum(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Scalar sum over samples and targets; samples without a value add nothing."""
        total = outputs.float().sum() * 0
        variances = outputs[:, self.outputs :].float()
        for number, (known, own, truth) in enumerate(self.parts(outputs[:, : self.outputs], targets)):
            loss = self.weights[number] * self.tasks[number].loss_sum(own[known], truth[known]) / self.units[number]
            if variances.shape[1]:
                log = variances[:, number].mean()
                # A normal log-likelihood has half of the squared error (Kendall et al. 2018, equations 5 and 10).
                half = 0.5 if self.target_columns[number].kind == "number" else 1.0
                loss = half * torch.exp(-log) * loss + len(targets) * log / 2
            total = total + loss
        return total

    def settled(self, val: Mapping[str, float]) -> Self:
        """The task whose parts have the settings that their validation metrics decide."""
        tasks = []
        for column, task in zip(self.target_columns, self.tasks, strict=True):
            before = f"{column.name}."
            tasks.append(task.settled({k.removeprefix(before): v for k, v in val.items() if k.startswith(before)}))
        return replace(self, tasks=tuple(tasks))

    def deciding(self, cost: ByClass, threshold: ByClass, validation: Validation | None = None) -> Self:
        """The task whose parts decide without costs and thresholds. Raises UsageError for these."""
        if cost or threshold:
            option = "--cost" if cost else "--threshold"
            got = "a run that predicts several targets"
            raise UsageError(option, got, "a network for one target", f"leave out {option}")
        return replace(self, tasks=tuple(task.deciding(None, None, validation) for task in self.tasks))

    @property
    def rejects(self) -> bool:  # type: ignore[override]
        """Whether predictions of one of the targets can be rejected."""
        return any(task.rejects for task in self.tasks)

    def rejecting(self, rate: float, validation: Validation) -> Self:
        """The task that rejects predictions of each target, a class or a set of labels, separately, calibrated on the
        validation samples that have a value. Raises UsageError where there is no such target, or too few samples."""
        if not self.rejects:
            return super().rejecting(rate, validation)
        tasks = []
        for task, (known, own, truth) in zip(self.tasks, self.parts(*map(torch.as_tensor, validation())), strict=True):
            rows = own[known].numpy(), truth[known].numpy()
            tasks.append(task.rejecting(rate, partial(_both, *rows)) if task.rejects else task)
        return replace(self, tasks=tuple(tasks))

    def calibrated(self, temperature: float) -> Self:
        """Raises UsageError: no temperature is fitted."""
        del temperature
        raise UsageError("--calibrated", "a run that predicts several targets", "one target", "leave out --calibrated")

    # Metrics

    def accumulator(self) -> Accumulator:
        """The accumulators of all targets."""
        return TargetAccumulators(self)

    def decode(self, outputs: torch.Tensor) -> torch.Tensor:
        """(N, ΣD) float32, the predictions of all tasks."""
        return torch.cat([task.decode(own) for _, task, own in self._each(outputs[:, : self.outputs])], dim=1)

    @property
    def exports(self) -> tuple[str, ...]:  # type: ignore[override]
        """The prediction of each target, under the name of its column in letters and digits, or its number."""
        names = [re.sub(r"[^A-Za-z0-9]+", "_", column.name) for column in self.target_columns]
        apart = len({name.lower() for name in names}) == len(names)
        return tuple(f"target_{name if apart else number}" for number, name in enumerate(names))

    def export(self, outputs: torch.Tensor, frame: Frame | None) -> tuple[torch.Tensor, ...]:
        """(N, D) of each target: probabilities, or numbers in the units of the data."""
        del frame
        return tuple(task.decode(own) for _, task, own in self._each(outputs[:, : self.outputs]))

    def exported_facts(self) -> dict[str, Any]:
        """For each output: its column and kind, its classes, and the facts of its own task."""
        return {
            "targets": {
                output: {"name": column.name, "kind": column.kind, "classes": list(column.classes)}
                | task.exported_facts()
                for output, column, task in zip(self.exports, self.target_columns, self.tasks, strict=True)
            }
        }

    def from_exported(self, arrays: Sequence[NDArray[Any]], size: tuple[int, int] | None) -> NDArray[Any]:
        """The predictions of all targets, concatenated."""
        del size
        return np.concatenate(list(arrays), axis=1)

    def disparity(self, right: NDArray[Any], found: NDArray[Any]) -> tuple[float, bool]:
        """The largest difference over the targets; whether all predictions are the same."""
        pairs = zip(self._each(right), self._each(found), strict=True)
        apart = [task.disparity(own, theirs) for (_, task, own), (_, _, theirs) in pairs]
        return max(difference for difference, _ in apart), all(same for _, same in apart)

    def measure(self, decoded: torch.Tensor, targets: torch.Tensor) -> dict[str, Any]:
        """`error`, and the metrics of each target under `targets`."""
        return self._measured(decoded, targets)

    def measure_each(self, tasks: Sequence[Self], decoded: torch.Tensor, targets: torch.Tensor) -> dict[str, Any]:
        """The metrics, each sample with the settings of its own task."""
        return self._measured(decoded, targets, tasks)

    def _measured(
        self, decoded: torch.Tensor, targets: torch.Tensor, tasks: Sequence[Self] | None = None
    ) -> dict[str, Any]:
        found: dict[str, dict[str, Any]] = {}
        parts = self.parts(decoded.cpu(), targets.cpu())
        for number, (column, task, (known, own, truth)) in enumerate(
            zip(self.target_columns, self.tasks, parts, strict=True)
        ):
            rows, of = known.nonzero()[:, 0].tolist(), (own[known], truth[known])
            found[column.name] = {"n": len(rows)}
            if rows and tasks is None:
                found[column.name] |= task.measure(*of)
            elif rows and tasks is not None:
                found[column.name] |= task.measure_each([tasks[row].tasks[number] for row in rows], *of)
        return {"error": self.headline_metric().value(self.rows_for(decoded, targets)), "targets": found}

    def rows_for(self, decoded: Any, targets: Any) -> Rows:
        """(N, 2 T) the error of each target, 0 where a sample has no value, and whether it has one. The error is 1 −
        the headline metric, if that is a share; else the metric divided by that of always predicting the mean."""
        predicted, truth = (torch.as_tensor(x).cpu() for x in (decoded, targets))
        rows = np.zeros((len(predicted), 2 * len(self.tasks)))
        for number, (known, own, values) in enumerate(self.parts(predicted, truth)):
            places = np.flatnonzero(known.numpy())
            if len(places):
                task = self.tasks[number]
                each = task.headline_metric().each(task.rows_for(own[known].numpy(), values[known].numpy()))
                share = task.metrics[0].is_share and task.higher_is_better
                rows[places, number] = 1 - each if share else each / self.scales[number]
                rows[places, len(self.tasks) + number] = 1
        return rows

    @classmethod
    def headline_of(cls, total: Rows, n: int) -> float:
        """The mean over targets of the mean error of each."""
        del n
        errors, known = np.split(np.asarray(total), 2)
        return float((errors[known > 0] / known[known > 0]).mean()) if (known > 0).any() else 0.0

    def interval(self, decoded: Any, targets: Any, groups: Sequence[str] = ()) -> dict[str, Any]:
        """`error_interval`, and `targets` with the intervals of each target."""
        found = super().interval(decoded, targets, groups)
        measured = self.measure(*(torch.as_tensor(x) for x in (decoded, targets)))["targets"]
        parts = self.parts(*(torch.as_tensor(x) for x in (decoded, targets)))
        for column, task, (known, own, truth) in zip(self.target_columns, self.tasks, parts, strict=True):
            rows = np.flatnonzero(known.numpy())
            if len(rows):
                of_rows = [groups[k] for k in rows.tolist()] if len(groups) else ()
                spans = task.interval(own.numpy()[rows], truth.numpy()[rows], of_rows)
                measured[column.name] |= spans
        return {**found, "targets": measured}

    def same(self, one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64] | None:
        """The mean over the targets for which it is defined."""
        pairs = zip(self._each(one), self._each(other), strict=True)
        found = [task.same(own, theirs) for (_, task, own), (_, _, theirs) in pairs]
        known = [part for part in found if part is not None]
        return np.mean(known, axis=0) if known else None

    def agreement(self, reference: torch.Tensor, outputs: torch.Tensor) -> PredictionAgreement:
        """How far the outputs of all targets agree."""
        return agreement_of_numbers(reference[:, : self.outputs].float(), outputs[:, : self.outputs].float())

    def prediction_findings(self, evaluation: Evaluation) -> tuple[Finding, ...]:
        """The findings of each target's task, which name the target."""
        return tuple(
            replace(finding, measured=f"{name}: {finding.measured}")
            for name, (task, part, _) in self.evaluations(evaluation).items()
            for finding in task.prediction_findings(part)
        )

    def assess(
        self, evaluation: Evaluation, facts: SampleFacts, temperature: Temperature | None, names: Sequence[str]
    ) -> SplitMetrics:
        """The assessment of each target by its task, and slices of the mean error."""
        del temperature, names
        headline, rows, n = self.headline_metric(), self.rows_of(evaluation), evaluation.n
        headline = headline.over(facts.columns.get("group", ()))
        targets, headlines = {}, {}
        for name, (task, part, places) in self.evaluations(evaluation).items():
            own = facts.part(places.tolist())
            targets[name] = task.assess(part, own, None, (name,))
            metric = task.metrics[0]
            headlines[name] = f"{metric.name} {metric.text(part.metrics.get(metric.key))}, n = {part.n:,}"
        groups = sample_groups(facts, n, brightness=evaluation.brightness)
        figures = {"error": headline.estimate(rows)}
        return SeveralMetrics(n, figures, targets, headlines, headline.slices(groups, rows), too_few(n))

    @classmethod
    def accepts_saved(cls, saved: SavedPredictions) -> bool:
        """Whether predictions and targets are tables of numbers."""
        return saved.predicted is None and saved.predictions.ndim == saved.targets.ndim == 2

    def baselines(self, data: Dataset) -> tuple[Method, ...]:
        """Methods that combine one method for each target: the simplest ones, …, the strongest ones."""
        own = [task.baselines(data_of(data, number)) for number, task in enumerate(self.tasks)]
        methods = []
        for place in range(max(map(len, own))):
            chosen = [methods_of[min(place, len(methods_of) - 1)] for methods_of in own]
            name = ", ".join(dict.fromkeys(method.name for method in chosen))
            what = " ".join(f"{c.name}: {m.what}" for c, m in zip(self.target_columns, chosen, strict=True))
            methods.append(Method(name, what, _Together(tuple(chosen))))
        return tuple(methods)

    def single_targets(self) -> Mapping[str, Mapping[str, Any]]:
        """Each target with the weight of its loss alone."""
        names = [column.name for column in self.target_columns]
        return {
            name: {
                "weighting": "fixed",
                "target_weights": ",".join(f"{other}={int(other == name)}" for other in names),
            }
            for name in names
        }

    def compare_single(
        self, name: str, together: Evaluation, alone: Evaluation
    ) -> tuple[Metric, float | None, float | None, Difference]:
        """The comparison by the test of the target's own task."""
        (task, ours, _), (other, theirs, _) = (self.evaluations(one)[name] for one in (together, alone))
        metric = task.metrics[0]
        difference = type(task).difference(task.rows_of(ours), other.rows_of(theirs))
        return metric, ours.metrics.get(metric.key), theirs.metrics.get(metric.key), difference

    # Predictions

    def describe(self, decoded: torch.Tensor) -> dict[str, Any]:
        """`targets`, the prediction of each, and `details`, all fields of its task."""
        details = {column.name: task.describe(own) for column, task, own in self._each(decoded)}
        return {"targets": {name: next(iter(own.values())) for name, own in details.items()}, "details": details}

    def line(self, fields: Mapping[str, Any]) -> str:
        """The targets by name."""
        return "  ".join(f"{c.name} {task.line(fields['details'][c.name])}" for c, task, _ in self._each(np.zeros(0)))

    def explained(self, decoded: torch.Tensor) -> Explained:
        """The first target."""
        name = self.target_columns[0].name
        note = f"Of {several(len(self.target_columns), 'target')}, {name} is explained; --part NAME names another."
        found = self.explained_part(decoded, name)
        return replace(found, notes=(note, *found.notes))

    def explained_part(self, decoded: torch.Tensor, part: str) -> Explained:
        """The explanation of this target by its task. Raises UsageError for an unknown target."""
        _, task, place = self._of(part)
        own = task.explained(decoded[place])
        target = own.target

        def score(outputs: torch.Tensor) -> torch.Tensor:
            return own.score(outputs[:, place])[:, target : target + 1]

        of = own.part or (self.target_columns[self._of(part)[0]].classes[target] if own.kind == "logits" else "")
        return Explained(score, 0, "number", f"{part}: {of}" if of else part, own.notes)

    def _texts(self, target: Any) -> list[str]:
        """One sample's targets in words."""
        values = np.asarray(torch.as_tensor(target))
        ends = np.cumsum([column.width for column in self.target_columns])[:-1]
        return [column.text(own) for column, own in zip(self.target_columns, np.split(values, ends), strict=True)]

    def target_text(self, target: Any) -> str:
        """The targets by name."""
        return "; ".join(f"{c.name} {text}" for c, text in zip(self.target_columns, self._texts(target), strict=True))

    # Reports

    def headline_text(self, evaluation: Evaluation) -> tuple[str, str]:
        """The headline of each target."""
        parts = []
        for name, (task, part, _) in self.evaluations(evaluation).items():
            metric = task.metrics[0]
            parts.append(f"{name}: {metric.name} {metric.text(part.metrics.get(metric.key))}")
        of = f"{evaluation.n:,} {evaluation.split} {'sample' if evaluation.n == 1 else 'samples'} of {evaluation.data}"
        return f"{evaluation.metrics['error']:.3f}", (
            f"mean error of {several(len(self.target_columns), 'target')} on the {of}, where 0 is perfect; for a "
            f"number, always predicting its mean reaches 1. {'; '.join(parts)}."
        )

    def pictures(
        self, folder: Path, evaluation: Evaluation, images: Any | None, *, names: Sequence[str] = ()
    ) -> tuple[Picture, ...]:
        """The pictures of each target, in a folder of their own."""
        pictures: list[Picture] = []
        for number, (name, (task, part, rows)) in enumerate(self.evaluations(evaluation).items()):
            own = folder / f"target-{number + 1}"
            own.mkdir(exist_ok=True)
            all_known = len(rows) == evaluation.n
            shown = images if images is None or all_known else take_rows(images, torch.from_numpy(rows))
            code_fields = [names[k] for k in rows] if len(names) else ()
            drawn = task.pictures(own, part, shown, names=code_fields)
            pictures += [replace(picture, title=f"{name}: {picture.title}") for picture in drawn]
        return tuple(pictures)

    def sections(self, assessment: Assessment, figures: SplitMetrics, of: str) -> tuple[Section, ...]:
        """The sections of each target's task."""
        assert isinstance(figures, SeveralMetrics)
        found: list[Section] = []
        for column, task in zip(self.target_columns, self.tasks, strict=True):
            if column.name in figures.targets:
                own = task.sections(replace(assessment, temperature=None), figures.targets[column.name], of)
                found += [replace(section, title=f"{column.name}: {section.title}") for section in own]
        return tuple(found)

    def tables(
        self, evaluation: Evaluation, figures: SplitMetrics | None, names: Sequence[str] = ()
    ) -> dict[str, Table | None]:
        """The metrics of all targets, side by side."""
        del names
        if not isinstance(figures, SeveralMetrics):
            return {}
        rows = []
        for name, (task, part, _) in self.evaluations(evaluation).items():
            for metric in task.metrics:
                value = part.metrics.get(metric.key)
                if isinstance(value, float) and metric.tells(len(part.classes)):
                    span = part.metrics.get(f"{metric.key}_interval")
                    ends = "–" if span is None else " to ".join(metric.text(end) for end in span)
                    rows.append((name, part.n, metric.name, metric.text(value), ends))
        columns = ("target", "n", "metric", "value", "95 % interval")
        return {"classes": Table(f"Each target, {evaluation.split} split", columns, tuple(rows))}

    def columns(self, names: Sequence[str]) -> list[str]:
        """The columns of each task, prefixed with the name of its target."""
        del names
        return [f"{name} {head}" for name, heads in self._heads() for head in heads]

    def _heads(self) -> list[tuple[str, list[str]]]:
        return [(c.name, task.columns((c.name,))) for c, task in zip(self.target_columns, self.tasks, strict=True)]

    def cells(self, truth: Any, decoded: Any) -> list[Any]:
        """One sample's row; empty where it has no value."""
        found: list[Any] = []
        parts = self.parts(torch.as_tensor(decoded)[None], torch.as_tensor(truth)[None])
        for (_, heads), task, (known, own, values) in zip(self._heads(), self.tasks, parts, strict=True):
            found += task.cells(values.numpy()[0], own.numpy()[0]) if bool(known[0]) else [""] * len(heads)
        return found


@dataclass(frozen=True)
class _Together:
    """One method for each target, fitted one after the other."""

    methods: tuple[Method, ...]

    def __call__(self, data: Dataset, task: Several, seed: int) -> Fitted:
        """The predictions of all methods, concatenated."""
        own = [
            method.fit(data_of(data, number, ("test",)), task.tasks[number], seed)
            for number, method in enumerate(self.methods)
        ]
        decoded = torch.cat([fitted.decoded.float() for fitted in own], dim=1)
        names = [column.name for column in task.target_columns]
        hyperparameters = {n: f.hyperparameters for n, f in zip(names, own, strict=True) if f.hyperparameters}
        seen = [f"{n}: {f.features}" for n, f in zip(names, own, strict=True) if f.features != "none"]
        features = "; ".join(seen) or "none"
        notes = " ".join(f"{n}: {fitted.note}" for n, fitted in zip(names, own, strict=True) if fitted.note)
        return Fitted(decoded, features, max(fitted.n_train for fitted in own), hyperparameters, notes)


def _usual_error(task: Task, truth: torch.Tensor) -> float:
    """The mean error of always predicting the mean; 1 where all values are equal."""
    mean = truth.float().mean(0).expand(len(truth), -1)
    error = float(task.headline_metric().each(task.rows_for(mean.numpy(), truth.numpy())).mean())
    return error if error > 0 else 1.0


def _read_weights(text: str | None, names: Sequence[str]) -> tuple[float, ...]:
    """The weight of each target, 1 where `--task.target_weights age=0.5` does not name it. Raises ConfigError."""
    found = dict.fromkeys(names, 1.0)
    for part in filter(None, (part.strip() for part in (text or "").split(","))):
        name, _, number = part.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if name not in found or not 0 <= value <= 1e6:
            expected = f"TARGET=WEIGHT, of {listed(list(names), 12)}, weights of 0 to 1,000,000"
            raise ConfigError("task.target_weights", repr(part), expected, f"--task.target_weights {names[0]}=0.5")
        found[name] = value
    if not any(found.values()):
        raise ConfigError("task.target_weights", repr(text), "a weight above 0", "leave out --task.target_weights")
    return tuple(found.values())
