"""The task of keypoints: the positions of named points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from striate.data.annotations.points import pairs_of_names, read_pairs, suggested_pairs
from striate.data.augment.warp import Warp
from striate.data.config import AugmentConfig
from striate.data.dataset import Dataset, SampleFacts
from striate.data.media.medium import Placement
from striate.errors import ConfigError, UsageError, pasted
from striate.inference.agreement import agreement_of_numbers
from striate.inference.plan import PredictionAgreement
from striate.models.choose import network_for_places
from striate.records import Finding
from striate.runs.predictions import Predictions as SavedPredictions
from striate.statistics.calibration import Temperature
from striate.tasks.assessment import Assessment, SplitMetrics
from striate.tasks.baseline import Method
from striate.tasks.config import TaskConfig
from striate.tasks.evaluation import Evaluation
from striate.tasks.exported import Frame
from striate.tasks.found import Found
from striate.tasks.headline import Rows, interval_of
from striate.tasks.keypoints.alignment import Shape, aligned, usual_shape
from striate.tasks.keypoints.assess import assess_points, errors_of, estimates, image_rows, metrics_of
from striate.tasks.keypoints.doctor import same_everywhere, sides_exchanged
from striate.tasks.keypoints.geometry import (
    NEAR,
    confidence_of_heat,
    distances,
    divergence,
    expected_places,
    gaussian_maps,
    heat,
    in_pixels,
    relative_distances,
    sizes,
    spanning_tree,
    visible,
)
from striate.tasks.keypoints.head import KeypointNetwork, with_head
from striate.tasks.keypoints.metrics import METRICS, KeypointMetrics
from striate.tasks.marks import Marks, PositionMap, Spot, as_colors
from striate.tasks.outputs import constants
from striate.tasks.task import Explained, Feature, Task
from striate.tasks.views import maps_moved_back
from striate.visualize.canvas import class_colors
from striate.visualize.page_parts import Picture, Section
from striate.wording import listed, percent, several

SHAPED = 1.0
"""Weight of the divergence of a heatmap from a normal distribution of one cell around its point, as in the paper."""
SURENESS = 0.1
"""Weight of the loss of the expected error, where coordinates are predicted."""
_LEAST_REACH = 1.5  # cells


@dataclass(frozen=True)
class Keypoints(Task):
    """K points of an image.

    Outputs are (N, K, H, W) logits of heatmaps, or (N, 3 K): right, down and the logarithm of the expected error.
    Targets (N, K, 4) are those of `striate.data.annotations.points`. Predictions (N, K, 3) are right and down, −1 to 1
    over the input, and confidence. The loss of heatmaps is that of Nibali et al. 2018 (DSNT): the distance between the
    mean position of the heat and the true point, and the divergence from a normal distribution around that point;
    distances are relative to the size of the true points. Points that are not visible do not count.
    """

    target_names: tuple[str, ...]
    """Names of the K points."""
    shape: tuple[int, int]
    """(H, W) of the inputs."""
    size: float
    """The usual size of the true points, as a share of the input."""
    head: str = "heatmaps"
    """`heatmaps` or `regress`."""
    pairs: tuple[int, ...] = ()
    """For each point the number of its counterpart in a mirror image; empty where it is unknown."""
    skeleton: tuple[tuple[int, int], ...] = ()
    """Pairs of points that are joined by a line."""
    suggested: str = ""
    """Pairs that the mean positions of the points suggest, in words, where `pairs` is unknown."""
    usual: Shape = ()
    """Right and down of each point in the mean shape; empty where no sample has two points."""

    name: ClassVar[str] = "keypoints"
    annotation: ClassVar[str] = "point"
    needs: ClassVar[Feature] = "pyramid"
    metrics = METRICS
    losses: ClassVar[tuple[str, ...]] = ("distance",)
    fields: ClassVar[Mapping[str, frozenset[str]]] = {"distance": frozenset(("head", "flip_pairs"))}
    refused_augmentation: ClassVar[Mapping[str, str]] = {
        "cutmix": "an augmentation that keeps the points of each image, such as cutout",
    }
    moves_with_image: ClassVar[bool] = True
    needs_placement: ClassVar[bool] = True
    explains: ClassVar[str] = "point"
    draws: ClassVar[bool] = True
    exports: ClassVar[tuple[str, ...]] = ("points",)
    loss_name: ClassVar[str] = "distance"  # type: ignore[misc]

    @classmethod
    def usual_network(cls, input_shape: tuple[int, ...]) -> tuple[str, str] | None:
        """See `models.choose`."""
        return network_for_places(input_shape)

    @classmethod
    def make(cls, data: Dataset, config: TaskConfig, loss: str) -> Self:
        """The task for the points of the data; left and right follow from their names, or from `task.flip_pairs`."""
        del loss
        names, targets = data.target_names, data.splits["train"].targets.cpu()
        pairs = pairs_of_names(names) if config.flip_pairs is None else read_pairs(config.flip_pairs, names)
        some = visible(targets).sum(1) > 1
        side = 2 * targets[some][..., 2:].amax((1, 2))
        size = float((sizes(targets[some]) / side).median()) if some.any() else 1.0
        seen = visible(targets)[..., None]
        count = seen.sum(0)
        mean = ((targets[..., :2] * seen).sum(0) / count).double().numpy()  # NaN for a point that is never visible
        edges = data.skeleton or spanning_tree(mean)
        guess = "" if pairs else suggested_pairs(names, mean)
        height, width = data.input_shape[1:]
        usual = usual_shape((targets[..., :2] * targets[..., 2:]).double().numpy(), visible(targets).numpy())
        return cls(names, (height, width), size, config.head, pairs, edges, guess, usual)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The task whose `state()` this is."""
        plain: dict[str, Any] = {k: tuple(value) if isinstance(value, list) else value for k, value in state.items()}
        pairs = {"skeleton": tuple((int(one), int(two)) for one, two in plain["skeleton"])}
        usual = tuple((float(right), float(down)) for right, down in plain.get("usual", ()))
        return cls(**{**plain, **pairs, "usual": usual})

    def state(self) -> dict[str, Any]:
        """Plain values for the checkpoint."""
        return {
            "target_names": list(self.target_names),
            "shape": list(self.shape),
            "size": self.size,
            "head": self.head,
            "pairs": list(self.pairs),
            "skeleton": [list(edge) for edge in self.skeleton],
            "suggested": self.suggested,
            "usual": [list(place) for place in self.usual],
        }

    @property
    def outputs(self) -> int:
        """One heatmap for each point, or three numbers."""
        return len(self.target_names) * (3 if self.head == "regress" else 1)

    @property
    def target_count(self) -> int:
        """One for each point."""
        return len(self.target_names)

    def attach(self, network: nn.Module, input_shape: tuple[int, ...]) -> nn.Module:
        """The network's maps with a head for the points."""
        if isinstance(network, KeypointNetwork):
            return network
        return with_head(network, input_shape, len(self.target_names), self.head)

    def bare(self, network: nn.Module) -> nn.Module:
        """The network of the pyramid."""
        return network.pyramid.body if isinstance(network, KeypointNetwork) else network

    # Loss

    def weight(self, targets: torch.Tensor) -> torch.Tensor:
        """The number of visible points; a little above 0 where there are none."""
        return visible(targets).sum().float().clamp(min=1e-12)

    def loss_sum(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Scalar sum over visible points."""
        seen = visible(targets)
        # The box of few points, or of points that moved out of the image, may be tiny.
        side = 2 * targets[..., 2:].amax((1, 2)).clamp(min=1e-12)
        unit = torch.maximum(sizes(targets), self.size / 2 * side)[:, None]
        if self.head == "regress":
            places, log_error = self._coordinates(outputs)
            error = distances(places, targets) / unit
            return ((error + SURENESS * (error.detach() / log_error.exp() + 2 * log_error)) * seen).sum()
        shares = heat(outputs)
        error = distances(expected_places(shares), targets) / unit
        shape = divergence(shares, gaussian_maps(targets[..., :2], (shares.shape[2], shares.shape[3]), 1.0))
        return ((error + SHAPED * shape) * seen).sum()

    def _places(self, outputs: torch.Tensor) -> torch.Tensor:
        """(N, K, 2)."""
        return self._coordinates(outputs)[0] if self.head == "regress" else expected_places(heat(outputs))

    def _coordinates(self, outputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, K, 2) positions, and (N, K) the logarithm of the expected error as a share of the size of the points."""
        values = outputs.float().view(outputs.shape[0], len(self.target_names), 3)
        return values[..., :2], values[..., 2].clamp(-7, 3)

    def warp_targets(self, targets: torch.Tensor, warp: Warp) -> torch.Tensor:
        """Points move with their image; mirroring exchanges left and right. Points that leave the image do not
        count."""
        places = warp.move(targets[..., :2], self.shape)
        left = (targets[..., :2].abs() <= 1).all(2) & (places.abs() > 1).any(2)
        moved = torch.cat([places, targets[..., 2:] * ~left[..., None]], dim=2)
        mirrored = warp.mirrored.to(targets.device)
        if self.pairs:
            moved = torch.where(mirrored[:, None, None], moved[:, list(self.pairs)], moved)
        return moved

    @property
    def mean_of_views(self) -> bool:  # type: ignore[override]
        """Whether outputs for mirror images can be used, because left and right are known."""
        return bool(self.pairs)

    def move_back(
        self, outputs: torch.Tensor, *, mirrored: bool, shift: tuple[int, int], upside_down: bool = False
    ) -> torch.Tensor:
        """Outputs for the original images. Left and right are exchanged, except where both mirrors together are a
        rotation. Shifts of heatmaps by part of a cell are not undone, since views are shifted in both directions and
        their mean is not shifted."""
        if self.head == "regress":
            values = outputs.view(outputs.shape[0], len(self.target_names), 3)
            values = values[:, list(self.pairs)] if mirrored != upside_down else values
            signs = (-1.0 if mirrored else 1.0, -1.0 if upside_down else 1.0, 1.0)
            values = values * constants(signs, outputs.device)
            moved = (2 * shift[1] / self.shape[1], 2 * shift[0] / self.shape[0], 0.0)
            return (values - constants(moved, outputs.device)).flatten(1)
        maps = outputs[:, list(self.pairs)] if mirrored != upside_down else outputs
        return maps_moved_back(maps, mirrored=mirrored, shift=(0, 0), upside_down=upside_down)

    def augmentation(self, usual: AugmentConfig, request: AugmentConfig) -> tuple[AugmentConfig, str]:
        """Rotation, scaling and shifts, which points follow; mirroring only where left and right are known."""
        side = min(self.shape)
        hint = f"--task.flip_pairs {self.suggested or 'left=right,…'}"
        if (request.flip or request.vertical_flip) and not self.pairs:
            raise ConfigError(
                "augment.flip" if request.flip else "augment.vertical_flip",
                "mirrored images, but points whose names do not say left or right",
                "the pairs of points that mirroring exchanges; none if it exchanges none",
                f"{hint}{', if these are the pairs' if self.suggested else ''}",
            )
        varied = replace(
            usual,
            flip=bool(self.pairs),
            crop=1.0,
            shift=side // 12,
            rotate=ROTATE,
            scale=SCALE,
            color=COLOR,
        )
        if self.pairs:
            return varied, ""
        guess = "; suggested by the mean shape, check them" if self.suggested else ""
        return varied, f"no mirroring, since it is unknown which points are left and right ({hint}{guess})"

    # Metrics

    def tally(self, outputs: torch.Tensor, targets: torch.Tensor, loss_sum: torch.Tensor | None = None) -> torch.Tensor:
        """(7,) number of samples, summed loss and weight, summed NME and number of images that have one, number of
        points within 0.1 and of visible points."""
        seen = visible(targets)
        errors = relative_distances(self._places(outputs), targets)
        count = seen.sum(1)
        sums = torch.full((7,), float(len(targets)), dtype=torch.float64, device=outputs.device)
        sums[1] = self.loss_sum(outputs, targets) if loss_sum is None else loss_sum
        sums[2] = self.weight(targets)
        sums[3] = (errors.sum(1) / count.clamp(min=1)).double().sum()
        sums[4] = (count > 0).sum()
        sums[5] = (seen & (errors < NEAR)).sum()
        sums[6] = count.sum()
        return sums

    def summarize(self, tally: torch.Tensor) -> dict[str, float]:
        """`loss`, `nme` and `pck`."""
        _, loss, weight, error, images, near, points = tally.tolist()
        return {"loss": loss / max(weight, 1e-12), "nme": error / max(images, 1), "pck": near / max(points, 1)}

    def decode(self, outputs: torch.Tensor) -> torch.Tensor:
        """(N, K, 3) float32 right, down and confidence: the network's probability that the point is within 0.1 of the
        size of the predicted points; for heatmaps, the share of heat there."""
        if self.head == "regress":
            places, log_error = self._coordinates(outputs)
            # The probability for a two-dimensional Laplace distribution with this mean distance.
            reach = NEAR / log_error.exp()
            return torch.cat([places, (1 - (1 + reach) * torch.exp(-reach))[..., None]], dim=2)
        shares = heat(outputs)
        places = expected_places(shares)
        half = constants((self.shape[1] / 2, self.shape[0] / 2), places.device)
        cells = constants((2 / shares.shape[3], 2 / shares.shape[2]), places.device)
        spans = (places.amax(1) - places.amin(1)) * half
        reach = torch.maximum(NEAR * spans.prod(1).sqrt()[:, None] / half, _LEAST_REACH * cells)
        return torch.cat([places, confidence_of_heat(shares, places, reach)[..., None]], dim=2)

    def measure(self, decoded: torch.Tensor, targets: torch.Tensor) -> dict[str, Any]:
        """`nme`, `pck` and `auc`; None where no point is visible."""
        figures = metrics_of(image_rows(errors_of(decoded, targets)).sum(0)[None])
        return {name: None if np.isnan(value[0]) else float(value[0]) for name, value in figures.items()}

    @classmethod
    def rows(cls, decoded: NDArray[Any], targets: NDArray[Any], classes: int = 0) -> Rows:
        """(N, 2) the mean distance of the visible points of each image, and whether there are any."""
        del classes
        return image_rows(errors_of(decoded, targets))[:, :2]

    @classmethod
    def headline_of(cls, total: Rows, n: int) -> float:
        """The mean over the images with a visible point."""
        del n
        return float(total[0] / total[1]) if total[1] else 0.0

    def interval(self, decoded: Any, targets: Any, groups: Sequence[str] = ()) -> dict[str, list[float] | None]:
        """The interval of each metric, by bootstrap over samples or groups."""
        found = estimates(image_rows(errors_of(decoded, targets)), groups)
        return {f"{name}_interval": interval_of(figure) for name, figure in found.items()}

    def assess(
        self, evaluation: Evaluation, facts: SampleFacts, temperature: Temperature | None, names: Sequence[str]
    ) -> SplitMetrics:
        """Each point, the PCK curve, the worst images, and slices."""
        del temperature, names
        return assess_points(evaluation, facts, self.headline_metric(), self.rows_of(evaluation), self.target_names)

    @classmethod
    def accepts_saved(cls, saved: SavedPredictions) -> bool:
        """Whether predictions have three numbers for each point, and targets four."""
        points = saved.predicted is None and saved.predictions.ndim == 3 and saved.predictions.shape[2:] == (3,)
        return points and saved.targets.shape == (*saved.predictions.shape[:2], 4) and not saved.classes

    def agreement(self, reference: torch.Tensor, outputs: torch.Tensor) -> PredictionAgreement:
        """How far positions agree."""
        return agreement_of_numbers(
            self.decode(reference)[..., :2].flatten(1), self.decode(outputs)[..., :2].flatten(1)
        )

    def baselines(self, data: Dataset) -> tuple[Method, ...]:
        """The mean shape; ridge regression."""
        from striate.tasks.keypoints.baselines import keypoint_methods  # scikit-learn loads only where it is needed

        return keypoint_methods(data)

    # Predictions

    def in_file(self, decoded: Any, placed: Placement) -> NDArray[np.float64]:
        """(K, …) with right and down from −1 to 1 over the file."""
        found = np.array(torch.as_tensor(decoded).double().tolist())
        half, file = np.array(placed.canvas[::-1]) / 2, np.array(placed.file[::-1])
        found[:, :2] = 2 * ((found[:, :2] + 1) * half - placed.offset) / placed.scale / file - 1
        return found

    def describe(self, decoded: torch.Tensor) -> dict[str, Any]:
        """`points`: name, right, down and confidence of each, in pixels of the input."""
        return self.describe_in_file(decoded, None)

    def describe_in_file(self, decoded: torch.Tensor, placed: Placement | None) -> dict[str, Any]:
        """`points`: name, right, down and confidence of each, in pixels of the file from the corner of its first."""
        placed = placed or Placement(self.shape, self.shape, (1.0, 1.0), (0.0, 0.0))
        values = in_pixels(self.in_file(decoded, placed), placed.file).tolist()
        return {
            "points": [
                [name, round(x, 2), round(y, 2), round(sure, 4)]
                for name, (x, y, sure) in zip(self.target_names, values, strict=True)
            ]
        }

    def export(self, outputs: torch.Tensor, frame: Frame | None) -> tuple[torch.Tensor, ...]:
        """`points` (N, K, 3): x and y in pixels of the picture, and confidence."""
        assert frame is not None
        decoded = self.decode(outputs)
        places = (decoded[..., :2] + 1) * torch.tensor([self.shape[1] / 2, self.shape[0] / 2])
        return (torch.cat([frame.in_picture(places), decoded[..., 2:]], 2),)

    def exported_facts(self) -> dict[str, Any]:
        """The names of the points."""
        return {"names": list(self.target_names)}

    def from_exported(self, arrays: Sequence[NDArray[Any]], size: tuple[int, int] | None) -> NDArray[np.float64]:
        """(N, K, 3) right and down from −1 to 1 over the file, and confidence."""
        assert size is not None
        found = np.array(arrays[0], np.float64)
        found[..., :2] = 2 * found[..., :2] / np.array(size[::-1]) - 1
        return found

    def marks(self, decoded: torch.Tensor, placed: Placement | None) -> Marks:
        """A spot for each point, joined by the skeleton."""
        points = self.describe_in_file(decoded, placed)["points"]
        spots = tuple(Spot(x, y, number, sure) for number, (_, x, y, sure) in enumerate(points))
        size, colors = self.shape if placed is None else placed.file, as_colors(class_colors(len(points)))
        return Marks(size, self.target_names, colors, spots=spots, lines=self.skeleton)

    def position_maps(self, outputs: torch.Tensor) -> tuple[PositionMap, ...]:
        """The heatmap of each point, divided by its maximum."""
        if self.head == "regress":
            return ()
        shares = heat(outputs)[0].cpu()
        shares = shares / shares.amax((1, 2), keepdim=True)
        return (PositionMap("heatmaps", "heat, of the highest", self.target_names, shares),)

    def found(self, decoded: torch.Tensor, placed: Placement) -> tuple[Found, ...]:
        """One rectangle: that of the mean shape, rotated and scaled to fit the predicted points."""
        if not self.usual:
            got = "a run without the usual shape of its points: it is older, or has one point"
            raise UsageError("--with", got, "a run with at least two points", "train again")
        return (aligned(self.usual, in_pixels(self.in_file(decoded, placed), placed.file)),)

    def line(self, fields: Mapping[str, Any]) -> str:
        """The positions of the points, and their mean confidence."""
        points = fields["points"]
        shown = "  ".join(f"{name} {x:.1f},{y:.1f}" for name, x, y, _ in points[:_SHOWN])
        rest = f"  … {len(points) - _SHOWN} more" if len(points) > _SHOWN else ""
        return f"{shown}{rest}  confidence {np.mean([point[3] for point in points]):.2f}"

    def draw(self, image: NDArray[np.uint8], decoded: Any, truth: Any = None) -> NDArray[np.uint8]:
        """The image with the points, joined by the skeleton; true points are rings, with a line to the predicted
        ones."""
        from striate.visualize.point_figures import drawn_points

        points, true = (None if part is None else in_pixels(part, image.shape[1:]) for part in (decoded, truth))
        return drawn_points(image, points, self.skeleton, true)

    def target_text(self, target: Any) -> str:
        """The number of visible points."""
        return f"{int((torch.as_tensor(target)[..., 2] > 0).sum())} of {several(len(self.target_names), 'point')}"

    # Reports

    def prediction_findings(self, evaluation: Evaluation) -> tuple[Finding, ...]:
        """Findings where left and right are exchanged, or where every image has the same predicted positions."""
        return (*sides_exchanged(evaluation, self.pairs, self.target_names), *same_everywhere(evaluation))

    def headline_text(self, evaluation: Evaluation) -> tuple[str, str]:
        """The NME, and the share of points within 0.1."""
        metrics, span = evaluation.metrics, evaluation.span_of("nme")
        return f"NME {percent(metrics['nme'])}", (
            f"mean distance between predicted and true points on the {evaluation.of}{span}, as a share of √(w · h) of "
            f"the box around the true points of each image. {percent(metrics['pck'])} of the points are within 0.1 "
            "(PCK)."
        )

    def pictures(
        self, folder: Path, evaluation: Evaluation, images: Any | None, *, names: Sequence[str] = ()
    ) -> tuple[Picture, ...]:
        """Samples with true and predicted points: random, worst, typical and best ones."""
        from striate.tasks.keypoints.show import point_pictures  # drawing loads only where it is needed

        return () if images is None else point_pictures(self, folder, evaluation, images, names)

    def sections(self, assessment: Assessment, figures: SplitMetrics, of: str) -> tuple[Section, ...]:
        """The PCK curve, and each point."""
        from striate.tasks.keypoints.show import points_section

        del assessment
        assert isinstance(figures, KeypointMetrics)
        return (points_section(figures, of),)

    def columns(self, names: Sequence[str]) -> list[str]:
        """Four columns for each point."""
        del names
        return [
            f"{what} {name} {axis}" for name in self.target_names for what in ("truth", "prediction") for axis in "xy"
        ]

    def cells(self, truth: Any, decoded: Any) -> list[Any]:
        """One sample's row, positions from −1 to 1 over the input; empty where a point is not visible."""
        found: list[Any] = []
        for true, predicted in zip(truth, decoded, strict=True):
            found += [f"{value:.5g}" for value in true[:2]] if true[2] > 0 else ["", ""]
            found += [f"{value:.5g}" for value in predicted[:2]]
        return found

    def explained(self, decoded: torch.Tensor) -> Explained:
        """The point of the highest confidence: its heat at the predicted position, or its x coordinate."""
        place = int(decoded[:, 2].argmax())
        others = (
            f"Of {several(len(self.target_names), 'point')}, the most certain is explained; --point NAME names another."
        )
        found = self.explained_part(decoded, self.target_names[place])
        return found if len(self.target_names) == 1 else replace(found, notes=(others, *found.notes))

    def explained_part(self, decoded: torch.Tensor, part: str) -> Explained:
        """The point of this name. Raises UsageError for an unknown name."""
        if part not in self.target_names:
            known = listed(list(self.target_names), 12)
            raise UsageError("--point", repr(part), f"a point: {known}", f"--point {pasted(self.target_names[0])}")
        place = self.target_names.index(part)
        if self.head == "regress":
            note = "The map explains the x coordinate of the point."
            return Explained(lambda outputs: outputs[:, 3 * place : 3 * place + 1], 0, "number", part, (note,))
        x, y = decoded[place, :2].tolist()

        def score(outputs: torch.Tensor) -> torch.Tensor:
            height, width = outputs.shape[2:]
            row = min(max(int((y + 1) / 2 * height), 0), height - 1)
            column = min(max(int((x + 1) / 2 * width), 0), width - 1)
            return outputs[:, place, row, column][:, None]

        return Explained(score, 0, "number", f"the heat of {part} where it is predicted")


ROTATE, SCALE, COLOR = 20.0, 0.25, 0.3
_SHOWN = 4
