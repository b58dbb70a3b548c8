"""What a network with a learning rule of its own offers: the rule, and what it is usually run with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import nn


@dataclass(frozen=True)
class LearningRule:
    """A learning rule that needs no gradient of a loss."""

    title: str
    """Rule and paper."""
    rate: float
    """The usual peak learning rate."""
    why: str
    """The reason for it."""
    epochs: int
    """How many passes it takes."""
    schedule: Literal["one-cycle", "triangle", "constant"] = "one-cycle"
    """How the rate changes over the run."""
    warmup: float | None = None
    """Share of the steps in which it rises; None for the usual one."""
    only: bool = False
    """Whether the network cannot learn by gradient as well."""
    usual: bool = False
    """Whether it is taken where no optimizer is named, though the network can learn by gradient."""
    labels: bool = True
    """Whether it learns from classes; False: from inputs alone."""
    batch: int | None = None
    """Samples whose mean is one change of the weights; None where samples are learned one after the other, so that the
    batch only says how often the rate changes."""


@runtime_checkable
class LocalLearningRule(Protocol):
    """A network that can learn by a rule of its own."""

    def learning_rule(self) -> LearningRule | None:
        """Which rule it is; None where the network has none in the form that it has."""
        ...

    def learn(self, inputs: torch.Tensor, targets: torch.Tensor, rate: float, progress: float) -> None:
        """Learn from (B, *input_shape) inputs in place, one sample after the other, or all at once where the rule has a
        `batch`. `targets` are (B,) classes, or those of the task where the rule needs no `labels`.

        `rate` is the learning rate of this step, `progress` the share of all steps that are done, 0 ≤ progress < 1.
        What it remembers lies in parameters and buffers, and what it draws follows from torch's random state, so that a
        run that goes on from a checkpoint ends with the same bits.
        """
        ...


def learning_rule(network: nn.Module) -> LearningRule | None:
    """The network's own learning rule, None where it has none."""
    return network.learning_rule() if isinstance(network, LocalLearningRule) else None


def followed_quantities(network: nn.Module) -> tuple[str, ...]:
    """Names of what the network has followed epoch by epoch beside the metrics of the task (its attribute `follows`).
    `network.followed(inputs)` gives the sum of each over a batch of inputs, (len(names),)."""
    return tuple(getattr(network, "follows", ()))
