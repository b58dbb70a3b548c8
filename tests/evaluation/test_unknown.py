"""What a classifier does not know: sets with a promise, unknown classes, drift."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from striate.cli import main
from striate.evaluation.drift import measure_drift, picture_quantities
from striate.evaluation.unknown import measure_sets

Colors = dict[str, tuple[int, int, int]]


def _pictures(
    folder: Path, classes: dict[str, tuple[int, int, int]], count: int, seed: int = 0, bright: int = 0
) -> Path:
    rng = np.random.default_rng(seed)
    for name, color in classes.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = np.clip(rng.normal(np.array(color) + bright, 30, (12, 12, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number:03}.png")
    return folder


KNOWN = {"red": (170, 60, 60), "green": (60, 170, 60), "blue": (60, 60, 170)}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("known")
    data = _pictures(folder / "colors", KNOWN, 80)
    words = ["train", str(data), "--model", "conv(8,3,pad=1) bn relu pool(2) conv(8,3,pad=1) bn relu gap fc(3)"]
    words += ["--epochs", "4", "--batch", "16", "--plan", "plain", "--data.val_fraction", "0.2"]
    with torch.random.fork_rng():
        assert main([*words, "--out", str(folder / "run")]) == 0
    return folder / "run"


def _said(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> Any:
    capsys.readouterr()
    assert main([*map(str, words), "--json"]) == code
    out = capsys.readouterr().out
    return [json.loads(line) for line in out.splitlines()] if words[0] == "predict" else json.loads(out)


def test_unknown_things_are_told_from_known_ones(run: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    other = _pictures(tmp_path / "other", {"gray": (110, 110, 110), "white": (230, 230, 230)}, 15)
    found = _said(capsys, "eval", run, "--unknown", other)
    assert set(found["scores"]) == {"all", "probability", "features", "layers"}
    assert (found["n_unknown"], found["n_known"]) == (30, 48)
    assert found["auroc"] == found["scores"]["all"]["auroc"] > 0.8
    assert 0 <= found["fpr95"] <= 1
    low, high = found["auroc_interval"]
    assert low <= found["auroc"] <= high
    assert [row["rate"] for row in found["sets"]] == [0.05, 0.1], "48 validation samples cannot promise 1 %"
    monkeypatch.chdir(tmp_path)
    assert main(["eval", str(run), "--unknown", "other"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
    assert main(["eval", str(run), "--unknown", str(other), "--robustness"]) == 2


def test_what_is_turned_down_has_a_reason(run: Path, tmp_path: Path, capsys) -> None:
    new = _pictures(tmp_path / "new", KNOWN | {"gray": (110, 110, 110)}, 8, seed=3)
    lines = _said(capsys, "predict", run, new, "--reject", "0.05")
    plain = _said(capsys, "predict", run, new)
    for line, before in zip(lines, plain, strict=True):
        assert (line["label"] is None) == (len(line["set"]) != 1) == ("reason" in line)
        assert line["label"] in (None, before["label"]) or line["set"] == [line["label"]]
        if line["label"] is None:
            assert line["reason"].startswith("none of these" if not line["set"] else "undecided")
    kinds = [Path(line["path"]).parent.name for line in lines]
    down = [line["label"] is None for line in lines]
    share = {kind: np.mean([d for k, d in zip(kinds, down, strict=True) if k == kind]) for kind in set(kinds)}
    assert share["gray"] > max(share[name] for name in KNOWN)
    assert main(["predict", str(run), str(new), "--reject", "0.001"]) == 2
    assert "--reject 0.02" in capsys.readouterr().err


def test_drift_is_found_where_there_is_some(run: Path, tmp_path: Path, capsys) -> None:
    same = _pictures(tmp_path / "same", KNOWN, 40, seed=5)
    brighter = _pictures(tmp_path / "brighter", KNOWN, 40, seed=6, bright=60)
    calm = _said(capsys, "data", "check", same, "--against", run)
    assert not calm["drifts"]
    assert not calm["findings"]
    found = _said(capsys, "data", "check", brighter, "--against", run, code=1)
    assert found["findings"][0]["code"] == "data.drift"
    assert found["auc"] > 0.8
    assert next(row for row in found["shifts"] if row["quantity"] == "brightness")["differs"]
    assert main(["data", "check", str(brighter), "--against", str(run)]) == 1
    assert max(map(len, capsys.readouterr().out.replace(str(tmp_path), "").splitlines())) <= 120


def test_drift_needs_no_pictures() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4)).astype(np.float32)
    paths = tuple(map(str, range(100)))
    alike = measure_drift(x[:100], x[100:], None, paths, run="a", data="b")
    assert not alike.drifts
    contents = [row.tobytes() for row in x]
    itself = measure_drift(x[:100], x, None, paths * 2, contents=(contents[:100], contents), run="a", data="b")
    assert itself.same == 100
    assert itself.auc_interval.low < 0.5 < itself.auc_interval.high
    assert "  100 new samples are also held-out ones of the run" in itself.lines()
    moved = measure_drift(x[:100], x[100:] + 2, None, paths, run="a", data="b")
    assert moved.drifts
    assert moved.findings[0].severity == "error"
    quantities = picture_quantities(np.stack([np.zeros((1, 8, 8)), np.full((1, 8, 8), 200)]).astype(np.uint8))
    assert quantities[:, 0].tolist() == [0, 200]
    assert quantities[:, 1:].tolist() == [[0, 0], [0, 0]]


@pytest.mark.slow
def test_coverage_on_twenty_splits_of_digits() -> None:
    """Within a point of what is promised, on average over twenty dealings of calibration and test."""
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    x, y = load_digits(return_X_y=True)
    for rate in (0.01, 0.05, 0.1):
        held = []
        for seed in range(20):
            order = np.random.default_rng(seed).permutation(len(y))
            train, val, test = order[:500], order[500:1100], order[1100:]
            made = LogisticRegression(C=0.1, max_iter=2000).fit(x[train] / 16, y[train])
            of_val, of_test = made.predict_proba(x[val] / 16), made.predict_proba(x[test] / 16)
            (found,) = measure_sets((of_val, y[val]), (of_test, y[test]), of_test, [rate])
            held.append(found.coverage)
        assert np.mean(held) == pytest.approx(1 - rate, abs=0.01)
        assert math.isfinite(np.std(held))
