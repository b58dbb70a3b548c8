"""The task of semantic segmentation: one class out of K for each pixel."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torch.nn import functional

from striate.data.annotations.masks import IGNORED, class_counts
from striate.data.augment.crop import resize_batch
from striate.data.augment.volume import VolumeWarp
from striate.data.augment.warp import Warp
from striate.data.dataset import Dataset, SampleFacts
from striate.data.media.medium import Placement
from striate.data.media.volume.volume_files import mask_file
from striate.errors import UsageError
from striate.inference.agreement import agreement_of_labels
from striate.inference.plan import PredictionAgreement
from striate.inference.tiles import Tile
from striate.inference.windows import InWindows
from striate.runs.files import explained, write_atomic
from striate.runs.predictions import Predictions as SavedPredictions
from striate.statistics.calibration import Temperature, fit_temperature
from striate.tasks.accumulator import Accumulator
from striate.tasks.assessment import Assessment, SplitMetrics
from striate.tasks.baseline import Method
from striate.tasks.config import TaskConfig
from striate.tasks.evaluation import Evaluation
from striate.tasks.exported import Frame
from striate.tasks.headline import Rows
from striate.tasks.losses import balanced_weights
from striate.tasks.marks import Color, Marks, PositionMap, as_colors
from striate.tasks.outputs import constants
from striate.tasks.segment.assess import Pixels, SampledPixels, assess_masks
from striate.tasks.segment.borders import border_f1, border_rows
from striate.tasks.segment.losses import LOSSES, SMALL_LOSS, pixel_losses
from striate.tasks.segment.metrics import METRICS, SegmentationMetrics
from striate.tasks.task import Diagnosed, Explained, Feature, Task
from striate.tasks.views import maps_moved_back
from striate.visualize.canvas import class_colors
from striate.visualize.mask_figures import covered, seen_colors
from striate.visualize.page_parts import Picture, Section, Table
from striate.wording import percent, several


def _usual_loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(outputs, targets.long(), ignore_index=IGNORED)


_NUMBERS_AT_ONCE = 1 << 24
_ON_BORDERS = 1e-3
"""Largest share of pixels at borders where two logits are equal up to rounding, so that backends may differ."""
_LEAVE_OUT = "leave out --calibrated"
_SMALL_PART, _RARE = 0.25, 0.1
"""A class is rare below this share of the pixels (the rarer of two classes), or below this share of 1 / K (one of K
classes). Cross-entropy alone then predicts it for too few pixels: its minimum is at the share of the class, that of an
overlap loss at more. With it, four of eleven classes of street scenes were never predicted."""


def has_rare_class(masks: torch.Tensor, classes: int) -> bool:
    """Whether a class that occurs in masks (N, H, W) is rare among the labeled pixels."""
    found = class_counts(masks, classes).double()
    least = float(found[found > 0].min() / found.sum()) if classes > 1 and bool((found > 0).any()) else 1.0
    return least < (_SMALL_PART if classes == 2 else _RARE / classes)


def _unused(folder: Path, stem: str, suffix: str) -> Path:
    """A path at which no file exists yet."""
    names = (folder / f"{stem}{f'-{k}' if k else ''}{suffix}" for k in count())
    return next(file for file in names if not file.exists())


@dataclass(frozen=True)
class Segment(Task):
    """Segmentation: logits (N, K, H, W); targets and predictions (N, H, W) uint8 are class numbers; volumes have a
    depth before the height. Pixels of value 255 do not count."""

    classes: tuple[str, ...]
    """Names of the K classes."""
    class_weights: tuple[float, ...] | None = None
    """K factors; None for equal ones."""
    values: tuple[int, ...] = ()
    """Value of each class in files of masks; empty where these are the classes' names."""
    colors: tuple[tuple[int, int, int], ...] = ()
    """Color of each value in files of masks; empty where files have values."""
    loss_name: str = "cross-entropy"
    """A name in `LOSSES`: a loss, or a sum such as `cross-entropy+dice`."""
    gamma: float = 2.0
    """Exponent of the focal loss."""

    name: ClassVar[str] = "segment"
    diagnosed_as: ClassVar[Diagnosed | None] = Diagnosed("labels", _usual_loss, IGNORED)
    annotation: ClassVar[str] = "mask"
    needs: ClassVar[Feature] = "map"
    metrics = METRICS
    losses: ClassVar[tuple[str, ...]] = LOSSES
    fields: ClassVar[Mapping[str, frozenset[str]]] = {
        loss: frozenset(("class_weights", *(("gamma",) if "focal" in loss else ()))) for loss in LOSSES
    }
    moves_with_image: ClassVar[bool] = True
    takes_windows: ClassVar[bool] = True
    mean_of_views: ClassVar[bool] = True
    writes_files: ClassVar[bool] = True
    whole_pictures: ClassVar[bool] = True
    explains: ClassVar[str] = "pixel"
    draws: ClassVar[bool] = True
    exports: ClassVar[tuple[str, ...]] = ("mask",)

    @classmethod
    def make(cls, data: Dataset, config: TaskConfig, loss: str) -> Self:
        """The task over the classes of the masks, with weights by frequency in training if requested."""
        masks, classes, volumes = data.splits["train"].targets, len(data.classes), len(data.input_shape) == 4
        rare = has_rare_class(masks, classes)
        # In volumes, segmented structures are small compared with the background.
        if config.loss == "auto" and (volumes or rare):
            loss = SMALL_LOSS
        weights, counts = None, class_counts(masks, classes)
        if config.class_weights == "auto" and config.loss == "auto" and rare and classes > 2 and not volumes:
            weights = balanced_weights(counts.clamp(min=counts[counts > 0].min()).sqrt(), data.classes)
        elif config.class_weights == "balanced":
            weights = balanced_weights(counts, data.classes)
        return cls(data.classes, weights, data.preparation.values, data.preparation.colors, loss, config.gamma)

    def loss_text(self) -> str:
        """A sentence on what differs from plain cross-entropy; empty where nothing does."""
        weighed = "" if self.class_weights is None else ", pixels weighted by how rare their class is in training"
        return "" if self.loss_name == LOSSES[0] and not weighed else f"loss: {self.loss_name}{weighed}"

    @property
    def outputs(self) -> int:
        """One output channel for each class."""
        return len(self.classes)

    @property
    def guessed_classes(self) -> int:
        """K for cross-entropy, also weighted by class; 0 for other losses and sums with them."""
        return len(self.classes) if self.loss_name == "cross-entropy" and not self.own_loss else 0

    def attach(self, network: nn.Module, input_shape: tuple[int, ...]) -> nn.Module:
        """The network; for volumes, one that takes any size, and large volumes in windows."""
        return InWindows(network) if len(input_shape) == 4 else network

    def bare(self, network: nn.Module) -> nn.Module:
        """The network without the windows."""
        return network.network if isinstance(network, InWindows) else network

    def weight(self, targets: torch.Tensor) -> torch.Tensor:
        """The number of labeled pixels, or the sum of the weights of their classes; a little above 0 where there are
        none."""
        labeled = targets != IGNORED
        if self.class_weights is None:
            return labeled.sum().float().clamp(min=1e-12)
        # Indexing the labeled pixels would wait for their number on an accelerator.
        weights = constants(self.class_weights, targets.device)[torch.where(labeled, targets, 0).long()]
        return (weights * labeled).sum().clamp(min=1e-12)

    def loss_sum(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Scalar sum over labeled pixels, times the weights of their classes; see `pixel_losses`."""
        weights = None if self.class_weights is None else constants(self.class_weights, outputs.device)
        return pixel_losses(self.loss_name, outputs.float(), targets, weights, self.gamma)

    def warp_targets(self, targets: torch.Tensor, warp: Warp | VolumeWarp) -> torch.Tensor:
        """The mask moves with its image; pixels from outside are ignored."""
        return warp.apply(targets.unsqueeze(1), nearest=True, fill=IGNORED).squeeze(1)

    def resize_targets(self, targets: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """The mask is resized with its image; a pixel takes the class at its center."""
        return resize_batch(targets.unsqueeze(1), size, nearest=True).squeeze(1)

    def tally(self, outputs: torch.Tensor, targets: torch.Tensor, loss_sum: torch.Tensor | None = None) -> torch.Tensor:
        """(3 + K²,) samples, summed loss, summed weight, and the confusion matrix of pixels (truth, prediction)."""
        sums = torch.full((3,), float(len(targets)), dtype=torch.float64, device=outputs.device)
        sums[1] = self.loss_sum(outputs, targets) if loss_sum is None else loss_sum
        sums[2] = self.weight(targets)
        return torch.cat([sums, self._confusion(outputs.argmax(1), targets).double()])

    def _confusion(self, predicted: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        pairs = torch.where(targets == IGNORED, self.outputs**2, targets.long() * self.outputs + predicted.long())
        # Unlabeled pixels are counted in a last bin: indexing would wait for their number on an accelerator.
        counts = torch.zeros(self.outputs**2 + 1, dtype=torch.int64, device=targets.device)
        return counts.index_add_(0, pairs.flatten(), counts.new_ones(1).expand(pairs.numel()))[:-1]

    def summarize(self, tally: torch.Tensor) -> dict[str, float]:
        """`loss`, `iou` and `pixel_accuracy`."""
        _, total, weight = tally[:3].tolist()
        return {"loss": total / max(weight, 1e-12), **self._agreement(tally[3:])}

    def _agreement(self, confusion: torch.Tensor) -> dict[str, float]:
        """Mean intersection over union of the classes that occur in the truth, and share of right pixels."""
        matrix = confusion.view(self.outputs, self.outputs).double()
        hits = matrix.diagonal()
        union = matrix.sum(0) + matrix.sum(1) - hits
        present = matrix.sum(1) > 0
        return {
            "iou": float((hits[present] / union[present]).mean()),
            "pixel_accuracy": float(hits.sum() / matrix.sum()),
        }

    def score(self, metrics: Mapping[str, float]) -> tuple[float, ...]:
        """The higher intersection over union; if equal, the lower loss."""
        return (metrics["iou"], -metrics["loss"])

    def decode(self, outputs: torch.Tensor) -> torch.Tensor:
        """(N, H, W) uint8 class numbers."""
        return outputs.argmax(1).to(torch.uint8)

    def decode_at(self, outputs: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
        """(N, *size) uint8: the class of the largest logit after interpolation, computed for a few rows (or slices) at
        a time: the logits of a large picture would not fit into memory."""
        first, *others = size
        have, outputs = outputs.shape[2], outputs.float()
        masks = torch.empty(len(outputs), *size, dtype=torch.uint8)
        places = ((torch.arange(first) + 0.5) * have / first - 0.5).clamp(0, have - 1)
        above, share = places.long(), (places - places.floor()).to(outputs)
        below = (above + 1).clamp(max=have - 1)
        step = max(1, _NUMBERS_AT_ONCE // (outputs.shape[0] * outputs.shape[1] * math.prod(others)))
        mode = "bilinear" if len(size) == 2 else "trilinear"
        for start in range(0, first, step):
            part = slice(start, start + step)
            each = share[part].view(-1, *(1,) * len(others))
            rows = torch.lerp(outputs[:, :, above[part]], outputs[:, :, below[part]], each)
            masks[:, part] = functional.interpolate(rows, (rows.shape[2], *others), mode=mode).argmax(1).cpu()
        return masks

    def export(self, outputs: torch.Tensor, frame: Frame | None) -> tuple[torch.Tensor, ...]:
        """`mask` (N, H, W) uint8 class numbers, of the size of the picture."""
        assert frame is not None
        if not frame.resized:
            return (self.decode(outputs),)
        return (self.decode(functional.interpolate(outputs.float(), frame.sides, mode="bilinear")),)

    def exported_facts(self) -> dict[str, Any]:
        """The values of the classes in files of masks."""
        return {"values": list(self.values)}

    def disparity(self, right: NDArray[Any], found: NDArray[Any]) -> tuple[float, bool]:
        """The share of pixels with another class, minus the few at borders between classes where rounding decides."""
        wrong = float((right != found).mean()) if right.shape == found.shape else 1.0
        return max(0.0, wrong - _ON_BORDERS), wrong <= _ON_BORDERS

    def stitched(self, parts: Iterable[tuple[Tile, torch.Tensor]], size: tuple[int, int]) -> torch.Tensor:
        """(H, W) uint8, from the core of each tile."""
        mask = torch.empty(size, dtype=torch.uint8)
        for tile, outputs in parts:
            top, left, height, width = tile.core
            mask[top : top + height, left : left + width] = self.decode(outputs)[0][tile.inside].cpu()
        return mask

    def measure(self, decoded: torch.Tensor, targets: torch.Tensor) -> dict[str, Any]:
        """`iou`, `dice` and `boundary_f1` (means over the classes that occur), `pixel_accuracy`, and
        `iou_per_class` and `dice_per_class` by name (None where a class does not occur), over all labeled pixels of the
        split together."""
        borders = border_rows(decoded.cpu().numpy(), targets.cpu().numpy(), self.outputs).sum(0)
        edges = float(border_f1(borders[None])[0])
        confusion = self._confusion(decoded, targets)
        matrix = confusion.view(self.outputs, self.outputs).double()
        hits, both = matrix.diagonal(), matrix.sum(0) + matrix.sum(1)
        present = matrix.sum(1) > 0
        each = (hits / (both - hits).clamp(min=1)).tolist()
        return {
            **self._agreement(confusion),
            "dice": float((2 * hits[present] / both[present]).mean()),
            "boundary_f1": None if math.isnan(edges) else edges,
            "iou_per_class": {
                name: iou if occurs else None
                for name, iou, occurs in zip(self.classes, each, present.tolist(), strict=True)
            },
            "dice_per_class": {
                name: 2 * iou / (1 + iou) if occurs else None
                for name, iou, occurs in zip(self.classes, each, present.tolist(), strict=True)
            },
        }

    def collector(self, samples: int) -> SampledPixels:
        """Sums, and a sample of pixels with their probabilities."""
        return SampledPixels(self.tally, self.summarize, samples)

    def remembered(self, collected: Accumulator) -> Pixels | None:
        """The stored pixels."""
        return collected.pixels() if isinstance(collected, SampledPixels) else None

    def fit_temperature(self, val: Evaluation) -> Temperature | None:
        """The temperature fitted on the stored pixels; None where they do not determine it."""
        pixels = val.sampled
        if not isinstance(pixels, Pixels) or not len(pixels.truth):
            return None
        return fit_temperature(pixels.truth, pixels.probabilities, val.split)

    def calibrated(self, temperature: float) -> Self:
        """Raises UsageError: the class of a pixel is the same at every temperature."""
        del temperature
        got = "a segmentation, whose masks do not depend on the temperature"
        raise UsageError("--calibrated", got, "a classification, whose predictions have probabilities", _LEAVE_OUT)

    def assess(
        self, evaluation: Evaluation, facts: SampleFacts, temperature: Temperature | None, names: Sequence[str]
    ) -> SplitMetrics:
        """Each class, the images with the lowest IoU, slices, and the calibration of pixels."""
        del names
        return assess_masks(evaluation, facts, self.headline_metric(), self.rows_of(evaluation), temperature)

    def describe(self, decoded: torch.Tensor) -> dict[str, Any]:
        """`shares`: the share of pixels of each class."""
        parts = decoded.reshape(-1).split(_NUMBERS_AT_ONCE)  # as int64 they take eight times the memory
        counts = torch.stack([torch.bincount(part.long(), minlength=self.outputs) for part in parts]).sum(0)
        counts = counts / decoded.numel()
        return {"shares": {c: float(s) for c, s in zip(self.classes, counts.tolist(), strict=True)}}

    def line(self, fields: Mapping[str, Any]) -> str:
        """The share of each class."""
        return "  ".join(f"{name} {share:.4g}" for name, share in fields["shares"].items() if share)

    def write_prediction(
        self, folder: Path, name: str, decoded: torch.Tensor, placed: Placement | None = None
    ) -> dict[str, Any]:
        """Write a PNG whose pixels have the values, or colors, of the training masks; for a volume, a file of these
        values in its space. Nothing in the folder is overwritten."""
        del placed
        values = np.array(self.values or [int(name) for name in self.classes], np.uint8)
        table = np.array(self.colors, np.uint8)[values] if self.colors else values
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
        if decoded.ndim == 3:
            stem, suffix, content = mask_file(name, values[decoded.numpy()])
            file = _unused(folder, stem, suffix)
            write_atomic(file, lambda opened: opened.write(content))
            return {"mask": str(file)}
        file = _unused(folder, Path(name).stem, ".png")
        numbers = decoded.numpy()
        pixels = np.empty((*numbers.shape, *table.shape[1:]), np.uint8)
        for start in range(0, len(numbers), 256):  # as indices they take eight bytes each
            pixels[start : start + 256] = table[numbers[start : start + 256]]
        mask = Image.fromarray(pixels)
        write_atomic(file, lambda opened: mask.save(opened, format="PNG"))
        return {"mask": str(file)}

    def agreement(self, reference: torch.Tensor, outputs: torch.Tensor) -> PredictionAgreement:
        """The share of equal pixels."""
        return agreement_of_labels(self.decode(reference), self.decode(outputs))

    def draw(self, image: NDArray[np.uint8], decoded: Any, truth: Any = None) -> NDArray[np.uint8]:
        """The image with the colors of the classes, except a background; wrong pixels are checkered, unlabeled ones
        gray."""
        from striate.visualize.mask_figures import colored

        return colored(image, decoded, self.classes, truth)

    def legend(self, decoded: Any) -> tuple[tuple[str, Color], ...]:
        """The classes in the mask, except a background."""
        there = set(np.unique(np.asarray(decoded)).tolist())
        colors = zip(self.classes, as_colors(seen_colors(len(self.classes))), covered(self.classes), strict=True)
        return tuple((name, color) for k, (name, color, seen) in enumerate(colors) if seen and k in there)

    def marks(self, decoded: torch.Tensor, placed: Placement | None) -> Marks:
        """The class of each pixel."""
        del placed
        areas = np.asarray(decoded, np.uint8)
        colors = as_colors(class_colors(self.outputs))
        return Marks((areas.shape[0], areas.shape[1]), self.classes, colors, areas=areas)

    def position_maps(self, outputs: torch.Tensor) -> tuple[PositionMap, ...]:
        """The probabilities of each pixel."""
        return (PositionMap("pixels", "probability", self.classes, outputs[0].float().softmax(0).cpu()),)

    def move_back(
        self, outputs: torch.Tensor, *, mirrored: bool, shift: tuple[int, int], upside_down: bool = False
    ) -> torch.Tensor:
        """Maps for the original images."""
        return maps_moved_back(outputs, mirrored=mirrored, shift=shift, upside_down=upside_down)

    @classmethod
    def rows(cls, decoded: NDArray[Any], targets: NDArray[Any], classes: int = 0) -> Rows:
        """(N, 3, K) labeled pixels of each image in intersection, union and truth, a column for each class."""
        labeled = targets != IGNORED
        counts = [
            [
                ((decoded == k) & (targets == k) & labeled).reshape(len(targets), -1).sum(1),
                (((decoded == k) | (targets == k)) & labeled).reshape(len(targets), -1).sum(1),
                ((targets == k) & labeled).reshape(len(targets), -1).sum(1),
            ]
            for k in range(classes)
        ]
        return np.asarray(counts, np.float64).transpose(2, 1, 0)

    @classmethod
    def headline_of(cls, total: Rows, n: int) -> float:
        """The mean intersection over union of the classes that occur in the truth."""
        del n
        hits, union, true = total
        return float((hits[true > 0] / union[true > 0]).mean()) if (true > 0).any() else 0.0

    def same(self, one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
        """(N,) share of pixels with the same class, among those that have a class in both."""
        both = (one != IGNORED) & (other != IGNORED)
        equal: NDArray[np.float64] = ((one == other) & both).sum((1, 2)) / np.maximum(both.sum((1, 2)), 1)
        return equal

    @classmethod
    def accepts_saved(cls, saved: SavedPredictions) -> bool:
        """Whether predictions are masks of classes, of the size of their targets."""
        masks = (
            saved.predicted is None
            and saved.predictions.ndim in (3, 4)
            and saved.predictions.shape == saved.targets.shape
        )
        return masks and saved.predictions.dtype == np.uint8 and bool(saved.classes)

    def baselines(self, data: Dataset) -> tuple[Method, ...]:
        """The most frequent class; a random forest on each pixel's surroundings."""
        from striate.tasks.segment.baselines import segment_methods  # scikit-learn loads only where it is needed

        return segment_methods(data)

    def only_predicted_class(self, evaluation: Evaluation) -> str | None:
        """The class that is predicted for all pixels, though the masks have several; else None."""
        labeled = evaluation.targets != IGNORED
        predicted = np.unique(evaluation.decoded[labeled])
        several = len(predicted) == 1 and np.ptp(evaluation.targets[labeled]) > 0
        return evaluation.classes[predicted[0]] if several else None

    def headline_text(self, evaluation: Evaluation) -> tuple[str, str]:
        """The mean intersection over union, and the share of right pixels, compared with always predicting one
        class."""
        metrics = evaluation.metrics
        counts = np.bincount(evaluation.targets[evaluation.targets != IGNORED].ravel())
        most = counts.max() / counts.sum() if counts.any() else None
        return percent(metrics["iou"]), (
            f"mean intersection over union of the {several(len(evaluation.classes), 'class', 'classes')} on the "
            f"{evaluation.of}{evaluation.span_of('iou')}. "
            f"{percent(metrics['pixel_accuracy'])} of the labeled pixels are right; always predicting the most "
            f"frequent class would reach {percent(most)}."
        )

    def pictures(
        self, folder: Path, evaluation: Evaluation, images: Any | None, *, names: Sequence[str] = ()
    ) -> tuple[Picture, ...]:
        """Samples with true and predicted masks: random, worst, typical and best ones."""
        from striate.tasks.segment.show import mask_pictures  # drawing loads only where it is needed

        if images is None:
            return ()
        each = self.headline_metric().each(self.rows_of(evaluation))
        return mask_pictures(folder, evaluation, images, each, names)

    def sections(self, assessment: Assessment, figures: SplitMetrics, of: str) -> tuple[Section, ...]:
        """How far to trust the probabilities of pixels."""
        from striate.tasks.segment.show import calibration_sections

        assert isinstance(figures, SegmentationMetrics)
        return calibration_sections(figures, assessment.temperature, of)

    def tables(
        self, evaluation: Evaluation, figures: SplitMetrics | None, names: Sequence[str] = ()
    ) -> dict[str, Table | None]:
        """Over all labeled pixels, and each class."""
        from striate.tasks.segment.show import tables

        del names
        return tables(evaluation, figures) if isinstance(figures, SegmentationMetrics) else {}

    def columns(self, names: Sequence[str]) -> list[str]:
        """The numbers of right and of labeled pixels."""
        del names
        return ["right", "labeled"]

    def cells(self, truth: Any, decoded: Any) -> list[Any]:
        """One sample's row."""
        labeled = truth != IGNORED
        return [int(((decoded == truth) & labeled).sum()), int(labeled.sum())]

    def explained(self, decoded: torch.Tensor) -> Explained:
        """The mean logits over the pixels of the most frequent class, other than the first one, which is usually the
        background, unless no other occurs. Pixels where `decoded` is −1 are outside of the image."""
        known = decoded[decoded >= 0]
        counts = torch.bincount(known.long(), minlength=self.outputs)
        others = counts.clone()
        others[0] = 0
        target = int(others.argmax() if others.any() else counts.argmax())
        region = (decoded == target).to(torch.float32)

        def score(outputs: torch.Tensor) -> torch.Tensor:
            within = region.to(outputs.device)
            return (outputs * within).flatten(2).sum(-1) / within.sum().clamp(min=1)

        each, whole = ("voxels", "volume") if decoded.ndim == 3 else ("pixels", "image")
        share = 100 * float(region.sum()) / len(known)
        part = f"the {each} of class {self.classes[target]}, {share:.3g} % of the {whole}"
        return Explained(score, target, "logits", part)

    def explained_part(self, decoded: torch.Tensor, part: str) -> Explained:
        """The logits of one pixel, `x,y`. Raises UsageError for a pixel outside of the image, and for volumes."""
        if decoded.ndim == 3:
            expected = "images; for a volume the largest class is explained"
            raise UsageError("--pixel", f"{part}, of a volume", expected, "leave out --pixel")
        height, width = decoded.shape[-2:]
        numbers = [int(text) for text in part.split(",") if text.strip().isascii() and text.strip().isdigit()]
        if len(numbers) != part.count(",") + 1 or len(numbers) != 2 or numbers[0] >= width or numbers[1] >= height:
            expected = f"x from 0 to {width - 1}, a comma, and y from 0 to {height - 1}"
            raise UsageError("--pixel", part, expected, f"--pixel {width // 2},{height // 2}")
        x, y = numbers
        target = int(decoded[y, x])

        def score(outputs: torch.Tensor) -> torch.Tensor:
            return outputs[..., y, x]

        return Explained(score, target, "logits", f"the pixel {x}, {y} of the input, of class {self.classes[target]}")

    def target_text(self, target: Any) -> str:
        """The classes that occur, the most frequent first, with their shares of the labeled pixels."""
        labeled = torch.as_tensor(target)
        labeled = labeled[labeled != IGNORED].long()
        shares = (torch.bincount(labeled, minlength=self.outputs) / max(1, len(labeled))).tolist()
        order = sorted(range(self.outputs), key=lambda k: -shares[k])
        return ", ".join(f"{self.classes[k]} {percent(shares[k], 0)}" for k in order if shares[k])

    def state(self) -> dict[str, Any]:
        """Plain values for the checkpoint."""
        return {
            "classes": list(self.classes),
            "class_weights": None if self.class_weights is None else list(self.class_weights),
            "values": list(self.values),
            "colors": list(self.colors),
            "loss_name": self.loss_name,
            "gamma": self.gamma,
        }
