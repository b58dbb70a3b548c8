"""A user's whole path: a folder of pictures, to a run, to answers, to a repeat; in the words of the command line."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import striate
from striate.api import networks
from striate.cli import main

NETWORK = "conv(8,3) bn relu gap fc(3)"


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory: pytest.TempPathFactory, write_photos: Callable[..., Path], drawn: Any) -> Path:
    """A folder with `photos` and the `run` on them."""
    place, out = tmp_path_factory.mktemp("trained") / "place", io.StringIO()
    write_photos(place / "photos", 3, 20, 16)
    words = ["train", "photos", "--model", NETWORK, "--epochs", "25", "--lr", "0.05", "--out", "run", "--json"]
    with contextlib.chdir(place), contextlib.redirect_stdout(out), drawn():
        assert main([*words, "--set", "keep=best"]) == 0
    assert json.loads(out.getvalue()) == json.loads((place / "run/metrics.json").read_text())
    return place


@pytest.fixture
def run(trained_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The run, in the folder where it was made (its configuration names it), which is as it was afterwards."""
    kept = shutil.copytree(trained_once, tmp_path / "kept")
    monkeypatch.chdir(trained_once)
    yield Path("run")
    shutil.rmtree(trained_once)
    shutil.move(kept, trained_once)


def test_the_run_directory_holds_everything(run: Path) -> None:
    files = {str(p.relative_to(run)) for p in run.rglob("*") if p.is_file()}
    assert files >= {
        *("config.yaml", "metrics.csv", "metrics.json", "classes.txt", "split.csv", "env.json", "events.jsonl"),
        *("checkpoints/last.pt", "checkpoints/best.pt", "report.html", "plots/curves.png", "plots/confusion.png"),
    }
    assert not [f for f in files if f.endswith((".tmp", ".part"))]
    metrics = json.loads((run / "metrics.json").read_text())
    assert set(metrics) >= {
        *("task", "model", "data", "params", "macs", "epochs", "train_seconds", "images_per_second", "device"),
        *("plan", "train", "val", "test"),
    }
    for split in ("train", "val", "test"):
        assert set(metrics[split]) == {"n", "loss", "accuracy", "top5", "macro_f1", "accuracy_interval"}
        low, high = metrics[split]["accuracy_interval"]
        assert 0 <= low <= metrics[split]["accuracy"] <= high <= 1
    assert metrics["test"]["accuracy"] > 0.9
    assert metrics["params"] == 3 * 8 * 9 + 8 + 16 + 27
    assert metrics["macs"] == 14 * 14 * 8 * 27 + 8 * 3
    assert (run / "classes.txt").read_text() == "blue\ngreen\nred\n"
    rows = list(csv.DictReader((run / "split.csv").read_text().splitlines()))
    assert len(rows) == 60
    assert {r["split"] for r in rows} == {"train", "val", "test"}
    assert all(r["path"].startswith(r["label"] + "/") for r in rows)
    epochs = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))
    assert [int(row["epoch"]) for row in epochs] == list(range(1, 26))
    for line in (run / "events.jsonl").read_text().splitlines():
        json.loads(line)
    assert (run / "report.html").stat().st_size < 3_000_000


def test_a_checkpoint_is_plain_and_loads_without_executing_anything(run: Path) -> None:
    for name in ("last", "best"):
        content = torch.load(run / "checkpoints" / f"{name}.pt", weights_only=True)
        network = striate.build(NETWORK, (3, 16, 16), 3)
        network.load_state_dict(content["model"], strict=True)


def test_eval_repeats_the_test_figures(run: Path, capsys) -> None:
    assert main(["eval", "run", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    test = json.loads((run / "metrics.json").read_text())["test"]
    assert {k: document[k] for k in test} == test
    assert np.array(document["confusion"]).sum() == test["n"]
    assert main(["eval", "run"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_eval_on_other_data_matches_classes_by_name(run: Path, capsys) -> None:
    shutil.copytree("photos", "other")
    shutil.rmtree("other/green")
    assert main(["eval", "run", "other", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 40
    Path("other/red/000.png").write_text("text")
    assert main(["eval", "run", "other", "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["n"] == 39
    assert "red/000.png" in err
    Path("other/red").rename("other/crimson")
    assert main(["eval", "run", "other"]) == 2
    assert "crimson" in capsys.readouterr().err


def test_predict_answers_nine_and_names_the_tenth(run: Path, capsys) -> None:
    Path("new").mkdir()
    for i in range(9):
        color = ("red", "green", "blue")[i % 3]
        shutil.copy(f"photos/{color}/{i:03}.png", f"new/{color}{i}.png")
    Path("new/z.jpg").write_text("this is text")
    Path("new/notes.txt").write_text("not a picture")
    assert main(["predict", "run", "new", "--json"]) == 1
    out, err = capsys.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]
    assert len(lines) == 10
    for line in lines[:9]:
        assert set(line) == {"path", "label", "probability", "top"}
        assert line["label"] in line["path"]
        assert sum(p for _, p in line["top"]) == pytest.approx(1.0, abs=1e-5)
    assert set(lines[9]) == {"path", "error"}
    assert "z.jpg" in err
    assert main(["predict", "run", "new/red0.png"]) == 0
    assert "red" in capsys.readouterr().out


def test_load_answers_for_paths_pictures_and_arrays(run: Path) -> None:
    trained = striate.load(run)
    path = "photos/blue/003.png"
    one = trained.predict(path)
    assert one.label == "blue"
    assert one.probability > 0.5
    picture = Image.open(path)
    many = trained.predict([path, picture, np.asarray(picture).transpose(2, 0, 1)])
    assert [p.label for p in many] == [one.label] * 3
    assert all(torch.allclose(p.decoded, one.decoded, atol=1e-6) for p in many)  # a batch is summed in another order
    assert not trained.module.training
    assert striate.load(run / "checkpoints" / "best.pt").predict(path).fields == one.fields
    with pytest.raises(striate.StriateError, match="shape"):
        trained.predict(np.zeros((3, 8, 8), np.uint8))


def test_python_trains_evaluates_and_takes_any_module(photos, monkeypatch: pytest.MonkeyPatch) -> None:
    photos()
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 3))
    run = striate.train("photos", module, epochs=2, out="own", set={"optim.weight_decay": 0.1})
    assert run.metrics["params"] == 768 * 3 + 3
    assert "weight_decay: 0.1" in Path("own/config.yaml").read_text()
    fresh = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 3))
    trained = striate.load("own", module=fresh)
    assert striate.evaluate(trained, "photos").n == run.metrics["test"]["n"]
    here = striate.load("own").predict("photos/blue/003.png")
    assert here.fields == trained.predict("photos/blue/003.png").fields
    monkeypatch.setattr(networks, "_modules", {})  # as another process, which has not trained it
    with pytest.raises(striate.StriateError, match="module"):
        striate.load("own")


def test_a_function_in_a_file_is_a_network(photos) -> None:
    photos()
    Path("net.py").write_text(
        "import torch\n\ndef make(input_shape, classes):\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, classes))\n"
    )
    assert main(["train", "photos", "--model", "net.py:make", "--epochs", "1", "--out", "run"]) == 0
    assert striate.load("run").predict("photos/red/000.png").label in ("red", "green", "blue")


def test_the_best_epoch_is_kept_and_measured(run: Path) -> None:
    rows = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))
    best = max(rows, key=lambda row: (float(row["val_accuracy"]), -float(row["val_loss"]), int(row["epoch"])))
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["best_epoch"] == int(best["epoch"])
    assert metrics["val"]["accuracy"] == pytest.approx(float(best["val_accuracy"]))
    assert metrics["val"]["loss"] == pytest.approx(float(best["val_loss"]), rel=1e-5)


def test_eval_on_its_own_data_however_they_are_spelled_measures_the_test_split(run: Path, capsys) -> None:
    test = json.loads((run / "metrics.json").read_text())["test"]
    for spelled in ("photos", "./photos", str(Path("photos").absolute()), "photos/../photos"):
        assert main(["eval", "run", spelled, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["n"] == test["n"]
    loaded = striate.load(run)
    for measured in (striate.evaluate(loaded, "photos"), striate.evaluate(loaded)):
        assert (measured.split, measured.n, measured.metrics["accuracy"]) == ("test", test["n"], test["accuracy"])


def test_eval_says_which_samples_the_network_was_trained_on(run: Path, capsys) -> None:
    shutil.copytree("photos", "copy")
    assert main(["eval", "run", "copy", "--json"]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["split"] == "all"
    [finding] = [f for f in document["findings"] if f["code"] == "data.leak"]
    rows = list(csv.DictReader((run / "split.csv").read_text().splitlines()))
    for split, name in (("train", "training"), ("val", "validation")):
        count = sum(row["split"] == split for row in rows)
        assert f"{count} of {len(rows)} samples were in the {name} split" in finding["measured"]
    assert "data.leak" in err or "trained on" in err or "training" in err


def test_eval_refuses_when_the_runs_data_have_changed(run: Path, capsys) -> None:
    Path("photos/blue").rename("photos/zblue")
    assert main(["eval", "run"]) == 2
    assert "fingerprint" in capsys.readouterr().err


def test_eval_of_one_checkpoint_measures_that_one(run: Path, capsys) -> None:
    last = run / "checkpoints" / "last.pt"
    content = torch.load(last, weights_only=True)
    for name in {"model", "ema"} & content.keys():
        content[name] = {k: torch.zeros_like(v) for k, v in content[name].items()}
    torch.save(content, last)
    assert main(["eval", str(last), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] < 0.5
    assert main(["eval", str(run / "checkpoints" / "best.pt"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] > 0.9


@pytest.mark.slow
def test_a_run_of_a_file_works_from_any_folder_and_notices_a_change(photos, monkeypatch, capsys, tmp_path) -> None:
    photos()
    source = (
        "import torch\n\nprint('hello')\n\ndef make(input_shape, classes):\n"
        "    return Noisy(torch.nn.Flatten(), torch.nn.Linear(768, classes))\n\n"
        "class Noisy(torch.nn.Sequential):\n"
        "    def forward(self, x):\n        print('forward')\n        return super().forward(x)\n"
    )
    Path("net.py").write_text(source)
    words = ["train", "photos", "--model", "net.py:make", "--epochs", "1", "--out", "run", "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["params"] == 768 * 3 + 3
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["eval", "../run"]) == 0
    assert main(["train", "--config", "../run/config.yaml", "--out", "again"]) == 0
    capsys.readouterr()
    Path("../net.py").write_text(source + "# changed\n")
    assert main(["train", "--config", "../run/config.yaml", "--out", "changed"]) == 2
    assert "changed" in capsys.readouterr().err


def test_a_broken_link_among_good_files_is_one_unreadable_file(run: Path, capsys) -> None:
    Path("new").mkdir()
    shutil.copy("photos/red/000.png", "new/a.png")
    Path("new/b.png").symlink_to("nowhere.png")
    assert main(["predict", "run", "new", "--json"]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0]["label"] == "red"
    assert "error" in lines[1]


def test_what_is_no_checkpoint_is_told_in_plain_words(run: Path, capsys) -> None:
    assert main(["predict", "photos/red/000.png", "run"]) == 2
    err = capsys.readouterr().err
    assert "begins with" in err
    assert "weights_only" not in err


def test_a_grown_folder_is_measured_as_other_data_when_it_is_named(run: Path, capsys) -> None:
    shutil.copy("photos/red/000.png", "photos/blue/copy.png")
    assert main(["eval", "run"]) == 2
    capsys.readouterr()
    assert main(["eval", "run", "photos", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["split"], document["n"]) == ("all", 61)
    assert any(f["code"] == "data.leak" for f in document["findings"])


def test_an_empty_folder_is_no_answer(run: Path, capsys) -> None:
    Path("empty").mkdir()
    assert main(["predict", "run", "empty"]) == 2
    assert "no images" in capsys.readouterr().err


def test_what_nobody_foresaw_is_no_traceback(monkeypatch, capsys) -> None:
    from striate.runs import environment

    monkeypatch.setattr(environment, "describe_environment", lambda: 1 / 0)
    assert main(["env", "--json"]) == 2
    out, err = capsys.readouterr()
    assert "ZeroDivisionError" in json.loads(out)["error"]["got"]
    assert "Traceback" not in err
    monkeypatch.setenv("STRIATE_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        main(["env"])


def test_a_run_is_a_network_to_begin_from(run: Path, capsys) -> None:
    shutil.copytree("photos", "two")
    shutil.rmtree("two/green")
    words = ["train", "two", "--model", "run", "--epochs", "1", "--lr", "1e-6", "--out", "tuned"]
    assert main(words) == 0
    assert "the last layer" in capsys.readouterr().err
    saved = [torch.load(f"{r}/checkpoints/best.pt", weights_only=True) for r in ("run", "tuned")]
    old, new = (content.get("ema", content["model"]) for content in saved)
    assert torch.allclose(old["conv1.weight"], new["conv1.weight"], atol=1e-4)
    assert new["fc1.weight"].shape == (2, 8)
    shutil.rmtree("run")
    assert striate.load("tuned").predict("photos/red/000.png").label in ("red", "blue")
