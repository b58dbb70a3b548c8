"""Any environment that is registered with gymnasium, with discrete actions and pixels as observations."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from striate.data.environments.environment import Environment, Game, Snapshot, Step, drawn_planes
from striate.errors import DataError, pasted

LIMIT = 27_000


class Registered(Environment):
    """An environment as it is registered with gymnasium, including its limit of steps.

    Its state is unknown, so a snapshot is the episode's seed and its actions, which are played again. Raises DataError
    for actions that are not discrete, or observations that are not pixels.
    """

    copies = False

    def __init__(self, name: str) -> None:
        import gymnasium

        try:
            made = gymnasium.make(name, disable_env_checker=True)
            self.draws = "rgb_array" in made.metadata.get("render_modes", ())
            if self.draws:
                made.close()
                made = gymnasium.make(name, disable_env_checker=True, render_mode="rgb_array")
        except (gymnasium.error.Error, ImportError, AttributeError, TypeError) as error:
            reason = " ".join(str(error).split())[:200]
            games = "striate train gym:striate/Catch-v0, gym:MinAtar/Breakout-v1 or gym:ALE/Pong-v5"
            remedy = _importable(name, games) if isinstance(error, ImportError) else games
            raise DataError(f"data gym:{name}", reason, "an environment that gymnasium can make", remedy) from None
        self.made: Any = made
        self.shape, self.scale = _pixels(name, made)
        limit = made.spec.max_episode_steps if made.spec is not None else None
        choice: Any = made.action_space
        actions = tuple(str(number) for number in range(int(choice.n)))
        self.game = Game(f"gym:{name}", self.shape, actions, stack=4, limit=limit or LIMIT)
        self.seed, self.actions, self.frame = 0, list[int](), np.zeros(self.shape, np.uint8)

    def reset(self, seed: int) -> np.ndarray:
        self.seed, self.actions = seed, []
        observation, _ = self.made.reset(seed=seed % 2**32)
        return self._keep(observation)

    def step(self, action: int) -> Step:
        self.actions.append(int(action))
        observation, reward, terminated, truncated, _ = self.made.step(int(action))
        return Step(self._keep(observation), float(reward), bool(terminated), bool(truncated))

    def snapshot(self) -> Snapshot:
        return {"seed": self.seed, "actions": np.array(self.actions, np.int32)}

    def restore(self, snapshot: Snapshot) -> None:
        self.reset(snapshot["seed"])
        for action in snapshot["actions"].tolist():
            self.step(action)

    def reseed(self, seed: int) -> None:
        del seed  # gymnasium seeds whole episodes

    def picture(self) -> np.ndarray:
        rendered = self.made.render() if self.draws else None
        return drawn_planes(self.frame) if rendered is None else np.asarray(rendered, np.uint8)

    def _keep(self, observation: np.ndarray) -> np.ndarray:
        self.frame = (np.asarray(observation).reshape(self.shape) * self.scale).astype(np.uint8)
        return self.frame


def _importable(name: str, otherwise: str) -> str:
    """The remedy for `module:ID` whose module is in the current folder, which Python does not search; else
    `otherwise`."""
    module = name.partition(":")[0].partition(".")[0]
    if not (Path(f"{module}.py").is_file() or Path(module).is_dir()) or "." in sys.path or str(Path.cwd()) in sys.path:
        return otherwise
    return f"PYTHONPATH=. striate train {pasted(f'gym:{name}')}; the same before any command with this environment"


def _pixels(name: str, made: Any) -> tuple[tuple[int, int, int], int]:
    """The shape (H, W, C) of observations, and the factor that makes them bytes."""
    from gymnasium.spaces import Box, Discrete

    where, instead = f"data gym:{name}", "an environment of pixels: striate train gym:MinAtar/Breakout-v1"
    if not isinstance(made.action_space, Discrete) or made.action_space.start != 0:
        raise DataError(
            where, f"actions {made.action_space}", "Discrete actions from 0: one of a few in each step", instead
        )
    space = made.observation_space
    if not isinstance(space, Box) or len(space.shape) not in (2, 3) or space.dtype not in (np.uint8, np.bool_):
        raise DataError(
            where,
            f"observations {space}",
            "a Box of uint8 or bool, (H, W) or (H, W, C): pixels, which a convolution can see",
            instead,
        )
    height, width, *channels = space.shape
    return (height, width, channels[0] if channels else 1), 255 if space.dtype == np.bool_ else 1
