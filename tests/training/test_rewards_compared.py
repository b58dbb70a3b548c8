"""Networks that play beside random actions, and beside each other, in the same episodes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

import striate
from striate.api import baselines, train_config
from striate.cli.main import main
from striate.data.environments.open_environment import open_environment
from striate.errors import DataError, RunError
from striate.tasks.control.baseline import RandomActions, compare_with_random, random_actions
from striate.tasks.control.config import ControlConfig
from striate.tasks.control.play import split_seed
from striate.training.request import merge_request, read_config

CATCH = "gym:striate/Catch-v0"
FEW = {"task.control.val_episodes": 4, "task.control.test_episodes": 30, "task.control.environments": 16}


def trained(out: Path, steps: int, **fields: object) -> Path:
    chosen = {"model.name": "fc(32) relu fc(3)", "task.control.steps": steps, **FEW, **fields}
    config = merge_request(read_config(None), data=CATCH, fields=chosen)
    return train_config(config, out=out, console=Console(stderr=True), quiet=True).path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compared with random actions as it ended: to be read only."""
    with torch.random.fork_rng():
        return trained(tmp_path_factory.mktemp("trained") / "run", 160, baseline=True)


def test_each_action_is_played_equally_often() -> None:
    values = RandomActions(4, seed=0)(torch.zeros(4000, 1, 2, 2))
    counts = np.bincount(values.argmax(1).numpy(), minlength=4)
    assert (abs(counts - 1000) < 120).all()


def test_random_actions_catch_as_often_as_their_walk_ends_below_the_ball() -> None:
    """Catch is won with 1 and lost with −1; the same seed plays the same."""
    found = random_actions(CATCH, ControlConfig(test_episodes=400), seed=3)
    assert (
        found.metrics["return"]
        == found.decoded.mean()
        == random_actions(CATCH, ControlConfig(test_episodes=400), 3).decoded.mean()
    )
    assert set(found.decoded) == {1.0, -1.0}
    won, game = 0, open_environment(CATCH)
    rng = np.random.default_rng(0)
    for seed in range(1000):
        game.reset(seed)
        step = None
        while step is None or not step.terminated:
            step = game.step(int(rng.integers(3)))
        won += step.reward > 0
    assert (found.decoded > 0).mean() == pytest.approx(won / 1000, abs=0.08)


def test_a_network_is_compared_with_them_in_the_same_episodes(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (entry,) = json.loads((run / "metrics.json").read_text())["baselines"]
    alone = random_actions(CATCH, ControlConfig(test_episodes=30), split_seed(0, "test"))
    assert (entry["name"], entry["return"], entry["episodes"]) == ("random actions", alone.metrics["return"], 30)
    assert entry["comparison"]["sentence"] in (run / "report.html").read_text()
    assert "random actions" in (run / "report.html").read_text()
    assert main(["baseline", CATCH, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [found["name"] for found in document["baselines"]] == ["random actions"]
    assert baselines(CATCH)[0].metrics["return"] == document["baselines"][0]["return"]


def test_what_always_wins_beats_them_and_what_plays_at_random_does_not() -> None:
    alone = random_actions(CATCH, ControlConfig(test_episodes=100), seed=0)
    best = compare_with_random(alone, np.ones(100), seed=0)
    assert best.beats
    assert "return is" in best.sentence
    assert "over 100 test episodes" in best.sentence
    other = random_actions(CATCH, ControlConfig(test_episodes=100), seed=1)
    assert not compare_with_random(alone, other.decoded, seed=0).beats


def test_two_runs_play_the_same_episodes(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = run, trained(tmp_path / "b", 64, seed=1)
    found = striate.compare([first, second])
    assert (found.task, found.metric, found.n, found.things) == ("control", "return", 30, "episodes")
    assert found.runs[0].value == json.loads((first / "metrics.json").read_text())["test"]["return"]
    assert found.pairs[0].difference.test == "paired permutation"
    assert striate.compare([first, second]).to_json() == found.to_json()
    assert main(["compare", str(first), str(second), "--split", "val"]) == 0
    assert "4 episodes, the same for all" in capsys.readouterr().out


def test_runs_of_other_environments_or_of_samples_are_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = striate.train("digits", "fc(10)", epochs=1, out=tmp_path / "b").path
    for pair in ([run, samples], [samples, run]):
        with pytest.raises(RunError, match="learned from samples"):
            striate.compare(pair)
    other = trained(tmp_path / "c", 64)
    from striate.api import comparing

    load = comparing.load_player
    monkeypatch.setattr(
        comparing,
        "load_player",
        lambda path: load(path) if path == run else load(path).__class__(**{**vars(load(path)), "source": "gym:x"}),
    )
    with pytest.raises(DataError, match="runs on the same environment"):
        striate.compare([run, other])
