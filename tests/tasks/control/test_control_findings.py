"""Mistakes in learning from rewards, planted one by one, beside the healthy twin of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import striate
from quick import few_quick
from striate.data.environments.catch import CATCH
from striate.data.environments.experience import Experience
from striate.data.environments.open_environment import open_environment
from striate.data.environments.vectorized import Environments, Steps
from striate.tasks.control.config import ControlConfig
from striate.tasks.control.doctor import (
    Recorded,
    endless_findings,
    experience_findings,
    replayed_findings,
    setting_findings,
    value_findings,
)
from striate.tasks.control.dqn import Dqn
from striate.tasks.control.replay import Replay

SOURCE = f"gym:{CATCH}"
CONFIG = ControlConfig(
    algorithm="dqn", stack=1, limit=10, clip_rewards=False, learn_after=10**6, replay_mb=1.0, explore_until=1.0
)


def _games(source: str, steps: int) -> Experience:
    """Random play, one environment."""
    environment, rng, rows = open_environment(source), np.random.default_rng(0), list[Any]()
    frame = environment.reset(0)
    while len(rows) < steps:
        step = environment.step(int(rng.integers(len(environment.game.actions))))
        rows.append((frame.copy(), step.frame.copy(), step.reward, step.terminated))
        frame = environment.reset(len(rows)) if step.over else step.frame
    seen, after, rewards, ends = (np.array(column) for column in zip(*rows, strict=True))
    return Experience(seen, after, rewards.astype(np.float64), ends)


CATCHES = _games(SOURCE, 1200)
NOTHING = np.zeros_like(CATCHES.ends)
PLANTED: dict[str, Experience] = {
    "reward.never-seen": replace(CATCHES, rewards=CATCHES.rewards * 0),
    "reward.scale, huge": replace(CATCHES, rewards=CATCHES.rewards * 1000),
    "reward.scale, tiny": replace(CATCHES, rewards=CATCHES.rewards / 1000),
    "reward.terminal-lost": replace(CATCHES, terminated=NOTHING),
    "reward.off-by-one, the same": replace(CATCHES, observations=CATCHES.following),
    "reward.off-by-one, later": replace(CATCHES, following=np.roll(CATCHES.following, -1, axis=0)),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_mistake_in_transitions_is_named(name: str) -> None:
    assert [finding.code for finding in experience_findings(PLANTED[name])] == [name.partition(",")[0]]


def test_healthy_transitions_have_no_finding() -> None:
    assert list(experience_findings(CATCHES)) == []


GAMES = [("Breakout", 1500), ("Asterix", 6000), ("SpaceInvaders", 1500)]


@pytest.mark.parametrize(("game", "steps"), few_quick(GAMES, GAMES[:1], unpack=True))
@pytest.mark.parametrize("flat", [False, True])
def test_rewards_that_are_a_step_late_or_early_are_named(game: str, steps: int, flat: bool) -> None:
    pytest.importorskip("minatar")
    games = _games(f"gym:MinAtar/{game}-v1", steps)
    if flat:  # as a script's buffer is read
        seen, after = (part.reshape(steps, -1) for part in (games.observations, games.following))
        games = replace(games, observations=seen, following=after)
    assert list(experience_findings(games)) == []
    for shift in (1, -1):
        found = list(experience_findings(replace(games, rewards=np.roll(games.rewards, shift))))
        assert [finding.code for finding in found] == ["reward.off-by-one"]
        assert f"one step {'later' if shift > 0 else 'earlier'}" in found[0].measured


def test_what_a_reset_shows_is_no_event() -> None:
    """A reward at the end of each episode, and a lamp that goes out at its first step."""
    step = np.arange(2000) % 5
    seen = np.stack([step == 0, np.random.default_rng(0).random(2000) < 0.5], axis=1).astype(np.uint8)
    after = np.roll(seen, -1, axis=0)
    after[step == 4] = 0
    games = Experience(seen, after, (step == 4) * 1.0, step == 4)
    assert list(experience_findings(games)) == []


def _run(config: ControlConfig = CONFIG, advances: int = 2) -> Dqn:
    torch.manual_seed(0)
    module = striate.build("fc(8) relu fc(3)", (2, 10, 5))
    learner = Dqn(module, Environments(SOURCE, 8, 5, 1, config.limit), config, 1e-3, 16, 0, 600)
    for _ in range(advances):
        learner.advance()
    return learner


def _codes(learner: Dqn) -> list[str]:
    played = learner.environments
    recorded = Recorded(SOURCE, learner.replay, played.begun, played.seed, learner.config)
    return [finding.code for finding in replayed_findings(recorded)]


def test_a_healthy_replay_buffer_is_what_its_actions_lead_to() -> None:
    assert _codes(_run()) == []
    assert _codes(_run(replace(CONFIG, limit=6))) == []


def _late(steps: Steps, before: list[Any]) -> Steps:
    before.append(steps.rewards)
    return replace(steps, rewards=before[-2] if len(before) > 1 else steps.rewards * 0)


FAULTS: dict[str, tuple[int, Callable[[Steps, list[Any]], Steps]]] = {
    "reward.off-by-one": (10, _late),
    "reward.terminal-lost": (10, lambda steps, _: replace(steps, terminated=steps.terminated & False)),
    "reward.truncated-terminal": (6, lambda steps, _: replace(steps, terminated=steps.over)),
}


@pytest.mark.parametrize("code", FAULTS)
def test_a_mistake_in_the_replay_buffer_is_named(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    limit, change = FAULTS[code]
    before: list[Any] = []
    add, begins = Replay.add, "_begins"

    def wrong(self: Replay, frames: Any, actions: Any, steps: Steps) -> None:
        add(self, frames, actions, change(steps, before))
        setattr(self, begins, steps.over)

    monkeypatch.setattr(Replay, "add", wrong)
    assert _codes(_run(replace(CONFIG, limit=limit))) == [code]


SETTINGS: dict[str, tuple[dict[str, Any], int]] = {
    "reward.target-stale": ({"target_every": 10**6}, 4000),
    "reward.no-exploration, never": ({"explore_start": 0.0, "explore_end": 0.0}, 4000),
    "reward.no-exploration, always": ({"explore_end": 0.9}, 4000),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_that_cannot_learn_are_named_and_the_remedy_heals(name: str) -> None:
    fields, updates = SETTINGS[name]
    (found,) = setting_findings(replace(CONFIG, **fields), updates)
    assert found.code == name.partition(",")[0]
    healed = {key.rpartition(".")[2]: value for key, value in found.remedy.settings.items()}  # type: ignore[attr-defined]
    assert list(setting_findings(replace(CONFIG, **(fields | healed)), updates)) == []


def test_usual_settings_have_no_finding() -> None:
    assert list(setting_findings(CONFIG, 4000)) == []


def test_values_that_diverge_are_named() -> None:
    learner = _run()
    assert list(value_findings(learner.module, learner.replay, CONFIG)) == []
    with torch.no_grad():
        for times, severity in ((300.0, "error"), (float("nan"), "error")):
            last = list(learner.module.parameters())[-1]
            last.fill_(times)
            (found,) = value_findings(learner.module, learner.replay, CONFIG)
            assert (found.code, found.severity) == ("reward.diverges", severity)
        last.fill_(20.0)
        (found,) = value_findings(learner.module, learner.replay, CONFIG)
    assert (found.code, found.severity) == ("reward.diverges", "warning")


def test_endless_episodes_without_discount_are_named() -> None:
    long = replace(CONFIG, discount=0.99999, limit=1000)
    (found,) = endless_findings(long, 0.9)
    assert found.code == "reward.endless"
    assert list(endless_findings(long, 0.2)) == []
    assert list(endless_findings(replace(long, discount=0.99), 0.9)) == []
