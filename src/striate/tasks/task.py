"""The base class of tasks: all that the rest of the program knows of a task.

A task subclasses `Task`. `loss_sum` and `outputs` have to be written; everything else has a default that is right for a
task whose predictions are its outputs and whose headline is its loss. docs/extending.md has one of twenty lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from striate.data.config import AugmentConfig
from striate.data.dataset import Dataset, SampleFacts
from striate.data.loader import epoch_order
from striate.data.media.medium import Placement
from striate.data.targets import Targets
from striate.errors import ConfigError, UsageError
from striate.inference.agreement import agreement_of_numbers
from striate.inference.plan import PredictionAgreement
from striate.inference.tiles import Tile
from striate.records import Finding, Interval, Remedy
from striate.runs.predictions import Predictions as SavedPredictions
from striate.statistics.calibration import Temperature
from striate.statistics.paired import Difference, difference_of_rows
from striate.tasks.accumulator import Accumulator, Sums
from striate.tasks.assessment import Assessment, Gap, PlainMetrics, SplitMetrics
from striate.tasks.baseline import Baseline, BaselineComparison, Method, compare_rows
from striate.tasks.config import ByClass, TaskConfig, Validation
from striate.tasks.evaluation import ClassRow, Evaluation, only_predicted_class
from striate.tasks.exported import Frame
from striate.tasks.found import Found
from striate.tasks.groups import sample_groups, too_few
from striate.tasks.headline import Headline, Rows, interval_of
from striate.tasks.marks import Color, Marks, PositionMap
from striate.tasks.metric import LOSS, Metric, shown_metrics
from striate.tasks.outputs import Outputs, leaves, map_outputs
from striate.visualize.page_parts import Picture, Section, Table

Feature = Literal["vector", "map", "pyramid", "sequence"]
"""Features of a network: (N, C), (N, C, *positions), several maps, or (N, length, C)."""

Predictions = Any
"""What `decode` returns: a tensor (N, …), or a tree of tensors."""


@dataclass(frozen=True)
class Explained:
    """The part of a network's outputs that is explained for one prediction."""

    score: Callable[[Outputs], torch.Tensor]
    """From the network's outputs to scores (N, K)."""
    target: int
    """Position of the explained score among the K."""
    kind: Literal["logits", "number"]
    """Whether the scores are logits of classes or a number."""
    part: str = ""
    """Name of the explained part of the prediction; empty where the whole prediction is explained."""
    notes: tuple[str, ...] = ()
    """What else the reader must know, a sentence each."""
    choose: Callable[[torch.Tensor], NDArray[np.int64]] | None = None
    """From probabilities (N, K) to class numbers (N,), where the predicted class may not be the most probable one; else
    None."""
    prepare: Callable[[nn.Module], None] | None = None
    """Prepares the copy of the network that is explained; None where nothing is to be done."""


TRAIN_LONGER = "train for longer"
"""An advice that the report completes with the command."""
_UNEVEN = 1.5
"""From this ratio of the most frequent class to the rarest, class weights are advised."""


@dataclass(frozen=True)
class Diagnosed:
    """What the doctor knows about targets."""

    targets: Literal["labels", "numbers"]
    """`labels`: a class number for each sample or position, where outputs (N, K, …) are scores of K classes. `numbers`:
    the shape of the outputs."""
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    """The usual loss of (outputs, targets)."""
    unlabeled: int | None = None
    """The label of positions that do not count; None where all do."""


class Task:
    """What a network learns: how targets are read and moved, the loss, metrics, predictions, and how all of that is
    shown. Its fields are plain values, so that `state()` can restore the same task."""

    name: ClassVar[str]
    """Its name as `--task` takes it."""
    annotation: ClassVar[str] = "class"
    """The kind of annotation that it reads (`striate.data.dataset.Annotation`)."""
    needs: ClassVar[Feature] = "vector"
    """The kind of features that it needs from a network."""
    metrics: ClassVar[tuple[Metric, ...]] = (LOSS,)
    """The metrics of metrics.json, the headline first."""
    losses: ClassVar[tuple[str, ...]] = ("own",)
    """Names of `--task.loss`, the default first."""
    reads_tree: ClassVar[bool] = False
    """Whether it reads all outputs of the network (a tuple, list or dict of tensors). If not, the network outputs one
    tensor, or a tuple whose first tensor is followed by those of auxiliary classifiers."""
    needs_placement: ClassVar[bool] = False
    """Whether predictions for a file depend on where the file lies in the input (`describe_in_file`)."""
    refused_augmentation: ClassVar[Mapping[str, str]] = {}
    """Fields of `augment.*` that have no meaning for its targets, and why."""
    fields: ClassVar[Mapping[str, frozenset[str]]] = {}
    """Further fields of `task.*` that it reads, by loss."""
    learns_inputs: ClassVar[bool] = False
    """Whether the target of an image is the image, as it is after augmentation and before noise."""
    moves_with_image: ClassVar[bool] = False
    """Whether targets lie on the grid of the input: a blend by boxes pastes them with their image."""
    survives_moves: ClassVar[bool] = True
    """Whether a moved, cropped or mirrored image keeps its target (moved with it where it lies on the grid)."""
    takes_windows: ClassVar[bool] = False
    """Whether `warp_targets` follows a `Warp.window`, so that a part of each image can be trained on."""
    passes: ClassVar[float] = 1.0
    """Factor of the usual number of epochs, where the user gives none."""
    mean_of_views: ClassVar[bool] = False
    """Whether predictions may be the mean over mirrored and moved images."""
    whole_pictures: ClassVar[bool] = False
    """Whether a picture keeps its proportions, uncropped, and the prediction has the picture's size: `decode_at`."""
    explains: ClassVar[str] = ""
    """The option of `striate explain` that names a part of a prediction to be explained alone: `box` (its number, from
    1), `pixel` (`x,y` in the input) or `point` (its name); empty where predictions have no parts."""
    diagnosed_as: ClassVar[Diagnosed | None] = None
    """What the doctor's checks of targets need to know; None leaves the checks out."""
    exports: ClassVar[tuple[str, ...]] = ()
    """Names of the outputs of an exported file; empty where the task has none."""
    why_no_export: ClassVar[str] = "a task that defines the outputs of an exported file (Task.exports)"
    """What a run has to be for an export, where `exports` is empty."""
    batch_unit: int = 1
    """The size of a batch is a multiple of this number; where it is above 1, at least twice the number."""
    gives_vector: ClassVar[bool] = False
    """Whether a prediction is an embedding: a vector of length 1 whose cosine with another is their similarity."""
    outputs_field: ClassVar[str] = ""
    """The configuration field that sets the number of outputs; empty where the data decide it."""
    rejects: ClassVar[bool] = False
    """Whether `rejecting` can reject predictions."""
    compares_samples: ClassVar[bool] = False
    """Whether the loss compares the samples of a batch with one another, so that a batch cannot be split."""
    own_loss: ClassVar[str] = ""
    """Name of the user's own loss that replaces the task's; empty without one."""
    words: tuple[str, ...] = ()
    """The vocabulary of a task that writes text; else empty."""
    classes: tuple[str, ...] = ()
    loss_name: str = "own"

    # Construction

    @classmethod
    def make(cls, data: Dataset, config: TaskConfig, loss: str) -> Self:
        """The task for `data`, of which it may read the training split; `loss` is one of `losses`. Raises ConfigError
        where the class cannot be made without arguments."""
        del data, config, loss
        try:
            signature(cls).bind()
        except TypeError as error:
            name = cls.__name__
            expected = "a class that is made without arguments, an instance, or `make`, which makes one"
            remedy = f"in Python: task={name}(…); in a file: give the arguments of {name} defaults"
            raise ConfigError("task.name", f"{cls.name}: {name}(), {error}", expected, remedy) from None
        return cls()

    def state(self) -> dict[str, Any]:
        """Plain values for the checkpoint: arguments of the class."""
        return {}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The task whose `state()` this is."""
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in state.items()})

    # Outputs and the loss

    def outputs_for(self, network: Callable[..., Outputs], inputs: torch.Tensor, targets: Targets) -> Outputs:
        """The network's outputs for a batch (N, …) whose targets are known. Only a network that learns from a part of a
        target to predict the rest (teacher forcing) gets the targets; the default ignores them."""
        del targets
        return network(inputs)

    def metrics_of_loss(self, loss: float) -> dict[str, Any]:
        """Further metrics of a split that follow from its mean loss."""
        del loss
        return {}

    @property
    def outputs(self) -> int:
        """The number of outputs of the network; of channels, where the task needs a map."""
        raise NotImplementedError(f"{type(self).__name__}.outputs: how many outputs the network must give")

    @classmethod
    def usual_network(cls, input_shape: tuple[int, ...]) -> tuple[str, str] | None:
        """The default network, and why; None where only the shape of the data decides it."""
        del input_shape
        return None

    @property
    def target_count(self) -> int:
        """The number of numbers or entries of a target, where there are no classes; it must be the same in other
        data."""
        return self.outputs

    @property
    def data_targets(self) -> str | None:
        """`data.targets` of the data that it reads, where that field decides what is learned; else None."""
        return None

    @property
    def built_outputs(self) -> int | None:
        """The number of outputs that the network is built with; None where `attach` adds the outputs, or where they are
        a tree."""
        return None if self.reads_tree or self.needs == "pyramid" else self.outputs

    def attach(self, network: nn.Module, input_shape: tuple[int, ...]) -> nn.Module:
        """The network with the head of the task. Raises ModelError where the network lacks the features for it."""
        del input_shape
        return network

    def bare(self, network: nn.Module) -> nn.Module:
        """The network without the head that `attach` added, which takes weights of other tasks."""
        return network

    def settled(self, val: Mapping[str, float]) -> Self:
        """The task with the settings that validation metrics decide, such as thresholds."""
        del val
        return self

    def loss(self, outputs: Outputs, targets: Targets) -> torch.Tensor:
        """Scalar loss, `loss_sum / weight`: what training minimizes."""
        return self.loss_sum(outputs, targets) / self.weight(targets)

    def loss_sum(self, outputs: Outputs, targets: Targets) -> torch.Tensor:
        """Scalar sum of losses, so that the sums of the parts of a batch add up to the sum of the batch."""
        raise NotImplementedError(f"{type(self).__name__}.loss_sum(outputs, targets): the sum of the losses")

    def weight(self, targets: Targets) -> torch.Tensor | float:
        """The divisor of `loss_sum` for the mean loss: the number of samples or labeled pixels, or the sum of their
        class weights. It is a tensor only where it depends on the values of the targets."""
        return float(len(targets))

    @property
    def guessed_classes(self) -> int:
        """K where the loss of equal probabilities for K classes is ln K, the loss before training; else 0."""
        return 0

    def constant_loss(self, targets: Targets) -> float | None:
        """The lowest loss of predictions that are the same for every sample; None where it follows from outputs that
        are the same for every sample."""
        del targets
        return None

    def loss_text(self) -> str:
        """A sentence on what the data decided about the loss; empty where they decided nothing."""
        return ""

    def decided(self, config: TaskConfig) -> TaskConfig:
        """The configuration of this task, with the values that were measured on the data filled in."""
        return config

    def augmentation(self, usual: AugmentConfig, request: AugmentConfig) -> tuple[AugmentConfig, str]:
        """The default augmentation, derived from what is `usual` for such images, and a note on it, which may be empty.
        Raises ConfigError for a `request` that targets cannot follow."""
        del request
        return usual, ""

    def epoch_order(self, targets: Targets, seed: int, epoch: int) -> torch.Tensor:
        """(N,) int64: the order in which an epoch visits the training samples."""
        return epoch_order(len(targets), seed, epoch)

    def warp_targets(self, targets: Targets, warp: Any) -> Targets:
        """Targets of images that were moved by `warp`."""
        del warp
        return targets

    def resize_targets(self, targets: Targets, size: tuple[int, int]) -> Targets:
        """Targets of images that were resized to (height, width) `size` pixels."""
        del size
        return targets

    def move_back(
        self, outputs: Outputs, *, mirrored: bool, shift: tuple[int, int], upside_down: bool = False
    ) -> Outputs:
        """Outputs for the original images, from outputs for images that were shifted by `shift` (down, right) pixels,
        then mirrored from left to right (`mirrored`) and from top to bottom (`upside_down`)."""
        del mirrored, shift, upside_down
        return outputs

    # Metrics of batches

    def accumulator(self) -> Accumulator:
        """A new, empty accumulator of the metrics that are followed in training. The default sums `tally`."""
        return Sums(self.tally, self.summarize)

    def collector(self, samples: int) -> Accumulator:
        """A new, empty accumulator for a split of this number of samples, for a trained network. It may store more than
        the accumulator of training, for `remembered`."""
        del samples
        return self.accumulator()

    def remembered(self, collected: Accumulator) -> Any:
        """What a collector stores for `fit_temperature` and `assess`, which read it from `Evaluation.sampled`."""
        del collected
        return None

    def tally(self, outputs: Outputs, targets: Targets, loss_sum: torch.Tensor | None = None) -> torch.Tensor:
        """(M,) float64 sums over the batch, from which `summarize` computes metrics; M does not depend on the batch.
        `loss_sum` is the one of these outputs and targets, if it is known already."""
        device = next(leaves(outputs)).device
        sums = torch.full((3,), float(len(targets)), dtype=torch.float64, device=device)
        sums[1] = self.loss_sum(outputs, targets) if loss_sum is None else loss_sum
        sums[2] = self.weight(targets)
        if not self._follows_headline:
            return sums
        decoded, truth = (map_outputs(torch.Tensor.cpu, part) for part in (self.decode(outputs), targets))
        rows = self.rows_for(decoded, truth)
        return torch.cat([sums, torch.as_tensor(rows.sum(0).reshape(-1), dtype=torch.float64).to(device)])

    @property
    def _follows_headline(self) -> bool:
        """Whether the headline is computed in each epoch, which takes `rows`."""
        return self.headline != LOSS.key and self.has_rows()

    def summarize(self, tally: torch.Tensor) -> dict[str, float]:
        """`loss` and the one or two metrics of each epoch, from summed tallies."""
        count, total, weight = tally[:3].tolist()
        if not self._follows_headline:
            return {"loss": total / weight}
        added = tally[3:].cpu().numpy()
        return {
            "loss": total / weight,
            self.headline: self.headline_of(added if len(added) > 1 else added[0], int(count)),
        }

    @property
    def headline(self) -> str:
        """The key of the headline metric."""
        return self.metrics[0].key

    @property
    def higher_is_better(self) -> bool:
        """Whether a higher value of the headline metric is better."""
        return self.metrics[0].higher_is_better

    @property
    def scored_by_loss(self) -> bool:
        """Whether the headline is the loss: scores of different losses cannot be compared then."""
        return self.metrics[0] is LOSS

    @property
    def shown(self) -> tuple[Metric, ...]:
        """The metrics that a table of this task may show, in their order."""
        return shown_metrics(self.metrics)

    def score(self, metrics: Mapping[str, float]) -> tuple[float, ...]:
        """The score by which the best network is chosen, the highest tuple: first the headline, then the loss."""
        sign = 1 if self.higher_is_better else -1
        return (sign * metrics.get(self.headline, -sign * metrics["loss"]), -metrics["loss"])

    # Predictions

    def decode(self, outputs: Outputs) -> Predictions:
        """Predictions from outputs, small enough for memory to hold those of a whole split."""
        return outputs.float() if isinstance(outputs, torch.Tensor) else outputs

    def decode_at(self, outputs: Outputs, size: tuple[int, ...]) -> Predictions:
        """Predictions for pictures of (height, width) `size` pixels, from outputs for the pictures at another scale."""
        raise NotImplementedError(f"{type(self).__name__}.decode_at")

    def stitched(self, parts: Iterable[tuple[Tile, Outputs]], size: tuple[int, int]) -> Predictions:
        """The prediction for a picture of (height, width) `size` pixels, from outputs for its tiles (one sample each).
        Raises UsageError where predictions cannot be computed by tiles."""
        del parts, size
        got = f"a run of the task {self.name}"
        raise UsageError("--tile", got, "a task whose predictions are positions or maps", "leave out --tile")

    def describe(self, decoded: Predictions) -> dict[str, Any]:
        """One sample's prediction as the fields of a `predict --json` line."""
        values = [float(value) for value in torch.as_tensor(decoded).flatten().tolist()]
        return {"value": values[0]} if len(values) == 1 else {"values": values}

    def describe_in_file(self, decoded: Predictions, placed: Placement | None) -> dict[str, Any]:
        """`describe`, for a file whose position in the input is `placed`; None where it is unknown."""
        del placed
        return self.describe(decoded)

    def in_file(self, decoded: Predictions, placed: Placement) -> Predictions:
        """One sample's prediction in pixels of the file, to be drawn over it."""
        del placed
        return decoded

    def found(self, decoded: Predictions, placed: Placement) -> tuple[Found, ...]:
        """The rectangles of one sample's prediction that can be cut out of its picture, the most probable first. Raises
        UsageError where predictions locate nothing."""
        del decoded, placed
        got = f"a run of the task {self.name}"
        raise UsageError("--with", got, "a run that predicts boxes or points", "give another run")

    def describe_beside_input(self, decoded: Predictions, raw: torch.Tensor) -> dict[str, Any]:
        """Further fields of a `predict --json` line, computed from one sample's prediction and its raw input."""
        del decoded, raw
        return {}

    def line(self, fields: Mapping[str, Any]) -> str:
        """The fields of `describe` in words, for a terminal."""
        return "  ".join(f"{key} {value}" for key, value in fields.items() if key != "path")

    def write_prediction(
        self, folder: Path, name: str, decoded: Predictions, placed: Placement | None = None
    ) -> dict[str, Any]:
        """Write the prediction for the file `name`, whose position in the input is `placed`, as a file (a mask) into
        `folder`, and return further fields of the line. Raises UsageError where the task writes no files."""
        del folder, name, decoded, placed
        raise self.no_files()

    def no_files(self) -> UsageError:
        """The error where files of predictions are requested and the task writes none."""
        return UsageError(
            "--masks", f"a run of the task {self.name}", "a segmentation, or instances", "leave out --masks"
        )

    writes_files: ClassVar[bool] = False
    """Whether `write_prediction` writes files."""

    draws: ClassVar[bool] = False
    """Whether predictions lie in the image, so that `draw` draws them over it."""

    def draw(self, image: NDArray[np.uint8], decoded: Any, truth: Any = None) -> NDArray[np.uint8]:
        """The image (C, H, W) with a prediction or a target drawn over it, or in words below it: (H, W, 3). Where
        `truth` is given, mistakes are marked."""
        from striate.visualize.word_pictures import drawn_words

        del truth
        return drawn_words(image, (), np.zeros((0, 1), np.float32), [self.line(self.describe(decoded))])

    def legend(self, decoded: Any) -> tuple[tuple[str, Color], ...]:
        """The names of the colors in which `draw` draws a prediction; empty where it names them itself."""
        del decoded
        return ()

    def threshold_of_pairs(self, similarity: float = 0.0) -> tuple[float, float]:
        """The similarity (cosine of two predictions) from which two samples are predicted to be of one class, and the
        probability of that at `similarity`. Raises UsageError where predictions are not embeddings."""
        del similarity
        got = f"a run of the task {self.name}, without a threshold for pairs"
        raise UsageError("match", got, "a run of embeddings", "striate train DATA --task embed")

    def marks(self, decoded: Predictions, placed: Placement | None) -> Marks | None:
        """All that one sample's prediction locates, also below the threshold, for a page to draw over the picture; None
        where predictions locate nothing."""
        del decoded, placed
        return None

    def position_maps(self, outputs: Outputs) -> tuple[PositionMap, ...]:
        """The outputs for one sample, position by position, as maps; empty where outputs have no positions."""
        del outputs
        return ()

    def agreement(self, reference: Outputs, outputs: Outputs) -> PredictionAgreement:
        """How far outputs of another backend or precision agree with those of plain fp32, `reference`."""
        return agreement_of_numbers(self.decode(reference), self.decode(outputs))

    # Exported files

    def export(self, outputs: Outputs, frame: Frame | None) -> tuple[torch.Tensor, ...]:
        """The tensors (N, …) named in `exports`, computed from outputs by operations that can be traced. Positions are
        in pixels of the picture that lies in the input as `frame` says."""
        del frame
        return (self.decode(outputs),)

    def exported_facts(self) -> dict[str, Any]:
        """What a reader of an exported file must know besides the classes, as plain values."""
        return {}

    def from_exported(self, arrays: Sequence[NDArray[Any]], size: tuple[int, int] | None) -> Any:
        """Predictions (N, …) in the form of `in_file`, from the outputs of an exported file for pictures of (height,
        width) `size`."""
        del size
        return arrays[0]

    def disparity(self, right: Any, found: Any) -> tuple[float, bool]:
        """The distance of one sample's prediction `found` by an exported file from the `right` one, both in the form of
        `in_file`, on a scale where rounding makes at most 1e-4; and whether both are the same prediction."""
        difference = float(np.abs(np.asarray(right, np.float64) - np.asarray(found, np.float64)).max(initial=0))
        return difference, difference < 1e-3

    # Metrics of a split

    def measure(self, decoded: Predictions, targets: Targets) -> dict[str, Any]:
        """The final metrics of a split under their public names, without `n` and `loss`; by default the headline."""
        if self.headline == LOSS.key:
            return {}
        return {self.headline: self.headline_metric().value(self.rows_for(decoded, targets))}

    def measure_each(self, tasks: Sequence[Self], decoded: Predictions, targets: Targets) -> dict[str, Any]:
        """`measure` for predictions of several networks. `tasks` (N) has for each sample the task of its network, with
        what validation decided for that network."""
        del tasks
        return self.measure(decoded, targets)

    @classmethod
    def rows(cls, decoded: Any, targets: Any, classes: int = 0) -> Rows:
        """(N,) or (N, M) float64: what each sample adds to the headline metric, from predictions and targets as arrays.

        Without it, the loss of each sample is taken, for which predictions have to be outputs.
        """
        raise NotImplementedError

    @classmethod
    def headline_of(cls, total: Rows, n: int) -> float:
        """The headline metric from the sum of `rows` over n samples; by default their mean."""
        return float(total / n)

    @classmethod
    def headline_metric(cls) -> Headline:
        """The headline metric, and how it is computed from rows."""
        return Headline(cls.metrics[0], cls.headline_of)

    @classmethod
    def headline_interval(cls, rows: Rows, groups: Sequence[str] = ()) -> Interval | None:
        """The 95 % interval of the headline by a formula, from rows and the group of each sample, where samples have
        groups; None where only a bootstrap gives an interval."""
        del rows, groups
        return None

    def rows_of(self, evaluation: Evaluation) -> Rows:
        """`rows` of all samples of an evaluation."""
        return self.rows_for(evaluation.decoded, evaluation.targets)

    @classmethod
    def has_rows(cls) -> bool:
        """Whether the class defines `rows`, so that it measures predictions without an instance."""
        return cls.rows.__func__ is not Task.rows.__func__  # type: ignore[attr-defined]

    def rows_for(self, decoded: Any, targets: Any) -> Rows:
        """`rows` of predictions and targets, as arrays or tensors."""
        if self.has_rows():
            decoded, targets = (x.cpu().numpy() if isinstance(x, torch.Tensor) else x for x in (decoded, targets))
            rows = np.asarray(type(self).rows(decoded, targets, len(self.classes)))
            if not type(self).__module__.startswith("striate."):
                self._refuse_rows(rows, decoded, targets)
            return rows
        outputs, truth = torch.as_tensor(decoded), torch.as_tensor(targets)
        losses = [float(self.loss(outputs[k : k + 1], truth[k : k + 1])) for k in range(len(truth))]
        return np.array(losses, np.float64)

    def _refuse_rows(self, rows: Rows, decoded: Any, targets: Any) -> None:
        """Raise ConfigError unless there is one row a sample: (N, 1) and (N,) broadcast to (N, N)."""
        count = len(targets)
        crossed = rows.ndim == 2 and np.shape(decoded) == (count, 1) and rows.shape == (count, count) and count > 1
        if rows.ndim not in (1, 2) or len(rows) != count or (crossed and np.ndim(targets) == 1):
            got = f"an array of {rows.shape} from rows of {type(self).__name__} for {count} samples"
            remedy = "take predictions of one number as decoded.reshape(-1)"
            raise ConfigError("task.name", got, "(N,) or (N, M): what each sample adds to the metric", remedy)

    def same(self, one: Any, other: Any) -> NDArray[np.float64] | None:
        """(N,) share of each sample's prediction that is the same in both, 0 to 1, from predictions as arrays; None
        where that has no meaning, as for numbers."""
        del one, other
        return None

    def predicted(self, decoded: Any) -> NDArray[np.int64] | None:
        """(N,) the class that the decision rule chooses for each sample; None where samples do not have one class."""
        del decoded
        return None

    def deciding(self, cost: ByClass, threshold: ByClass, validation: Validation | None = None) -> Self:
        """The task that chooses a class by costs and thresholds (`striate.tasks.classify.decision.make_rule`); with
        neither, the most probable one. Raises UsageError where predictions are not classes."""
        if cost or threshold:
            option, got = (
                "--cost" if cost else "--threshold",
                f"a run of the task {self.name}, which predicts no classes",
            )
            raise UsageError(option, got, "a run that predicts classes", f"leave out {option}")
        del validation
        return self

    def rejecting(self, rate: float, validation: Validation) -> Self:
        """The task that rejects samples for which one class, or a label, cannot be predicted at the promised error
        `rate`. Raises UsageError where predictions are not classes (`rejects` is false)."""
        del rate, validation
        got, remedy = f"a run of the task {self.name}, without classes", "leave out --reject"
        if self.gives_vector:
            remedy = "striate match RUN A B, which has a threshold and a probability, or leave out --reject"
        raise UsageError("--reject", got, "classes or labels, also among several targets", remedy)

    @property
    def decision_text(self) -> str:
        """The rule that chooses a class, in words; empty where it is the most probable class."""
        return ""

    def table_of_classes(
        self, decoded: Any, targets: Any, groups: Sequence[str] = ()
    ) -> tuple[NDArray[np.int64] | None, tuple[ClassRow, ...]]:
        """The confusion matrix (K, K) and a row for each class; None and () where samples do not have one class each.
        `groups`: the group of each sample."""
        del decoded, targets, groups
        return None, ()

    def interval(self, decoded: Any, targets: Any, groups: Sequence[str] = ()) -> dict[str, list[float] | None]:
        """`<headline>_interval`: [low, high] (95 %), by bootstrap over samples, or over groups where there are any;
        None for fewer than 20. `groups`: the group of each sample; empty where samples have none."""
        ends = interval_of(self.headline_metric().over(groups).estimate(self.rows_for(decoded, targets)))
        return {f"{self.headline}_interval": ends}

    def sample_losses(self, evaluation: Evaluation) -> NDArray[np.float64] | None:
        """(N,) loss of the probabilities of each sample; None where predictions have no probabilities."""
        del evaluation
        return None

    @property
    def counted(self) -> str:
        """What an evaluation counts in its title instead of classes; empty for classes."""
        return ""

    def classes_of_split(self, targets: Any) -> int | None:
        """The number of classes of a split's targets, where each split has classes of its own; else None."""
        del targets
        return None

    def only_predicted_class(self, evaluation: Evaluation) -> str | None:
        """The class that is predicted everywhere, though there are several; None where predictions differ."""
        return only_predicted_class(evaluation)

    def prediction_findings(self, evaluation: Evaluation) -> tuple[Finding, ...]:
        """Findings on the predictions of a trained network, such as one class for every sample."""
        named = self.only_predicted_class(evaluation)
        if named is None:
            return ()
        counts = () if evaluation.confusion is None else evaluation.confusion.sum(1)
        uneven = not len(counts) or max(counts) > _UNEVEN * min(count for count in counts if count)
        return (
            Finding(
                code="fit.one-class",
                severity="warning",
                where=f"{evaluation.split} split",
                measured=f"{named} is predicted everywhere",
                threshold="several classes",
                why="The network does not distinguish the classes, however good its metric is.",
                remedy=Remedy(
                    "Weight the classes of the loss by their frequency, or train for longer.",
                    settings={"task.class_weights": "balanced"},
                    advice=TRAIN_LONGER,
                )
                if uneven
                else Remedy("Train for longer; the classes are about equally frequent.", advice=TRAIN_LONGER),
            ),
        )

    def validation_findings(self, decoded: Any, targets: Any, run: str) -> tuple[Finding, ...]:
        """Findings on the predictions for the validation split of `run` that can be fixed without training again."""
        del decoded, targets, run
        return ()

    def fit_temperature(self, val: Evaluation) -> Temperature | None:
        """The temperature fitted on validation; None where predictions have no probabilities, or validation does not
        determine it."""
        del val
        return None

    def calibrated(self, temperature: float) -> Self:
        """The task whose logits are divided by the temperature. Raises UsageError where predictions have no
        probabilities."""
        del temperature
        got, expected = f"a run of the task {self.name}, without probabilities", "a classification"
        raise UsageError("--calibrated", got, expected, "leave out --calibrated")

    def assess(
        self, evaluation: Evaluation, facts: SampleFacts, temperature: Temperature | None, names: Sequence[str]
    ) -> SplitMetrics:
        """The assessment of the predictions for a split. `names` are those of the target's numbers."""
        del temperature, names
        rows, figure = self.rows_of(evaluation), self.headline_metric().over(facts.columns.get("group", ()))
        groups = sample_groups(facts, evaluation.n, brightness=evaluation.brightness)
        return PlainMetrics(
            self.metrics[0],
            evaluation.n,
            {self.headline: figure.estimate(rows)},
            figure.slices(groups, rows),
            too_few(evaluation.n),
        )

    def gap(self, train: Evaluation, val: Evaluation) -> Gap:
        """By how much the network is better on training than on validation."""
        return self.headline_metric().gap(self.rows_of(train), self.rows_of(val), (train.groups, val.groups))

    @classmethod
    def difference(cls, ours: Rows, theirs: Rows, seed: int = 0, groups: Sequence[str] = ()) -> Difference:
        """By how much one network leads another on the same samples, from the rows of both; `groups`: the group of each
        sample."""
        return difference_of_rows(theirs, ours, cls.headline_metric().lead, seed, groups)

    @classmethod
    def accepts_saved(cls, saved: SavedPredictions) -> bool:
        """Whether predictions from a file of a run have the form of this task's."""
        del saved
        return True

    # Baselines

    def baselines(self, data: Dataset) -> tuple[Method, ...]:
        """Methods other than networks, the simplest first."""
        del data
        return ()

    def for_network(self, network: nn.Module) -> Self:
        """The task whose baselines are compared with `network`, such as one with as many components as its code."""
        del network
        return self

    def compare_baseline(
        self, network: Evaluation, baseline: Baseline, seed: int = 0, groups: Sequence[str] = ()
    ) -> BaselineComparison:
        """How a network compares with a baseline on the same samples; `groups`: the group of each sample, if any."""
        theirs, ours = self.rows_for(baseline.decoded, network.targets), self.rows_of(network)
        return compare_rows(self.headline_metric().over(groups), baseline.name, theirs, ours, seed)

    def single_targets(self) -> Mapping[str, Mapping[str, Any]]:
        """The targets that are learned jointly and can be learned alone: by name, the fields of `task.*` that select
        the target, with the same outputs."""
        return {}

    def compare_single(
        self, name: str, together: Evaluation, alone: Evaluation
    ) -> tuple[Metric, float | None, float | None, Difference]:
        """The headline metric of the target `name`, its values in the joint network and in that of the target alone,
        and by how much the joint network is better on the same samples."""
        raise NotImplementedError(f"{type(self).__name__}.compare_single")

    # Reports

    def headline_text(self, evaluation: Evaluation) -> tuple[str, str]:
        """The value of the headline metric, and a sentence that names the metric and the samples."""
        metric = self.metrics[0]
        value = metric.text(evaluation.metrics.get(metric.key))
        of = f"{evaluation.n:,} {evaluation.split} samples of {evaluation.data}"
        return value, f"{metric.name} on the {of}."

    def pictures(
        self, folder: Path, evaluation: Evaluation, images: Any | None, *, names: Sequence[str] = ()
    ) -> tuple[Picture, ...]:
        """Draw samples with their predictions into `folder`. `images` (N, C, H, W) uint8 of the split, None where they
        cannot be drawn; `names` of the samples."""
        del folder, evaluation, images, names
        return ()

    def sections(self, assessment: Assessment, figures: SplitMetrics, of: str) -> tuple[Section, ...]:
        """Sections of the report on the metrics of the test split; `of` names the samples."""
        del assessment, figures, of
        return ()

    def tables(
        self, evaluation: Evaluation, figures: SplitMetrics | None, names: Sequence[str] = ()
    ) -> dict[str, Table | None]:
        """Tables of the report: `averages`, `confused` and `classes`, and those behind pictures, by their kind.
        `names` of all samples, such as their paths. The default is `averages`, where there are metrics besides the
        headline."""
        del names
        if figures is None or len(figures.metrics) < 2:
            return {}
        from striate.tasks.show import overall_table, split_text

        return {"averages": overall_table(self.metrics, figures, split_text(evaluation))}

    def columns(self, names: Sequence[str]) -> list[str]:
        """Columns of predictions.csv of a cross-validation; `names` are those of the target's numbers."""
        del names
        return ["truth", "prediction"]

    def cells(self, truth: Any, decoded: Any) -> list[Any]:
        """One sample's row under these columns, from arrays without a batch dimension."""
        return [" ".join(f"{value:.7g}" for value in np.ravel(part)) for part in (truth, decoded)]

    def pooled(
        self, folder: Path, truth: Any, decoded: Any, title: str, of: str, names: Sequence[str]
    ) -> tuple[Picture | None, Table | None]:
        """The predictions of a cross-validation, each sample's from the fold that held it out, as a picture in `folder`
        and the table behind it. `title` names the data; `of` adds how often each sample was predicted."""
        del folder, truth, decoded, title, of, names
        return None, None

    def standardized(self, targets: Targets) -> Targets:
        """Targets in the units in which the network learns them."""
        return targets

    def unstandardized(self, targets: Targets) -> Targets:
        """Targets in the units of the data again."""
        return targets

    def explained(self, decoded: Predictions) -> Explained:
        """The part of one sample's prediction that is explained. Raises UsageError where nothing can be explained."""
        del decoded
        return Explained(lambda outputs: outputs.flatten(1), 0, "number")

    def explained_part(self, decoded: Predictions, part: str) -> Explained:
        """The `part` of one sample's prediction that the user named. Raises UsageError for an unknown part."""
        del decoded
        got = f"{part!r}, for a run of the task {self.name}"
        raise UsageError("--part", got, "a task whose predictions have parts with names", "leave out --part")

    def target_text(self, target: Any) -> str:
        """One sample's target in words, for the caption of its picture."""
        return ", ".join(f"{value:g}" for value in torch.as_tensor(target).flatten().tolist())
