"""`striate predict` on many files: in order, bounded, whatever lies among them."""

from __future__ import annotations

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import striate
from striate.api.predicting import predict_files
from striate.cli import predict as verb
from striate.cli.main import main
from striate.data.dataset import Preparation
from striate.data.media.image import image_medium
from striate.data.normalize import Normalization
from striate.errors import DataError, UsageError
from striate.tasks.classify.task import Classify
from striate.training.trained import Trained

CLASSES = ("dark", "bright")


def brightness() -> Trained:
    """A network that tells dark pictures from bright ones."""
    module = nn.Sequential(nn.Conv2d(1, 2, 8), nn.Flatten())
    with torch.no_grad():
        module[0].weight[0], module[0].weight[1] = -0.1, 0.1
        module[0].bias.zero_()
    preparation = Preparation("image", (1, 8, 8))
    return Trained(
        module, Classify(CLASSES), preparation, Normalization((127.5,), (73.0,)), CLASSES, torch.device("cpu")
    )


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Trained:
    """What `striate predict` loads, from whatever path."""
    made = brightness()
    monkeypatch.setattr("striate.api.predicted_lines.load", lambda _: made)
    return made


def write_pictures(folder: Path, count: int) -> list[str]:
    """Dark and bright pictures in turn; every seventh file is none. The class of each, "" for what is none."""
    folder.mkdir()
    labels = []
    for number in range(count):
        file = folder / f"{number:05}.png"
        bright = number % 2 == 1
        if number % 7 == 3:
            file.write_bytes(b"no picture")
        else:
            Image.fromarray(np.full((8, 8), 200 if bright else 20, np.uint8)).save(file)
        labels.append("" if number % 7 == 3 else CLASSES[bright])
    return labels


def test_answers_come_in_order_with_unreadable_files_among_them(trained: Trained, capsys) -> None:
    labels = write_pictures(Path("many"), 300)
    assert main(["predict", "any", "many", "--json"]) == 1
    out, err = capsys.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["path"] for line in lines] == [f"many/{number:05}.png" for number in range(300)]
    assert [line.get("label", "") for line in lines] == labels
    assert f"{labels.count('')} of 300 files could not be read" in err


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("count", [600, 1500])
def test_what_is_decoded_and_not_yet_answered_is_bounded(
    trained: Trained, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    most, now, lock = 0, 0, threading.Lock()
    decode = image_medium.decode_image

    def counted(*arguments: object) -> np.ndarray:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        return decode(*arguments)

    predict_batch = Trained.predict_batch

    def answered(self: Trained, batch: list[np.ndarray], answering: object, placed: object = ()) -> object:
        nonlocal now
        with lock:
            now -= len(batch)
        return predict_batch(self, batch, answering, placed)

    monkeypatch.setattr(image_medium, "decode_image", counted)
    monkeypatch.setattr(Trained, "predict_batch", answered)
    monkeypatch.setattr("striate.inference.predictor.LEAST_FEW", 10**9)
    folder = Path("same")
    folder.mkdir()
    Image.fromarray(np.full((8, 8), 20, np.uint8)).save("one.png")
    for number in range(count):
        (folder / f"{number:05}.png").symlink_to(Path("one.png").resolve())
    assert main(["predict", "any", "same", "--json"]) == 0
    assert now == 0
    assert most <= 3 * 8 * 16 + 64 + 8  # pieces in the hands of at most eight threads, and a batch


@pytest.mark.slow
def test_many_pictures_are_answered_as_planned_and_plainly_where_asked(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    labels = write_pictures(Path("many"), 300)
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("striate.inference.predictor.LEAST_TOTAL", 250)
    monkeypatch.setattr("striate.inference.predictor.LEAST_SECONDS", 0.0)
    monkeypatch.setattr("striate.inference.choose._SEARCH_SHARE", 1e9)
    monkeypatch.setattr("striate.inference.choose.bf16_on_cpu", lambda: True)
    monkeypatch.setattr("striate.inference.choose.bf16_pays_on_cpu", lambda: True)
    rates = iter(range(1, 100))
    monkeypatch.setattr("striate.inference.choose._rates", lambda *_: (2.0 * next(rates), 1.0, 1.0))
    assert main(["predict", "any", "many", "--json"]) == 1
    out, err = capsys.readouterr()
    assert "predictions computed in bf16, channels_last, fused" in err
    assert [json.loads(line).get("label", "") for line in out.splitlines()] == labels
    assert main(["predict", "any", "many", "--json", "--plan", "plain"]) == 1
    plain = capsys.readouterr()
    assert "predictions computed" not in plain.err
    assert [json.loads(line).get("label", "") for line in plain.out.splitlines()] == labels


def test_in_python_plain_is_asked_for_too(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LEAST_TOTAL", "LEAST_FEW"):
        monkeypatch.setattr(f"striate.inference.predictor.{name}", 2)
    monkeypatch.setattr("striate.inference.predictor.LEAST_SECONDS", 0.0)

    def looked(*_: object, **__: object) -> None:
        raise AssertionError("looked for a way")

    monkeypatch.setattr("striate.inference.predictor._make_trial", looked)
    arrays = [np.full((8, 8), value, np.uint8) for value in (20, 200, 20)]
    with pytest.raises(AssertionError, match="looked"):
        trained.predict(arrays)
    assert [found.label for found in trained.predict(arrays, plan="plain")] == ["dark", "bright", "dark"]
    for images in (arrays, arrays[0]):
        with pytest.raises(UsageError, match="'palin'"):
            trained.predict(images, plan="palin")


def test_where_hardly_any_file_is_a_picture_nothing_is_planned(
    trained: Trained, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr("striate.inference.predictor.LEAST_TOTAL", 20)
    Path("none").mkdir()
    for number in range(40):
        (Path("none") / f"{number}.png").write_bytes(b"no picture")
    assert main(["predict", "any", "none"]) == 1
    assert "40 of 40 files could not be read" in capsys.readouterr().err


def test_a_bar_is_drawn_only_on_a_terminal_whose_answers_go_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    with verb._progress(10_000) as advance:  # stderr is no terminal here
        assert advance() is None


def test_a_python_list_of_paths_is_answered_in_order(trained: Trained) -> None:
    labels = write_pictures(Path("many"), 30)
    paths = [f"many/{number:05}.png" for number in range(30) if labels[number]]
    assert [found.label for found in trained.predict(paths)] == [label for label in labels if label]
    shutil.rmtree("many")
    arrays = [np.full((8, 8), value, np.uint8) for value in (20, 200, 20)]
    assert [found.label for found in trained.predict(arrays)] == ["dark", "bright", "dark"]
    assert trained.predict([]) == []


def test_samples_of_named_sets_are_predicted_among_files(trained: Trained, capsys) -> None:
    write_pictures(Path("pictures"), 2)
    words = ["predict", "run", "digits#3", "pictures", "digits#4", "--json"]
    assert main(words) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["path"] for line in lines] == ["digits#3", "pictures/00000.png", "pictures/00001.png", "digits#4"]
    assert all(line["label"] in CLASSES for line in lines)


@pytest.mark.parametrize("sample", ["digits#99999", "digits", "iris#1", "nothing#1"])
def test_a_sample_that_there_is_not_is_refused(trained: Trained, capsys, sample: str) -> None:
    assert main(["predict", "run", sample]) == 2
    assert f"error: {sample}\n" in capsys.readouterr().err


def lines_of(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[dict]]:
    code = main(["predict", "run", *words, "--json"])
    return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("linked", [False, True])
def test_a_missing_path_is_an_error_among_predictions(trained: Trained, tmp_path: Path, capsys, linked: bool) -> None:
    write_pictures(tmp_path / "in", 2)
    if linked:
        (tmp_path / "nope.png").symlink_to(tmp_path / "gone.png")
    there = str(tmp_path / "in" / "00001.png")
    code, lines = lines_of(capsys, there, str(tmp_path / "nope.png"), there)
    assert code == 1
    assert [line.get("label") for line in lines] == ["bright", None, "bright"]
    assert lines[1]["error"] == "no such file or folder"
    assert lines_of(capsys, str(tmp_path / "nope.png"))[0] == 2


@pytest.mark.parametrize("name", ["x", "images", "X_test", "whatever"])
def test_arrays_are_predicted_one_by_one(trained: Trained, tmp_path: Path, capsys, name: str) -> None:
    file = tmp_path / "new.npz"
    np.savez(file, **{name: np.stack([np.full((12, 8), level, np.uint8) for level in (20, 200, 30)])})
    code, lines = lines_of(capsys, str(file))
    assert (code, [line["label"] for line in lines]) == (0, ["dark", "bright", "dark"])
    assert lines[1]["path"] == f"{file}#{'test/' if '_' in name else ''}1"


@pytest.fixture
def of_tables(monkeypatch: pytest.MonkeyPatch) -> Trained:
    module = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]))
    preparation = Preparation("table", (2,))
    normalization = Normalization((0.0, 0.0), (1.0, 1.0))
    made = Trained(module, Classify(CLASSES), preparation, normalization, CLASSES, torch.device("cpu"))
    monkeypatch.setattr("striate.api.predicted_lines.load", lambda _: made)
    return made


def test_rows_of_a_table_are_predicted(of_tables: Trained, tmp_path: Path, capsys) -> None:
    np.savez(tmp_path / "rows.npz", x=np.array([[-5.0, 1.0], [5.0, 1.0]]))
    (tmp_path / "rows.csv").write_text("light;size\n-5;1\n5;1\n")
    np.save(tmp_path / "rows.npy", np.array([[-5.0, 1.0], [5.0, 1.0]]))
    for file in ("rows.npz", "rows.csv", "rows.npy"):
        assert [line["label"] for line in lines_of(capsys, str(tmp_path / file))[1]] == list(CLASSES)
    np.save(tmp_path / "one.npy", np.array([-5.0, 1.0]))
    assert lines_of(capsys, str(tmp_path / "one.npy"))[1][0]["path"] == str(tmp_path / "one.npy")
    for name in ("rows.npz#0", "rows.csv#0", "one.npy"):
        explained = striate.explain(of_tables, str(tmp_path / name), "saliency")
        assert (explained.subject, explained.input.tolist()) == (str(tmp_path / name), [-5.0, 1.0])
    for name, got in (("rows.npz#2", "no such sample"), ("rows.npz", "2 samples")):
        with pytest.raises(DataError) as refused:
            striate.explain(of_tables, str(tmp_path / name), "saliency")
        assert (refused.value.got, refused.value.remedy) == (got, str(tmp_path / "rows.npz#0"))
    with pytest.raises(DataError, match="give an array of exactly this shape"):
        of_tables.predict([5.0, 1.0])


@pytest.mark.usefixtures("of_tables", "own_folder")
def test_a_row_of_a_table_is_typed(capsys) -> None:
    code, lines = lines_of(capsys, "5,1", "1, 2, 3", "5,nan")
    assert (code, [line["path"] for line in lines]) == (1, ["5,1", "1, 2, 3", "5,nan"])
    assert [line.get("label", line.get("error")) for line in lines] == [
        "bright",
        "3 numbers for 2 features of the table",
        "no such file or folder",
    ]
    assert main(["predict", "run", "--json", "--", "-5.5,1"]) == 0
    assert json.loads(capsys.readouterr().out)["label"] == "dark"
    assert main(["predict", "run", "5"]) == 2
    assert "remedy:   0,0\n" in capsys.readouterr().err


def test_columns_of_a_table_are_found_by_name(of_tables: Trained, own_folder: Path, capsys, monkeypatch) -> None:
    named = replace(of_tables, preparation=Preparation("table", (2,), features=("Light [lx]", "size")))
    monkeypatch.setattr("striate.api.predicted_lines.load", lambda _: named)
    for header, row in (("Size (cm),light", "1,-5"), ("light,size", "-5,1"), ("", "-5,1")):
        Path("rows.csv").write_text(f"{header}\n{row}\n")
        assert lines_of(capsys, "rows.csv")[1][0]["label"] == "dark"
    Path("rows.csv").write_text("weight,size\n-5,1\n")
    assert main(["predict", "run", "rows.csv"]) == 2
    error = capsys.readouterr().err
    assert "line 1" in error
    assert "weight and size, without Light [lx]" in error


def test_a_run_of_a_named_table_takes_its_samples_and_knows_its_features(tmp_path: Path) -> None:
    run = striate.train("iris", "mlp(2)", epochs=1, out=tmp_path / "run")
    trained = striate.load(run.path)
    assert trained.preparation.features[0] == "sepal length [cm]"
    (line,) = predict_files(trained, ["iris#3"])
    assert line.prediction is not None
    assert line.prediction.fields == trained.predict("iris#3").fields
    assert striate.explain(trained, "iris#3", "saliency").input.tolist() == pytest.approx([4.6, 3.1, 1.5, 0.2])
    with pytest.raises(DataError, match="images, not a table"):
        trained.predict("digits#3")


def test_a_bad_table_and_a_picture_are_errors_among_predictions(of_tables: Trained, own_folder: Path, capsys) -> None:
    tables = {"right": "-5,1", "word": "light,size\n5,1\n5,x", "empty": "5,1\n5,", "wide": "-5,1,dark", "short": "5"}
    for name, text in tables.items():
        Path(f"{name}.csv").write_text(f"{text}\n")
    Path("a.png").touch()
    Path("a.npz").touch()
    code, lines = lines_of(capsys, "right.csv", "word.csv", "empty.csv", "wide.csv", "short.csv", "a.png", "a.npz")
    assert (code, lines[0]["path"], lines[0]["label"]) == (1, "right.csv#0", "dark")
    assert [line["path"] for line in lines[1:]] == ["word.csv", "empty.csv", "wide.csv", "short.csv", "a.png", "a.npz"]
    expected = [
        "line 3: 'x' in the column size;",
        "line 2: '' in the column 2;",
        "line 1: 3 fields;",
        "line 1: 1 field;",
    ]
    for line, begin in zip(lines[1:], [*expected, "an image, sound", ""], strict=True):
        assert line["error"].startswith(begin)
    for name, remedy in (("word", "correct it"), ("wide", "leave out other columns"), ("short", "add the columns")):
        assert main(["predict", "run", f"{name}.csv"]) == 2
        assert f"remedy:   {remedy}" in capsys.readouterr().err


def test_a_class_is_written_below_the_picture(digits_run: Path, tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 12), 90, np.uint8)).save(tmp_path / "wide.png")
    assert main(["predict", str(digits_run), str(tmp_path / "wide.png"), "--draw", str(tmp_path / "drawn")]) == 0
    with Image.open(tmp_path / "drawn" / "wide.png") as drawn:
        pixels = np.asarray(drawn)
    assert pixels.shape[0] > pixels.shape[1]  # of the picture, and of lines of text
    assert (pixels[-40:].min(), pixels[-40:].max()) == (0, 255)


def test_samples_that_are_no_files_are_drawn(trained: Trained, capsys) -> None:
    """Once `predict digits#3 --draw` looked for a file of that name."""
    np.savez("arrays.npz", x=np.stack([np.full((8, 8), value, np.uint8) for value in (20, 200)]))
    assert main(["predict", "any", "digits#3", "arrays.npz", "--draw", "drawn", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    names = ["drawn/digits#3.png", "drawn/arrays#0.png", "drawn/arrays#1.png"]
    assert [line["drawn"] for line in lines] == names
    drawn = [np.asarray(Image.open(name).convert("L")) for name in names[1:]]
    assert [pixels[80, 75] for pixels in drawn] == [20, 200]  # below the edge, above the words


def test_a_missing_argument_is_named_with_its_help(capsys) -> None:
    assert main(["predict", "run"]) == 2
    err = capsys.readouterr().err
    assert "no PATH" in err
    assert "images, folders that are searched for images, and samples of named data sets: digits#3" in err
