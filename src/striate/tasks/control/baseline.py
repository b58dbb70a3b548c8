"""The baseline of a network that plays: random actions, in the same episodes."""

from __future__ import annotations

from time import monotonic

import numpy as np
import torch
from torch import nn

from striate.data.environments.open_environment import open_environment
from striate.tasks.baseline import Baseline, BaselineComparison, compare_rows
from striate.tasks.control.config import ControlConfig
from striate.tasks.control.play import RETURN, play_episodes
from striate.tasks.headline import Headline

HEADLINE = Headline(RETURN, lambda total, n: float(total.sum() / n))
"""The mean return over episodes, from one row (1,) for each episode."""


class RandomActions(nn.Module):
    """Random values of actions, independent of the state, so that each action is the best equally often."""

    def __init__(self, actions: int, seed: int) -> None:
        super().__init__()
        self.register_parameter("place", nn.Parameter(torch.zeros(()), requires_grad=False))
        self.actions = actions
        self.generator = torch.Generator().manual_seed(seed)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """(B, A), 0 to 1."""
        return torch.rand(len(frames), self.actions, generator=self.generator)


def random_actions(source: str, config: ControlConfig, seed: int) -> Baseline:
    """The result of random actions in the test episodes: those of `seed`, the seed of the test split, as many as
    `config` says."""
    began, game = monotonic(), open_environment(source).game
    decided = ControlConfig(stack=1, limit=config.limit or game.limit)
    chosen = RandomActions(len(game.actions), seed)
    played = play_episodes(chosen, source, decided, config.test_episodes, seed)
    metrics = {key: value for key, value in played.metrics().items() if key != "loss"}
    what = "plays each action equally often, whatever it sees."
    return Baseline("random actions", what, "none", {}, 0, monotonic() - began, metrics, "", played.returns)


def compare_with_random(baseline: Baseline, returns: np.ndarray, seed: int) -> BaselineComparison:
    """How a network, with its `returns` (E,), compares with random actions in the same episodes."""
    return compare_rows(HEADLINE, baseline.name, baseline.decoded[:, None], returns[:, None], seed, "test episode")
