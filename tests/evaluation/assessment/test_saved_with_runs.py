"""A run saves its evaluation and predictions; `evaluate` shows the same and computes them again if they are missing."""

from __future__ import annotations

import json
import re
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import striate
from answers_made import calibrated, data_of, evaluated, task_of
from striate.cli.main import main
from striate.errors import RunError
from striate.evaluation.assessment import assess_run, is_fully_saved, read_gap, read_temperature, save_assessment
from striate.runs.directory import open_run
from striate.runs.files import finite
from striate.runs.lock import owned
from striate.runs.predictions import read_predictions
from striate.statistics.estimate import plain

DOCUMENT = Path(__file__).parents[3] / "docs" / "evaluation.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photographs of two classes with noise, by two cameras; a manifest says which, and the test images are given."""
    place, rng = tmp_path_factory.mktemp("manifest"), np.random.default_rng(0)
    lines = ["path,label,split,camera"]
    for i in range(240):
        label, camera = i % 2, "old" if i % 3 == 0 else "new"
        pixels = rng.integers(0, 160, (8, 8, 3), dtype=np.uint8)
        pixels[..., label] += 12
        Image.fromarray(pixels).save(place / f"{i:03}.png")
        lines.append(
            f"{i:03}.png,{'red' if label == 0 else 'green'},{('train', 'val', 'test')[min(2, i // 80)]},{camera}"
        )
    (place / "all.csv").write_text("\n".join(lines) + "\n")
    return place


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    model = "conv(4,3) relu gap fc(2)"
    return striate.train(folder / "all.csv", model, epochs=20, out=out, set={"execution.plan": "plain", "keep": "last"})


@pytest.mark.slow
def test_the_files_agree_with_the_metrics(run):
    opened = open_run(run.path)
    document = json.loads(opened.evaluation.read_text())
    assert is_fully_saved(opened)
    for split in ("val", "test"):
        kept, metrics = read_predictions(opened, split), run.metrics[split]
        assert kept is not None
        assert (kept.predicted == kept.targets).mean() == pytest.approx(metrics["accuracy"])
        figures = document["splits"][split]["metrics"]
        assert figures["accuracy"]["value"] == pytest.approx(metrics["accuracy"])
        assert figures["accuracy"]["interval"] == pytest.approx(metrics["accuracy_interval"])
        assert figures["macro_f1"]["value"] == pytest.approx(metrics["macro_f1"])
        assert all(path.endswith(".png") for path in kept.paths)
    slices = document["splits"]["test"]["slices"]
    assert {entry["by"] for entry in slices} == {"class", "brightness", "camera"}
    assert document["gap"]["train"]["value"] == pytest.approx(run.metrics["train"]["accuracy"])


def test_evaluate_shows_what_was_kept_and_writes_nothing(run):
    opened = open_run(run.path)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    evaluation = striate.evaluate(run)
    kept = json.loads(opened.evaluation.read_text())
    shown = json.loads(json.dumps(finite(evaluation.to_json())))
    assert shown["assessment"] == kept["splits"]["test"]
    assert shown["temperature"] == kept["temperature"]
    assert shown["gap"] == kept["gap"]
    assert before == {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_what_is_missing_is_made_anew_to_the_last_bit(run):
    opened = open_run(run.path)
    files = [opened.evaluation, opened.predictions / "val.npz", opened.predictions / "test.npz"]
    before = [file.read_bytes() for file in files]
    for missing in files[:2]:
        missing.unlink()
        said = []
        striate.evaluate(run, announce=said.append)
        assert any("is missing" in line for line in said)
        assert [file.read_bytes() for file in files] == before


def test_other_data_have_the_temperature_of_the_run(run, folder):
    evaluation = striate.evaluate(run, folder / "all.csv")
    other = folder / "other.csv"
    other.write_text(
        "path,label\n" + "".join(f"{i:03}.png,{'red' if i % 2 == 0 else 'green'}\n" for i in range(160, 220))
    )
    foreign = striate.evaluate(run, other)
    assert foreign.n == 60
    assert foreign.temperature == evaluation.temperature == read_temperature(open_run(run.path))
    assert foreign.gap is None
    assert foreign.figures.mistakes[0].path.endswith(".png")
    assert "calibration: ECE" in str(foreign)


def test_calibrated_answers_are_those_of_the_temperature(run, folder, capsys):
    raw, warm = striate.load(run.path), striate.load(run.path, calibrated=True)
    value = read_temperature(open_run(run.path)).value
    photo = str(folder / "170.png")
    first, second = raw.predict(photo), warm.predict(photo)
    assert first.label == second.label
    lead, warm_lead = (float((answer.decoded[0] / answer.decoded[1]).log()) for answer in (first, second))
    assert warm_lead == pytest.approx(lead / value, rel=1e-3)
    assert main(["predict", str(run.path), photo, "--calibrated", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["probability"] == pytest.approx(second.probability)
    evaluated_so = striate.evaluate(warm, folder / "all.csv").metrics
    assert evaluated_so["accuracy"] == striate.evaluate(raw, folder / "all.csv").metrics["accuracy"]


def test_without_a_temperature_calibrated_answers_are_refused(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    (copy / "evaluation.json").unlink()
    with pytest.raises(RunError, match="no temperature"):
        striate.load(copy, calibrated=True)
    assert striate.load(copy).classes == ("green", "red")


@pytest.mark.parametrize("trains", [False, True])
def test_of_a_run_that_is_not_finished_that_is_told(run, folder, tmp_path, trains):
    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    for name in ("metrics.json", "evaluation.json"):
        (copy / name).unlink()
    remedy = r"wait until process \d+" if trains else f"striate train --resume {copy}"
    with owned(copy) if trains else nullcontext():
        measured = striate.evaluate(copy, folder / "all.csv")
        with pytest.raises(RunError, match="the run is not finished") as caught:
            striate.load(copy, calibrated=True)
    assert re.search(remedy, caught.value.remedy)
    assert re.search(rf"{copy} is not finished: .*{remedy}", " ".join(measured.notes))
    assert "could be fitted" not in str(measured)


def test_a_finished_run_without_a_temperature_is_not_measured_again(run, monkeypatch):
    monkeypatch.setattr("striate.api.networks.read_temperature", lambda _: None)
    with pytest.raises(RunError, match="no temperature") as caught:
        striate.load(run.path, calibrated=True)
    assert caught.value.remedy == "leave out calibrated"


def test_test_data_choose_nothing():
    """With other labels in the test split, all that is said of validation stays."""
    parts = {
        name: evaluated(*calibrated(300, 3, seed=k), split=name) for k, name in enumerate(("train", "val", "test"))
    }
    other = parts | {"test": evaluated(parts["test"].targets[::-1].copy(), parts["test"].decoded)}
    ours, theirs = (
        assess_run(task_of(evaluations["test"]), data_of(300), evaluations) for evaluations in (parts, other)
    )
    assert ours.splits["val"] == theirs.splits["val"]
    assert (ours.temperature, ours.gap) == (theirs.temperature, theirs.gap)
    assert ours.splits["test"].metrics != theirs.splits["test"].metrics


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"temperature": 3}', '{"temperature": {"value": -1, "interval": [0, 1]}}']
)
def test_a_damaged_record_is_none(tmp_path, text):
    (tmp_path / "config.yaml").write_text("")
    opened = open_run(tmp_path)
    opened.evaluation.write_text(text)
    assert not is_fully_saved(opened)
    assert read_temperature(opened) is None
    assert read_gap(opened) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"value": 1e-320, "interval": [0, 1]},
        {"value": 0.009, "interval": [0, 1]},
        {"value": 101, "interval": [1, 200]},
        {"value": True},
        {"value": "1.2"},
        {"value": 10**400},
        {"value": float("nan")},
        {"interval": [1.3, 1.5]},
        {"interval": [1, False]},
        {"nll": float("inf")},
        {"fitted_on": "test"},
        {"fitted_on": 3},
        {"n": 0},
        {"n": True},
    ],
    ids=str,
)
def test_a_temperature_that_no_fit_gives_is_none(tmp_path, changed):
    (tmp_path / "config.yaml").write_text("")
    opened = open_run(tmp_path)
    written = {"value": 1.2, "interval": [1.1, 1.4], "fitted_on": "val", "n": 40, "few": ""}
    written |= {"nll": 0.5, "nll_after": 0.4}
    opened.evaluation.write_text(json.dumps({"temperature": written}))
    assert read_temperature(opened).value == 1.2
    opened.evaluation.write_text(json.dumps({"temperature": written | changed}))
    assert read_temperature(opened) is None


def test_numbers_are_kept_too(tmp_path):
    rng = np.random.default_rng(0)
    truth = {name: rng.normal(20, 5, (60, 1)).astype(np.float32) for name in ("train", "val", "test")}
    parts = {name: evaluated(values, values + 1, task="regress", split=name) for name, values in truth.items()}
    (tmp_path / "config.yaml").write_text("")
    opened, data = open_run(tmp_path), data_of(60, names=("price",))
    assessment = assess_run(task_of(parts["test"]), data, parts)
    save_assessment(opened, assessment, data, parts, print)
    kept = read_predictions(opened, "test")
    np.testing.assert_array_equal(kept.predictions - kept.targets, 1)
    document = json.loads(opened.evaluation.read_text())
    assert document["temperature"] is None
    assert document["splits"]["test"]["metrics"]["bias"]["value"] == pytest.approx(1)
    assert is_fully_saved(opened)
    text = str(replace(parts["test"], figures=assessment.splits["test"], gap=plain(assessment.gap)))
    assert "by true value" in text
    assert max(map(len, text.splitlines())) <= 80


def test_every_key_is_documented(run):
    page = DOCUMENT.read_text(encoding="utf-8")
    document = json.loads(open_run(run.path).evaluation.read_text())

    def keys(value):
        if isinstance(value, dict):
            for key, item in value.items():
                yield key
                yield from keys(item)
        elif isinstance(value, list):
            for item in value:
                yield from keys(item)

    prefixed = re.compile(r"(macro|weighted)_(precision|recall|f1)")
    missing = {key for key in keys(document) if not prefixed.fullmatch(key) and not re.search(rf"\b{key}\b", page)}
    assert not missing


def test_plain_values_alone_go_into_json():
    assert plain({"a": (np.float32(0.5), np.int64(3), None)}) == {"a": [0.5, 3, None]}


def test_groups_are_kept_and_compared_by(folder, tmp_path):
    text = (folder / "all.csv").read_text().splitlines()
    header, rows = text[0], text[1:]
    path = folder / "grouped.csv"
    path.write_text("\n".join([f"{header},group", *(f"{row},g{i // 4}" for i, row in enumerate(rows))]) + "\n")
    runs = [
        striate.train(path, "conv(2,3) relu gap fc(2)", epochs=1, seed=seed, out=tmp_path / f"{seed}").path
        for seed in (0, 1)
    ]
    kept = read_predictions(open_run(runs[0]), "test")
    assert kept.groups
    assert kept.groups == tuple(f"g{int(Path(name).stem) // 4}" for name in kept.paths)
    (pair,) = striate.compare(runs).pairs
    assert pair.difference.test == f"paired permutation of {len(set(kept.groups))} groups"
