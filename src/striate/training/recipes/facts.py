"""What a recipe decides by, plain numbers about data and network, and the values that it chooses."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

from striate.account.summarize import count_macs
from striate.data.config import AugmentConfig
from striate.data.dataset import Dataset, Kind
from striate.data.media.every_medium import medium_of
from striate.data.media.medium import Medium
from striate.models.features import weighted_layers
from striate.models.learning_rule import LearningRule, learning_rule
from striate.training.config import Config

Adapt = Callable[[AugmentConfig, AugmentConfig], tuple[AugmentConfig, str]]
"""From the usual and the requested augmentation to that of the task, with a reason."""


@dataclass(frozen=True)
class Facts:
    """What a recipe decides by: plain numbers about data, network and task."""

    kind: Kind
    """What a sample is."""
    samples: int
    """Training samples."""
    val_samples: int
    """Validation samples."""
    imbalance: float
    """Samples of the largest class for each sample of the smallest; 1 where classes are equal or there are none."""
    network: Literal["dense", "convolutional"]
    """"dense": no layer with weights is a convolution."""
    macs: int
    """Multiply–accumulates for one input."""
    has_weights: bool
    """Whether the network begins with pretrained weights."""
    plain_depth: int = 0
    """Number of layers with weights; 0 where normalizations keep their signal in bounds."""
    normalizes: bool = False
    """Whether a layer normalizes."""
    local_rule: LearningRule | None = None
    """The local learning rule of the network. None: it learns by gradients."""
    survives_moves: bool = True
    """Whether a shifted or mirrored image keeps its target."""
    windows: bool = False
    """Whether the target of a crop can be cut from that of the image; from `decide` on, whether crops are used."""
    adapt: Adapt | None = None
    """`Task.augmentation` of the task. None: the usual augmentation."""
    passes: float = 1.0
    """Passes over the samples that the task needs, as a multiple of the usual number."""
    positions: int = 0
    """Spatial positions of an input: the pixels of an image."""
    parameters: int = 0
    """Trainable parameters of the network."""

    @property
    def medium(self) -> Medium:
        """What a sample is."""
        return medium_of(self.kind)


def gather_facts(
    data: Dataset,
    network: nn.Module,
    *,
    has_weights: bool,
    survives_moves: bool = True,
    windows: bool = False,
    adapt: Adapt | None = None,
    passes: float = 1.0,
) -> Facts:
    """The facts; the network stays as it is. `survives_moves`, `windows` and `adapt` as in `Facts`. Raises ModelError
    where the network does not take the data."""
    train = data.splits["train"]
    dense = all(network.get_submodule(name).__class__ is nn.Linear for name in weighted_layers(network))
    return Facts(
        kind=data.kind,
        samples=len(train),
        val_samples=len(data.splits["val"]),
        imbalance=1.0
        if data.open_classes or not data.has_one_class_each
        else _imbalance(train.targets, len(data.classes)),
        network="dense" if dense else "convolutional",
        macs=count_macs(network, data.input_shape),
        has_weights=has_weights,
        plain_depth=0 if _normalizes(network) else len(weighted_layers(network)),
        normalizes=_normalizes(network),
        local_rule=learning_rule(network),
        survives_moves=survives_moves,
        windows=windows,
        adapt=adapt,
        passes=passes,
        positions=math.prod(data.input_shape[1:]),
        parameters=sum(p.numel() for p in network.parameters() if p.requires_grad),
    )


def _normalizes(network: nn.Module) -> bool:
    normalizations = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
    return any(isinstance(module, normalizations) for module in network.modules())


def _imbalance(targets: torch.Tensor, classes: int) -> float:
    counts = torch.bincount(targets, minlength=classes)
    return float(counts.max()) / max(1, int(counts.min()))


@dataclass(frozen=True)
class RecipeChoice:
    """Values that a recipe chooses for the fields of the configuration that a user may leave open. A field that is None
    stays open."""

    optimizer: str
    lr: float
    """For `optimizer`."""
    weight_decay: float
    """For `optimizer`."""
    batch: int
    epochs: int
    ema: float
    patience: int
    keep: Literal["best", "last"]
    head_share: float = 0.0
    layer_decay: float = 1.0
    schedule: Literal["one-cycle", "triangle", "constant"] = "one-cycle"
    momentum: float | None = None
    fixed_norm: bool | None = None
    other_lr: float | None = None
    warmup: float | None = None
    first_size: float | None = None
    full_size_from: float | None = None
    views: Literal["none", "mirror", "mirrors", "mirror-shift"] | None = None
    train_samples: int | None = None
    val_samples: int | None = None
    why: Mapping[str, str] = field(default_factory=dict)
    """Reasons for the user, by dotted field."""


def fill_open_fields(config: Config, choice: RecipeChoice) -> dict[str, object]:
    """Dotted fields that are open in `config`, with the values of `choice`."""
    budget = config.budget
    bounded = budget.epochs is not None or budget.minutes is not None or budget.steps is not None
    values: dict[str, tuple[object, object]] = {
        "optim.name": (config.optim.name, choice.optimizer),
        "optim.lr": (config.optim.lr, choice.lr),
        "optim.weight_decay": (config.optim.weight_decay, choice.weight_decay),
        "optim.ema": (config.optim.ema, choice.ema),
        "optim.momentum": (config.optim.momentum, choice.momentum),
        "optim.fixed_norm": (config.optim.fixed_norm, choice.fixed_norm),
        "optim.other_lr": (config.optim.other_lr, choice.other_lr),
        "schedule.name": (config.schedule.name, choice.schedule),
        "schedule.first_size": (config.schedule.first_size, choice.first_size),
        "schedule.full_size_from": (config.schedule.full_size_from, choice.full_size_from),
        "evaluation.views": (config.evaluation.views, choice.views),
        "evaluation.val_samples": (config.evaluation.val_samples, choice.val_samples),
        "evaluation.train_samples": (config.evaluation.train_samples, choice.train_samples),
        "batch": (config.batch, choice.batch),
        "budget.patience": (budget.patience, choice.patience),
        "keep": (config.keep, choice.keep),
        "fine_tune.head_share": (config.fine_tune.head_share, choice.head_share),
        "fine_tune.layer_decay": (config.fine_tune.layer_decay, choice.layer_decay),
    }
    if config.schedule.name is None:
        values["schedule.warmup"] = (config.schedule.warmup, choice.warmup)
    opened = {name: value for name, (given, value) in values.items() if given is None and value is not None}
    return opened if bounded else opened | {"budget.epochs": choice.epochs}
