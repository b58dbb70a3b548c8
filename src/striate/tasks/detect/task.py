"""The task of object detection."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from striate.data.annotations.boxes import ANGLE, CLASS, CROWD
from striate.data.augment.warp import Warp
from striate.data.config import AugmentConfig
from striate.data.dataset import Dataset, SampleFacts
from striate.data.media.medium import Placement
from striate.data.rotated_boxes import corners
from striate.errors import DataError, ModelError, UsageError
from striate.inference.agreement import agreement_of_numbers
from striate.inference.plan import PredictionAgreement
from striate.models.choose import DETECTOR, network_for_objects
from striate.records import Finding
from striate.runs.predictions import Predictions as SavedPredictions
from striate.statistics.calibration import Temperature
from striate.statistics.ranking import mean_of_known
from striate.tasks.accumulator import Accumulator, RowAccumulator
from striate.tasks.assessment import Assessment, SplitMetrics
from striate.tasks.baseline import Method
from striate.tasks.config import ByClass, TaskConfig, Validation
from striate.tasks.detect.assess import (
    Counts,
    angle_errors,
    assess_detections,
    best_threshold,
    coco_metrics,
    counts_of,
    rotated_metrics,
)
from striate.tasks.detect.average_precision import (
    SCORE,
    RankedHeadline,
    average_precisions,
    overlaps_for,
    ranked,
    rows_of,
)
from striate.tasks.detect.decode import MOST, detections, room_for
from striate.tasks.detect.doctor import nothing_found, small_missed
from striate.tasks.detect.export import (
    OUTPUTS,
    detections_of,
    disparity_of_boxes,
    exported_boxes,
    exported_rotated_boxes,
)
from striate.tasks.detect.head import Detector, parts_of
from striate.tasks.detect.loss import detection_loss
from striate.tasks.detect.metrics import MAP, METRICS, DetectionMetrics
from striate.tasks.detect.move import resize_boxes, warp_boxes
from striate.tasks.detect.rotated import boxes_of
from striate.tasks.evaluation import Evaluation
from striate.tasks.exported import Frame
from striate.tasks.found import Found
from striate.tasks.headline import Headline, Rows, interval_of
from striate.tasks.marks import Marks, Outline, PositionMap, as_colors
from striate.tasks.metric import Metric
from striate.tasks.task import Explained, Feature, Task
from striate.visualize.canvas import class_colors
from striate.visualize.page_parts import Picture, Section, Table
from striate.wording import percent, several

_CROP = 0.5
"""Smallest crop as a share of the image."""
_FINEST, _COARSEST = 1.5, 4.0
"""The shorter side of small boxes (the 5 % quantile) in finest strides, and the longer side of large boxes in coarsest
strides."""
_STRIDES = (4, 8, 16, 32, 64)
_COARSE = 2.0
"""Largest finest stride, as a multiple of the median object."""


@dataclass(frozen=True)
class Detect(Task):
    """Detection of objects.

    Outputs (N, P, K + 7) are those of `Detector`. Targets (N, M, 6) are in the columns of boxes. Predictions (N,
    `most`, 6) are edges in pixels, class (−1: none) and score. Rotated boxes have one more column in targets and
    predictions, the last: the angle.
    """

    classes: tuple[str, ...] = ()
    """Names of the K classes."""
    size: tuple[int, int] = (0, 0)
    """(height, width) of the images."""
    strides: tuple[int, ...] = _STRIDES
    """Strides of the pyramid in pixels; they follow from the training boxes."""
    typical: float = 16.0
    """Half the side of a typical training box, in pixels."""
    threshold: float = 0.5
    """The score from which a detection is a prediction."""
    chosen: bool = False
    """Whether a user chose `threshold`; else it is the best one on validation."""
    rotated: bool = False
    """Whether boxes have an angle."""
    most: int = MOST
    """Largest number of predictions per image."""

    name: ClassVar[str] = "detect"
    annotation: ClassVar[str] = "box"
    needs: ClassVar[Feature] = "pyramid"
    metrics: ClassVar[tuple[Metric, ...]] = METRICS
    losses: ClassVar[tuple[str, ...]] = ("quality-focal",)
    moves_with_image: ClassVar[bool] = True
    needs_placement: ClassVar[bool] = True
    explains: ClassVar[str] = "box"
    refused_augmentation: ClassVar[Mapping[str, str]] = {
        "cutmix": "nothing, since a pasted part hides objects and cuts others in two",
    }
    draws: ClassVar[bool] = True
    loss_name: ClassVar[str] = "quality-focal"  # type: ignore[misc]

    @classmethod
    def usual_network(cls, input_shape: tuple[int, ...]) -> tuple[str, str] | None:
        """See `models.choose`."""
        return network_for_objects(input_shape)

    @classmethod
    def make(cls, data: Dataset, config: TaskConfig, loss: str) -> Self:
        """The task with strides for the boxes of the training split, and room for as many detections as its images have
        objects. Raises DataError for boxes that are too small to be in pixels, and fit in another format."""
        del config, loss
        _, height, width = data.input_shape
        targets = data.splits["train"].targets
        boxes = targets[targets[..., CLASS] >= 0][:, :4].cpu().numpy().astype(np.float64)
        sides = boxes[:, 2:] - boxes[:, :2]
        typical = float(np.sqrt(np.median(sides.prod(1)))) / 2
        misread = next((finding for finding in data.findings if finding.code == "data.box-format"), None)
        if misread is not None and 2 * typical * _COARSE < min(_STRIDES):
            raise DataError(f"data {data.source}", misread.measured, misread.threshold, misread.remedy)
        most = room_for(int((targets[..., CLASS] >= 0).sum(1).max()))
        turned = targets.shape[2] > ANGLE
        return cls(data.classes, (height, width), strides_for(sides), typical, rotated=turned, most=most)

    @property
    def outputs(self) -> int:
        """One score a class."""
        return len(self.classes)

    def attach(self, network: nn.Module, input_shape: tuple[int, ...]) -> nn.Module:
        """The network with a pyramid and a head. Raises ModelError where its positions are too far apart for the
        objects."""
        detector = self.detector(network, input_shape)
        stride = detector.pyramid.strides[0]
        if stride > 2 * self.typical * _COARSE:
            larger = " × ".join(str(round(side * stride / (2 * self.typical) / 32) * 32) for side in self.size)
            raise ModelError(
                "model",
                f"a finest stride of {stride:.3g} pixels, for boxes with a median size of {2 * self.typical:.3g}",
                "positions closer to each other than two objects",
                f"larger images, about {larger} (--size)"
                + (f", or a network with finer maps: --model {DETECTOR}" if stride > min(_STRIDES) else ""),
            )
        return detector

    def detector(self, network: nn.Module, input_shape: tuple[int, ...]) -> Detector:
        """The network with a pyramid and a head."""
        return Detector(network, input_shape, self.outputs, self.strides, self.typical, rotated=self.rotated)

    def bare(self, network: nn.Module) -> nn.Module:
        """The network whose maps the pyramid uses."""
        return network.pyramid.backbone if isinstance(network, Detector) else network

    def augmentation(self, usual: AugmentConfig, request: AugmentConfig) -> tuple[AugmentConfig, str]:
        """Crops are at least `_CROP` of the image, since smaller ones cut most objects. Images with rotated boxes have
        no upper side: they are rotated by any angle, and mirrored in both directions."""
        del request
        cropped = replace(usual, crop=max(usual.crop or 1.0, _CROP))
        return (replace(cropped, rotate=180.0, vertical_flip=True) if self.rotated else cropped), ""

    def settled(self, val: Mapping[str, float]) -> Self:
        """The task with the threshold that was best on validation."""
        return replace(self, threshold=val["threshold"]) if "threshold" in val else self

    # Loss and targets

    def weight(self, targets: torch.Tensor) -> torch.Tensor:
        """The number of objects plus the number of images, so that images without objects have a weight."""
        return ((targets[..., CLASS] >= 0) & (targets[..., CROWD] == 0)).sum().float() + len(targets)

    def loss_sum(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Scalar sum: `detection_loss`."""
        return detection_loss(outputs, targets, self.outputs, rotated=self.rotated)

    def warp_targets(self, targets: torch.Tensor, warp: Warp) -> torch.Tensor:
        """Boxes move with their image; those that leave it are clipped or dropped."""
        return warp_boxes(targets, warp, self.size)

    def resize_targets(self, targets: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Boxes are scaled with their image."""
        return resize_boxes(targets, self.size, size)

    # Predictions

    def decode(self, outputs: torch.Tensor) -> torch.Tensor:
        """(N, `most`, 6) float32 detections by falling score: edges in pixels, class, score; class −1 for padding."""
        return detections(outputs, self.outputs, self.size, rotated=self.rotated, most=self.most)

    def describe_in_file(self, decoded: torch.Tensor, placed: Placement | None) -> dict[str, Any]:
        """`width` and `height` of the file, and its `boxes`."""
        if placed is None:
            return self.describe(decoded)
        height, width = placed.file
        return {"width": width, "height": height, **self.describe(self.in_file(decoded, placed))}

    def in_file(self, decoded: torch.Tensor, placed: Placement) -> torch.Tensor:
        """Detections in pixels of the file; upright ones are within it."""
        rows = np.asarray(decoded).astype(np.float64)  # a tensor, or a saved array
        if self.rotated:
            columns = [0, 1, 2, 3, ANGLE]
            rows[:, columns] = placed.rotated_boxes_in_file(rows[:, columns])
            return torch.from_numpy(rows)
        height, width = placed.file
        rows[:, :4] = np.clip(placed.boxes_in_file(rows[:, :4]), 0, [width, height, width, height])
        return torch.from_numpy(rows)

    def describe(self, decoded: torch.Tensor) -> dict[str, Any]:
        """`boxes`, those from the threshold on; rotated ones with an `angle`."""
        return {
            "boxes": [
                {
                    "label": self.classes[int(row[CLASS])],
                    "probability": row[SCORE],
                    "box": [round(edge, 2) for edge in row[:4]],
                    **({"angle": round(row[ANGLE], 2)} if self.rotated else {}),
                }
                for row in decoded.tolist()
                if row[CLASS] >= 0 and row[SCORE] >= self.threshold
            ]
        }

    def found(self, decoded: torch.Tensor, placed: Placement) -> tuple[Found, ...]:
        """The boxes from the threshold on, rotated ones with their angle."""
        rows = self.in_file(decoded, placed).tolist()
        return tuple(
            Found(
                self.classes[int(row[CLASS])],
                row[SCORE],
                ((row[0] + row[2]) / 2, (row[1] + row[3]) / 2),
                (row[2] - row[0], row[3] - row[1]),
                row[ANGLE] if self.rotated else 0.0,
            )
            for row in rows
            if row[CLASS] >= 0 and row[SCORE] >= self.threshold
        )

    def line(self, fields: Mapping[str, Any]) -> str:
        """The number of boxes of each class."""
        counts: dict[str, int] = {}
        for box in fields["boxes"]:
            counts[box["label"]] = counts.get(box["label"], 0) + 1
        return ", ".join(f"{name} {count}" for name, count in counts.items()) or "nothing found"

    def marks(self, decoded: torch.Tensor, placed: Placement | None) -> Marks:
        """An outline for each detection."""
        rows = decoded if placed is None else self.in_file(decoded, placed)
        numbers = np.asarray(rows, np.float64)
        angles = numbers[:, ANGLE:] if self.rotated else np.zeros((len(numbers), 1))
        ends = corners(np.concatenate([numbers[:, :4], angles], 1))
        found = [
            Outline(tuple((x, y) for x, y in outline), int(kind), score)
            for outline, (kind, score) in zip(ends.tolist(), numbers[:, [CLASS, SCORE]].tolist(), strict=True)
            if kind >= 0
        ]
        size, colors = self.size if placed is None else placed.file, as_colors(class_colors(self.outputs))
        return Marks(size, self.classes, colors, tuple(found), threshold=self.threshold)

    def position_maps(self, outputs: torch.Tensor) -> tuple[PositionMap, ...]:
        """The scores and boxes of the positions of each stride."""
        found, count = [], self.outputs
        logits, places, cells = (part[0].float().cpu() for part in parts_of(outputs, count, rotated=self.rotated))
        for stride in cells[:, 2].unique():
            there = cells[:, 2] == stride
            columns = len(cells[there, 0].unique())
            shape = int(there.sum()) // columns, columns
            scores, boxes = logits[there].sigmoid().T.reshape(count, *shape), places[there]
            boxes = boxes_of(boxes)[:, :4] if self.rotated else boxes
            boxes = boxes.reshape(*shape, 4)
            found.append(PositionMap(f"stride {float(stride):g}", "score", self.classes, scores, boxes))
        return tuple(found)

    def agreement(self, reference: torch.Tensor, outputs: torch.Tensor) -> PredictionAgreement:
        """How far the scores and boxes of all positions agree, before suppression."""
        return agreement_of_numbers(self._numbers(reference), self._numbers(outputs))

    def _numbers(self, outputs: torch.Tensor) -> torch.Tensor:
        """(N, P · (K + 4)) scores, and edges in shares of the longer side."""
        count = self.outputs
        boxes = parts_of(outputs, count, rotated=self.rotated)[1].float()
        edges = (boxes_of(boxes)[..., :4] if self.rotated else boxes) / max(self.size)
        return torch.cat([outputs[..., :count].float().sigmoid(), edges], 2).flatten(1)

    exports: ClassVar[tuple[str, ...]] = OUTPUTS

    def export(self, outputs: torch.Tensor, frame: Frame | None) -> tuple[torch.Tensor, ...]:
        """`boxes` (N, M, 4) in pixels of the picture, rotated ones (N, M, 5) with their angle; `scores` and `labels`
        (N, M), −1 for padding."""
        assert frame is not None
        if self.rotated:
            return exported_rotated_boxes(outputs, self.outputs, self.most, frame)
        return exported_boxes(outputs, self.outputs, self.most, self.size, frame)

    def exported_facts(self) -> dict[str, Any]:
        """The score from which a detection is a prediction."""
        return {"threshold": self.threshold}

    def from_exported(self, arrays: Sequence[NDArray[Any]], size: tuple[int, int] | None) -> NDArray[np.float64]:
        """Detections in pixels of the file."""
        del size
        return detections_of(arrays)

    def disparity(self, right: NDArray[Any], found: NDArray[Any]) -> tuple[float, bool]:
        """See `disparity_of_boxes`."""
        return disparity_of_boxes(right, found, self.threshold, rotated=self.rotated)

    def draw(self, image: NDArray[np.uint8], decoded: Any, truth: Any = None) -> NDArray[np.uint8]:
        """Boxes over the image, in the colors of their classes."""
        from striate.tasks.detect.show import picture_of

        return picture_of(image, np.asarray(decoded), None if truth is None else np.asarray(truth), self)

    def deciding(self, cost: ByClass, threshold: ByClass, validation: Validation | None = None) -> Self:
        """The task with another threshold, a score from 0 to 1. Raises UsageError for costs, and for anything but a
        score."""
        del validation
        if cost:
            raise UsageError("--cost", "a run that predicts boxes", "a classification", "leave out --cost")
        if not threshold:
            return self
        text = threshold if isinstance(threshold, str) else ",".join(map(str, threshold))
        try:
            score = float(text)
        except ValueError:
            score = -1.0
        if not 0 <= score <= 1:
            expected = "a score from 0 to 1, the lowest of a predicted box"
            raise UsageError("--threshold", repr(text), expected, f"--threshold {self.threshold:.2f}")
        return replace(self, threshold=score, chosen=True)

    @property
    def decision_text(self) -> str:
        """The score from which boxes are predicted, if the user chose it."""
        return f"boxes with a score of at least {self.threshold:g}" if self.chosen else ""

    def explained(self, decoded: torch.Tensor) -> Explained:
        """The box with the highest score."""
        if not len(decoded) or decoded[0, CLASS] < 0:
            got = "an image without detections"
            raise UsageError("explain", got, "an image with a detected object", "give another image")
        found, count = self._box_explained(decoded[0]), len(self.describe(decoded)["boxes"])
        others = (
            f"Of {several(count, 'box', 'boxes')}, the one with the highest score is explained; --box 2 is the next."
        )
        return found if count < 2 else replace(found, notes=(others, *found.notes))

    def explained_part(self, decoded: torch.Tensor, part: str) -> Explained:
        """The predicted box with this number, from 1, by falling score. Raises UsageError for an unknown number."""
        count = len(self.describe(decoded)["boxes"])
        if not (part.isascii() and part.isdigit() and 1 <= int(part) <= count):
            expected = f"the number of a box, from 1 to {count}, by decreasing score"
            if not count:
                expected = f"an image with a box: none has a score of at least {self.threshold:.2g}"
            remedy = "--box 1" if count else "give another image, or a lower --threshold"
            raise UsageError("--box", part, expected, remedy)
        return self._box_explained(decoded[int(part) - 1])

    def _box_explained(self, row: torch.Tensor) -> Explained:
        """The highest logit of the box's class among the positions in the middle of the box."""
        count, box = self.outputs, row[:4]
        center, reach = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 4
        reach = reach.amin().expand(2) if self.rotated else reach

        def score(outputs: torch.Tensor) -> torch.Tensor:
            cells = parts_of(outputs, count, rotated=self.rotated)[2]
            far = (cells[..., :2] - center.to(cells)).abs() / torch.maximum(reach.to(cells), cells[..., 2:] / 2)
            return torch.where((far.amax(2) <= 1)[..., None], outputs[..., :count], -torch.inf).amax(1)

        return self._object_explained(row, score, "the logit of this score")

    def _object_explained(
        self, row: torch.Tensor, logits: Callable[[torch.Tensor], torch.Tensor], explained: str
    ) -> Explained:
        """The logit of the object's class alone, since each class has a score of its own: there is no softmax."""
        kind = int(row[CLASS])
        place = ", ".join(f"{edge:.0f}" for edge in row[:4].tolist())
        edges = "left, top, right, bottom in pixels of the input"
        turned = f", before it is turned by {row[ANGLE]:.0f}° counterclockwise" if self.rotated else ""
        part = f"the {self.classes[kind]} at {place} ({edges}{turned})"
        note = f"The {self.classes[kind]} has a score of {row[SCORE]:.2g}; the map explains {explained}."
        return Explained(lambda outputs: logits(outputs)[:, kind : kind + 1], 0, "number", part, (note,))

    # Metrics

    def accumulator(self) -> Accumulator:
        """The loss, and on validation the rows of detections."""
        return RowAccumulator(self, self._followed)

    def _followed(self, rows: Rows) -> dict[str, float]:
        """`map`, `map50`, and the `threshold` with the best F1, of all images."""
        each = average_precisions(ranked(rows))
        figures = {self.headline: mean_of_known(each), f"{self.headline}50": mean_of_known(each[:, :1])}
        return {**figures, "threshold": best_threshold(rows)}

    def measure(self, decoded: torch.Tensor, targets: torch.Tensor) -> dict[str, Any]:
        """The metrics of `_measured`, with predictions from the threshold on."""
        return self._measured(decoded, targets, self.threshold)

    def measure_each(self, tasks: Sequence[Self], decoded: torch.Tensor, targets: torch.Tensor) -> dict[str, Any]:
        """The metrics, with predictions of each image from the threshold of its own task on."""
        return self._measured(decoded, targets, np.array([task.threshold for task in tasks]))

    def _measured(
        self, decoded: torch.Tensor, targets: torch.Tensor, threshold: float | NDArray[np.float64]
    ) -> dict[str, Any]:
        """COCO's metrics, `ap50` of each class (None where it does not occur), and precision and recall at IoU 0.5 from
        the threshold on. For rotated boxes, metrics follow from the overlaps of rotated boxes, and the median angle
        error is that of the `angle_objects` detected objects that are at least twice as long as wide."""
        found, truth = decoded.cpu().numpy(), targets.cpu().numpy()
        rows = self.rows(found, truth, self.outputs)
        aps = average_precisions(ranked(rows))
        each = aps[:, 0].tolist()
        turned = self.rotated or truth.shape[2] > ANGLE
        angles = dict[str, Any]()
        if self.rotated and truth.shape[2] > ANGLE:
            errors = angle_errors(found, truth, threshold)
            angles = {"angle_error": float(np.median(errors)) if len(errors) else None, "angle_objects": len(errors)}
        counts, _ = counts_of(rows, threshold)
        whole = Counts(*(part.sum() for part in counts))
        return {
            **(rotated_metrics(aps) if turned else coco_metrics(found, truth, self.outputs)),
            "ap50": {name: None if np.isnan(ap) else ap for name, ap in zip(self.classes, each, strict=True)},
            "precision": whole.precision,
            "recall": whole.recall,
            "threshold": float(np.mean(threshold)),
            **angles,
        }

    @classmethod
    def rows(cls, decoded: NDArray[Any], targets: NDArray[Any], classes: int = 0) -> Rows:
        """The detections and objects of each image, which are ranked together."""
        return rows_of(decoded, targets, classes, overlaps_for(decoded, targets))

    @classmethod
    def headline_metric(cls) -> Headline:
        """Mean average precision of ranked detections."""
        return RankedHeadline(MAP, lambda *_: 0.0)

    def interval(self, decoded: Any, targets: Any, groups: Sequence[str] = ()) -> dict[str, list[float] | None]:
        """`map_interval` and `map50_interval` by bootstrap over images, or over groups of images where there are any;
        None for fewer than 20."""
        rows = self.rows_for(decoded, targets)
        figures = {"map": (0, 10), "map50": (0, 1)}
        return {
            f"{key}_interval": interval_of(RankedHeadline(MAP, lambda *_: 0.0, tuple(groups), ious).estimate(rows))
            for key, ious in figures.items()
        }

    def prediction_findings(self, evaluation: Evaluation) -> tuple[Finding, ...]:
        """Findings where hardly any object, or hardly any small one, is found, with the likely cause."""
        return nothing_found(evaluation, self.size) or small_missed(evaluation, self.size, self.threshold)

    @classmethod
    def accepts_saved(cls, saved: SavedPredictions) -> bool:
        """Whether predictions and targets have rows of boxes."""
        rows = saved.predicted is None and saved.predictions.ndim == saved.targets.ndim == 3 and bool(saved.classes)
        return rows and min(saved.predictions.shape[2], saved.targets.shape[2]) >= 6

    def assess(
        self, evaluation: Evaluation, facts: SampleFacts, temperature: Temperature | None, names: Sequence[str]
    ) -> SplitMetrics:
        """Each class, kinds of mistakes, slices, and the worst images."""
        del temperature, names
        return assess_detections(evaluation, facts, self.rows_of(evaluation), self.threshold)

    def baselines(self, data: Dataset) -> tuple[Method, ...]:
        """The most frequent boxes of the training images, in every image."""
        from striate.tasks.detect.baselines import detect_methods

        return detect_methods(data)

    # Reports

    def headline_text(self, evaluation: Evaluation) -> tuple[str, str]:
        """mAP at IoU 0.5, and the samples that it was measured on."""
        return self.headline_text_of(evaluation, "", "", int((evaluation.targets[..., CLASS] >= 0).sum()))

    def headline_text_of(self, evaluation: Evaluation, prefix: str, of: str, objects: int) -> tuple[str, str]:
        """The headline in words, from the metrics whose keys begin with `prefix`; `of` names what is compared."""
        metrics, kinds = evaluation.metrics, several(len(self.classes), "class", "classes")
        precision, recall = metrics["precision"], metrics["recall"]
        right = "there are no predictions"
        if precision is not None:
            right = f"{percent(precision)} of the predictions are right"
            right += "" if recall is None else f", and {percent(recall)} of the objects are found"
        return percent(metrics[f"{prefix}map50"]), (
            f"mean average precision{of} at IoU 0.5{evaluation.span_of(f'{prefix}map50')} over {kinds}, "
            f"{several(objects, 'object')} in {several(evaluation.n, 'image')} of the {evaluation.split} split of "
            f"{evaluation.data}; {percent(metrics[f'{prefix}map'])} over IoUs of 0.5 to 0.95. At a score threshold of "
            f"{self.threshold:.2f}, {right}."
        )

    def pictures(
        self, folder: Path, evaluation: Evaluation, images: Any | None, *, names: Sequence[str] = ()
    ) -> tuple[Picture, ...]:
        """The worst, typical and best images, and precision by recall."""
        from striate.tasks.detect.show import detection_pictures

        return detection_pictures(folder, evaluation, images, self, names)

    def tables(
        self, evaluation: Evaluation, figures: SplitMetrics | None, names: Sequence[str] = ()
    ) -> dict[str, Table | None]:
        """Over all classes, and each class."""
        from striate.tasks.detect.show import tables

        del names
        return tables(evaluation, figures) if isinstance(figures, DetectionMetrics) else {}

    def sections(self, assessment: Assessment, figures: SplitMetrics, of: str) -> tuple[Section, ...]:
        """The kinds of mistakes."""
        from striate.tasks.detect.show import mistakes_section

        del assessment
        return mistakes_section(figures, of) if isinstance(figures, DetectionMetrics) else ()

    def columns(self, names: Sequence[str]) -> list[str]:
        """Columns of the objects and the predictions, as JSON."""
        del names
        return ["objects", "predictions"]

    def cells(self, truth: Any, decoded: Any) -> list[Any]:
        """One sample's row."""
        objects = [[self.classes[int(row[CLASS])], *row[:4]] for row in truth.tolist() if row[CLASS] >= 0]
        found = [
            [box["label"], box["probability"], *box["box"]] for box in self.describe(torch.as_tensor(decoded))["boxes"]
        ]
        return [json.dumps(objects), json.dumps(found)]

    def target_text(self, target: Any) -> str:
        """How many objects of each class."""
        numbers = torch.as_tensor(target)[:, CLASS]
        counts = torch.bincount(numbers[numbers >= 0].long(), minlength=self.outputs).tolist()
        return ", ".join(f"{name} {count}" for name, count in zip(self.classes, counts, strict=True) if count) or "none"

    def state(self) -> dict[str, Any]:
        """Plain values for the checkpoint."""
        return {
            "classes": list(self.classes),
            "size": list(self.size),
            "strides": list(self.strides),
            "typical": self.typical,
            "threshold": self.threshold,
            "rotated": self.rotated,
            "most": self.most,
        }


def strides_for(sides: NDArray[np.float64]) -> tuple[int, ...]:
    """Strides in pixels for boxes of these sides (M, 2), width and height; at least two. Small boxes are 1.5 finest
    strides wide, large ones 4 coarsest strides."""
    small, large = float(np.quantile(sides.min(1), 0.05)), float(np.quantile(sides.max(1), 0.95))
    finest = max([stride for stride in _STRIDES if stride <= small / _FINEST], default=_STRIDES[0])
    coarsest = max([stride for stride in _STRIDES if stride <= large / _COARSEST], default=finest)
    return tuple(stride for stride in _STRIDES if finest <= stride <= max(coarsest, 2 * finest))
