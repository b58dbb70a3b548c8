"""The interface of a network with a local learning rule: the rule and its usual settings."""

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
    """The reason for this rate."""
    epochs: int
    """The usual number of epochs."""
    schedule: Literal["one-cycle", "triangle", "constant"] = "one-cycle"
    """How the rate changes over the run."""
    warmup: float | None = None
    """Share of the steps in which the rate rises, 0 to 1; None for that of the schedule."""
    only: bool = False
    """Whether the network can learn by this rule only, not by gradient."""
    usual: bool = False
    """Whether the rule is the default where no optimizer is named, though the network can also learn by gradient."""
    labels: bool = True
    """Whether the rule learns from classes; False: from inputs alone."""
    batch: int | None = None
    """Number of samples whose mean changes the weights once; None where the rule learns from one sample after the
    other, so that the batch size only determines how often the rate changes."""


@runtime_checkable
class LocalLearningRule(Protocol):
    """A network that can learn by a local learning rule."""

    def learning_rule(self) -> LearningRule | None:
        """The rule; None where the network has no rule with its current arguments."""
        ...

    def learn(self, inputs: torch.Tensor, targets: torch.Tensor, rate: float, progress: float) -> None:
        """Learn from (B, *input_shape) inputs in place, one sample after the other, or all at once where the rule has a
        `batch`. `targets` are (B,) classes, or those of the task where the rule needs no `labels`.

        `rate` is the learning rate of this step, `progress` the share of all steps that are done, 0 ≤ progress < 1.
        All state is in parameters and buffers, and random numbers come from torch's random state, so that a run
        continued from a checkpoint ends with bit-identical weights.
        """
        ...


def learning_rule(network: nn.Module) -> LearningRule | None:
    """The network's local learning rule; None if it has none."""
    return network.learning_rule() if isinstance(network, LocalLearningRule) else None


def followed_quantities(network: nn.Module) -> tuple[str, ...]:
    """Names of the quantities that a network reports each epoch besides the metrics of the task: its attribute
    `follows`. `network.followed(inputs)` returns the sum of each over a batch of inputs, (len(names),)."""
    return tuple(getattr(network, "follows", ()))
