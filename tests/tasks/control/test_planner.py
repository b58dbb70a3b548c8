"""A planner's games teach a network; a training that goes on has the same bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import striate
from striate.data.environments.catch import CATCH
from striate.data.environments.vectorized import Environments
from striate.errors import ConfigError
from striate.tasks.control.config import ControlConfig
from striate.tasks.control.planner import NAME, Planner
from striate.tasks.control.play import play_episodes

SOURCE = f"gym:{CATCH}"
CONFIG = ControlConfig(algorithm="planner", stack=1, limit=10, clip_rewards=False, trajectories=30, depth=10)


def _planner(config: ControlConfig = CONFIG, total: int = 128) -> Planner:
    torch.manual_seed(0)
    environments = Environments(SOURCE, 8, 3, 1, 10)
    module = striate.build("fc(32) relu fc(3)", (2, 10, 5))
    return Planner(module, environments, config, 3e-3, 32, 0, total)


def _same(one: Planner, other: Planner) -> bool:
    weights = zip(one.module.state_dict().values(), other.module.state_dict().values(), strict=True)
    lessons = ((one.seen, other.seen), (one.visits, other.visits), (one.values, other.values))
    return all(torch.equal(a, b) for a, b in weights) and all(np.array_equal(a, b) for a, b in lessons)


def test_a_pupil_learns_what_the_planner_advises(tmp_path: Path) -> None:
    planner = _planner(replace(CONFIG, pupil_updates=6))
    played = [episode for _ in range(2) for episode in planner.advance().episodes]
    assert planner.step == 128
    assert len(played) == 8 * (16 // 9)
    assert all(episode.rewards == 1 for episode in played)  # the planner catches every ball
    assert planner.simulated > 128 * 30
    assert play_episodes(planner.module, SOURCE, CONFIG, 20, seed=7).returns.mean() > 0.2  # chance: -0.6
    planner.write_data(tmp_path)
    with np.load(tmp_path / NAME) as lessons:
        assert lessons["x_train"].shape == (128, 10, 5, 2)
        assert np.array_equal(lessons["y_train"], lessons["visits"].argmax(1))


@pytest.mark.parametrize("change", [{"lesson": "values", "pupil_plays": 0.5}])
def test_a_training_that_goes_on_has_the_same_bits(change: dict[str, object]) -> None:
    config = replace(CONFIG, trajectories=6, **change)  # type: ignore[arg-type]
    whole, begun = _planner(config), _planner(config)
    for learner in (whole, begun):
        learner.advance()
    whole.advance()
    resumed = _planner(config)
    resumed.module.load_state_dict(begun.module.state_dict())
    resumed.load_state_dict(begun.state_dict())
    resumed.advance()
    assert _same(whole, resumed)
    assert whole.simulated == resumed.simulated


def test_an_environment_without_copies_is_refused() -> None:
    planner = _planner()
    environments = Environments(SOURCE, 1, 0, 1, 10)
    environments.each[0].copies = False
    with pytest.raises(ConfigError, match="can be copied"):
        Planner(planner.module, environments, CONFIG, 1e-3, 8, 0, 64)
