"""`striate baseline` and `striate train --baseline`, as a user runs them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import striate
from striate.api import baselines
from striate.cli import main
from striate.cli.fields import chosen_fields
from striate.errors import UsageError

TINY = ["--model", "conv(4,3) relu pool(2) fc(3)", "--epochs", "1"]


def test_the_table(capsys) -> None:
    assert main(["baseline", "iris"]) == 0
    out, err = capsys.readouterr()
    assert "majority class" in out
    assert "logistic regression" in out
    assert "On the test split of iris, n = 30" in out
    assert "iris: 105 train, 15 val, 30 test" in err


def test_a_table_too_wide_has_a_line_a_figure_under_the_names_of_its_task(capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    rng = np.random.default_rng(0)
    for k in range(9):
        (tmp_path / f"c{k}").mkdir()
        for i in range(10):
            pixels = rng.integers(20 * k, 20 * k + 40, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"c{k}" / f"{i}.png")
    assert main(["baseline", str(tmp_path), "--task", "embed"]) == 0
    heads = [line[:13].strip() for line in capsys.readouterr().out.splitlines()]
    for head in ("method", "95 % interval", "AUC of pairs", "recall@1", "learned from", "seconds"):
        assert head in heads


def test_json_and_fields_of_the_data(capsys, photos: Callable[..., Path]) -> None:
    folder = str(photos())
    assert main(["baseline", folder, "--size", "12", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["data"] == folder
    names = [entry["name"] for entry in document["baselines"]]
    linear = ["HOG + color + linear SVM", "k-means features + linear SVM"]
    assert names == ["majority class", "logistic regression", *linear]
    assert document["baselines"][2]["accuracy"] == 1.0
    counts = {}
    for fraction in ("0.2", "0.5"):
        assert main(["baseline", folder, "--data.test_fraction", fraction, "--json"]) == 0
        counts[fraction] = json.loads(capsys.readouterr().out)["baselines"][0]["n"]
    assert counts["0.5"] > counts["0.2"]
    assert main(["baseline", folder, "--data.channels", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["baselines"][2]["name"] == "HOG + linear SVM"


def test_what_could_not_be_read_is_in_the_document_and_the_exit_code(capsys, photos: Callable[..., Path]) -> None:
    folder = photos(classes=2)
    (folder / "red" / "000.png").write_bytes(b"no picture")
    assert main(["baseline", str(folder), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert {"data", "baselines", "notes", "findings"} <= set(document)
    assert document["notes"]
    assert any("000.png" in json.dumps(finding) for finding in document["findings"])
    assert main(["baseline", str(folder)]) == 1
    assert "majority class" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["iris", "--optim.lr", "0.1"], "leave out --optim.lr"),
        (["iris", "--task.loss", "hinge"], "leave out --task.loss"),
        (["boston", "--task.class_weights", "balanced"], "classes, which have weights"),
        (["iris", "--size", "12"], "size"),
        (["iris", "--task", "segment"], "masks"),
        (["no/such/folder"], "path that exists"),
        (["iris", "--seed", "1", "--set", "seed=2"], "one value"),
        (["iris", "--set", "seed"], "FIELD=VALUE"),
    ],
)
def test_wrong_requests_are_refused(capsys, words: list[str], said: str) -> None:
    assert main(["baseline", *words]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error:")
    assert said in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_training_beside_its_baselines(capsys, photos: Callable[..., Path]) -> None:
    folder = str(photos())
    assert main(["train", folder, *TINY, "--baseline", "--out", "run"]) == 0
    out, err = capsys.readouterr()
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert metrics["baselines"][0]["name"] == "majority class"
    for entry in metrics["baselines"]:
        assert entry["n"] == metrics["test"]["n"]
        assert entry["comparison"]["sentence"] in out
        assert f"baseline: {entry['name']}" in err
    assert out.index("test:") < out.index("baselines on the same") < out.index("run:")
    assert yaml.safe_load(Path("run/config.yaml").read_text())["baseline"] is True
    assert "Is the network worth it?" in Path("run/report.html").read_text()
    assert Path("run/plots/baselines.png").exists()
    # The same data without a network: the same figures.
    assert main(["baseline", "--config", "run/config.yaml", "--json"]) == 0
    alone = json.loads(capsys.readouterr().out)["baselines"]
    assert [entry["accuracy"] for entry in alone] == [entry["accuracy"] for entry in metrics["baselines"]]


def test_without_the_option_nothing_is_fitted(capsys, photos: Callable[..., Path]) -> None:
    assert main(["train", str(photos()), *TINY, "--out", "run"]) == 0
    out, err = capsys.readouterr()
    assert "beside it" not in out
    assert "baseline" not in err
    assert "baselines" not in json.loads(Path("run/metrics.json").read_text())
    assert "Is the network worth it?" not in Path("run/report.html").read_text()
    assert not Path("run/plots/baselines.png").exists()


@pytest.mark.slow
def test_from_python() -> None:
    run = striate.train("iris", epochs=1, baseline=True, out="run")
    assert {entry["name"] for entry in run.metrics["baselines"]} == {"majority class", "logistic regression"}
    said: list[str] = []
    found = baselines("boston", set={"data.split_seed": 1}, announce=said.append)
    assert [entry.name for entry in found] == ["mean", "ridge regression", "gradient boosting"]
    assert said[0] == "boston: 354 train, 51 val, 101 test"


@pytest.mark.slow
def test_shuffled_labels_and_the_network_beats_nothing(photos: Callable[..., Path]) -> None:
    """A planted fault: every class holds pictures of all colors, so there is nothing to learn."""
    folder = photos(each=24)
    classes = sorted(folder.iterdir())
    for k, file in enumerate(sorted(folder.rglob("*.png"))):
        file.rename(classes[k // 3 % 3] / f"{k:03}-again.png")
    run = striate.train(str(folder), "conv(4,3) relu pool(2) fc(3)", epochs=2, baseline=True, out="run")
    for entry in run.metrics["baselines"]:
        assert entry["accuracy"] < 0.75
        assert entry["comparison"]["beats"] is False
        assert entry["comparison"]["sentence"].startswith("The network does not beat")
    assert "The network does not beat" in run.report.read_text()


def test_options_and_assignments_agree_or_are_refused() -> None:
    assert chosen_fields({"seed": None, "baseline": True}, ["baseline=true", "optim.lr=null"]) == {
        "baseline": "true",
        "optim.lr": None,
    }
    with pytest.raises(UsageError, match="both 1 and 2"):
        chosen_fields({"seed": 1}, ["seed=2"])
    with pytest.raises(UsageError, match=r"both 4 and 3(.|\n)*leave out --epochs 4"):
        chosen_fields({"budget.epochs": "4"}, ["budget.epochs=3"])  # the option that was typed
    assert chosen_fields({}, ["seed=1", "seed=1"]) == {"seed": "1"}
    with pytest.raises(UsageError, match=r"both 1 and 2(.|\n)*give one of them: --seed 2"):
        chosen_fields({}, ["seed=1", "seed=2"])
