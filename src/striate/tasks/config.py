"""Which task the network learns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt
from numpy.typing import NDArray

from striate.tasks.control.config import ControlConfig

ByClass = str | Sequence[str] | Mapping[str, float | None] | None
"""Numbers by class: `ill=10`, `ill=10,doubtful=3`, several such texts, or a mapping."""
Validation = Callable[[], tuple[NDArray[Any], NDArray[Any]]]
"""The predictions for the validation split and its targets."""


@dataclass(frozen=True)
class TaskConfig:
    """Fields of `task.*`: what the network learns, and the loss. A field that does not belong to the chosen task is
    refused, never ignored."""

    name: str = "auto"
    """The task. `auto` follows the annotations: class names, numbers, sets of labels, masks, boxes, points, or
    captions. A task that an installed package registers has a name too; `file.py:name` RUNS that code."""
    loss: str = "auto"
    """`auto`: softmax cross-entropy for classes and pixels, with soft Dice for volumes and rare classes, squared error
    for numbers, binary cross-entropy for sets of labels, quality focal loss and GIoU for boxes, distance for points,
    ArcFace for embeddings, cross-entropy of words for captions, binary cross-entropy of pixels for reconstructions.
    Classes: `cross-entropy` or `hinge`; labels: `binary-cross-entropy` or `asymmetric`; pixels: `cross-entropy`,
    `focal`, `dice`, or a sum, such as `cross-entropy+dice`; numbers: `squared`, `absolute` or `huber`; embeddings:
    `arcface`, `proxy-anchor`, `triplet` or `supcon`; reconstructions: `binary-cross-entropy` or `squared`. Or
    `file.py:name`, which runs that code: a function of (outputs, targets) that gives their mean loss."""
    label_smoothing: Annotated[float, Ge(0), Lt(1)] | None = None
    """Share of each target spread evenly over all classes (cross-entropy). Default: 0, or what the recipe decides."""
    class_weights: Literal["auto", "none", "balanced"] = "auto"
    """`balanced` weighs each class by the inverse of its frequency in the training split. `auto`: by the square
    root of that for pixels of three classes or more one of which is rare, else `none`."""
    margin: Annotated[float, Gt(0), Le(1e6)] = 1.0
    """Margin of the multi-class hinge loss."""
    gamma: Annotated[float, Ge(0), Le(10)] = 2.0
    """Exponent of the focal loss: how much less a pixel counts the surer its class is."""
    positive_gamma: Annotated[float, Ge(0), Le(10)] = 0.0
    """Exponent of the asymmetric loss for labels that a sample has."""
    negative_gamma: Annotated[float, Ge(0), Le(10)] = 4.0
    """Exponent of the asymmetric loss for labels that a sample has not: how much less the easy ones count."""
    negative_shift: Annotated[float, Ge(0), Lt(1)] = 0.05
    """By how much the asymmetric loss lowers the probability of a label that a sample has not; below it, it counts for
    nothing."""
    weighting: Literal["fixed", "uncertainty", "gradient-norm"] = "fixed"
    """Several targets: `fixed` weights; by `uncertainty`, a variance learned for each target; by `gradient-norm`, so
    that all targets change the shared network equally."""
    target_weights: str | None = None
    """Several targets: what the loss of each is multiplied by, 1 where not named: `age=0.5,gender=2`."""
    head: Literal["heatmaps", "regress"] = "heatmaps"
    """Keypoints: `heatmaps` of where each point is, or `regress` for its coordinates themselves."""
    flip_pairs: str | None = None
    """Keypoints: pairs of points that a mirror image exchanges, `left_eye=right_eye,1=17`; `none` where it exchanges
    none. Default: by left and right in the names of points; without either, training images are not mirrored."""
    dimensions: Annotated[int, Ge(2), Le(4096)] = 128
    """Embeddings: how many numbers an embedding has."""
    samples_per_class: Annotated[int, Ge(2), Le(64)] = 4
    """Embeddings: so many samples of each class follow one another in a batch, which has batch / samples_per_class
    classes."""
    mirrored: bool | None = None
    """Embeddings: whether a mirror image is of the class of its image, so that images are mirrored while training, and
    an embedding is the mean of that of an image and of its mirror image. Default: whether mirrored training images are
    nearest to others of their class."""
    turned_classes: bool | None = None
    """Embeddings: whether training images that are turned by 90, 180 and 270° (by 180° where they are not square) are
    classes of their own, so that there are four times (twice) as many to learn from. Default: true with losses that
    have proxies, where mirror images are not of the class of their image, and there are fewer than 1,000 classes."""
    code: Annotated[int, Ge(1), Le(65536)] = 32
    """Reconstructions: how many numbers the code has, of a network that gives a vector and has no code of its own."""
    beam: Annotated[int, Ge(1), Le(20)] = 3
    """Captions: so many are followed at once while the most probable one is looked for; 1 takes the most probable word
    at each place."""
    least_count: Annotated[int, Ge(1), Le(10_000)] = 2
    """Captions: how often a word has to occur in the training captions to be in the vocabulary."""
    cost: str | None = None
    """What it costs to miss a class, 1 where not named: `ill=10,doubtful=3`. Predictions and the final evaluation name
    the class with the largest cost × probability; training and probabilities stay as they are."""
    threshold: str | None = None
    """Predict a class if its probability is at least this threshold, otherwise the most probable other class:
    `ill=0.2`. For several labels: the probability from which a label is predicted; others are chosen on validation."""
    control: ControlConfig = field(default_factory=ControlConfig)
