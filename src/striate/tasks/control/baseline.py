"""What a network that plays has to beat: random actions, in the same episodes."""

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
"""The mean return over episodes; a row (1,) an episode."""


class RandomActions(nn.Module):
    """Values of actions drawn at random, whatever is seen, so that each action is the best equally often."""

    def __init__(self, actions: int, seed: int) -> None:
        super().__init__()
        self.register_parameter("place", nn.Parameter(torch.zeros(()), requires_grad=False))
        self.actions = actions
        self.generator = torch.Generator().manual_seed(seed)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """(B, A), 0 to 1."""
        return torch.rand(len(frames), self.actions, generator=self.generator)


def random_actions(source: str, config: ControlConfig, seed: int) -> Baseline:
    """The test episodes of `seed`, that of the test split, played with random actions: as many as `config` says."""
    began, game = monotonic(), open_environment(source).game
    decided = ControlConfig(stack=1, limit=config.limit or game.limit)
    chosen = RandomActions(len(game.actions), seed)
    played = play_episodes(chosen, source, decided, config.test_episodes, seed)
    metrics = {key: value for key, value in played.metrics().items() if key != "loss"}
    what = "plays each action equally often, whatever it sees."
    return Baseline("random actions", what, "none", {}, 0, monotonic() - began, metrics, "", played.returns)


def compare_with_random(baseline: Baseline, returns: np.ndarray, seed: int) -> BaselineComparison:
    """How a network stands against it in the same episodes, by its `returns` (E,)."""
    return compare_rows(HEADLINE, baseline.name, baseline.decoded[:, None], returns[:, None], seed, "test episode")
