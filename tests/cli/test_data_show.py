"""`striate data show` writes a picture, says what is in it, and refuses what it cannot draw."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from striate.cli import main


def test_a_picture_of_each_class(photos: Callable[..., Path], capsys) -> None:
    folder = str(photos())
    assert main(["data", "show", folder, "--count", "3"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == ["Inputs of 16×16 pixels, color.", "data-show.png"]
    assert "Splits" in err
    with Image.open("data-show.png") as picture:
        assert min(picture.size) > 300
    assert main(["data", "show", folder, "--count", "1", "--augment"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "data-show-augment.png"


@pytest.mark.slow
def test_the_picture_of_an_augmentation_says_what_is_on_and_why(photos: Callable[..., Path], capsys) -> None:
    words = ["data", "show", str(photos()), "--out", "seen.png", "--json"]
    assert main([*words, "--augment"]) == 0
    usual = json.loads(capsys.readouterr().out)
    assert usual["words"].startswith("Augmentation: mirroring, shifts up to 1 px")
    assert (usual["path"], usual["samples"], usual["augment"]["rotate"]) == ("seen.png", 8, 0)
    before = Path("seen.png").read_bytes()
    assert main([*words, "--force", "--augment.rotate", "20", "--augment.flip", "false", "--count", "2"]) == 0
    asked = json.loads(capsys.readouterr().out)
    assert "rotations up to 20°, shifts up to 1 px" in asked["words"]
    assert "mirroring," not in asked["words"]
    assert (asked["samples"], asked["augment"]["rotate"], asked["augment"]["flip"]) == (2, 20, False)
    assert Path("seen.png").read_bytes() != before


@pytest.mark.slow
def test_what_is_mixed_in_training_is_said_and_not_drawn(photos: Callable[..., Path], capsys) -> None:
    assert main(["data", "show", str(photos()), "--augment.mixup", "0.2", "--count", "1"]) == 0
    assert "Mixup and CutMix mix pairs of a batch; this is not drawn here." in capsys.readouterr().out


@pytest.mark.slow
def test_seed_size_and_fit_change_the_picture(photos: Callable[..., Path], capsys) -> None:
    pictures = set()
    folder = str(photos(size=20))
    for k, more in enumerate((["--augment"], ["--augment", "--seed", "1"], ["--augment", "--size", "12x18"])):
        assert main(["data", "show", folder, *more, "--count", "2", "--out", f"{k}.png"]) == 0
        pictures.add(Path(f"{k}.png").read_bytes())
    assert len(pictures) == 3


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["iris"], "a table"),
        (["mnist5k", "--optim.lr", "1"], "has no effect on the picture"),
        (["mnist5k", "--count", "0"], "1 to 40"),
        (["mnist5k", "--out", "picture.jpg"], "ends in .png"),
        (["mnist5k", "--out", "nowhere/picture.png"], "nowhere/picture.png"),
        (["mnist5k", "--out", "there.png"], "it exists already"),
        (["mnist5k", "--augment.shift", "28"], "less than the shorter side"),
        (["mnist5k", "--augment.rotate", "200"], "augment.rotate"),
        (["no-such-data"], "no-such-data"),
        (["mnist5k", "--cunt", "3"], "striate data show --help"),
    ],
)
def test_what_cannot_be_drawn_is_refused(words: list[str], said: str, capsys) -> None:
    Path("there.png").write_bytes(b"mine")
    assert main(["data", "show", *words]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert said in err
    assert [path.name for path in Path().glob("*.*")] == ["there.png"]
    assert Path("there.png").read_bytes() == b"mine"


def test_an_unknown_verb_of_the_group_names_the_others(capsys) -> None:
    assert main(["data", "shw"]) == 2
    assert "striate data --help" in capsys.readouterr().err
    assert main(["data"]) == 0
    assert "show" in capsys.readouterr().out
