"""A network that plays, as a file: the values and actions of the run, for states of its game."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import striate
from quick import few_quick
from striate.cli.main import main
from striate.errors import ModelError, RunError, UsageError
from striate.exporting import exported_player
from striate.exporting.exported_player import player_parity
from striate.tasks.control.network import action_values
from striate.tasks.control.play import split_seed
from striate.tasks.control.states import played_states
from striate.training.rewards.player import load_player

FIELDS = {
    "task.control.environments": 4,
    "task.control.rollout": 8,
    "task.control.steps": 64,
    "task.control.epoch_steps": 64,
    "task.control.val_episodes": 2,
    "task.control.test_episodes": 2,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("played") / "run"
    striate.train("gym:striate/Catch-v0", "conv(4,3) ln relu fc(3)", out=run, set=FIELDS)
    return run


@pytest.fixture
def run(trained: Path) -> Path:
    return Path(shutil.copytree(trained, "run"))


@pytest.mark.slow
@pytest.mark.parametrize("format", few_quick(["torch", "onnx", "openvino"], ["torch"]))
def test_a_file_gives_the_values_and_actions_of_the_run(
    run: Path, format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip({"torch": "torch", "onnx": "onnxruntime", "openvino": "openvino"}[format])
    assert main(["export", str(run), "--format", format, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["parity"]["same_answers"]
    assert document["parity"]["n"] == len(document["parity"]["runtimes"]) * 3 * 64
    assert document["parity"]["max_difference"] < 1e-5
    with pytest.raises(RunError, match="plays gym:striate/Catch-v0"):
        striate.load(document["path"])
    if format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(document["path"])
        facts = json.loads(session.get_modelmeta().custom_metadata_map["facts"])
        player = load_player(run)
        control = player.config.task.control
        assert (facts["actions"], facts["stack"]) == (list(player.actions), control.stack)
        frames = played_states(player.module, player.source, control, 5, split_seed(7, "play")).stacks
        values, action = session.run(None, {"frames": frames})
        right = action_values(player.module, frames)
        np.testing.assert_allclose(values, right, atol=1e-5)
        assert (action == right.argmax(1)).all()


@pytest.mark.slow
def test_a_file_with_other_values_or_actions_is_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values, frames = np.eye(3, dtype=np.float32), np.zeros((3, 2, 2, 1), np.uint8)
    of_rows = iter(range(1000))

    def other(batch: np.ndarray) -> list[np.ndarray]:
        rows = [next(of_rows) % 3 for _ in batch]
        return [values[rows], (np.array(rows) + 1) % 3]

    parity = player_parity(values, frames, {"it": other})
    assert (parity.n, parity.same, parity.holds, parity.max_difference) == (9, 0, False, 0.0)

    real = exported_player.ExportedPlayer.forward

    def wrong(self: exported_player.ExportedPlayer, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found, action = real(self, frames)
        return found + 0.01, action

    monkeypatch.setattr(exported_player.ExportedPlayer, "forward", wrong)
    with pytest.raises(ModelError, match="differ from those of the run"):
        striate.export(run, "torch")
    assert not list((run / "exports").iterdir())


@pytest.mark.slow
def test_what_a_player_cannot_be_exported_as_is_refused(run: Path) -> None:
    with pytest.raises(UsageError, match="learned from rewards"):
        striate.export(run, "hub")
    with pytest.raises(UsageError, match="int8=True"):
        striate.export(run, "torch", int8=True)
    assert not (run / "exports").exists()
