"""What a planner teaches: games that are played under its eyes, as a data set on disk that can be continued."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from striate.errors import DataError, pasted
from striate.runs.files import write_bytes
from striate.tasks.control.uct import SearchConfig, Simulator, search

PART = 250
"""Decisions a file: what an interruption costs at most."""
LONGEST = 5000
"""Steps of an episode at most: good players never lose some games."""


class Game(Simulator, Protocol):
    """A simulator that a network can watch."""

    def reset(self, seed: int) -> None:
        """Begin an episode that depends on the seed alone."""
        ...

    def observe(self) -> NDArray[np.uint8]:
        """(C, H, W): what a network is shown of the present state."""
        ...


@dataclass(frozen=True, eq=False)
class Lessons:
    """N decisions of a planner in the order of play.

    `observations`: (N, C, H, W) uint8
    `visits`: (N, A) int64, `values`: (N, A) float32, of each action in the search
    `actions`: (N,) int64, what was played; `rewards`: (N,) float32, what it brought
    `ends`: (N,) bool, whether the episode ended with it
    `simulated`: (N,) int64, steps in the simulator before the decision
    """

    observations: NDArray[np.uint8]
    visits: NDArray[np.int64]
    values: NDArray[np.float32]
    actions: NDArray[np.int64]
    rewards: NDArray[np.float32]
    ends: NDArray[np.bool_]
    simulated: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.actions)

    @property
    def advice(self) -> NDArray[np.int64]:
        """(N,) the action that the planner recommends."""
        return self.visits.argmax(1)

    @property
    def episodes(self) -> NDArray[np.int64]:
        """(N,) the number of the episode of each decision."""
        return np.concatenate([[0], np.cumsum(self.ends[:-1])]).astype(np.int64)

    @property
    def returns(self) -> NDArray[np.float64]:
        """The undiscounted return of each episode that was played to its end."""
        sums = np.bincount(self.episodes, self.rewards.astype(np.float64))
        return sums if self.ends[-1] else sums[:-1]


def join(parts: list[Lessons]) -> Lessons:
    """Several data sets one after the other."""
    return Lessons(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Lessons)))


def read_lessons(folder: Path) -> Lessons | None:
    """All decisions that lie in a folder; None where there are none. Raises DataError for a file that is damaged or
    missing between others."""
    parts = []
    for number, path in enumerate(sorted(folder.glob("part-*.npz"))):
        try:
            if path != _path(folder, number):
                raise ValueError(f"{_path(folder, number).name} is missing")
            with np.load(path, allow_pickle=False) as arrays:
                parts.append(Lessons(*(arrays[field.name] for field in fields(Lessons))))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            expected, remedy = "the decisions that a planner wrote", f"rm -r {pasted(folder)}, and plan again"
            raise DataError(str(path), str(error), expected, remedy) from None
    return join(parts) if parts else None


def _path(folder: Path, number: int) -> Path:
    return folder / f"part-{number:05d}.npz"


def collect(
    game: Game,
    folder: Path,
    steps: int,
    config: SearchConfig,
    seed: int,
    *,
    act: Callable[[NDArray[np.uint8]], int] | None = None,
    follow: Callable[[Lessons], None] = lambda _: None,
) -> Lessons:
    """So many steps of a game with the planner's advice for each, in files of PART decisions under `folder`; those that
    lie there already are continued.

    The planner plays, or, where `act` says which action a pupil takes for an observation, the pupil (interleaved in
    Guo et al. 2014; DAgger in Ross et al. 2011), with the planner's advice for what it gets into. Everything depends
    on the seed, the numbers of episode and step, and `act`: an interrupted collection ends with the same bits. `follow`
    is told all that there is after each file. Raises DataError for damaged files.
    """
    known = read_lessons(folder)
    parts = [] if known is None else [known]
    while (done := sum(map(len, parts))) < steps:
        part = _play(game, parts, min(PART, steps - done), config, seed, act)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **{field.name: getattr(part, field.name) for field in fields(Lessons)})
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(_path(folder, len(list(folder.glob("part-*.npz")))), buffer.getvalue())
        parts.append(part)
        follow(join(parts))
    return join(parts)


def _play(
    game: Game,
    parts: list[Lessons],
    count: int,
    config: SearchConfig,
    seed: int,
    act: Callable[[NDArray[np.uint8]], int] | None,
) -> Lessons:
    """The next `count` decisions: the episode that was broken off is played again up to there."""
    ends = np.concatenate([part.ends for part in parts]) if parts else np.zeros(0, bool)
    episode, begun = int(ends.sum()), (int(np.flatnonzero(ends)[-1]) + 1 if ends.any() else 0)
    played = [int(action) for part in parts for action in part.actions][begun:]
    game.reset(_seed(seed, episode))
    for action in played:
        game.step(action)
    moment, rows = len(played), []
    for _ in range(count):
        observation = game.observe()
        plan = search(game, config, np.random.default_rng((seed, episode, moment)))
        action = plan.action if act is None else act(observation)
        reward, over = game.step(action)
        over = over or moment + 1 >= LONGEST
        rows.append((observation, plan.visits, plan.values, action, reward, over, plan.steps))
        moment += 1
        if over:
            episode, moment = episode + 1, 0
            game.reset(_seed(seed, episode))
    kinds = (np.uint8, np.int64, np.float32, np.int64, np.float32, np.bool_, np.int64)
    columns = zip(*rows, strict=True)
    return Lessons(*(np.array(column, kind) for column, kind in zip(columns, kinds, strict=True)))  # type: ignore[arg-type]


def _seed(seed: int, episode: int) -> int:
    return int(np.random.SeedSequence((seed, episode)).generate_state(1)[0])
