"""The MLPs of the lectures on tables; signals, volumes and regression from arrays; every option does what it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
import yaml

import striate
from striate.cli import main
from striate.runs.checkpoint import load_checkpoint


def train(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    assert main(["train", *words, "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def test_iris_with_the_lectures_network(capsys) -> None:
    metrics = train(capsys, "iris", "--model", "mlp(25,15)", "--epochs", "60", "--out", "run")
    assert metrics["params"] == 4 * 25 + 25 + 25 * 15 + 15 + 15 * 3 + 3
    assert metrics["test"]["accuracy"] >= 0.9
    answer = striate.load("run").predict(np.array([5.1, 3.5, 1.4, 0.2], np.float32))
    assert answer.label == "setosa"


@pytest.mark.slow
def test_boston_with_the_lectures_network(drawing: None, capsys) -> None:
    metrics = train(capsys, "boston", "--model", "mlp(8,6)", "--epochs", "60", "--out", "run")
    assert metrics["task"] == "regress"
    assert set(metrics["test"]) == {"n", "loss", "rmse", "rmse_interval", "mae", "r2"}
    assert metrics["test"]["rmse"] < 6
    assert Path("run/plots/scatter.png").exists()
    assert 0 < striate.load("run").predict(np.ones(13, np.float32)).fields["value"] < 80


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(
    ("shape", "layout", "network"),
    [
        ((6, 40), "NCL", "conv(8,5) bn relu pool(2) conv(8,3) relu gap fc(2)"),
        ((1, 8, 9, 10), "NCDHW", "conv(8,3) bn relu pool(2) gap fc(2)"),
    ],
)
def test_the_same_words_build_networks_for_signals_and_volumes(capsys, shape, layout, network) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(120) % 2
    x = rng.normal(size=(120, *shape)).astype(np.float32) + y.reshape(-1, *[1] * len(shape)) * 0.8
    np.savez("grid.npz", x=x, y=y)
    metrics = train(capsys, "grid.npz", "--data.layout", layout, "--model", network, "--epochs", "10", "--out", "run")
    assert metrics["test"]["accuracy"] >= 0.9


@pytest.mark.slow
def test_numbers_in_a_manifest_are_learned(capsys) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    Path("im").mkdir()
    rows = ["path,label"]
    for i in range(80):
        level = rng.uniform(20, 230)
        pixels = np.clip(rng.normal(level, 5, (12, 12)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(f"im/{i:02}.png")
        rows.append(f"im/{i:02}.png,{level / 10:.3f}")
    Path("levels.csv").write_text("\n".join(rows) + "\n")
    metrics = train(capsys, "levels.csv", "--model", "gap fc(1)", "--epochs", "60", "--lr", "0.05", "--out", "run")
    assert metrics["test"]["rmse"] < 1
    assert main(["predict", "run", "im/00.png", "--json"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert abs(line["value"] - float(rows[1].split(",")[1])) < 3


@pytest.fixture(scope="module")
def weights_after() -> Callable[..., dict[str, torch.Tensor]]:
    """The weights that a command trains, without the report, which options of training do not change; each once."""

    @cache
    def train_with(*words: str) -> dict[str, torch.Tensor]:
        with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            patch.setattr("striate.api.training.finish_run", lambda *_: {})
            assert main(["train", *words, "--out", folder, "--json"]) == 0
            return load_checkpoint(Path(folder) / "checkpoints" / "last.pt")["model"]

    return train_with


BASE = ["digits", "--model", "conv(4,3) relu fc(10)", "--epochs", "1"]


@pytest.mark.each_nth(11)
@pytest.mark.parametrize(
    "option",
    [
        ["--seed", "1"],
        ["--batch", "32"],
        ["--lr", "0.01"],
        ["--size", "12"],
        ["--optim.name", "sgd"],
        ["--optim.weight_decay", "0.05"],
        ["--optim.betas", "[0.5, 0.9]"],
        ["--schedule.name", "cosine"],
        ["--schedule.name", "step"],
        ["--schedule.name", "constant"],
        ["--schedule.warmup", "0.5"],
        ["--schedule.final", "0.5"],
        ["--augment.shift", "2"],
        ["--augment.flip", "true"],
        ["--augment.crop", "0.5"],
        ["--task.loss", "hinge"],
        ["--task.label_smoothing", "0.2"],
        ["--data.channels", "3"],
        ["--data.split_seed", "1"],
        ["--data.test_fraction", "0.3"],
        ["--data.val_fraction", "0.3"],
        ["--execution.precision", "bf16"],
    ],
    ids=" ".join,
)
def test_every_option_changes_the_weights(weights_after, option: list[str]) -> None:
    one, two = weights_after(*BASE), weights_after(*BASE, *option)
    assert any(one[k].shape != two[k].shape or not one[k].equal(two[k]) for k in one)


@pytest.mark.each_nth(4)
@pytest.mark.parametrize(
    ("base", "option"),
    [
        (["--optim.name", "sgd"], ["--optim.momentum", "0.5"]),
        (["--optim.name", "sgd"], ["--optim.nesterov", "false"]),
        (["--schedule.name", "step"], ["--schedule.milestones", "[0.1]"]),
        (["--schedule.name", "step"], ["--schedule.factor", "0.5"]),
        (["--task.loss", "hinge"], ["--task.margin", "3"]),
    ],
    ids=lambda words: " ".join(words),
)
def test_options_of_options_change_the_weights(weights_after, base: list[str], option: list[str]) -> None:
    one, two = weights_after(*BASE, *base), weights_after(*BASE, *base, *option)
    assert any(not one[k].equal(two[k]) for k in one)


@pytest.mark.slow
def test_the_quick_recipe_takes_a_quarter_of_the_epochs(capsys) -> None:
    epochs = [train(capsys, "iris", "--recipe", recipe)["epochs"] for recipe in ("standard", "quick")]
    assert epochs[1] == epochs[0] // 4


def test_channels_last_computes_the_same_function(weights_after) -> None:
    one, two = weights_after(*BASE), weights_after(*BASE, "--execution.memory_format", "channels_last")
    assert all(np.allclose(one[k], two[k], atol=1e-4) for k in one)


@pytest.mark.each_nth(4)
@pytest.mark.parametrize("network", ["gn(1) fc(10)", "ln fc(10)", "gn(1) conv(4,3) relu fc(10)", "up(2) fc(10)"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_a_network_may_begin_with_any_layer(weights_after, network: str, layout: str) -> None:
    assert weights_after("digits", "--epochs", "1", "--model", network, "--execution.memory_format", layout)


@pytest.mark.slow
def test_balanced_weights_help_the_rare_class(capsys) -> None:
    rng = np.random.default_rng(0)
    y = (rng.random(600) < 0.08).astype(int)
    x = rng.normal(size=(600, 5)).astype(np.float32) + 0.9 * y[:, None]
    np.savez("rare.npz", x=x, y=y)
    words = ["rare.npz", "--model", "fc(2)", "--epochs", "20"]
    plain = train(capsys, *words, "--out", "a")
    balanced = train(capsys, *words, "--task.class_weights", "balanced", "--out", "b")
    assert balanced["train"]["macro_f1"] != plain["train"]["macro_f1"]
    recall = []
    for run in ("a", "b"):
        assert main(["eval", run, "--json"]) == 0
        recall.append(json.loads(capsys.readouterr().out)["per_class"][1]["recall"])
    assert recall[1] > recall[0]


@pytest.mark.slow
def test_minutes_become_steps_that_are_kept_in_the_configuration(capsys, monkeypatch) -> None:
    # The age of the process that runs the tests is no part of these minutes.
    monkeypatch.setattr("striate.machine.program_start.seconds_since_start", lambda: 0.0)
    # On busy cores a second is enough for one step: not trained, and ended with 1.
    assert main(["train", *BASE[:-2], "--minutes", "0.02", "--out", "run"]) in (0, 1), capsys.readouterr().err
    text = Path("run/config.yaml").read_text()
    assert "minutes: 0.02" in text
    steps = yaml.safe_load(text)["budget"]["steps"]
    assert load_checkpoint(Path("run/checkpoints/last.pt"))["step"] == steps
    assert main(["train", "--config", "run/config.yaml", "--out", "again"]) in (0, 1)
    assert Path("again/config.yaml").read_text() == text
