"""The task of instance segmentation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from striate.data.annotations.boxes import CLASS
from striate.data.annotations.instances import objects_of
from striate.data.augment.crop import resize_batch
from striate.data.augment.warp import Warp
from striate.data.config import AugmentConfig
from striate.data.dataset import Dataset, SampleFacts
from striate.data.mask_codes import as_entry, encode_part
from striate.data.media.medium import Placement
from striate.models.decoder import MaskNetwork, with_decoder
from striate.records import Finding
from striate.runs.predictions import Predictions as SavedPredictions
from striate.statistics.calibration import Temperature
from striate.tasks.assessment import SplitMetrics
from striate.tasks.baseline import Method
from striate.tasks.config import TaskConfig
from striate.tasks.detect.assess import Counts, assess_detections, coco_metrics, counts_of
from striate.tasks.detect.average_precision import SCORE, RankedHeadline, average_precisions, ranked, rows_of
from striate.tasks.detect.decode import room_for
from striate.tasks.detect.doctor import nothing_found, small_missed
from striate.tasks.detect.task import Detect
from striate.tasks.evaluation import Evaluation
from striate.tasks.exported import Frame
from striate.tasks.headline import Headline, Rows, interval_of
from striate.tasks.instances.box_masks import MARGIN
from striate.tasks.instances.decode import WIDTH, inside, instance_map, instances, masks_of
from striate.tasks.instances.export import OUTPUTS, disparity_of_instances, exported_instances, rows_of_arrays
from striate.tasks.instances.grouping import OFFSET
from striate.tasks.instances.loss import image_weights, instance_loss
from striate.tasks.instances.metrics import MASK_MAP, METRICS, mask_metrics
from striate.tasks.instances.overlap import MaskOverlaps
from striate.tasks.marks import PositionMap
from striate.tasks.metric import Metric
from striate.tasks.task import Explained
from striate.tasks.views import maps_moved_back
from striate.visualize.drawn_file import write_drawn
from striate.visualize.page_parts import Picture

_IMAGES = 64  # computed together


@dataclass(frozen=True)
class Instances(Detect):
    """Instance segmentation over `classes` in images of (height, width) `size`, with the fields and metrics of
    `Detect`.

    Outputs (N, K + 2, H, W) are, for each pixel, the logit of an object of each class, and the offset to the object's
    center in units of `typical` pixels. Targets (N, H, W) number the objects as `data.annotations.instances` does.
    Predictions (N, `most`, WIDTH) are those of `decode.instances`.
    """

    name: ClassVar[str] = "instances"
    annotation: ClassVar[str] = "instance"
    metrics: ClassVar[tuple[Metric, ...]] = METRICS
    writes_files: ClassVar[bool] = True
    takes_windows: ClassVar[bool] = True
    mean_of_views: ClassVar[bool] = True

    @classmethod
    def make(cls, data: Dataset, config: TaskConfig, loss: str) -> Self:
        """The task with room for as many detections as the images of the training split have objects."""
        del config, loss
        _, height, width = data.input_shape
        sides, most = [], 0
        targets = data.splits["train"].targets
        for start in range(0, len(targets), _IMAGES):
            boxes, values = objects_of(targets[start : start + _IMAGES], len(data.classes))
            found = boxes[values > 0][:, :4].cpu().numpy().astype(np.float64)
            sides.append(found[:, 2:] - found[:, :2])
            most = max(most, int((values > 0).sum(1).max()))
        every = np.concatenate(sides)
        typical = float(np.sqrt(np.median(every.prod(1)))) / 2
        return cls(data.classes, (height, width), typical=typical, most=room_for(most))

    def attach(self, network: nn.Module, input_shape: tuple[int, ...]) -> nn.Module:
        """The network with a decoder that outputs K + 2 numbers for each pixel."""
        return with_decoder(network, input_shape, self.outputs + OFFSET)

    def bare(self, network: nn.Module) -> nn.Module:
        """The network whose maps the decoder uses."""
        return network.backbone if isinstance(network, MaskNetwork) else network

    def augmentation(self, usual: AugmentConfig, request: AugmentConfig) -> tuple[AugmentConfig, str]:
        """No rotation by default: the corners of rotated images repeat the edge, but their objects are not in the
        targets."""
        decided, note = super().augmentation(usual, request)
        return replace(decided, rotate=0.0), note

    # Loss and targets

    def weight(self, targets: torch.Tensor) -> torch.Tensor:
        """The sum of the images' weights."""
        return image_weights(targets, self.outputs).sum()

    def loss_sum(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Scalar sum: `instance_loss`."""
        return instance_loss(outputs, targets, self.outputs, self.typical)

    def warp_targets(self, targets: torch.Tensor, warp: Warp) -> torch.Tensor:
        """Masks move with their image; pixels from outside belong to no object."""
        planes = _as_bytes(targets)
        moved = warp.apply(planes, nearest=True, fill=0)
        return _from_bytes(moved, targets.dtype)

    def resize_targets(self, targets: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Masks are resized with their image; a pixel belongs to the object at its center."""
        return _from_bytes(resize_batch(_as_bytes(targets), size, nearest=True), targets.dtype)

    # Predictions

    def decode(self, outputs: torch.Tensor) -> torch.Tensor:
        """(N, `most`, WIDTH) float32 detections by falling score."""
        return instances(outputs, self.outputs, self.most, self.typical)

    def describe_in_file(self, decoded: torch.Tensor, placed: Placement | None) -> dict[str, Any]:
        """`width` and `height` of the file, and its `boxes` with their masks."""
        if placed is None:
            return self.describe(decoded)
        height, width = placed.file
        found = self._described(self.in_file(decoded, placed), placed.file)
        return {"width": width, "height": height, "boxes": found}

    def in_file(self, decoded: torch.Tensor, placed: Placement) -> torch.Tensor:
        """Detections in pixels of the file; masks are relative to their boxes."""
        rows = np.asarray(decoded).astype(np.float64)  # a tensor, or a saved array
        rows[:, :4] = placed.boxes_in_file(rows[:, :4])
        return torch.from_numpy(rows)

    def describe(self, decoded: torch.Tensor) -> dict[str, Any]:
        """`boxes` with their masks, those from the threshold on."""
        return {"boxes": self._described(decoded, self.size)}

    def _described(self, decoded: torch.Tensor, size: tuple[int, int]) -> list[dict[str, Any]]:
        found = np.asarray(decoded)
        found = found[(found[:, CLASS] >= 0) & (found[:, SCORE] >= self.threshold)]
        limits = [size[1], size[0], size[1], size[0]]
        return [
            {
                "label": self.classes[int(row[CLASS])],
                "probability": float(row[SCORE]),
                "box": [round(float(edge), 2) for edge in np.clip(row[:4], 0, limits)],
                "mask": as_entry(encode_part(inside(part), corner, size), size),
            }
            for row, (part, corner) in zip(found, masks_of(found, size), strict=True)
        ]

    def write_prediction(
        self, folder: Path, name: str, decoded: torch.Tensor, placed: Placement | None = None
    ) -> dict[str, Any]:
        """Write a PNG in the size of the file whose values number the objects by falling score, 0 for none; with 16
        bits for more than 255 objects. Nothing in the folder is overwritten."""
        from striate.tasks.instances.show import predicted_instances

        rows, size = (decoded, self.size) if placed is None else (self.in_file(decoded, placed), placed.file)
        found = predicted_instances(np.asarray(rows), self)
        numbers = instance_map(found, size)
        kind = np.uint8 if len(found) <= np.iinfo(np.uint8).max else np.uint16
        return {"mask": write_drawn(folder, name, numbers.astype(kind))}

    def draw(self, image: NDArray[np.uint8], decoded: Any, truth: Any = None) -> NDArray[np.uint8]:
        """The image with each object, or prediction, in a color of its own; wrong predictions are checkered."""
        from striate.tasks.instances.show import picture_of

        return picture_of(image, np.asarray(decoded), None if truth is None else np.asarray(truth), self)

    def position_maps(self, outputs: torch.Tensor) -> tuple[PositionMap, ...]:
        """The probability that each pixel belongs to an object."""
        return (PositionMap("pixels", "probability", self.classes, outputs[0, : self.outputs].float().sigmoid().cpu()),)

    def move_back(
        self, outputs: torch.Tensor, *, mirrored: bool, shift: tuple[int, int], upside_down: bool = False
    ) -> torch.Tensor:
        """Maps for the original images. Offsets change their sign: to the right in images mirrored from left to right,
        down in images mirrored from top to bottom."""
        maps = maps_moved_back(outputs, mirrored=mirrored, shift=shift, upside_down=upside_down)
        if not (mirrored or upside_down):
            return maps
        signs = maps.new_ones(maps.shape[1])
        signs[self.outputs] = -1 if mirrored else 1
        signs[self.outputs + 1] = -1 if upside_down else 1
        return maps * signs[:, None, None]

    def _numbers(self, outputs: torch.Tensor) -> torch.Tensor:
        """(N, (K + 2) · H · W) probabilities, and centers in shares of the longer side."""
        shares, offset = outputs.float().split((self.outputs, OFFSET), 1)
        return torch.cat([shares.sigmoid(), offset * self.typical / max(self.size)], 1).flatten(1)

    def _box_explained(self, row: torch.Tensor) -> Explained:
        """The mean logit of the object's class over the pixels of the mask."""
        part, (top, left) = next(masks_of(row[None].cpu().numpy(), self.size))
        region = torch.zeros(self.size)
        region[top : top + part.shape[0], left : left + part.shape[1]] = torch.from_numpy(inside(part)).float()

        def score(outputs: torch.Tensor) -> torch.Tensor:
            within = region.to(outputs.device)
            return (outputs[:, : self.outputs] * within).sum((-2, -1)) / within.sum().clamp(min=1)

        return self._object_explained(row, score, "the mean logit of its class over its mask")

    exports: ClassVar[tuple[str, ...]] = OUTPUTS

    def export(self, outputs: torch.Tensor, frame: Frame | None) -> tuple[torch.Tensor, ...]:
        """`boxes` (N, M, 4) in pixels of the picture, `scores` and `labels` (N, M), −1 for padding, and `masks` (N, M,
        28, 28) on grids over the boxes."""
        assert frame is not None
        return exported_instances(outputs, self.outputs, self.most, self.typical, frame)

    def exported_facts(self) -> dict[str, Any]:
        """The score from which a detection is a prediction, and the side of a mask's grid as a multiple of its box."""
        return {"threshold": self.threshold, "mask_margin": MARGIN}

    def from_exported(self, arrays: Sequence[NDArray[Any]], size: tuple[int, int] | None) -> NDArray[np.float64]:
        """Detections in pixels of the file."""
        del size
        return rows_of_arrays(arrays)

    def disparity(self, right: NDArray[Any], found: NDArray[Any]) -> tuple[float, bool]:
        """See `disparity_of_instances`."""
        edges = [float(rows[:, :4].max(initial=0)) for rows in (right, found)]
        return disparity_of_instances(right, found, self.threshold, max(1.0, *edges) + 1)

    # Metrics

    @classmethod
    def rows(cls, decoded: NDArray[Any], targets: NDArray[Any], classes: int = 0) -> Rows:
        """The masks of each image, which are ranked together."""
        overlaps = MaskOverlaps(decoded, targets, classes)
        return rows_of(overlaps.found, overlaps.objects, classes, overlaps)

    @classmethod
    def headline_metric(cls) -> Headline:
        """Mean average precision of ranked masks."""
        return RankedHeadline(MASK_MAP, lambda *_: 0.0)

    def _measured(
        self, decoded: torch.Tensor, targets: torch.Tensor, threshold: float | NDArray[np.float64]
    ) -> dict[str, Any]:
        """COCO's metrics of masks and of boxes, `ap50` of each class (None where it does not occur), and precision and
        recall of masks at IoU 0.5 from the threshold on."""
        found, truth = decoded.cpu().numpy(), targets.cpu().numpy()
        rows = self.rows(found, truth, self.outputs)
        boxes = objects_of(torch.from_numpy(truth), self.outputs)[0].numpy()
        plain = found[..., : SCORE + 1]
        each = average_precisions(ranked(rows_of(plain, boxes, self.outputs)))[:, 0].tolist()
        counts, _ = counts_of(rows, threshold)
        whole = Counts(*(part.sum() for part in counts))
        return {
            **mask_metrics(found, truth, self.outputs),
            **coco_metrics(plain, boxes, self.outputs),
            "ap50": {name: None if np.isnan(ap) else ap for name, ap in zip(self.classes, each, strict=True)},
            "precision": whole.precision,
            "recall": whole.recall,
            "threshold": float(np.mean(threshold)),
        }

    def interval(self, decoded: Any, targets: Any, groups: Sequence[str] = ()) -> dict[str, list[float] | None]:
        """The intervals of boxes, and `mask_map_interval` and `mask_map50_interval`."""
        decoded, targets = np.asarray(decoded), np.asarray(targets)
        boxes = objects_of(torch.from_numpy(targets), self.outputs)[0].numpy()
        rows = {"": rows_of(decoded[..., : SCORE + 1], boxes, self.outputs), "mask_": self.rows_for(decoded, targets)}
        return {
            f"{of}{key}_interval": interval_of(
                RankedHeadline(MASK_MAP, lambda *_: 0.0, tuple(groups), ious).estimate(each)
            )
            for of, each in rows.items()
            for key, ious in {"map": (0, 10), "map50": (0, 1)}.items()
        }

    def _boxed(self, evaluation: Evaluation, overlaps: MaskOverlaps | None = None) -> Evaluation:
        """The evaluation with rows of boxes in place of masks."""
        if overlaps is None:
            boxes = objects_of(torch.from_numpy(evaluation.targets), self.outputs)[0].numpy()
            return replace(evaluation, decoded=evaluation.decoded[..., : SCORE + 1], targets=boxes)
        return replace(evaluation, decoded=overlaps.found, targets=overlaps.objects)

    def prediction_findings(self, evaluation: Evaluation) -> tuple[Finding, ...]:
        """Findings where hardly any object, or hardly any small one, is found, with the likely cause."""
        boxed = self._boxed(evaluation)
        return nothing_found(boxed, self.size) or small_missed(boxed, self.size, self.threshold)

    @classmethod
    def accepts_saved(cls, saved: SavedPredictions) -> bool:
        """Whether predictions are detections with masks, and targets are numbered objects."""
        there = saved.predicted is None and saved.predictions.ndim == saved.targets.ndim == 3 and bool(saved.classes)
        return there and saved.predictions.shape[2] == WIDTH and saved.targets.dtype.kind == "i"

    def assess(
        self, evaluation: Evaluation, facts: SampleFacts, temperature: Temperature | None, names: Sequence[str]
    ) -> SplitMetrics:
        """Each class, kinds of mistakes, slices, and the worst images, all by masks."""
        del temperature, names
        overlaps = MaskOverlaps(evaluation.decoded, evaluation.targets, self.outputs)
        rows = rows_of(overlaps.found, overlaps.objects, self.outputs, overlaps)
        boxed = self._boxed(evaluation, overlaps)
        return assess_detections(boxed, facts, rows, self.threshold, overlaps=overlaps, of="mask_")

    def baselines(self, data: Dataset) -> tuple[Method, ...]:
        """A threshold and a watershed."""
        from striate.tasks.instances.baselines import instance_methods  # scikit-image loads only where it is needed

        return instance_methods(data)

    # Reports

    def headline_text(self, evaluation: Evaluation) -> tuple[str, str]:
        """Mask mAP at IoU 0.5, and the samples that it was measured on."""
        objects = int((objects_of(torch.from_numpy(evaluation.targets), self.outputs)[1] > 0).sum())
        return self.headline_text_of(evaluation, "mask_", " of masks", objects)

    def pictures(
        self, folder: Path, evaluation: Evaluation, images: Any | None, *, names: Sequence[str] = ()
    ) -> tuple[Picture, ...]:
        """The worst, typical and best images, and precision by recall."""
        from striate.tasks.instances.show import instance_pictures

        return instance_pictures(folder, evaluation, images, self, names)

    def cells(self, truth: Any, decoded: Any) -> list[Any]:
        """One sample's row."""
        boxes, _ = objects_of(torch.as_tensor(truth)[None], self.outputs)
        objects = [[self.classes[int(row[CLASS])], *row[:4]] for row in boxes[0].tolist() if row[CLASS] >= 0]
        found = [
            [box["label"], box["probability"], *box["box"]]
            for box in self._described(torch.as_tensor(decoded), self.size)
        ]
        return [json.dumps(objects), json.dumps(found)]

    def target_text(self, target: Any) -> str:
        """How many objects of each class."""
        return super().target_text(objects_of(torch.as_tensor(target)[None], self.outputs)[0][0])


def _as_bytes(targets: torch.Tensor) -> torch.Tensor:
    """(B, bytes, H, W) uint8: the bytes of each number, which operations on uint8 can move without loss."""
    planes: torch.Tensor = targets.contiguous().view(torch.uint8).unflatten(2, (targets.shape[2], -1))
    return planes.permute(0, 3, 1, 2).contiguous()


def _from_bytes(planes: torch.Tensor, kind: torch.dtype) -> torch.Tensor:
    targets: torch.Tensor = planes.permute(0, 2, 3, 1).contiguous().view(kind).squeeze(3)
    return targets
