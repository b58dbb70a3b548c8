"""What a network with a learning rule of its own offers: the rule, and what it is usually run with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import nn


@dataclass(frozen=True)
class LearningRule:
    """A learning rule that needs no gradient, for samples of K classes.

    `title` names rule and paper. `rate` is the usual peak learning rate and `why` the reason; `schedule` how it changes
    over the run, `epochs` how many passes it takes. `only` where the network cannot learn by gradient as well.
    """

    title: str
    rate: float
    why: str
    epochs: int
    schedule: Literal["one-cycle", "constant"] = "one-cycle"
    only: bool = False


@runtime_checkable
class LocalLearningRule(Protocol):
    """A network that can learn by a rule of its own."""

    def learning_rule(self) -> LearningRule:
        """Which rule it is."""
        ...

    def learn(self, inputs: torch.Tensor, targets: torch.Tensor, rate: float, progress: float) -> None:
        """Learn from (B, *input_shape) inputs and (B,) classes, in place, one sample after the other.

        `rate` is the learning rate of this step, `progress` the share of all steps that are done, 0 ≤ progress < 1.
        What it remembers lies in parameters and buffers, and what it draws follows from torch's random state, so that a
        run that goes on from a checkpoint ends with the same bits.
        """
        ...


def learning_rule(network: nn.Module) -> LearningRule | None:
    """The network's own learning rule, None where it has none."""
    return network.learning_rule() if isinstance(network, LocalLearningRule) else None
