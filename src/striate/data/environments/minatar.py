"""MinAtar (Young and Tian 2019): five Atari games as planes of 10 × 10 cells, in plain Python."""

from __future__ import annotations

from typing import Any

import numpy as np

from striate.data.counter_random import hash_key
from striate.data.environments.environment import Environment, Game, Snapshot, Step, drawn_planes, plain_copy

GAMES = {
    "Asterix": "asterix",
    "Breakout": "breakout",
    "Freeway": "freeway",
    "Seaquest": "seaquest",
    "SpaceInvaders": "space_invaders",
}
LIMIT = 5000
STICKY = 0.1
_ACTIONS = {"n": "noop", "l": "left", "u": "up", "r": "right", "d": "down", "f": "fire"}
_FIXED = ("channels", "action_map", "random")


class MinAtar(Environment):
    """A game of MinAtar: `-v1` has the actions that have an effect, `-v0` all six.

    Channels are planes of objects. Sticky actions (0.1) and growing difficulty are MinAtar's own. Random numbers follow
    from the episode's seed, so that an episode is a function of seed and actions.
    """

    def __init__(self, name: str, version: str) -> None:
        from minatar import Environment as Original

        self.original: Any = Original(GAMES[name], sticky_action_prob=STICKY, difficulty_ramping=True)
        inner = self.original.env
        # A RandomState works with any bit generator; the state of this one is two numbers instead of 624.
        self.bits = np.random.PCG64(0)
        self.original.random = inner.random = np.random.RandomState(self.bits)
        self.numbers = inner.minimal_action_set() if version == "v1" else list(range(self.original.num_actions()))
        self.game = Game(
            f"gym:MinAtar/{name}-{version}",
            tuple(inner.state_shape()),
            tuple(_ACTIONS[inner.action_map[number]] for number in self.numbers),
            stack=1,
            limit=LIMIT,
            notes=(f"MinAtar: sticky actions {STICKY}, difficulty grows, at most {LIMIT} steps per episode.",),
        )

    def reset(self, seed: int) -> np.ndarray:
        self.reseed(seed)
        self.original.last_action = 0
        self.original.reset()
        return self._frame()

    def step(self, action: int) -> Step:
        reward, over = self.original.act(self.numbers[action])
        return Step(self._frame(), float(reward), bool(over), False)

    def snapshot(self) -> Snapshot:
        game = {key: plain_copy(value) for key, value in vars(self.original.env).items() if key not in _FIXED}
        return {"game": game, "last_action": int(self.original.last_action), "random": self.bits.state}

    def restore(self, snapshot: Snapshot) -> None:
        for key, value in snapshot["game"].items():
            setattr(self.original.env, key, plain_copy(value))
        self.original.last_action = snapshot["last_action"]
        self.bits.state = snapshot["random"]

    def reseed(self, seed: int) -> None:
        state: Any = {"state": hash_key(seed) << 63 | hash_key(seed, 1), "inc": 1}
        self.bits.state = {"bit_generator": "PCG64", "state": state, "has_uint32": 0, "uinteger": 0}

    def picture(self) -> np.ndarray:
        return drawn_planes(self._frame())

    def _frame(self) -> np.ndarray:
        frame: np.ndarray = self.original.state().view(np.uint8)
        frame *= 255
        return frame
