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
    """Exponent of the focal loss: the larger it is, the less confidently correct pixels count."""
    positive_gamma: Annotated[float, Ge(0), Le(10)] = 0.0
    """Exponent of the asymmetric loss for labels that a sample has."""
    negative_gamma: Annotated[float, Ge(0), Le(10)] = 4.0
    """Exponent of the asymmetric loss for labels that a sample does not have: the larger, the less easy ones count."""
    negative_shift: Annotated[float, Ge(0), Lt(1)] = 0.05
    """How much the asymmetric loss lowers the probability of a label that a sample does not have; lower probabilities
    do not count."""
    weighting: Literal["fixed", "uncertainty", "gradient-norm"] = "fixed"
    """Several targets: `fixed` weights; by `uncertainty`, a variance learned for each target; by `gradient-norm`, so
    that all targets change the shared network equally."""
    target_weights: str | None = None
    """Several targets: factors of their losses, 1 if not named: `age=0.5,gender=2`."""
    head: Literal["heatmaps", "regress"] = "heatmaps"
    """Keypoints: predict `heatmaps` of each point, or `regress` its coordinates."""
    flip_pairs: str | None = None
    """Keypoints: pairs of points that mirroring exchanges, `left_eye=right_eye,1=17`; `none` if it exchanges none.
    Default: from left and right in the names of points; without such names, training images are not mirrored."""
    dimensions: Annotated[int, Ge(2), Le(4096)] = 128
    """Embeddings: the number of dimensions of an embedding."""
    samples_per_class: Annotated[int, Ge(2), Le(64)] = 4
    """Embeddings: the number of samples per class in a batch, which has batch / samples_per_class classes."""
    mirrored: bool | None = None
    """Embeddings: whether a mirror image has the class of its image. If so, training mirrors images, and an embedding
    is the mean over the image and its mirror image. Default: whether mirrored training images are nearest to other
    images of their class."""
    turned_classes: bool | None = None
    """Embeddings: whether training images rotated by 90, 180 and 270° (by 180° if they are not square) are additional
    classes, so that training has four times (twice) as many. Default: true for losses with proxies, if mirror images
    do not have the class of their image and there are fewer than 1,000 classes."""
    code: Annotated[int, Ge(1), Le(65536)] = 32
    """Reconstructions: the dimension of the code, for a network that outputs a vector and has no code layer."""
    beam: Annotated[int, Ge(1), Le(20)] = 3
    """Captions: the width of the beam search for the most probable caption; 1 takes the most probable word at each
    position."""
    least_count: Annotated[int, Ge(1), Le(10_000)] = 2
    """Captions: how often a word has to occur in the training captions to be in the vocabulary."""
    cost: str | None = None
    """The cost of missing a class, 1 if not named: `ill=10,doubtful=3`. Predictions and the final evaluation choose
    the class with the largest cost × probability; training and probabilities do not change."""
    threshold: str | None = None
    """Predict a class if its probability is at least this threshold, otherwise the most probable other class:
    `ill=0.2`. For several labels: the probability from which a label is predicted; others are chosen on validation."""
    control: ControlConfig = field(default_factory=ControlConfig)
