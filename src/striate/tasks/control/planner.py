"""A planner teaches a network: UCT searches in copies of the environment, and the network learns the actions that it
advises (Guo et al., "Deep learning for real-time Atari game play using offline Monte-Carlo tree search planning",
2014)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy, smooth_l1_loss

from striate.data.counter_random import hash_key
from striate.data.environments.vectorized import Episode
from striate.errors import ConfigError
from striate.runs.files import write_atomic
from striate.tasks.control.learner import Advance, Learner
from striate.tasks.control.network import action_values, as_input
from striate.tasks.control.uct import SearchConfig, search

_SEARCH, _SAMPLE, _PLAYER = 11, 12, 13  # what random numbers are for, besides the seed and the step
_TOGETHER = 8
_ROOM = 1024
NAME = "lessons.npz"


@dataclass
class Planner(Learner):
    """A network, the pupil, that learns from a planner: each step of each environment is planned by a search.

    The state and the result of its search are a lesson. For each step, some batches of all lessons so far teach the
    network: as classes (`lesson` action or visits), or as values of actions. Steps are those of the environments.
    Lessons are in the order of play.
    """

    simulated: int = 0
    """Number of steps in the planner's copies of the environments."""
    seen: np.ndarray = field(init=False)
    """(T, H, W, C·stack) uint8, the states."""
    visits: np.ndarray = field(init=False)
    """(T, A) int32, the search's visits of each action."""
    values: np.ndarray = field(init=False)
    """(T, A) float32, the search's value of each action."""

    def __post_init__(self) -> None:
        super().__post_init__()
        played = self.environments
        if not played.each[0].copies:
            expected = "an environment whose state can be copied: gym:MinAtar/…, gym:ALE/… or gym:striate/Catch-v0"
            got = f"{played.game.source}, whose state can be restored only by replaying the episode"
            raise ConfigError("recipe planner", got, expected, "leave out --recipe planner")
        actions = len(played.game.actions)
        self.seen = np.zeros((0, *played.stacked.shape[1:]), np.uint8)
        self.visits, self.values = np.zeros((0, actions), np.int32), np.zeros((0, actions), np.float32)
        self._make_room(_ROOM)

    def _make_room(self, rows: int) -> None:
        """Enlarge the arrays to at least `rows` lessons; with --minutes, their number is not known beforehand."""
        while len(self.seen) < rows:
            for name in _LESSONS:
                part = getattr(self, name)
                setattr(
                    self, name, np.concatenate([part, np.zeros((max(len(part), _ROOM), *part.shape[1:]), part.dtype)])
                )

    def make_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.module.parameters(), lr=self.lr)

    @property
    def explore(self) -> float:
        """0: neither the planner nor the network takes random actions."""
        return 0.0

    def advance(self) -> Advance:
        """Play some steps in each environment, with `pupil_updates` updates for each step."""
        first, before, losses = self.step, self.updates, 0.0
        episodes: list[Episode] = []
        for _ in range(self.rounds(_TOGETHER)):
            steps = self.environments.step(self._plan())
            self.step += len(self.environments)
            episodes += steps.episodes
            for _ in range(self.config.pupil_updates * len(self.environments)):
                losses += self.update()
        return Advance(self.step - first, self.updates - before, episodes, losses)

    def _plan(self) -> np.ndarray:
        """(N,) actions: the planner's, or, with probability `pupil_plays`, the network's. The states and the planner's
        advice become lessons."""
        played, config = self.environments, self.config
        searched = SearchConfig(config.trajectories, config.depth, config.discount, config.search_bonus)
        advised = []
        self._make_room(self.step + len(played))
        for number, environment in enumerate(played.each):
            row = self.step + number
            rng = np.random.default_rng(hash_key(self.seed, _SEARCH, row))
            plan = search(environment, len(played.game.actions), searched, rng)
            self.seen[row], self.visits[row], self.values[row] = played.stacked[number], plan.visits, plan.values
            self.simulated += plan.steps
            advised.append(plan.action)
        if not config.pupil_plays:
            return np.array(advised)
        rng = np.random.default_rng(hash_key(self.seed, _PLAYER, self.step))
        own = action_values(self.module, played.stacked).argmax(axis=1)
        return np.where(rng.random(len(own)) < config.pupil_plays, own, advised)

    def update(self) -> float:
        """One update on a batch of lessons; returns its loss."""
        rng = np.random.default_rng(hash_key(self.seed, _SAMPLE, self.updates))
        rows = rng.integers(0, self.step, self.batch)
        device = next(self.module.parameters()).device
        outputs = self.module(as_input(self.seen[rows], device))
        visits, values = (torch.from_numpy(part[rows]).to(device) for part in (self.visits, self.values))
        if self.config.lesson == "values":
            return self.minimize(smooth_l1_loss(outputs, values))
        if self.config.lesson == "visits":
            return self.minimize(cross_entropy(outputs, visits / visits.sum(1, keepdim=True)))
        return self.minimize(cross_entropy(outputs, visits.argmax(1)))

    def facts(self) -> dict[str, Any]:
        """The number of steps that were simulated in copies of the environments, and the data set of lessons."""
        return {"simulated_steps": self.simulated, "lessons": NAME}

    def write_data(self, folder: Path) -> None:
        """Write the lessons as a data set of images and classes, which `striate train` reads: `x_train` (T, H, W,
        C·stack) and `y_train` (T,), the advised action; also `visits` and `values` of the search."""
        arrays = {"x_train": self.seen, "y_train": self.visits.argmax(1), "visits": self.visits, "values": self.values}
        filled = {name: part[: self.step] for name, part in arrays.items()}
        write_atomic(folder / NAME, lambda file: np.savez_compressed(file, **filled))

    def state_dict(self) -> dict[str, Any]:
        lessons = {name: torch.from_numpy(getattr(self, name)[: self.step]) for name in _LESSONS}
        return super().state_dict() | lessons | {"simulated": self.simulated}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.simulated = state["simulated"]
        self._make_room(self.step)
        for name in _LESSONS:
            getattr(self, name)[: self.step] = state[name].numpy()


_LESSONS = ("seen", "visits", "values")
