"""Training from rewards: what is learned and written; a run that was killed goes on with the same bits."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from rich.console import Console

import striate
from striate.api import evaluate_player, play, resume, train_config, verify
from striate.cli.main import main
from striate.cli.train import _print_result
from striate.errors import ConfigError, RunError, UsageError
from striate.models.build import build_model
from striate.runs.checkpoint import load_checkpoint
from striate.tasks.registry import network_note
from striate.training.interruption import Interrupted
from striate.training.request import continued, merge_request, read_config
from striate.training.rewards import session
from striate.training.rewards.decide import prepare_rewards
from striate.training.rewards.player import load_player

CATCH = "gym:striate/Catch-v0"
SMALL = {
    "model.name": "fc(16) relu dropout(0.2) fc(3)",
    "task.control.environments": 4,
    "task.control.rollout": 8,
    "task.control.learn_after": 40,
    "task.control.target_every": 10,
    "task.control.steps": 400,
    "task.control.epoch_steps": 96,
    "task.control.val_episodes": 3,
    "task.control.test_episodes": 5,
    "save_seconds": 0.001,
}
DQN = {"task.control.algorithm": "dqn", "task.control.rollout": 32}


def small(source: str = CATCH, **fields: Any) -> Any:
    chosen = {**SMALL, **fields}
    if chosen.get("task.control.algorithm") != "dqn":
        chosen = {k: v for k, v in chosen.items() if k not in ("task.control.learn_after", "task.control.target_every")}
    return merge_request(read_config(None), data=source, fields=chosen)


def train(config: Any, out: Path) -> Path:
    return train_config(config, out=out, console=Console(stderr=True), quiet=True).path


def killed(monkeypatch: pytest.MonkeyPatch, config: Any, out: Path, after: tuple[int, ...]) -> int:
    """Train with a SIGTERM after these events; how often it went on."""
    real, seen = session.reward_events, 0

    def killing(*arguments: Any) -> Iterator[Any]:
        nonlocal seen
        for event in real(*arguments):
            seen += 1
            if seen in after:
                os.kill(os.getpid(), signal.SIGTERM)
            yield event

    monkeypatch.setattr(session, "reward_events", killing)
    resumed = 0
    try:
        train(config, out)
    except Interrupted:
        while True:
            resumed += 1
            try:
                resume(out, console=Console(stderr=True), quiet=True)
                break
            except Interrupted:
                continue
    return resumed


def assert_same(one: Any, two: Any, where: str = "") -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, two), where
    elif isinstance(one, dict):
        assert one.keys() == two.keys(), where
        for key in one.keys() - {"elapsed", "seconds", "steps_per_second"}:
            assert_same(one[key], two[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(two), where
        for number, parts in enumerate(zip(one, two, strict=True)):
            assert_same(*parts, f"{where}[{number}]")
    else:
        assert one == two, where


def assert_same_runs(whole: Path, other: Path) -> None:
    """Networks, optimizer, replay buffer, environments, counters and rows."""
    for name in ("last", "best"):
        assert_same(*(load_checkpoint(run / "checkpoints" / f"{name}.pt") for run in (whole, other)))
    metrics = [json.loads((run / "metrics.json").read_text()) for run in (whole, other)]
    for split in ("train", "val", "test"):
        assert metrics[0][split] == metrics[1][split]


@pytest.mark.slow
@pytest.mark.parametrize("fields", [{}, DQN], ids=["pqn", "dqn"])
def test_a_killed_run_goes_on_with_the_same_bits(
    fields: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(**fields)
    whole = train(config, tmp_path / "whole")
    assert killed(monkeypatch, config, tmp_path / "killed", after=(2, 5)) == 2
    assert_same_runs(whole, tmp_path / "killed")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("minatar") is None, reason="MinAtar is not installed")
@pytest.mark.parametrize("fields", [{}, {**DQN, "task.control.stack": 3}], ids=["pqn", "dqn"])
def test_a_killed_run_of_minatar_goes_on_with_the_same_bits(
    fields: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small("gym:MinAtar/Seaquest-v1", **{**fields, "model.name": "conv(4,3) relu fc(6)"})
    whole = train(config, tmp_path / "whole")
    assert killed(monkeypatch, config, tmp_path / "killed", after=(1, 3, 6)) == 3
    assert_same_runs(whole, tmp_path / "killed")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, drawn: Any) -> Path:
    with drawn():
        return train(small(), tmp_path_factory.mktemp("runs") / "catch")


def test_what_a_run_writes(finished: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    assert metrics["task"] == "control"
    assert metrics["data"] == CATCH
    for split, episodes in (("val", 3), ("test", 5)):
        found = metrics[split]
        assert found["episodes"] == found["n"] == episodes
        assert found["return_interval"][0] <= found["return"] <= found["return_interval"][1]
        assert found["steps"] == 9 * episodes
    rows = list(csv.DictReader((finished / "metrics.csv").read_text().splitlines()))
    assert len(rows) == metrics["epochs"]
    assert int(rows[-1]["step"]) == metrics["steps"] == 400
    assert (finished / "classes.txt").read_text() == "left\nstay\nright\n"
    page = (finished / "report.html").read_text()
    assert "95 % interval" in page
    assert "Distribution" in page
    assert "data:image/gif;base64," in page
    with Image.open(finished / "plots" / "game.gif") as film:
        assert film.n_frames == 10


def test_of_which_stretch_the_returns_are_is_said(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    _print_result(finished, metrics)
    said = capsys.readouterr().out
    assert f"the network after epoch {metrics['best_epoch']} of {metrics['epochs']} is saved; val and" in said
    assert "single evaluation" not in network_note(metrics)
    alone = network_note(metrics | {"epochs": 1})
    assert alone.endswith("nothing shows whether the return still grows. Train for longer, with --minutes.")
    del metrics["test"]["return_interval"]
    assert network_note(metrics) == ""


def test_help_names_all_keys_of_what_play_prints(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["play", str(finished), "--out", str(tmp_path / "game.gif"), "--json"]) == 0
    keys = json.loads(capsys.readouterr().out)
    main(["play", "--help"])
    told = capsys.readouterr().out
    assert [key for key in keys if f'"{key}"' not in told] == []


def test_a_network_plays_and_is_measured_again(finished: Path, tmp_path: Path) -> None:
    watched = play(finished, tmp_path / "game.gif", episodes=2)
    assert watched.played.steps.tolist() == [9, 9]
    with Image.open(tmp_path / "game.gif") as film:
        assert film.n_frames > 1
    metrics = evaluate_player(finished).metrics()
    assert metrics == json.loads((finished / "metrics.json").read_text())["test"]
    with pytest.raises(RunError) as refused:
        striate.evaluate(finished)
    assert eval(refused.value.remedy, {"striate": striate}).metrics() == metrics


def test_a_step_after_the_end_of_a_game_is_refused(finished: Path) -> None:
    for ask in (partial(striate.show, finished, "maps"), partial(striate.explain, finished)):
        with pytest.raises(UsageError, match="3000") as refused:
            ask("3000")
        assert refused.value.remedy == "name a step: 8"
    assert "step 8 of a game" in striate.show(finished, "maps").words


def test_the_files_of_a_game_are_verified_and_its_steps_are_not_replayed(finished: Path, tmp_path: Path) -> None:
    whole = verify(finished)
    assert (whole.verdict, whole.replay) == ("intact", None)
    assert "a game" in whole.not_replayed
    damaged = shutil.copytree(finished, tmp_path / "damaged")
    with (damaged / "metrics.csv").open("a") as file:
        file.write("9,")
    found = verify(damaged)
    assert found.verdict == "damaged"
    assert [check.name for check in found.files if not check.intact] == ["metrics.csv"]


def test_the_run_is_a_model_as_any_run(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = load_player(finished).module.state_dict()
    tensors = build_model(str(finished)).state_dict()
    assert {*tensors} == {key.removeprefix("body.") for key in own}
    assert all(torch.equal(tensors[key.removeprefix("body.")], value) for key, value in own.items())
    capsys.readouterr()
    assert main(["summary", str(finished)]) == 0
    with pytest.raises(RunError) as refused:
        continued(finished)
    assert f"striate train --config {finished}/config.yaml --task.control.steps" in refused.value.remedy
    assert main(["train", "--resume", str(finished), "--epochs", "2"]) == 2
    assert "--from" not in capsys.readouterr().err


def test_verbs_of_samples_are_refused(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RunError) as refused:
        striate.load(finished)
    assert refused.value.remedy == f"striate.api.evaluate_player({str(finished)!r})"
    assert main(["eval", str(finished), "--robustness"]) == 2
    assert main(["predict", str(finished), "x.png"]) == 2
    assert "striate play" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("budget.epochs", 3),
        ("optim.name", "sgd"),
        ("augment.shift", 2),
        ("data.size", 32),
        ("cv", "5x5"),
        ("task.control.n_step", 5),
        ("task.name", "classify"),
    ],
)
def test_fields_without_a_meaning_are_refused(field: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        train(small(**{field: value}), tmp_path / "run")
    assert refused.value.where == field
    assert not (tmp_path / "run").exists()


def test_returns_longer_than_an_episode_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a limit above the steps of a return"):
        train(small(**DQN, **{"task.control.limit": 3}), tmp_path / "run")


@pytest.mark.parametrize("algorithm", ["pqn", "dqn", "planner"])
def test_steps_are_as_many_as_asked_for_or_as_few_more_as_environments_need(algorithm: str) -> None:
    fields = {"task.control.algorithm": algorithm, "task.control.steps": 42, "model.name": "fc(3)"}
    fields |= {"planner": {"task.control.trajectories": 2}, "dqn": DQN}.get(algorithm, {})
    chosen = {name: value for name, value in (SMALL | fields).items() if "learn_after" not in name}
    unused = {"pqn": ("target_every",), "dqn": (), "planner": ("target_every", "rollout")}[algorithm]
    chosen = {name: value for name, value in chosen.items() if name.rpartition(".")[2] not in unused}
    prepared = prepare_rewards(merge_request(read_config(None), data=CATCH, fields=chosen))
    while prepared.learner.step < prepared.learner.total:
        prepared.learner.advance()
    assert prepared.learner.step == 44
    assert prepared.notes[-1] == "44 steps, not 42: all 4 environments step together."


def test_fields_of_rewards_are_refused_beside_samples(tmp_path: Path) -> None:
    config = merge_request(read_config(None), data="iris", epochs=1, fields={"task.control.steps": 5})
    with pytest.raises(ConfigError, match=r"task\.control\.steps"):
        train(config, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize(("fields", "steps"), [({}, 40_000), (DQN, 15_000)], ids=["pqn", "dqn"])
def test_catch_is_learned(fields: dict[str, Any], steps: int, tmp_path: Path) -> None:
    chosen = {"task.control.steps": steps, "task.control.test_episodes": 50, **fields}
    chosen |= {"task.control.rollout": 32, "task.control.environments": 32 if not fields else 8}
    config = small(**{**chosen, "model.name": "auto", "save_seconds": 2.0})
    metrics = json.loads((train(config, tmp_path / "run") / "metrics.json").read_text())
    assert metrics["test"]["return"] >= 0.9
