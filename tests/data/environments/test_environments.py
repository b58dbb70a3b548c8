"""Environments go on from a snapshot as if they had never stopped, and what is no environment is refused."""

from __future__ import annotations

import io
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from striate.data.config import DataConfig
from striate.data.environments import open_environment as opening
from striate.data.environments.open_environment import is_environment, open_environment
from striate.data.environments.vectorized import Environments
from striate.data.sources.list_source import list_source
from striate.errors import DataError

CATCH = "gym:striate/Catch-v0"
needs_games = pytest.mark.skipif(
    find_spec("minatar") is None or find_spec("ale_py") is None, reason="the extra `control` is not installed"
)
GAMES = [f"gym:MinAtar/{name}-v1" for name in ("Breakout", "SpaceInvaders", "Asterix", "Seaquest", "Freeway")]


def actions_for(played: Environments, count: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, len(played.game.actions), len(played)) for _ in range(count)]


def assert_goes_on(source: str, before: int, after: int, stack: int | None = None) -> None:
    """From the state that a file held, other environments give the same frames, rewards and episodes."""
    played = Environments(source, 3, seed=5, stack=stack)
    played.reset()
    for actions in actions_for(played, before, 0):
        played.step(actions)
    file = io.BytesIO()
    torch.save(played.state_dict(), file)
    file.seek(0)
    again = Environments(source, 3, seed=5, stack=stack)
    again.load_state_dict(torch.load(file, weights_only=True))
    for actions in actions_for(played, after, 1):
        one, two = played.step(actions), again.step(actions)
        assert np.array_equal(one.ends, two.ends)
        assert np.array_equal(one.rewards, two.rewards)
        assert one.episodes == two.episodes
    assert np.array_equal(played.stacked, again.stacked)


def test_catch_is_played_as_it_says() -> None:
    game = open_environment(CATCH)
    for seed in range(20):
        frame = game.reset(seed)
        column = int(frame[0, :, 1].argmax())
        rewards = []
        for _ in range(9):
            paddle = int(frame[9, :, 0].argmax())
            frame, reward, over, cut = game.step(1 + np.sign(column - paddle))
            rewards.append((reward, over, cut))
        assert rewards == [(0.0, False, False)] * 8 + [(1.0, True, False)]
    assert frame.dtype == np.uint8
    assert frame.shape == game.game.shape


def test_it_goes_on_from_a_snapshot() -> None:
    assert_goes_on(CATCH, 13, 20, stack=3)


@needs_games
@pytest.mark.each_nth(3)
@pytest.mark.parametrize("source", GAMES)
def test_minatar_goes_on_from_a_snapshot(source: str) -> None:
    assert_goes_on(source, 40, 60)


@needs_games
@pytest.mark.slow
def test_atari_goes_on_from_a_snapshot() -> None:
    assert_goes_on("gym:ALE/Pong-v5", 30, 30)
    assert_goes_on("gym:ALE/Breakout-v5", 20, 20)


@pytest.mark.skipif(find_spec("gymnasium") is None, reason="gymnasium is not installed")
def test_a_registered_environment_is_played_again_from_its_seed() -> None:
    import gymnasium

    class Dots(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(0, 255, (6, 7, 3), np.uint8)
        action_space = gymnasium.spaces.Discrete(2)

        def reset(self, *, seed=None, **_):
            super().reset(seed=seed)
            self.steps = 0
            return self.seen(), {}

        def step(self, action):
            self.steps += 1
            return self.seen(), float(action), self.steps == 5, False, {}

        def seen(self):
            return self.np_random.integers(0, 256, (6, 7, 3)).astype(np.uint8)

    gymnasium.register("striate-tests/Dots-v0", entry_point=Dots)
    try:
        assert_goes_on("gym:striate-tests/Dots-v0", 7, 12)
    finally:
        del gymnasium.registry["striate-tests/Dots-v0"]


@needs_games
def test_a_planner_may_look_ahead_without_foreseeing_chance() -> None:
    game = open_environment("gym:MinAtar/Asterix-v1")
    game.reset(3)
    here = game.snapshot()

    def ahead() -> list[bytes]:
        return [game.step(k % 5).frame.tobytes() for k in range(40)]

    first = ahead()
    game.restore(here)
    assert ahead() == first
    game.restore(here)
    game.reseed(99)
    assert ahead() != first


def test_a_stack_has_zeros_before_its_episode() -> None:
    played = Environments(CATCH, 2, seed=0, stack=4)
    played.reset()
    assert not played.stacked[..., :6].any()
    for _ in range(9):
        steps = played.step(np.array([1, 1]))
    assert steps.over.all()
    assert not played.stacked[..., :6].any()
    assert steps.ends[:, 8:].any()


def test_a_limit_truncates_and_does_not_terminate() -> None:
    played = Environments(CATCH, 2, seed=0, limit=4)
    played.reset()
    steps = [played.step(np.array([0, 2])) for _ in range(4)]
    assert [step.truncated.all() for step in steps] == [False, False, False, True]
    assert not any(step.terminated.any() for step in steps)


@pytest.mark.parametrize(
    ("source", "got"),
    [
        ("gym:striate/Nothing-v0", "striate/Nothing-v0"),
        ("gym:", "no name"),
        pytest.param("gym:MinAtar/Brakout-v1", "the game Brakout", marks=needs_games),
        pytest.param("gym:ALE/Pang-v5", "the game Pang", marks=needs_games),
        pytest.param("gym:CartPole-v1", "observations Box", marks=needs_games),
    ],
)
def test_what_is_no_environment_is_refused_with_a_remedy(source: str, got: str) -> None:
    with pytest.raises(DataError) as refused:
        open_environment(source)
    assert got in refused.value.got
    assert "striate train gym:" in refused.value.remedy


@pytest.mark.skipif(find_spec("gymnasium") is None, reason="gymnasium is not installed")
def test_a_module_of_the_current_folder_is_named_with_how_it_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = "gym:striate_tests_none:Dot-v0"
    with pytest.raises(DataError) as refused:
        open_environment(source)
    assert refused.value.remedy.startswith("striate train gym:striate/Catch-v0")
    (tmp_path / "striate_tests_none.py").write_text("import striate_tests_missing")
    with pytest.raises(DataError) as refused:
        open_environment(source)
    assert refused.value.remedy.startswith(f"PYTHONPATH=. striate train {source}; ")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DataError, match="striate_tests_missing") as refused:
        open_environment(source)
    assert "PYTHONPATH" not in refused.value.remedy


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "find_spec", lambda _: None)
    with pytest.raises(DataError, match=r"pip install 'striate\[control\]'"):
        open_environment("gym:MinAtar/Breakout-v1")
    assert open_environment(CATCH).game.actions == ("left", "stay", "right")


def test_environments_have_no_samples() -> None:
    assert is_environment(CATCH)
    assert not is_environment("mnist5k")
    with pytest.raises(DataError, match="no samples before it is played"):
        list_source(DataConfig(source=CATCH))
