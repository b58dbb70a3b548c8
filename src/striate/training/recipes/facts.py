"""What a recipe looks at: a few plain numbers about the data and the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from striate.account.summarize import count_macs
from striate.data.dataset import Dataset, Kind
from striate.data.media.every import medium_of
from striate.data.media.medium import Medium
from striate.models.depth import weighted_layers
from striate.models.learning_rule import LearningRule, learning_rule


@dataclass(frozen=True)
class Facts:
    """Of the data: `samples` to train on, `val_samples` to choose by, and how many the largest class has for each of
    the smallest (`imbalance`, 1 where classes are equal or there are none). Of the network: `dense` where it has no
    convolution, `macs` for one input, `has_weights` where it begins with trained
    ones, `plain_depth` the number of its layers with weights, 0 where normalizations keep their signal in
    bounds; `normalizes` whether it has any; `own_rule` the learning rule that it brings, if any."""

    kind: Kind
    samples: int
    val_samples: int
    imbalance: float
    network: Literal["dense", "convolutional"]
    macs: int
    has_weights: bool
    plain_depth: int = 0
    normalizes: bool = False
    own_rule: LearningRule | None = None
    keeps: bool = True
    """Whether a moved image keeps its target."""

    @property
    def medium(self) -> Medium:
        """What a sample is."""
        return medium_of(self.kind)


def gather_facts(data: Dataset, network: nn.Module, *, has_weights: bool, keeps: bool = True) -> Facts:
    """The facts; the network is left as it is. `keeps`: whether a moved image keeps its target. Raises ModelError where
    the network does not take the data."""
    train = data.splits["train"]
    dense = all(network.get_submodule(name).__class__ is nn.Linear for name in weighted_layers(network))
    return Facts(
        kind=data.kind,
        samples=len(train),
        val_samples=len(data.splits["val"]),
        imbalance=_imbalance(train.targets, len(data.classes)) if data.has_one_class_each else 1.0,
        network="dense" if dense else "convolutional",
        macs=count_macs(network, data.input_shape),
        has_weights=has_weights,
        plain_depth=0 if _normalizes(network) else len(weighted_layers(network)),
        normalizes=_normalizes(network),
        own_rule=learning_rule(network),
        keeps=keeps,
    )


def _normalizes(network: nn.Module) -> bool:
    normalizations = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
    return any(isinstance(module, normalizations) for module in network.modules())


def _imbalance(targets: torch.Tensor, classes: int) -> float:
    counts = torch.bincount(targets, minlength=classes)
    return float(counts.max()) / max(1, int(counts.min()))
