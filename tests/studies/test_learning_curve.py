"""What more labels would bring: the law, its interval, the parts, and the trainings."""

from __future__ import annotations

import csv
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import striate
from striate.cli.main import main
from striate.data.dataset import Dataset, Preparation, Split
from striate.errors import ConfigError, DataError
from striate.studies.learning_curve.learning_curve import (
    DoublingGain,
    LearningCurve,
    PowerLaw,
    PretrainingGain,
    SizePoint,
    gain_of_labels,
)
from striate.studies.learning_curve.measure_learning_curve import (
    SHARES,
    FinishedRun,
    _plan_text,
    nested_rows,
    seeds_for,
    shares_of,
    steps_for,
    with_training_rows,
)
from striate.studies.learning_curve.power_law import fit_power_law, gain_of_twice
from striate.studies.learning_curve.pretraining_gain import gain_at, gain_sentence
from striate.tasks.classify.task import Classify
from striate.training.config import Config

SIZES = (125, 250, 500, 1000)


@settings(max_examples=25)
@given(st.floats(0.05, 1.5), st.floats(0.1, 1.5), st.floats(0, 0.2))
def test_a_law_without_noise_is_found(height, exponent, floor):
    law = PowerLaw(height * 125**exponent, exponent, floor)
    found = fit_power_law(SIZES, [law.error(n) for n in SIZES])
    assert [found.error(n) for n in SIZES] == pytest.approx([law.error(n) for n in SIZES], rel=2e-3)
    assert found.error(2000) == pytest.approx(law.error(2000), rel=0.03)


def wrong_answers(errors, tests=2000, seeds=3, seed=0):
    """For each size and seed so many wrong answers; the same test samples are hard for all."""
    rng = np.random.default_rng(seed)
    hard = rng.random(tests)
    return [
        (n, (hard + rng.normal(0, 0.02, tests) < error).astype(np.float64))
        for n, error in zip(SIZES, errors, strict=True)
        for _ in range(seeds)
    ]


def mean(losses):
    return float(losses.mean())


def test_a_falling_error_is_told_and_the_interval_holds_the_truth():
    law = PowerLaw(2.0, 0.4, 0.02)
    gain = gain_of_twice(wrong_answers([law.error(n) for n in SIZES]), mean)
    truth = law.error(1000) - law.error(2000)
    assert gain.told
    assert gain.interval[0] <= truth <= gain.interval[1]
    assert gain.value == pytest.approx(truth, abs=0.012)


def test_a_level_error_cannot_be_told():
    gain = gain_of_twice(wrong_answers([0.1] * 4, tests=300), mean, resolution=0.5 / 300)
    assert not gain.told
    assert gain.interval[0] <= 0.002


def test_of_hardly_any_wrong_answers_nothing_follows():
    assert gain_of_twice(wrong_answers([0.05, 0.02, 0.01, 0.0], tests=200), mean) is None


def sample_set(n=240, classes=3, kind="class"):
    targets = torch.arange(n) % classes if kind == "class" else torch.linspace(0, 1, n)[:, None]
    splits = {
        "train": Split(torch.rand(n, 4), targets, torch.arange(n)),
        "test": Split(torch.rand(30, 4), targets[:30], torch.arange(n, n + 30)),
    }
    contents = {"train": tuple(map(str, range(n))), "test": ("x",) * 30}
    return Dataset("made", "made", "table", kind, splits, tuple("abc"[:classes]), Preparation("table", (4,)), (), "",
                   contents=contents)  # fmt: skip


@pytest.mark.parametrize("seed", [0, 1])
def test_parts_are_nested_and_keep_the_shares_of_classes(seed):
    data = sample_set()
    rows = nested_rows(data, seed)
    assert sorted(rows) == sorted(SHARES)
    assert [len(rows[share]) for share in sorted(rows)] == [30, 60, 120, 240]
    for small, large in zip(sorted(rows), sorted(rows)[1:], strict=False):
        assert set(rows[small].tolist()) < set(rows[large].tolist())
        counts = torch.bincount(data.splits["train"].targets[rows[small]])
        assert counts.max() - counts.min() <= 2
    part = with_training_rows(data, rows[1 / 8])
    assert part.splits["train"].ids.tolist() == rows[1 / 8].tolist()
    assert part.contents["train"] == tuple(map(str, rows[1 / 8].tolist()))
    assert part.splits["test"] is data.splits["test"]
    assert not torch.equal(rows[1 / 8], nested_rows(data, seed + 5)[1 / 8])


def test_too_few_samples_are_refused():
    with pytest.raises(DataError, match="60 training samples"):
        nested_rows(sample_set(60), 0)
    assert [len(rows) for rows in nested_rows(sample_set(60), 0, (0.5, 1.0)).values()] == [60, 30]


def test_steps_lie_between_as_many_and_as_many_epochs():
    assert [steps_for(share, 800) for share in SHARES] == [283, 400, 566, 800]
    assert steps_for(1 / 8, 1) == 1


def test_counts_are_parts_and_validation_samples_have_labels_too():
    data = sample_set(200)
    data = replace(data, splits=data.splits | {"val": data.splits["test"]})
    assert shares_of(None, data) == SHARES
    assert shares_of([100, 20, 230], data) == (0.1, 0.5, 1.0)
    rows = nested_rows(data, 0, (0.1, 0.5, 1.0))
    assert [len(rows[share]) for share in sorted(rows)] == [20, 100, 200]
    with pytest.raises(DataError, match=r"at most 230: 200 to train on, 30 to validate(.|\n)*--counts 20,230"):
        shares_of([20, 231], data)
    with pytest.raises(ConfigError, match="each class has a sample"):
        shares_of([2], data)


def hits(share, tests=4000, seed=0):
    return (np.random.default_rng(seed).random(tests) < share).astype(np.float64)


def test_a_gain_is_paired_and_its_interval_holds_the_truth():
    headline = Classify.headline_metric()
    hard = np.random.default_rng(1).random(4000)
    pairs = [((hard < 0.80 + luck).astype(float), (hard < 0.84 + luck).astype(float)) for luck in (-0.01, 0.0, 0.012)]
    found = gain_at(100, headline, pairs)
    assert found.told
    assert found.value == pytest.approx(0.04, abs=0.008)
    assert found.interval[0] < 0.04 < found.interval[1]
    assert found.interval[1] - found.interval[0] < 0.04  # the same samples: unpaired ones would make it far wider
    noise = gain_at(100, headline, [(hits(0.8, seed=2 * k), hits(0.8, seed=2 * k + 1)) for k in range(3)])
    assert not noise.told
    alone = gain_at(100, headline, pairs[:1])
    assert not alone.luck
    points = (SizePoint(1.0, 100, 0, 10, 0.8, 1.0, False),)
    said = gain_sentence(PretrainingGain("runs/a", points, (found, replace(alone, n=1000))), "accuracy")
    assert said.startswith("Starting from the weights of runs/a changes the test accuracy: with 100 labels by +4")
    assert "points (95 %: +" in said


def curve(gain, metric="accuracy", seeds=(0, 1, 2)):
    points = tuple(
        SizePoint(share, round(1000 * share), seed, 10, 0.9, 1.0, False) for share in SHARES for seed in seeds
    )
    return LearningCurve("made", metric, 500, tuple(seeds), points, gain, "")


def test_sentences():
    law = PowerLaw(1, 0.5, 0)
    assert gain_of_labels(curve(DoublingGain(law, 0.0123, (0.004, 0.021), True))) == (
        "Twice the labels (2,000 training samples) would bring about 1.2 points of test accuracy (95 %: 0.4 to 2.1), by"
        " a power law."
    )
    assert gain_of_labels(curve(DoublingGain(law, 0.003, (-0.001, 0.008), False), seeds=(0,))) == (
        "What twice the labels (2,000 training samples) would bring is uncertain: by a power law 0.3 points of test"
        " accuracy (95 %: −0.1 to 0.8), not significantly more than nothing. One training each: the interval does not"
        " include the variation between trainings."
    )
    assert gain_of_labels(curve(DoublingGain(law, 0.324, (0.146, 0.476), True), "rmse")) == (
        "Twice the labels (2,000 training samples) would lower the test RMSE by about 0.324 (95 %: 0.146 to 0.476), by"
        " a power law."
    )
    assert "hardly any of the 500 test samples are wrong" in gain_of_labels(curve(None))


@pytest.mark.parametrize(
    ("words", "got"),
    [
        (["gym:striate/Catch-v0"], "an environment"),
        (["digits", "--data.test_fraction", "0"], "no test split"),
        (["digits", "--counts", "5000"], "a count of 5,000"),
        (["digits", "--weights", "nothere"], "nothere"),
        (["digits", "--auxiliary.rotation", "1", "--auxiliary.task", "0"], "the network is trained without labels"),
    ],
    ids=["a game", "no test split", "a count", "no weights", "no labels"],
)
def test_what_has_no_curve_is_refused_before_anything_is_trained(words, got, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["learning-curve", *words, "--epochs", "1", "--out", "run"]) == 2
    assert got in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_run_that_learned_no_labels_says_so_wherever_it_predicts_them(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).integers(0, 256, (160, 8, 8), np.uint8)
    np.savez("made.npz", x=x, y=np.arange(160) % 2)
    turns = ["--auxiliary.rotation", "1", "--auxiliary.task", "0"]
    assert main(["train", "made.npz", "--model", "gap fc(2)", *turns, "--budget.steps", "1", "--out", "run"]) == 0
    said, chance = capsys.readouterr().out, "predicted labels are chance"
    assert chance in said
    assert "rotation_accuracy" in said.split(chance)[1]
    assert chance in (tmp_path / "run" / "report.html").read_text()
    assert any(chance in note for note in striate.evaluate("run").notes)
    Image.fromarray(x[0]).save("one.png")
    assert main(["predict", "run", "one.png"]) == 0
    assert chance in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"made\.npz --model 'gap fc\(2\)' --weights run"):
        striate.learning_curve("run")


@pytest.mark.parametrize(
    ("steps", "seeds", "said"), [(100, (0,), r"3 trainings.* 36 s"), (2000, (0, 1, 2), r"11 trainings.* 1 min 20 s")]
)
def test_the_forecast_is_by_the_steps_of_each_part(steps, seeds, said):
    run = FinishedRun(Config(seed=0), steps, 12.0, np.arange(1), np.arange(1))  # of 100 steps each part gets all
    assert seeds_for(run) == seeds
    assert re.search(said, _plan_text([run], seeds, SHARES))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("curve") / "boston"
    assert main(["train", "boston", "--out", str(out), "--epochs", "2", "--execution.plan", "plain"]) == 0
    return out


@pytest.mark.slow
def test_the_verb_compares_pretrained_weights(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    quick = ["--model", "conv(6,3) relu pool(2) fc(10)", "--plan", "plain", "--epochs", "2"]
    assert main(["train", "digits", *quick, "--seed", "5", "--out", "first"]) == 0
    capsys.readouterr()
    words = ["--weights", "first", "--counts", "30,300,1300", "--seeds", "2", "--out", "run", "--json"]
    assert main(["learning-curve", "digits", *quick, *words]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads((tmp_path / "run" / "learning-curve.json").read_text())
    pretrained = document["pretrained"]
    assert [gain["n"] for gain in pretrained["gains"]] == [30, 300, max(point["n"] for point in document["points"])]
    assert len(pretrained["points"]) == len(document["points"]) == 6
    assert pretrained["gains"][0]["value"] > 0.03  # of 30 labels, by weights that saw all of them
    assert sum(point["of_run"] for point in document["points"]) == 1
    by_hand = [
        one["value"] - other["value"] for one, other in zip(pretrained["points"], document["points"], strict=True)
    ]
    assert pretrained["gains"][0]["by_seed"] == pytest.approx(by_hand[:2])


@pytest.mark.slow
def test_the_option_prints_and_writes(run, capsys):
    before = {path.name for path in run.iterdir()}
    capsys.readouterr()
    assert main(["eval", str(run), "--learning-curve", "--json"]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document == json.loads((run / "learning-curve.json").read_text())
    assert {path.name for path in run.iterdir()} == before | {"learning-curve.json"}
    assert (run / "plots" / "learning-curve.png").stat().st_size > 10_000
    metrics = json.loads((run / "metrics.json").read_text())
    whole = next(p for p in document["points"] if p["share"] == 1 and p["seed"] == 0)
    assert whole["value"] == pytest.approx(metrics["test"]["rmse"], rel=1e-5)
    with (run / "split.csv").open() as rows:
        assert whole["n"] == sum(row["split"] == "train" for row in csv.DictReader(rows))
    assert document["seeds"] == [0, 1, 2]
    assert "trainings on parts of the training samples" in err


@pytest.mark.slow
def test_a_run_trained_again_on_all_of_its_samples_is_the_run(run, tmp_path):
    again = tmp_path / "run"
    shutil.copytree(run, again)
    shutil.rmtree(again / "predictions", ignore_errors=True)
    found = striate.learning_curve(again, seeds=[0])
    whole = found.points[-1]
    assert not whole.of_run
    assert whole.value == pytest.approx(json.loads((run / "metrics.json").read_text())["test"]["rmse"], rel=1e-6)
    assert max(map(len, str(found).splitlines())) <= 80


@pytest.mark.slow
def test_what_it_cannot_do_is_refused(run, capsys):
    assert main(["eval", str(run), "boston", "--learning-curve"]) == 2
    assert f"striate eval {run} --learning-curve" in capsys.readouterr().err
    assert main(["eval", str(run / "nothing"), "--learning-curve"]) == 2
    assert "no such folder" in capsys.readouterr().err
