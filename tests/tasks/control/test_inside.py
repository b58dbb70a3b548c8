"""Looking inside a network that plays: its states, and why it takes an action."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import striate
from striate.cli.main import main
from striate.data.environments.catch import CATCH
from striate.errors import UsageError
from striate.tasks.control.config import ControlConfig
from striate.tasks.control.states import played_states, state_of_game

SOURCE = f"gym:{CATCH}"
CONFIG = ControlConfig(stack=2, limit=10)


def _network() -> torch.nn.Module:
    torch.manual_seed(0)
    return striate.build("fc(8) relu fc(3)", (4, 10, 5))


def test_states_are_those_that_the_network_plays_through() -> None:
    module = _network()
    states = played_states(module, SOURCE, CONFIG, 60, seed=1)
    assert (states.stacks.shape, states.pictures.shape) == ((60, 10, 5, 4), (60, 10, 5, 3))
    x = torch.from_numpy(states.stacks.transpose(0, 3, 1, 2)).float() / 255
    assert np.allclose(states.values, module(x).detach().numpy(), atol=1e-5)
    assert set(states.steps.tolist()) <= set(range(9))
    late, reached = state_of_game(module, SOURCE, CONFIG, 5, seed=1)
    assert reached == 5
    assert late.stacks[0, 5, :, 3].any()  # the ball has fallen five rows
    assert late.stacks[0, 4, :, 1].any()  # and was a row higher a frame before
    assert state_of_game(module, SOURCE, CONFIG, 50, seed=1)[1] == 8  # the game was over


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, drawn: Any) -> Path:
    folder: Path = tmp_path_factory.mktemp("played") / "run"
    fields = {"task.control.steps": 192, "task.control.epoch_steps": 96, "task.control.trajectories": 20}
    fields |= {"task.control.val_episodes": 2, "task.control.test_episodes": 4}
    with drawn():
        return striate.train(SOURCE, recipe="planner", out=folder, set=fields).path


@pytest.mark.slow
def test_a_run_is_explained_shown_and_diagnosed(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    explained = striate.explain(run, "4")
    assert explained.fields["action"] in ("left", "stay", "right")
    assert explained.fields["value"] == max(explained.fields["values"].values())
    assert explained.maps.chosen.values.shape == (10, 5)
    with pytest.raises(UsageError, match="a step of a game"):
        striate.explain(run, "dog.png")
    with pytest.raises(UsageError, match="a network that plays"):
        striate.explain(run, "4", cost={"left": 2.0})
    shown = striate.show(run, "embedding")
    assert shown.record.embedding.points.shape == (1000, 2)
    assert 1 / 3 <= shown.record.value.min() <= shown.record.value.max() <= 1  # probabilities of three actions
    assert striate.show(run, "filters").record.layer == "conv1"
    for what in ("landscape", "statistics"):
        with pytest.raises(UsageError, match="learned from rewards"):
            striate.show(run, what)
    assert (run / "plots" / "states.png").is_file()
    assert "Inside the network" in (run / "report.html").read_text(encoding="utf-8")
    page = tmp_path / "why.html"
    assert main(["explain", str(run), "4", "--out", str(page)]) in (0, 1)
    assert page.is_file()
    assert main(["doctor", str(run)]) == 0
    assert "9 checks" in capsys.readouterr().out


@pytest.mark.slow
def test_lessons_of_a_run_are_a_data_set(run: Path, tmp_path: Path) -> None:
    trained = striate.train(run / "lessons.npz", epochs=1, out=tmp_path / "pupil", set={"execution.plan": "plain"})
    assert trained.metrics["task"] == "classify"
