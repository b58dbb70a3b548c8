"""What other rooms know of a task: this class, and nothing more.

A task subclasses `Task`. `loss_sum` and `outputs` have to be written; everything else has a default that is right for a
task whose predictions are its outputs and whose headline is its loss. docs/extending.md has one of twenty lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
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
from striate.runs.predictions import Predictions as KeptPredictions
from striate.statistics.calibration import Temperature
from striate.statistics.paired import Difference, difference_of_rows
from striate.tasks.accumulator import Accumulator, Sums
from striate.tasks.assessment import Assessment, Figures, Gap, PlainMetrics
from striate.tasks.baseline import Baseline, BaselineComparison, Method, compare_rows
from striate.tasks.config import ByClass, TaskConfig, Validation
from striate.tasks.evaluation import ClassRow, Evaluation, only_class
from striate.tasks.exported import Frame
from striate.tasks.found import Found
from striate.tasks.groups import sample_groups, too_few
from striate.tasks.headline import Headline, Rows, interval_of
from striate.tasks.marks import Marks, PositionMap
from striate.tasks.metric import LOSS, Metric, shown_metrics
from striate.tasks.outputs import Outputs, leaves, map_outputs
from striate.visualize.page_parts import Picture, Section, Table

Feature = Literal["vector", "map", "pyramid", "sequence"]
"""What a network offers and a task needs: (N, C), (N, C, *positions), several maps, or (N, length, C)."""

Predictions = Any
"""What `decode` gives: a tensor (N, …), or a tree of them."""


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
"""The advice to which a report adds the command."""
_UNEVEN = 1.5
"""Times that the most frequent class has the samples of the rarest, for weights of classes to change anything."""


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
    """What is asked of a network: how targets are read and moved, the loss, metrics, predictions, and how all of that
    is shown. Plain values only: `state()` makes the same task again."""

    name: ClassVar[str]
    """As `--task` names it."""
    annotation: ClassVar[str] = "class"
    """The kind of annotation that it reads (`striate.data.dataset.Annotation`)."""
    needs: ClassVar[Feature] = "vector"
    """What it needs of a network."""
    metrics: ClassVar[tuple[Metric, ...]] = (LOSS,)
    """The figures of metrics.json, the headline first."""
    losses: ClassVar[tuple[str, ...]] = ("own",)
    """Names of `--task.loss`, the default first."""
    reads_tree: ClassVar[bool] = False
    """Whether it reads all that the network gives (a tuple, list or dict of tensors). Where not, that is one tensor, or
    a tuple whose first is followed by auxiliary classifiers' outputs."""
    needs_placement: ClassVar[bool] = False
    """Whether predictions for a file need to know where it lies in the input (`describe_in_file`)."""
    refused_augmentation: ClassVar[Mapping[str, str]] = {}
    """Fields of `augment.*` that have no meaning for its targets, and why."""
    fields: ClassVar[Mapping[str, frozenset[str]]] = {}
    """Further fields of `task.*` that have a meaning, by loss."""
    learns_inputs: ClassVar[bool] = False
    """Whether the target of an image is the image, as it is after augmentation and before noise."""
    moves_with_image: ClassVar[bool] = False
    """Whether targets lie on the grid of the input: a blend by boxes pastes them with their image."""
    survives_moves: ClassVar[bool] = True
    """Whether a moved, cropped or mirrored image keeps its target (moved with it where it lies on the grid)."""
    takes_windows: ClassVar[bool] = False
    """Whether `warp_targets` follows a `Warp.window`, so that a part of each image can be trained on."""
    passes: ClassVar[float] = 1.0
    """How many times as many passes over the samples as usual a training takes where nobody says."""
    mean_of_views: ClassVar[bool] = False
    """Whether predictions may be the mean over mirrored and moved images."""
    whole_pictures: ClassVar[bool] = False
    """Whether a picture is predicted whole, in its own proportions, and the prediction has its size: `decode_at`."""
    explains: ClassVar[str] = ""
    """What the parts of a prediction are that can be explained alone, as an option of `striate explain`: `box` (its
    number, from 1), `pixel` (`x,y` in the input) or `point` (its name); empty where it has none."""
    diagnosed_as: ClassVar[Diagnosed | None] = None
    """What the doctor's checks of targets have to know; None leaves them out."""
    exports: ClassVar[tuple[str, ...]] = ()
    """Names of the outputs of an exported file; empty where the task has none."""
    why_no_export: ClassVar[str] = "a task that says what an exported file of it gives (Task.exports)"
    """What a run has to be for an export, where `exports` is empty."""
    batch_unit: int = 1
    """Batches have a multiple of so many samples, twice as many at least where that is more than 1."""
    gives_vector: ClassVar[bool] = False
    """Whether a prediction is a vector of length 1 whose cosine with another says how alike both are: `embedding`."""
    rejects: ClassVar[bool] = False
    """Whether `rejecting` can turn down predictions."""
    compares_samples: ClassVar[bool] = False
    """Whether the loss compares the samples of a batch with one another, so that no batch is computed in parts."""
    own_loss: ClassVar[str] = ""
    """The name of the user's own loss that stands in place of the task's, where one does."""
    words: tuple[str, ...] = ()
    """The vocabulary, where it writes."""
    classes: tuple[str, ...] = ()
    loss_name: str = "own"

    # Making it

    @classmethod
    def make(cls, data: Dataset, config: TaskConfig, loss: str) -> Self:
        """The task for `data`, of which it may look at the training split; `loss` is one of `losses`."""
        del data, config, loss
        return cls()

    def state(self) -> dict[str, Any]:
        """Plain values for the checkpoint: arguments of the class."""
        return {}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The task whose `state()` this is."""
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in state.items()})

    # What the network gives, and how wrong it is

    def outputs_for(self, network: Callable[..., Outputs], inputs: torch.Tensor, targets: Targets) -> Outputs:
        """What the network gives for a batch (N, …) whose targets are known. The default does not show it them: only a
        network that learns from a part of a target to predict the rest (teacher forcing) is told."""
        del targets
        return network(inputs)

    def metrics_of_loss(self, loss: float) -> dict[str, Any]:
        """Further metrics of a split that follow from its mean loss."""
        del loss
        return {}

    @property
    def outputs(self) -> int:
        """How many outputs (channels, where it needs a map) the network must give."""
        raise NotImplementedError(f"{type(self).__name__}.outputs: how many outputs the network must give")

    @classmethod
    def usual_network(cls, input_shape: tuple[int, ...]) -> tuple[str, str] | None:
        """The network where none is named, and why; None where only the shape of the data decides it."""
        del input_shape
        return None

    @property
    def target_count(self) -> int:
        """How many numbers or entries a target has, where there are no classes: other data must have as many."""
        return self.outputs

    @property
    def data_targets(self) -> str | None:
        """`data.targets` of the data that it reads, where that says what is learned."""
        return None

    @property
    def built_outputs(self) -> int | None:
        """How many outputs the network has to have as it is built; None where `attach` makes them, or it gives a
        tree."""
        return None if self.reads_tree or self.needs == "pyramid" else self.outputs

    def attach(self, network: nn.Module, input_shape: tuple[int, ...]) -> nn.Module:
        """The network with what it takes to give the outputs. Raises ModelError where it lacks what is needed."""
        del input_shape
        return network

    def bare(self, network: nn.Module) -> nn.Module:
        """The network under what `attach` has put on it, to which weights of other tasks belong."""
        return network

    def settled(self, val: Mapping[str, float]) -> Self:
        """The task with what the metrics of validation decide."""
        del val
        return self

    def loss(self, outputs: Outputs, targets: Targets) -> torch.Tensor:
        """Scalar loss, `loss_sum / weight`: what training minimizes."""
        return self.loss_sum(outputs, targets) / self.weight(targets)

    def loss_sum(self, outputs: Outputs, targets: Targets) -> torch.Tensor:
        """Scalar sum of the losses of all that counts: sums of the parts of a batch add up to that of the whole."""
        raise NotImplementedError(f"{type(self).__name__}.loss_sum(outputs, targets): the sum of the losses")

    def weight(self, targets: Targets) -> torch.Tensor | float:
        """What `loss_sum` is divided by for the mean: how many samples or labeled pixels there are, or the sum of
        their class weights. A tensor only where it depends on the values of the targets."""
        return float(len(targets))

    @property
    def guessed_classes(self) -> int:
        """K where equal probabilities of K classes have a loss of ln K, from which learning brings it down; else 0."""
        return 0

    def constant_loss(self, targets: Targets) -> float | None:
        """The lowest loss of predictions that are the same for every sample; None where outputs that are the same for
        every sample tell it."""
        del targets
        return None

    def loss_text(self) -> str:
        """A sentence on what of the loss followed from the data; empty where nothing did."""
        return ""

    def decided(self, config: TaskConfig) -> TaskConfig:
        """The configuration that this task was made of, with what was measured on the data."""
        return config

    def augmentation(self, usual: AugmentConfig, request: AugmentConfig) -> tuple[AugmentConfig, str]:
        """How training images vary where nobody says, of what is `usual` for such images, and what should be known of
        it. Raises ConfigError for a `request` that targets cannot follow."""
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
        """Targets of images that were made (height, width) `size` pixels large."""
        del size
        return targets

    def unmoved(
        self, outputs: Outputs, *, mirrored: bool, shift: tuple[int, int], upside_down: bool = False
    ) -> Outputs:
        """Outputs for images that were moved by `shift` (down, right) pixels and mirrored, from left to right
        (`mirrored`) and `upside_down`, as they are for the images themselves."""
        del mirrored, shift, upside_down
        return outputs

    # What is measured

    def accumulator(self) -> Accumulator:
        """A new one, empty: what is measured batch by batch while training. The default adds up `tally`."""
        return Sums(self.tally, self.summarize)

    def collector(self, samples: int) -> Accumulator:
        """A new one, empty: what is measured of a whole split of so many samples, once a network is trained. It may
        remember more than that of training, for `remembered`."""
        del samples
        return self.accumulator()

    def remembered(self, collected: Accumulator) -> Any:
        """What a collector remembers for `fit_temperature` and `assess`, which find it as `Evaluation.sampled`."""
        del collected
        return None

    def tally(self, outputs: Outputs, targets: Targets, loss_sum: torch.Tensor | None = None) -> torch.Tensor:
        """(M,) float64 sums over the batch from which `summarize` makes metrics; M does not depend on the batch.
        `loss_sum` is that of these outputs and targets where it is known already."""
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
        """Whether the headline is followed epoch by epoch: where `rows` says what each sample adds to it."""
        return self.headline != LOSS.key and self.has_rows()

    def summarize(self, tally: torch.Tensor) -> dict[str, float]:
        """`loss` and the one or two metrics that are followed epoch by epoch, from summed tallies."""
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
        """The key of the metric that says most."""
        return self.metrics[0].key

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger value of the headline metric is a better one."""
        return self.metrics[0].higher_is_better

    @property
    def scored_by_loss(self) -> bool:
        """Whether the best is what has the lowest loss: scores of different losses cannot be compared then."""
        return self.metrics[0] is LOSS

    @property
    def shown(self) -> tuple[Metric, ...]:
        """All that a table of this task may show, in its order."""
        return shown_metrics(self.metrics)

    def score(self, metrics: Mapping[str, float]) -> tuple[float, ...]:
        """What "best" means: compared as tuples, higher is better. The headline; where it is equal, the lower loss."""
        sign = 1 if self.higher_is_better else -1
        return (sign * metrics.get(self.headline, -sign * metrics["loss"]), -metrics["loss"])

    # Predictions

    def decode(self, outputs: Outputs) -> Predictions:
        """Predictions from outputs, small enough to keep for a whole split."""
        return outputs.float() if isinstance(outputs, torch.Tensor) else outputs

    def decode_at(self, outputs: Outputs, size: tuple[int, ...]) -> Predictions:
        """Predictions for pictures of (height, width) `size` pixels from outputs for these at another scale."""
        raise NotImplementedError(f"{type(self).__name__}.decode_at")

    def stitched(self, parts: Iterable[tuple[Tile, Outputs]], size: tuple[int, int]) -> Predictions:
        """The prediction for a picture of (height, width) `size` pixels from outputs for its tiles, of one sample each.
        Raises UsageError where the task has none."""
        del parts, size
        got = f"a run of the task {self.name}"
        raise UsageError("--tile", got, "a task whose predictions are positions or maps", "leave out --tile")

    def describe(self, decoded: Predictions) -> dict[str, Any]:
        """One sample's prediction as the fields of a `predict --json` line."""
        values = [float(value) for value in torch.as_tensor(decoded).flatten().tolist()]
        return {"value": values[0]} if len(values) == 1 else {"values": values}

    def describe_in_file(self, decoded: Predictions, placed: Placement | None) -> dict[str, Any]:
        """`describe`, for a file that lies in the input as `placed` says; None where that is not known."""
        del placed
        return self.describe(decoded)

    def in_file(self, decoded: Predictions, placed: Placement) -> Predictions:
        """One sample's prediction in pixels of the file, to be drawn over it."""
        del placed
        return decoded

    def found(self, decoded: Predictions, placed: Placement) -> tuple[Found, ...]:
        """What of one sample's prediction can be cut out of its picture, the most probable first. Raises UsageError
        where predictions are of no places."""
        del decoded, placed
        got = f"a run of the task {self.name}"
        raise UsageError("--with", got, "a run that predicts boxes or points", "give another run")

    def describe_beside_input(self, decoded: Predictions, raw: torch.Tensor) -> dict[str, Any]:
        """Further fields of a `predict --json` line: what follows from one sample's prediction and its raw input."""
        del decoded, raw
        return {}

    def line(self, fields: Mapping[str, Any]) -> str:
        """The fields of `describe` in words, for a terminal."""
        return "  ".join(f"{key} {value}" for key, value in fields.items() if key != "path")

    def write_prediction(
        self, folder: Path, name: str, decoded: Predictions, placed: Placement | None = None
    ) -> dict[str, Any]:
        """Write what is a file of its own (a mask) into `folder`, named after `name`, which lies in the input as
        `placed` says; further fields of the line. Raises UsageError where the predictions of the task have none."""
        del folder, name, decoded, placed
        raise self.no_files()

    def no_files(self) -> UsageError:
        """What is said where files of predictions are asked for that the task does not have."""
        return UsageError(
            "--masks", f"a run of the task {self.name}", "a segmentation, or instances", "leave out --masks"
        )

    writes_files: ClassVar[bool] = False
    """Whether `write_prediction` does."""

    draws: ClassVar[bool] = False
    """Whether predictions lie in the image, so that `draw` draws them over it."""

    def draw(self, image: NDArray[np.uint8], decoded: Any, truth: Any = None) -> NDArray[np.uint8]:
        """The image (C, H, W) with a prediction, or a target, drawn over it, or in words below it: (H, W, 3); where
        `truth` is given, with what is wrong marked."""
        from striate.visualize.word_pictures import drawn_words

        del truth
        return drawn_words(image, (), np.zeros((0, 1), np.float32), [self.line(self.describe(decoded))])

    def threshold_of_pairs(self, similarity: float = 0.0) -> tuple[float, float]:
        """The similarity (cosine of two predictions) from which on two samples are said to be of one class, and how
        probable that is at `similarity`. Raises UsageError where predictions are not compared."""
        del similarity
        got = f"a run of the task {self.name}, without a threshold for pairs"
        raise UsageError("match", got, "a run of embeddings", "striate train DATA --task embed")

    def marks(self, decoded: Predictions, placed: Placement | None) -> Marks | None:
        """All that one sample's prediction says of places, also what is below a threshold, for a page to draw over the
        picture; None where it says nothing of places."""
        del decoded, placed
        return None

    def position_maps(self, outputs: Outputs) -> tuple[PositionMap, ...]:
        """What each position of the outputs (of one sample) says, map by map; nothing where outputs have no
        positions."""
        del outputs
        return ()

    def agreement(self, reference: Outputs, outputs: Outputs) -> PredictionAgreement:
        """How far outputs computed in another way are those of plain fp32, `reference`."""
        return agreement_of_numbers(self.decode(reference), self.decode(outputs))

    # What an exported file gives

    def export(self, outputs: Outputs, frame: Frame | None) -> tuple[torch.Tensor, ...]:
        """The tensors (N, …) named in `exports`, from outputs, by operations that can be traced; for pictures in pixels
        of what lies in the input as `frame` says."""
        del frame
        return (self.decode(outputs),)

    def exported_facts(self) -> dict[str, Any]:
        """What a reader of an exported file must know beside the classes, as plain values."""
        return {}

    def from_exported(self, arrays: Sequence[NDArray[Any]], size: tuple[int, int] | None) -> Any:
        """Predictions (N, …) as `in_file` has them, from arrays of an exported file for pictures of (height, width)
        `size`."""
        del size
        return arrays[0]

    def disparity(self, right: Any, found: Any) -> tuple[float, bool]:
        """How far one sample's prediction `found` by an exported file is from the `right` one, as `in_file` has both,
        where 1e-4 is the most that rounding makes; and whether both say the same."""
        difference = float(np.abs(np.asarray(right, np.float64) - np.asarray(found, np.float64)).max(initial=0))
        return difference, difference < 1e-3

    # How good predictions are

    def measure(self, decoded: Predictions, targets: Targets) -> dict[str, Any]:
        """The final metrics of a split under their public names, without `n` and `loss`: the headline, of `rows`."""
        if self.headline == LOSS.key:
            return {}
        return {self.headline: self.headline_figure().value(self.rows_for(decoded, targets))}

    def measure_each(self, tasks: Sequence[Self], decoded: Predictions, targets: Targets) -> dict[str, Any]:
        """`measure` of predictions of several networks, each sample by its own of `tasks` (N), with what validation
        decided for its network."""
        del tasks
        return self.measure(decoded, targets)

    @classmethod
    def rows(cls, decoded: Any, targets: Any, classes: int = 0) -> Rows:
        """(N,) or (N, M) float64: what each sample adds to the headline metric, from predictions and targets as arrays.

        The default is the loss of each sample, where predictions are outputs.
        """
        raise NotImplementedError

    @classmethod
    def headline_of(cls, total: Rows, n: int) -> float:
        """The headline metric from the sum of `rows` over n samples: their mean."""
        return float(total / n)

    @classmethod
    def headline_figure(cls) -> Headline:
        """The headline as a figure of rows."""
        return Headline(cls.metrics[0], cls.headline_of)

    @classmethod
    def headline_interval(cls, rows: Rows, groups: Sequence[str] = ()) -> Interval | None:
        """The 95 % interval of the headline by a formula, from rows and the group of each, where samples have any; None
        where there is none but the bootstrap's."""
        del rows, groups
        return None

    def rows_of(self, evaluation: Evaluation) -> Rows:
        """`rows` of all samples of an evaluation."""
        return self.rows_for(evaluation.decoded, evaluation.targets)

    @classmethod
    def has_rows(cls) -> bool:
        """Whether `rows` is defined, so that predictions are measured without a task that was made."""
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
        """Raise ConfigError for rows that are not one a sample: (N, 1) beside (N,) makes (N, N) of them."""
        count = len(targets)
        crossed = rows.ndim == 2 and np.shape(decoded) == (count, 1) and rows.shape == (count, count) and count > 1
        if rows.ndim not in (1, 2) or len(rows) != count or (crossed and np.ndim(targets) == 1):
            got = f"an array of {rows.shape} from rows of {type(self).__name__} for {count} samples"
            remedy = "take predictions of one number as decoded.reshape(-1)"
            raise ConfigError("task.name", got, "(N,) or (N, M): what each sample adds to the metric", remedy)

    def same(self, one: Any, other: Any) -> NDArray[np.float64] | None:
        """(N,) how much of each sample's prediction is the same in both, 0 to 1, from predictions as arrays; None where
        that has no meaning, as of numbers."""
        del one, other
        return None

    def predicted(self, decoded: Any) -> NDArray[np.int64] | None:
        """(N,) the class of each sample, where it has one: what the rule of decision makes of its prediction."""
        del decoded
        return None

    def deciding(self, cost: ByClass, threshold: ByClass, validation: Validation | None = None) -> Self:
        """The task that chooses a class by costs and thresholds (`striate.tasks.classify.decision.make_rule`); with
        neither, the most probable one. Raises UsageError where predictions are not classes."""
        if cost or threshold:
            option, got = "--cost" if cost else "--threshold", f"a run of the task {self.name}, without classes"
            raise UsageError(option, got, "a classification", f"leave out {option}")
        del validation
        return self

    def rejecting(self, rate: float, validation: Validation) -> Self:
        """The task that turns down samples to which it cannot give one class, or a label, with an error `rate` that it
        promises. Raises UsageError where predictions are not classes (`rejects` is false)."""
        del rate, validation
        got, remedy = f"a run of the task {self.name}, without classes", "leave out --reject"
        if self.gives_vector:
            remedy = "striate match RUN A B, which has a threshold and a probability, or leave out --reject"
        raise UsageError("--reject", got, "classes or labels, also among several targets", remedy)

    @property
    def decision_text(self) -> str:
        """By which rule a class is chosen, where that is not the most probable one."""
        return ""

    def table_of_classes(
        self, decoded: Any, targets: Any, groups: Sequence[str] = ()
    ) -> tuple[NDArray[np.int64] | None, tuple[ClassRow, ...]]:
        """The confusion matrix (K, K) and a row a class, where each sample has one class; `groups`: that of each."""
        del decoded, targets, groups
        return None, ()

    def interval(self, decoded: Any, targets: Any, groups: Sequence[str] = ()) -> dict[str, list[float]]:
        """`<headline>_interval`: [low, high] (95 %), by bootstrap over samples, or over groups where there are any;
        nothing for fewer than 20. `groups`: that of each sample, where samples have any."""
        ends = interval_of(self.headline_figure().over(groups).estimate(self.rows_for(decoded, targets)))
        return {} if ends is None else {f"{self.headline}_interval": ends}

    def sample_losses(self, evaluation: Evaluation) -> NDArray[np.float64] | None:
        """(N,) how wrong the probabilities of each sample are; None where the task gives none."""
        del evaluation
        return None

    @property
    def counted(self) -> str:
        """What an evaluation counts in its title instead of classes; empty for classes and where there is nothing."""
        return ""

    def classes_of_split(self, targets: Any) -> int | None:
        """How many classes the targets of a split have, where each split has its own; else None."""
        del targets
        return None

    def names_only(self, evaluation: Evaluation) -> str | None:
        """The class that is predicted everywhere, though there are several; None where predictions differ."""
        return only_class(evaluation)

    def noticed(self, evaluation: Evaluation) -> tuple[Finding, ...]:
        """What the predictions of a trained network say against it, beside its figures."""
        named = self.names_only(evaluation)
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

    def noticed_on_validation(self, decoded: Any, targets: Any, run: str) -> tuple[Finding, ...]:
        """What the predictions for the validation split of `run` say can be done better without training again."""
        del decoded, targets, run
        return ()

    def fit_temperature(self, val: Evaluation) -> Temperature | None:
        """What validation says of probabilities; None where the task has none, or it does not tell."""
        del val
        return None

    def calibrated(self, temperature: float) -> Self:
        """The task with probabilities of logits divided by the temperature. Raises UsageError where predictions have
        none."""
        del temperature
        got, expected = f"a run of the task {self.name}, without probabilities", "a classification"
        raise UsageError("--calibrated", got, expected, "leave out --calibrated")

    def assess(
        self, evaluation: Evaluation, facts: SampleFacts, temperature: Temperature | None, names: Sequence[str]
    ) -> Figures:
        """Everything that follows from the predictions for a split. `names` are those of the target's numbers."""
        del temperature, names
        rows, figure = self.rows_of(evaluation), self.headline_figure().over(facts.columns.get("group", ()))
        groups = sample_groups(facts, evaluation.n, brightness=evaluation.brightness)
        return PlainMetrics(
            self.metrics[0],
            evaluation.n,
            {self.headline: figure.estimate(rows)},
            figure.slices(groups, rows),
            too_few(evaluation.n),
        )

    def gap(self, train: Evaluation, val: Evaluation) -> Gap:
        """How much better it is on what it learned from."""
        return self.headline_figure().gap(self.rows_of(train), self.rows_of(val), (train.groups, val.groups))

    @classmethod
    def difference(cls, ours: Rows, theirs: Rows, seed: int = 0, groups: Sequence[str] = ()) -> Difference:
        """How far one network leads another on the same samples, from the rows of both; `groups`: that of each."""
        return difference_of_rows(theirs, ours, cls.headline_figure().lead, seed, groups)

    @classmethod
    def made(cls, kept: KeptPredictions) -> bool:
        """Whether predictions from a file of a run are such as this task makes."""
        del kept
        return True

    # What it has to beat

    def baselines(self, data: Dataset) -> tuple[Method, ...]:
        """Methods that are not networks, the plainest first."""
        del data
        return ()

    def beside(self, network: nn.Module) -> Self:
        """The task with what its baselines must know of the network that they are compared with."""
        del network
        return self

    def compare_baseline(
        self, network: Evaluation, baseline: Baseline, seed: int = 0, groups: Sequence[str] = ()
    ) -> BaselineComparison:
        """How a network stands against a baseline on the same samples; `groups`: that of each, where they have any."""
        theirs, ours = self.rows_for(baseline.decoded, network.targets), self.rows_of(network)
        return compare_rows(self.headline_figure().over(groups), baseline.name, theirs, ours, seed)

    def alone(self) -> Mapping[str, Mapping[str, Any]]:
        """What is learned together and could be learned alone: by its name the fields of `task.*` that do so, with the
        same outputs."""
        return {}

    def compare_alone(
        self, name: str, together: Evaluation, alone: Evaluation
    ) -> tuple[Metric, float | None, float | None, Difference]:
        """The headline metric of one of `alone`, its values in the network of all and in its own, and by how much the
        first is better on the same samples."""
        raise NotImplementedError(f"{type(self).__name__}.compare_alone")

    # How it is shown

    def answer(self, evaluation: Evaluation) -> tuple[str, str]:
        """The result in one figure, and the sentence that says of what it is."""
        metric = self.metrics[0]
        value = metric.text(evaluation.metrics.get(metric.key))
        of = f"{evaluation.n:,} {evaluation.split} samples of {evaluation.data}"
        return value, f"{metric.name} on the {of}."

    def pictures(
        self,
        folder: Path,
        evaluation: Evaluation,
        images: Any | None,
        *,
        target_names: Sequence[str] = (),
        names: Sequence[str] = (),
    ) -> tuple[Picture, ...]:
        """Draw into `folder` what predictions look like. `images` (N, C, H, W) uint8 of the split, None where there are
        none to be drawn; `names` of the samples."""
        del folder, evaluation, images, target_names, names
        return ()

    def sections(self, assessment: Assessment, figures: Figures, of: str) -> tuple[Section, ...]:
        """Parts of the report on the figures of the test split; `of` says of which samples."""
        del assessment, figures, of
        return ()

    def tables(
        self,
        evaluation: Evaluation,
        figures: Figures | None,
        target_names: Sequence[str],
        names: Sequence[str] = (),
    ) -> dict[str, Table | None]:
        """Tables of the report: `averages`, `confused` and `classes`, and those behind pictures, by their kind.
        `names` of all samples are such as their paths. The default is one of the figures over all samples, where there
        is more than the headline."""
        del target_names, names
        if figures is None or len(figures.figures) < 2:
            return {}
        from striate.tasks.show import overall_table, split_text

        return {"averages": overall_table(self.metrics, figures, split_text(evaluation))}

    def columns(self, names: Sequence[str]) -> list[str]:
        """Columns of predictions.csv of a cross-validation; `names` are those of the target's numbers."""
        del names
        return ["truth", "prediction"]

    def cells(self, truth: Any, decoded: Any) -> list[Any]:
        """One sample's row under these columns, from arrays without batch."""
        return [" ".join(f"{value:.7g}" for value in np.ravel(part)) for part in (truth, decoded)]

    def pooled(
        self, folder: Path, truth: Any, decoded: Any, title: str, of: str, names: Sequence[str]
    ) -> tuple[Picture | None, Table | None]:
        """The predictions of a cross-validation, each sample's from the fold that held it out, as a picture in `folder`
        and the table behind it; `title` says of what, `of` how often each was predicted too."""
        del folder, truth, decoded, title, of, names
        return None, None

    def standardized(self, targets: Targets) -> Targets:
        """Targets in the units in which the network learns them."""
        return targets

    def unstandardized(self, targets: Targets) -> Targets:
        """Targets in the units of the data again."""
        return targets

    def explained(self, decoded: Predictions) -> Explained:
        """What is explained of one sample's prediction. Raises UsageError where nothing can be."""
        del decoded
        return Explained(lambda outputs: outputs.flatten(1), 0, "number")

    def explained_part(self, decoded: Predictions, part: str) -> Explained:
        """What is explained of one sample's prediction where the user names a `part` of it. Raises UsageError for one
        that it does not have."""
        del decoded
        got = f"{part!r}, for a run of the task {self.name}"
        raise UsageError("--part", got, "a task whose predictions have parts with names", "leave out --part")

    def target_text(self, target: Any) -> str:
        """One sample's target in words, beside a small picture of it."""
        return ", ".join(f"{value:g}" for value in torch.as_tensor(target).flatten().tolist())
