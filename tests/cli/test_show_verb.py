"""`striate show` writes a picture and its numbers, says what they are of, and refuses what it cannot draw."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest
from PIL import Image

import striate
from quick import few_quick
from striate.api.showing import WHATS
from striate.cli import main

SMALL = "conv(6,3) relu pool(2) conv(8,3) relu fc(10)"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch: to be read only."""
    return striate.train("digits", SMALL, epochs=1, out=tmp_path_factory.mktemp("runs") / "digits").path


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("what", few_quick(WHATS, WHATS[::6]))
def test_each_picture_is_written_with_its_numbers(what: str, digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(digits), what, "--json", "--out", "x.png"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["what"], record["model"], record["path"]) == (what, "digits", "x.png")
    assert record["words"]
    with Image.open("x.png") as picture:
        assert min(picture.size) > 150
    assert Path("x.png").stat().st_size < 1_000_000


def test_a_network_without_a_run_says_that_its_weights_are_random(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", SMALL, "maps", "mnist5k#3", "--input", "1x16x16", "--layer", "relu1"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == ["feature maps of relu1 for mnist5k#3", "maps-relu1.png"]
    assert "random weights" in err
    first = Path("maps-relu1.png").read_bytes()
    assert main(["show", SMALL, "maps", "mnist5k#3", "--input", "1x16x16", "--layer", "relu1", "--force"]) == 0
    assert Path("maps-relu1.png").read_bytes() == first


def test_pictures_of_two_kinds_or_two_units_have_two_names(digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unit = ["deconvnet", "--layer", "relu2", "--unit", "5"]
    for words, name in (
        (["filters"], "filters"),
        (["maps"], "maps"),
        (unit, "deconvnet-relu2-5"),
        ([*unit, "--position", "0,0"], "deconvnet-relu2-5-0-0"),
    ):
        assert main(["show", str(digits), *words]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == f"{name}.png"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["RUN", "filters", "--layer", "conv9"], "--layer conv2"),
        (["RUN", "filters", "--unit", "6"], "--unit 5"),
        (["RUN", "filters", "mnist5k#1"], "it has no effect there"),
        (["RUN", "embedding", "--unit", "1"], "leave out --unit 1"),
        (["mnist-cnn", "deconvnet", "mnist5k#3", "--layer", "relu2", "--position", "99,99"], "have 8×8 positions"),
        (["RUN", "maps", "nothing.png"], "no such file"),
        (["RUN", "maps", "--input", "1x8x8"], "leave out --input"),
        (["RUN", "maps", "--classes", "3"], "leave out --classes"),
        (["RUN", "maps", "--out", "x.jpg"], "--out x.png"),
        (["RUN", "everything"], "Choose from"),
        (["nowhere/run", "maps"], "nowhere/run"),
        (["mnist-cnn", "maps"], "striate show mnist-cnn maps 'mnist5k#17'"),
        (["mnist-cnn", "patches"], "a run"),
        ([SMALL, "filters"], "--input 1x28x28"),
        (["mlp", "filters", "--input", "13"], "no layer with kernels"),
        (["mlp", "maximize", "--input", "13"], "13 features"),
        (["mlp", "invert", "--input", "13"], "striate show mnist-cnn"),
    ],
)
def test_what_cannot_be_drawn(words: list[str], said: str, digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", *(str(digits) if word == "RUN" else word for word in words)]) == 2
    out, err = capsys.readouterr()
    assert said in err
    assert not out
    assert not list(Path().glob("*.png"))


def test_a_function_gets_the_number_of_outputs(capsys: pytest.CaptureFixture[str]) -> None:
    Path("nets.py").write_text(
        "from torch import nn\n"
        "def make(classes): return nn.Sequential(nn.Conv2d(1, 8, 5), nn.Flatten(), nn.LazyLinear(classes))\n"
    )
    words = ["show", "nets.py:make", "filters", "--input", "1x8x8"]
    assert main(words) == 2
    assert "add --classes 10 " in capsys.readouterr().err
    assert main([*words, "--classes", "10"]) == 0
    assert "noise" not in capsys.readouterr().out  # untrained


def test_a_run_in_a_folder_of_a_networks_name_is_meant_first(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(digits, "mnist-cnn")
    assert main(["show", "mnist-cnn", "filters"]) == 0
    err = capsys.readouterr().err
    assert "the run in the folder ./mnist-cnn" in err
    assert "random weights" not in err
    assert main(["summary", "mnist-cnn"]) == 0
    out, err = capsys.readouterr()
    assert "1×8×8" in out
    assert "the untrained network is mnist-cnn()" in err
    assert main(["summary", "mnist-cnn()"]) == 0
    out, err = capsys.readouterr()
    assert "1×28×28" in out
    assert "./mnist-cnn" not in err


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("given", [[], ["mnist5k#3"], ["--input", "1x16x16"]])
def test_remedies_lead_to_the_picture_with_all_that_was_given(
    given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--layer", "relu1", "--out", "a b.png", "--force", "--json"]
    words, steps = ["show", SMALL, "maps", *given, *options], 0
    while main(words) == 2:
        steps += 1
        assert steps <= 2
        remedy = capsys.readouterr().err.rpartition("remedy:   ")[2]
        words = shlex.split(remedy)[1:]
        assert set(given + options) <= set(words)
    assert steps == (1 if given else 2)
    record = json.loads(capsys.readouterr().out)
    assert (record["what"], record["path"]) == ("maps", "a b.png")
    assert ("mnist5k#3" if "mnist5k#3" in given else "mnist5k#17") in record["words"]


@pytest.mark.slow
def test_a_table_has_no_image_that_a_layer_knows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = striate.train(
        "iris", "fc(4) relu fc(3)", epochs=1, out=tmp_path / "iris", set={"execution.plan": "plain"}
    ).path
    assert main(["show", str(run), "invert"]) == 2
    err = capsys.readouterr().err
    assert "4 features" in err
    assert main(shlex.split(err.rpartition("remedy:   ")[2])[1:]) == 0


def test_a_grid_is_named_with_its_shape_where_an_image_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "conv(4,3) relu fc(2)", "field", "--input", "2x8x8"]) == 2
    assert "got:      maps of 8×8 in 2 channels" in capsys.readouterr().err
    assert main(["show", "conv(4,3) relu fc(2)", "tuning", "--input", "2x8"]) == 2
    assert "got:      inputs of the shape 2×8\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mnist-cnn", "embedding", "face.png"], "striate show runs/first embedding"),
        (["mnist-cnn", "landscape", "--layer", "conv1"], "striate show runs/first landscape"),
        (["mnist-cnn", "statistics"], "striate show runs/first statistics"),
        (["mnist-cnn", "maximize", "--unit", "99"], "--unit 9"),
        (["mnist-cnn", "tuning", "--unit", "999"], "of relu1 with"),
        (["mnist-cnn", "tuning", "--layer", "conv9", "--unit", "1"], "--layer conv2"),
    ],
)
def test_what_cannot_be_drawn_is_said_before_minutes_are_announced(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "minute" not in err


def test_python_gives_the_record_and_the_figure(digits: Path) -> None:
    trained = striate.load(digits)
    shown = striate.show(trained, "filters", layer="conv2", unit=2)
    assert shown.record.weights.shape == (1, 6, 3, 3)
    assert shown.save("filter.png").is_file()
    with pytest.raises(striate.StriateError, match="whose data are not known"):
        striate.show(trained, "embedding")
    with pytest.raises(striate.StriateError, match=r'striate\.show\(trained, "maps", "mnist5k#17"\)'):
        striate.show(trained, "maps")
    with pytest.raises(striate.StriateError, match=r"striate\.visualize\.inside"):
        striate.show(trained.module, "filters")
