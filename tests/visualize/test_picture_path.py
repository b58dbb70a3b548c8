"""Where a picture may be written: refused before time is spent, never overwritten unasked, for every verb."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from striate.cli import main
from striate.errors import UsageError
from striate.visualize.picture_path import refuse_picture_path


def test_only_a_new_png_in_a_folder_that_exists(tmp_path: Path) -> None:
    refuse_picture_path(Path("x.png"))
    with pytest.raises(UsageError, match=r"x\.png"):
        refuse_picture_path(tmp_path / "x.jpg")
    refuse_picture_path(tmp_path / "x.SVG", endings=(".png", ".svg"))
    with pytest.raises(UsageError, match=r"ends in \.png or \.svg"):
        refuse_picture_path(tmp_path / "x.jpg", endings=(".png", ".svg"))
    with pytest.raises(UsageError, match="mkdir -p"):
        refuse_picture_path(tmp_path / "gone" / "x.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UsageError, match="exists already"):
        refuse_picture_path(tmp_path / "folder.png", force=True)


def test_a_picture_that_is_there_needs_force_and_the_remedy_is_one_word(tmp_path: Path) -> None:
    taken = tmp_path / "my rates.png"
    taken.write_bytes(b"mine")
    with pytest.raises(UsageError, match="exists already") as caught:
        refuse_picture_path(taken)
    words = shlex.split(caught.value.remedy)
    refuse_picture_path(Path(words[words.index("--out") + 1]))
    refuse_picture_path(taken, force=True)


@pytest.mark.parametrize("path", ["x" * 300, "x" * 240, "y/" * 3000 + "x"], ids=["name", "no room to write", "path"])
def test_a_path_that_is_too_long_is_refused_with_a_short_one(path: str) -> None:
    for ending, option in ((".png", "--out"), (".jpg", "--out"), (".png", "OUT")):
        with pytest.raises(UsageError, match="too long") as caught:
            refuse_picture_path(Path(path + ending), option=option)
        assert caught.value.remedy == ("write to out.png" if option == "OUT" else "--out out.png")


def test_the_longest_name_can_be_written(capsys) -> None:
    name = "x" * 196 + ".svg"
    assert main(["summary", "mlp(4)", "--input", "3", "--svg", name]) == 0
    assert Path(name).stat().st_size
    assert main(["summary", "mlp(4)", "--input", "3", "--svg", f"x{name}"]) == 2
    assert "--svg out.svg" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [["lr-find", "iris"], ["data", "show", "mnist5k"], ["models", "--history"]])
def test_no_verb_overwrites_a_picture_unasked(verb: list[str], capsys) -> None:
    Path("taken.png").write_bytes(b"mine")
    assert main([*verb, "--out", "taken.png"]) == 2
    assert "--force overwrites it" in capsys.readouterr().err
    assert Path("taken.png").read_bytes() == b"mine"


@pytest.mark.parametrize("verb", [["lr-find", "iris"], ["summary", "lenet5"], ["doctor", "iris"], ["doctor", "a.py"]])
def test_force_without_a_file_to_overwrite_is_refused(verb: list[str], capsys) -> None:
    assert main([*verb, "--force"]) == 2
    assert "--force" in capsys.readouterr().err.partition("got:")[0]


@pytest.mark.slow
def test_force_overwrites(capsys) -> None:
    Path("taken.png").write_bytes(b"mine")
    words = ["lr-find", "iris", "--model", "mlp(4)", "--epochs", "2", "--seconds", "1", "--out", "taken.png", "--force"]
    assert main(words) in (0, 1)
    assert Path("taken.png").read_bytes()[:4] == b"\x89PNG"
