"""A whole cross-validation: what it writes, that it repeats and goes on, what it refuses."""

from __future__ import annotations

import json
import os
import shlex
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from made_folds import request, rows, study, table
from torch import nn

from quick import few_quick
from striate.api import load, resume, train, train_config
from striate.cli import main
from striate.errors import ChangedDataError, ConfigError, ModelError, NonFiniteLoss, RunError
from striate.layers.late_fusion import LateFusion
from striate.studies.cross_validation import run_cross_validation as cross_validation
from striate.studies.cross_validation.fold import train_fold
from striate.studies.cross_validation.fold_files import load_fold
from striate.studies.cross_validation.plan_cross_validation import plan_cross_validation
from striate.training.events import StepDone
from striate.training.interruption import Interrupted

FILES = ("cv.csv", "predictions.csv", "metrics.csv", "folds.csv")


@pytest.fixture
def unpainted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pictures and page, which take most of the time and have a test of their own."""
    monkeypatch.setattr(cross_validation, "write_cv_report", lambda *_: None)


def interrupt_at(monkeypatch: pytest.MonkeyPatch, fold: int, number: int) -> None:
    """Send ourselves a signal in the second step of the given fold, counted over repeats from 1."""
    original, begun = cross_validation.train_fold, []

    def train_fold(prepared, *, read, **options):
        begun.append(1)

        def reading(event):
            if len(begun) == fold and isinstance(event, StepDone) and event.step == 2:
                os.kill(os.getpid(), number)
            read(event)

        return original(prepared, read=reading, **options)

    monkeypatch.setattr(cross_validation, "train_fold", train_fold)


@pytest.mark.slow
def test_the_directory_of_a_study_is_complete() -> None:
    run = study(table(), "cv", **{"baseline": True})
    held = rows("cv")
    assert [(row["repeat"], row["fold"]) for row in held] == [(str(r), str(f)) for r in (1, 2) for f in (1, 2, 3)]
    assert {"n_train", "n_val", "n", "loss", "accuracy", "macro_f1", "epochs", "seed"} <= set(held[0])
    assert len({row["seed"] for row in held}) == 6
    assert all(int(r["n"]) + int(r["n_train"]) + int(r["n_val"]) == 60 for r in held)
    metrics = json.loads(Path("cv/metrics.json").read_text())
    assert metrics == run.metrics
    assert all(metrics[key] is None for key in ("train", "val", "test", "epochs", "images_per_second"))
    assert {"task", "model", "data", "params", "macs", "cv", "train_seconds", "device", "plan"} <= set(metrics)
    shares = [float(row["accuracy"]) for row in held]
    assert metrics["cv"]["mean"]["accuracy"] == pytest.approx(np.mean(shares))
    assert metrics["cv"]["std"]["accuracy"] == pytest.approx(np.std(shares, ddof=1))
    assert (metrics["cv"]["folds"], metrics["cv"]["repeats"], metrics["cv"]["n"]) == (3, 2, 60)
    answers = rows("cv", "predictions.csv")
    assert len(answers) == 120
    right = np.mean([row["truth"] == row["prediction"] for row in answers if row["repeat"] == "1"])
    assert metrics["cv"]["per_repeat"]["values"][0]["accuracy"] == pytest.approx(right)
    homes = {row["path"]: row["repeat_1"] for row in rows("cv", "folds.csv")}
    assert all(homes[row["path"]] == row["fold"] for row in answers if row["repeat"] == "1")
    assert [entry["name"] for entry in metrics["baselines"]][:2] == ["majority class", "logistic regression"]
    assert metrics["baselines"][0]["comparison"]["difference"] > 0.2
    page = Path("cv/report.html").read_text()
    assert "3 × 2 cross-validation" in page
    assert "Is the network worth it?" in page
    assert "--cv null" in page
    assert "http" not in page.replace("http-equiv", "")
    assert {path.name for path in Path("cv/plots").iterdir()} == {"folds.png", "curves.png", "confusion.png"}
    assert not Path("cv/checkpoints").exists()
    assert '"event": "finished"' in Path("cv/events.jsonl").read_text()


def test_config_yaml_repeats_a_study_to_the_last_digit(unpainted) -> None:
    study(table(), "one")
    config = yaml.safe_load(Path("one/config.yaml").read_text())
    assert (config["cv"], config["seed"], config["budget"]["steps"]) == ("3x2", 0, None)
    train(config="one/config.yaml", out="two")
    assert Path("one/config.yaml").read_text() == Path("two/config.yaml").read_text()
    assert all(rows("one", name) == rows("two", name) for name in FILES)


@pytest.mark.slow
def test_another_seed_trains_anew_on_the_same_folds_and_another_split_seed_deals_anew(unpainted) -> None:
    for name, fields in {"base": {}, "seed": {"seed": 1}, "split": {"data.split_seed": 1}}.items():
        study(table(), name, "3x1", **fields)
    assert rows("seed", "folds.csv") == rows("base", "folds.csv") != rows("split", "folds.csv")
    assert [row["loss"] for row in rows("seed")] != [row["loss"] for row in rows("base")]


@pytest.mark.slow
def test_a_given_test_split_changes_nothing(unpainted) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(90, 4)) + 2 * (np.arange(90) % 3)[:, None], np.arange(90) % 3
    for name, x_test in {"real": x[60:], "garbage": 1e9 * rng.normal(size=(30, 4))}.items():
        np.savez("g.npz", x_train=x[:60], y_train=y[:60], x_test=x_test, y_test=y[60:][::-1])
        study("g.npz", name, "3x1")
    assert rows("real") == rows("garbage")
    assert rows("real", "predictions.csv") == rows("garbage", "predictions.csv")
    assert sum(row["repeat_1"] == "test" for row in rows("real", "folds.csv")) == 30
    assert (
        "30 samples of the given test split are used neither for training nor for measuring"
        in Path("real/events.jsonl").read_text()
    )


def test_each_fold_decides_by_the_thresholds_of_its_own_validation(unpainted) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 4)).astype(np.float32)
    y = (x[:, :2] + rng.normal(size=(300, 2)) > 1.7).astype(np.int64)
    np.savez("sets.npz", x=x, y=y)
    fields = {"task.name": "multilabel", "model.name": "fc(2)", "optim.lr": 0.03, "optim.name": "adamw"}
    run = study("sets.npz", "cv", "2x1", **fields)
    task = plan_cross_validation(request("sets.npz", "2x1", **fields)).first.task
    folds = [load_fold(path) for path in sorted(Path("cv/folds").iterdir())]
    for fold in folds:
        settled, held = fold.settled(task), torch.from_numpy(y[fold.ids])
        assert not (settled.lowest == 0.5).any()
        assert fold.metrics["exact_match"] == settled.measure(torch.from_numpy(fold.decoded), held)["exact_match"]
    (pooled,) = run.metrics["cv"]["per_repeat"]["values"]
    assert pooled["exact_match"] == pytest.approx(np.mean([fold.metrics["exact_match"] for fold in folds]))
    answers = rows("cv", "predictions.csv")
    assert pooled["exact_match"] == pytest.approx(np.mean([row["truth"] == row["prediction"] for row in answers]))


class TwoStreams(nn.Module):
    """Each half of a row by itself, and a fusion of both."""

    streams, auxiliary_weights = ("left", "right"), (1.0, 1.0)

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.fusion = nn.Linear(2, 3), nn.Linear(2, 3), LateFusion(3, "svm")

    def alone(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"left": self.left(x[:, :2]), "right": self.right(x[:, 2:])}

    def forward(self, x: torch.Tensor):
        outputs = tuple(self.alone(x).values())
        fused = self.fusion(*outputs)
        return (fused.detach(), *outputs) if self.training else fused


def test_a_fold_is_measured_with_its_streams_fused() -> None:
    prepared = plan_cross_validation(request(table(), "2x1", **{"model.name": "auto"}), TwoStreams()).prepare(0, 0)
    result = train_fold(prepared, repeat=1, fold=1, read=lambda _: None)
    assert prepared.state.eval_module.fusion.weight.any()
    held = prepared.data.splits["test"]
    with torch.no_grad():
        outputs = prepared.state.eval_module.eval()(prepared.normalize(held.inputs))
    assert np.allclose(result.decoded, outputs.softmax(1), atol=1e-5)


def test_groups_are_held_out_whole(unpainted) -> None:
    groups = np.arange(60) // 4
    study(table(groups=groups), "cv", "3x2")
    for repeat in ("repeat_1", "repeat_2"):
        homes: dict[int, set[str]] = {}
        for row in rows("cv", "folds.csv"):
            homes.setdefault(int(row["path"]) // 4, set()).add(row[repeat])
        assert all(len(folds) == 1 for folds in homes.values())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fold", "number"),
    few_quick(
        [(1, signal.SIGINT), (3, signal.SIGTERM), (6, signal.SIGINT)],
        [(3, signal.SIGTERM)],
        unpack=True,
    ),
)
def test_an_interrupted_study_goes_on_with_the_next_fold(unpainted, monkeypatch, fold: int, number: int) -> None:
    study(table(), "whole")
    with monkeypatch.context() as patch:
        interrupt_at(patch, fold, number)
        with pytest.raises(Interrupted, match="--resume cut"):
            study(table(), "cut")
    assert len(rows("cut")) == fold - 1
    assert not Path("cut/metrics.json").exists()
    before = {path: path.stat().st_mtime_ns for path in Path("cut/folds").iterdir()}
    assert len(before) == fold - 1
    torch.manual_seed(99)  # whatever else drew random numbers in between
    resume("cut", quiet=True)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())  # nothing was trained twice
    assert all(rows("whole", name) == rows("cut", name) for name in FILES)
    whole, cut = (json.loads(Path(run, "metrics.json").read_text()) for run in ("whole", "cut"))
    assert whole["cv"] == cut["cv"]


@pytest.mark.slow
def test_a_study_killed_between_two_files_of_a_fold_goes_on(unpainted, monkeypatch) -> None:
    study(table(), "whole", "3x1")
    with monkeypatch.context() as patch:
        patch.setattr(cross_validation, "finish_cross_validation", None)
        original, written = cross_validation.write_folds, []

        def killed(run, results):
            written.append(1)
            if len(written) == 3:  # the file of the second fold is there, its row is not
                raise KeyboardInterrupt
            original(run, results)

        patch.setattr(cross_validation, "write_folds", killed)
        with pytest.raises(Interrupted):
            study(table(), "cut", "3x1")
    assert (len(rows("cut")), len(list(Path("cut/folds").iterdir()))) == (1, 2)
    resume("cut", quiet=True)
    assert all(rows("whole", name) == rows("cut", name) for name in FILES)


def test_a_finished_study_is_verified_and_a_damaged_fold_is_trained_anew_as_the_remedy_says(unpainted) -> None:
    study(table(), "a cv", "3x1")
    assert resume("a cv", quiet=True).metrics["cv"]["folds"] == 3
    before = [rows("a cv", name) for name in FILES]
    file = Path("a cv/folds/1-2.npz")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(RunError, match=r"1-2\.npz") as caught:
        resume("a cv", quiet=True)
    remove, again = (shlex.split(command) for command in caught.value.remedy.split("&&"))
    assert remove[0] == "rm"
    Path(remove[1]).unlink()
    assert main(again[1:]) == 0
    assert [rows("a cv", name) for name in FILES] == before  # also cv.csv in order, though the second fold came last


def interrupt_baselines(monkeypatch: pytest.MonkeyPatch, place: int) -> list[int]:
    """Send ourselves a signal while the baselines of one fold are fitted, counted from 1; what is returned grows."""
    original, begun = cross_validation._fit_baselines, []

    def fit(prepared):
        begun.append(1)
        if len(begun) == place:
            os.kill(os.getpid(), signal.SIGINT)
        return original(prepared)

    monkeypatch.setattr(cross_validation, "_fit_baselines", fit)
    return begun


def test_a_signal_while_baselines_are_fitted_keeps_the_fold(unpainted, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        interrupt_baselines(patch, 1)
        with pytest.raises(Interrupted):
            study(table(), "cv", "2x1", baseline=True)
    kept = load_fold(Path("cv/folds/1-1.npz"))
    assert kept.baselines
    assert [path.name for path in Path("cv/folds").iterdir()] == ["1-1.npz"]


def test_a_signal_before_baselines_does_not_wait_for_them_and_the_training_is_not_repeated(
    unpainted, monkeypatch
) -> None:
    original, trained = cross_validation.train_fold, []

    def train_fold(prepared, **options):
        result = original(prepared, **options)
        trained.append(result.fold)
        if len(trained) == 1:
            os.kill(os.getpid(), signal.SIGINT)  # after its last event: while it is measured
        return result

    monkeypatch.setattr(cross_validation, "train_fold", train_fold)
    fitted = interrupt_baselines(monkeypatch, 0)
    with pytest.raises(Interrupted):
        study(table(), "cv", "2x1", baseline=True)
    assert (trained, fitted) == ([1], [])
    resume("cv", quiet=True)
    assert (trained, fitted) == ([1, 2], [1, 1])
    assert all(load_fold(path).baselines for path in Path("cv/folds").iterdir())


def test_a_test_fraction_beside_folds_is_refused_with_a_remedy_that_works(unpainted) -> None:
    with pytest.raises(ConfigError, match=r"data\.test_fraction") as caught:
        study(table(), "cv", "3x1", **{"data.test_fraction": 0.3})
    assert not Path("cv").exists()
    assert "--data.test_fraction 0.2" in caught.value.remedy
    study(table(), "cv", "2x1", **{"data.test_fraction": 0.2})


def test_training_samples_to_measure_are_refused_where_none_are_measured(unpainted) -> None:
    with pytest.raises(ConfigError, match=r"evaluation\.train_samples") as caught:
        study(table(), "cv", "2x1", **{"evaluation.train_samples": 20})
    assert not Path("cv").exists()
    assert "--evaluation.train_samples null" in caught.value.remedy
    study(table(), "cv", "2x1", **{"evaluation.train_samples": None})


def test_a_given_validation_split_is_dealt_like_the_rest_and_it_is_said(unpainted) -> None:
    x, y = np.random.default_rng(0).normal(size=(60, 4)), np.arange(60) % 3
    np.savez("g.npz", x_train=x[:45], y_train=y[:45], x_val=x[45:], y_val=y[45:])
    study("g.npz", "cv", "3x1")
    assert "15 samples of the given validation split are dealt into folds" in Path("cv/events.jsonl").read_text()
    assert {row["repeat_1"] for row in rows("cv", "folds.csv")} == {"1", "2", "3"}


def test_a_later_fold_that_cannot_be_trained_is_refused_before_anything_is_written(monkeypatch) -> None:
    dealt = np.arange(60)[None] // 3 % 3
    dealt[0, np.arange(60) % 3 == 2] = 1  # the second fold holds out the whole of the third class
    monkeypatch.setattr("striate.studies.cross_validation.plan_cross_validation.deal_repeats", lambda *_: dealt)
    with pytest.raises(ConfigError, match="fold 2 of repeat 1"):
        study(table(), "cv", "3x1")
    assert not Path("cv").exists()


def test_a_study_does_not_go_on_with_other_data(unpainted, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2, signal.SIGINT)
        with pytest.raises(Interrupted):
            study(table(), "cv")
    table(x=np.random.default_rng(5).normal(size=(60, 4)))
    with pytest.raises(ChangedDataError, match="fingerprint"):
        resume("cv", quiet=True)


def test_there_is_no_network_to_load_but_a_command_that_trains_one(unpainted) -> None:
    study(table(), "cv", "3x1")
    with pytest.raises(RunError, match="saves no network") as caught:
        load("cv")
    assert "--cv null" in caught.value.remedy
    run = train(config="cv/config.yaml", set={"cv": "null"}, out="final")
    assert run.metrics["test"]["n"] > 0
    config = yaml.safe_load(Path("final/config.yaml").read_text())
    assert config["cv"] is None
    assert config["budget"]["epochs"] == 3


@pytest.mark.slow
def test_on_top_of_an_ordinary_run_each_fold_has_its_own_steps(unpainted) -> None:
    train(table(), "fc(6) relu fc(3)", epochs=3, batch=8, out="run")
    steps = yaml.safe_load(Path("run/config.yaml").read_text())["budget"]["steps"]
    train(config="run/config.yaml", cv="2x1", out="cv")
    epochs = rows("cv", "metrics.csv")
    assert max(int(row["epoch"]) for row in epochs) == 3
    assert max(int(row["step"]) for row in epochs) != steps  # half the samples, other steps
    assert yaml.safe_load(Path("cv/config.yaml").read_text())["budget"]["steps"] is None


def test_asked_steps_are_those_of_every_fold(unpainted) -> None:
    study(table(), "cv", "3x1", **{"budget.epochs": None, "budget.steps": 7})
    last = {row["fold"]: int(row["step"]) for row in rows("cv", "metrics.csv")}
    assert set(last.values()) == {7}


@pytest.mark.slow
def test_minutes_are_those_of_the_whole_study(monkeypatch) -> None:
    asked = []

    class Enough:
        finish, epoch_steps = 0.0, 1

        def steps_within(self, seconds):
            asked.append(seconds)
            return 12

        def seconds(self, _):
            return 0.0

    monkeypatch.setattr("striate.training.budget.steps.measure_pace", lambda *_, **__: Enough())
    config = request(table(), "3x2", **{"budget.epochs": None, "budget.minutes": 3.0})
    plan = plan_cross_validation(config)
    assert asked[0] == pytest.approx(30, abs=3)  # a sixth of 180 s
    assert (plan.config.budget.minutes, plan.config.budget.steps) == (3.0, 12)
    assert plan.prepare(1, 2).config.budget.steps == 12
    assert len(asked) == 1  # measured once: the others follow


@pytest.mark.slow
def test_a_module_begins_every_fold_as_it_was_given(unpainted) -> None:
    module = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    study(table(), "one", module=module)
    study(table(), "two", module=module)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert rows("one") == rows("two")


@pytest.mark.slow
def test_keep_best_measures_the_best_epoch_and_not_the_last(unpainted) -> None:
    wild = {"budget.epochs": 12, "optim.name": "sgd", "optim.lr": 2.0, "schedule.name": "constant", "optim.ema": 0.0}
    study(table(), "best", "3x1", keep="best", **wild)
    study(table(), "last", "3x1", keep="last", **wild)
    best, last = rows("best"), rows("last")
    assert {row["best_epoch"] for row in last} == {"12"}
    assert any(row["best_epoch"] != "12" for row in best)
    changed = [b["loss"] != a["loss"] for a, b in zip(last, best, strict=True)]
    assert changed == [row["best_epoch"] != "12" for row in best]


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(
    "kind",
    few_quick(["numbers", "two numbers", "images", "masks"], ["numbers", "masks"]),
)
def test_every_task_can_be_cross_validated(kind: str) -> None:
    rng = np.random.default_rng(0)
    x, y, model = rng.normal(size=(40, 4)).astype(np.float32), rng.normal(size=40), "fc(4) relu fc(1)"
    if kind == "two numbers":
        y, model = rng.normal(size=(40, 2)), "fc(4) relu fc(2)"
    if kind in ("images", "masks"):
        x, y, model = rng.integers(0, 256, (40, 8, 8), dtype=np.uint8), np.arange(40) % 2, "conv(2,3) relu fc(2)"
    if kind == "masks":
        y, model = (x > 128).astype(np.uint8), "conv(2,3,pad=1)"
    np.savez("d.npz", x=x, y=y)
    run = study("d.npz", "cv", "2x1", **{"model.name": model, "budget.epochs": 1})
    name = {"images": "accuracy", "masks": "iou"}.get(kind, "rmse")
    assert run.metrics["cv"]["mean"][name] > 0
    answers = rows("cv", "predictions.csv")
    assert len(answers) == 40
    columns = {"masks": {"right", "labeled"}, "two numbers": {"truth y0", "prediction y0", "truth y1", "prediction y1"}}
    assert columns.get(kind, {"truth", "prediction"}) <= set(answers[0])
    if kind == "numbers":
        pooled = np.sqrt(np.mean([(float(r["truth"]) - float(r["prediction"])) ** 2 for r in answers]))
        assert run.metrics["cv"]["per_repeat"]["values"][0]["rmse"] == pytest.approx(pooled, rel=1e-4)
    assert Path("cv/report.html").stat().st_size > 10_000


def test_a_network_that_has_seen_what_would_be_held_out_is_refused() -> None:
    train(table(), "fc(6) relu fc(3)", epochs=1, out="run")
    for fields in ({"model.name": "./run"}, {"model.name": "fc(6) relu fc(3)", "model.weights": "run"}):
        with pytest.raises(ConfigError, match="was trained on") as caught:
            train_config(request(table(), **fields), out=Path("cv"), console=None, quiet=True)
        assert "model." in caught.value.where
    assert not Path("cv").exists()
    Path("old").mkdir()  # a run of unknown samples as the network does not hide what the weights have seen
    for name in ("config.yaml", "checkpoints"):
        Path("old", name).symlink_to(Path("run", name).resolve())
    with pytest.raises(ConfigError, match="was trained on"):
        train_config(
            request(table(), **{"model.name": "./old", "model.weights": "run"}),
            out=Path("cv"),
            console=None,
            quiet=True,
        )


def test_what_does_not_converge_says_in_which_fold() -> None:
    wild = {"optim.name": "sgd", "optim.lr": 1e30, "schedule.name": "constant"}
    with pytest.raises(NonFiniteLoss, match="repeat 1, fold 1"):
        study(table(), "cv", **wild)
    assert '"event": "non-finite"' in Path("cv/events.jsonl").read_text()
    assert not Path("cv/metrics.json").exists()


def test_a_fold_file_gives_back_every_bit(unpainted) -> None:
    study(table(), "cv", "3x1")
    result = load_fold(Path("cv/folds/1-1.npz"))
    assert str(result.metrics["loss"]) == rows("cv")[0]["loss"]
    assert result.decoded.dtype == np.float32
    assert result.decoded.shape == (20, 3)


def test_a_module_that_cannot_be_copied_for_its_folds_is_refused() -> None:
    module = nn.Linear(4, 3)
    module.lock = threading.Lock()
    with pytest.raises(ModelError, match="cannot be copied"):
        train("iris", module, epochs=1, out="run", set={"cv": "2x1"})
    assert not Path("run").exists()
