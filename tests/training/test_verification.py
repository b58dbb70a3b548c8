"""`striate verify`: a whole run agrees with itself, and what was planted in it is found where it was planted."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from saved_runs import at_step, config_for, save_always, train_quietly
from torch import nn

from striate.api import verify
from striate.api.verifying import Verification
from striate.cli import main
from striate.cli.verify import _print
from striate.errors import RunError
from striate.runs.checkpoint import load_checkpoint, save_checkpoint
from striate.training import objective
from striate.training.config import Config
from striate.training.config_file import with_fields
from striate.training.saving import Trace, bits, trace_from_dict, weight_sums
from striate.training.verification.replay import RunReplay, layers_of, state_differences


@pytest.fixture(scope="module")
def finished(same_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose last two checkpoints are two epochs apart."""
    run = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        from striate.training.saving import Saver

        due = iter([False] * 9 + [True])  # at the end of the second epoch of four steps
        patch.setattr(Saver, "due", lambda *_, **__: next(due, False))
        train_quietly(config_for(same_photos), run)
    assert load_checkpoint(run / "checkpoints/previous.pt")["step"] == 8
    return run


@pytest.fixture
def run(finished: Path) -> Path:
    """A copy of it, to be damaged."""
    shutil.copytree(finished, "run")
    return Path("run")


def test_a_finished_run_agrees(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert main(["verify", "run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["verdict"] == "agree"
    assert told["replay"] == {
        **{"from": "checkpoints/previous.pt", "begin": 8, "end": 16, "complete": True, "first_difference": None},
    }
    names = {check["name"] for check in told["files"]}
    assert names >= {"config.yaml", "metrics.csv", "metrics.json", "classes.txt", "split.csv", "report.html"}
    assert names >= {"env.json", "seen.txt", "events.jsonl", "checkpoints/last.pt", "checkpoints/best.pt"}
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert main(["verify", "run"]) == 0
    shown = capsys.readouterr().out
    assert "bit-identical" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_of_steps_of_several_processes_the_files_alone_are_verified(run: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(
        "striate.api.verifying.config_from_yaml", lambda _: with_fields(Config(), {"execution.processes": 2})
    )
    assert main(["verify", "run"]) == 0
    *_, files, replay = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"files: +(\d+) of \1 intact", files)
    assert "skipped: 2 processes computed the steps" in replay
    assert main(["verify", "run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "intact"


def test_a_run_with_one_checkpoint_is_replayed_from_its_beginning(same_photos: Path) -> None:
    train_quietly(config_for(same_photos, epochs=1), Path("short"))
    found = verify("short")
    assert (found.verdict, found.replayed_from) == ("agree", "the beginning")
    assert found.replay is not None
    assert (found.replay.begin, found.replay.end, found.replay.complete) == (0, 4, True)


def test_so_many_steps_at_most(run: Path) -> None:
    found = verify(run, steps=2)
    assert found.replay is not None
    assert (found.verdict, found.replay.end, found.replay.complete) == ("agree", 10, False)


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    "name",
    ["classes.txt", "split.csv", "seen.txt", "env.json", "config.yaml", "metrics.csv", "metrics.json", "report.html"],
)
def test_a_changed_file_is_named(run: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = run / name
    text = file.read_text()
    place = max(text.rfind("1"), text.rfind("blue"))
    file.write_text(f"{text[:place]}2{text[place + 1 :]}")
    assert main(["verify", "run"]) == 1
    assert f"DAMAGED {name}: " in capsys.readouterr().out


@pytest.mark.parametrize("name", ["last", "previous", "best"])
def test_a_damaged_checkpoint_is_named_and_not_replayed(run: Path, name: str) -> None:
    file = run / f"checkpoints/{name}.pt"
    file.write_bytes(file.read_bytes()[:-1000])
    found = verify(run)
    assert (found.verdict, found.replay) == ("damaged", None)
    assert {check.name for check in found.files if not check.intact} == {f"checkpoints/{name}.pt"}


def unnoted(run: Path) -> None:
    """Take out what was noted of files, so that only their meaning can tell."""
    lines = (run / "events.jsonl").read_text().splitlines(keepends=True)
    (run / "events.jsonl").write_text("".join(line for line in lines if '"event": "files"' not in line))


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("layer", ["conv1", "fc1"])
def test_a_changed_weight_is_found_in_its_layer(run: Path, layer: str) -> None:
    unnoted(run)
    saved = load_checkpoint(run / "checkpoints/last.pt")
    saved["model"][f"{layer}.weight"].view(-1)[3] += 1e-6
    save_checkpoint(run / "checkpoints/last.pt", saved)
    found = verify(run)
    assert found.replay is not None
    assert found.replay.first_difference is not None
    assert (found.verdict, found.replay.first_difference.layers, found.replay.first_difference.step) == (
        "differ",
        (layer,),
        16,
    )
    assert main(["verify", "run"]) == 1


def test_another_history_is_found(run: Path) -> None:
    unnoted(run)
    saved = load_checkpoint(run / "checkpoints/last.pt")
    saved["history"][3]["val"]["loss"] += 1e-6
    save_checkpoint(run / "checkpoints/last.pt", saved)
    bad = {check.name: check.message for check in verify(run).files if not check.intact}
    assert bad == {"metrics.csv": "line 5 differs from the checkpoint"}


def test_a_step_that_computes_otherwise_is_found_at_that_step(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = objective.Objective.training_loss

    def drifting(self, module: nn.Module, x: torch.Tensor, y: torch.Tensor, blend, part):
        loss, measured = original(self, module, x, y, blend, part)
        return (loss * (1 + 1e-5) if part.step == 9 else loss), measured  # counts from 0

    monkeypatch.setattr(objective.Objective, "training_loss", drifting)
    found = verify(run)
    assert found.replay is not None
    difference = found.replay.first_difference
    assert difference is not None
    assert (found.verdict, difference.step, difference.epoch) == ("differ", 10, 3)
    assert difference.recorded != difference.replayed
    assert difference.seen == 10  # the second step after the checkpoint, where sums of the weights were noted
    assert set(difference.layers) == {"conv1", "bn1", "fc1"}
    assert "differs from the run at step 10 in epoch 3: the loss was" in str(difference)


def test_a_gradient_that_differs_in_one_layer_is_told_as_that_layer(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = nn.Linear.forward

    def noisy(self: nn.Linear, x: torch.Tensor) -> torch.Tensor:
        if self.training and self.weight.grad_fn is None and self.weight.requires_grad:
            bias = self.bias * (1 + 0.01) - self.bias.detach() * 0.01  # the same value, another gradient
            return nn.functional.linear(x, self.weight, bias)
        return original(self, x)

    monkeypatch.setattr(nn.Linear, "forward", noisy)
    found = verify(run)
    assert found.replay is not None
    difference = found.replay.first_difference
    assert difference is not None
    assert difference.layers == ("fc1",)
    assert difference.seen == 9  # the first step


def test_an_interrupted_run_agrees_too(same_photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(Exception):
        pass

    def kill() -> None:
        raise Killed

    with monkeypatch.context() as patch:
        save_always(patch)
        at_step(patch, 8, kill)
        with pytest.raises(Killed):
            train_quietly(config_for(same_photos), Path("cut"))
    with Path("cut/events.jsonl").open("a") as file:
        file.write('{"event": "ep')  # torn by the crash
    found = verify("cut")
    assert found.verdict == "agree"
    told = {check.name: check.message for check in found.files}
    assert "incomplete" in told["events.jsonl"]
    assert told["metrics.json"] == "missing: the run is not finished"


def test_what_cannot_be_verified_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "nothing"]) == 2
    assert main(["verify", "run", "--steps", "0"]) == 2
    shutil.rmtree(run / "checkpoints")
    assert main(["verify", "run"]) == 2
    assert "missing, though the run is finished" in capsys.readouterr().err
    with pytest.raises(RunError):
        verify(run)


def test_a_trace_survives_a_checkpoint(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    trace = Trace(5)
    for step in range(6, 12):
        trace.add(step, torch.tensor(0.1 * step), network)
    assert sorted(trace.sums) == [6, 7, 9]
    save_checkpoint(tmp_path / "a.pt", {"model": {}, "trace": trace.to_dict()})
    again = trace_from_dict(load_checkpoint(tmp_path / "a.pt")["trace"])
    assert (again.begin, again.losses) == (trace.begin, trace.losses)
    assert all(torch.equal(again.sums[step], trace.sums[step]) for step in trace.sums)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.complex64, torch.bool])
def test_the_last_bit_of_a_weight_changes_its_sum(dtype: torch.dtype) -> None:
    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("w", torch.ones(3, 4).to(dtype))

    module = One()
    before = weight_sums(module)
    bits(module.w)[1, 2] += 1
    assert not torch.equal(before, weight_sums(module))


def test_states_are_compared_by_bits_and_named_in_order() -> None:
    def state(x: float) -> dict[str, object]:
        model = {"a.weight": torch.tensor([0.0, x]), "b.weight": torch.tensor(float("nan"))}
        return {"model": model, "history": [{"seconds": x, "val": {"loss": x}}], "elapsed": x, "best_score": [x]}

    assert state_differences(state(1.0), state(1.0)) == []
    assert state_differences(state(0.0), state(-0.0)) == ["model.a.weight"]
    assert state_differences(state(1.0), state(2.0)) == ["model.a.weight", "best_score.0", "history.0.val.loss"]
    assert layers_of(["a.weight", "a.bias", "b.weight"]) == ["a", "b"]


def test_a_replay_without_a_step_does_not_name_losses(capsys: pytest.CaptureFixture[str]) -> None:
    _print(Verification(Path("run"), "agree", (), RunReplay(12, 12, True, None), "checkpoints/previous.pt"))
    shown = capsys.readouterr().out
    assert "no step, only the end of the epoch after step 12, from checkpoints/previous.pt" in shown
    assert "losses" not in shown
