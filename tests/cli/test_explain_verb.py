"""`striate explain`, as a user runs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from striate.cli.main import main


@pytest.fixture(scope="module")
def run(same_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("run") / "run"
    words = ["train", same_photos, "--model", "conv(4,3) relu gap fc(3)", "--epochs", "1", "--plan", "plain"]
    assert main([str(word) for word in (*words, "--out", place)]) == 0
    return place


@pytest.fixture
def explain(run: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*words: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main(["explain", str(run), *map(str, words)])
        return code, *capfd.readouterr()

    return call


@pytest.mark.parametrize("words", [("--at", "3,4"), ("-x",)])
def test_an_unknown_option_is_no_image(explain, same_photos: Path, words: tuple[str, ...]) -> None:
    code, out, err = explain(same_photos / "red" / "003.png", *words)
    assert (code, out) == (2, "")
    assert f"Unknown option: {words[0]}" in err
    assert not list(Path().iterdir())


def test_a_page_is_written_beside_what_is_said(explain, same_photos: Path) -> None:
    image = same_photos / "red" / "003.png"
    code, out, err = explain(image, "--method", "integrated-gradients")
    assert out.startswith("003.png: ")
    assert code == ("not to be trusted" in out.lower())
    assert max(map(len, out.splitlines())) <= 80
    assert "written: 003-explained.html" in err
    assert Path("003-explained.html").read_text().startswith("<!DOCTYPE html>")
    code, out, err = explain(image)
    assert (code, out) == (2, "")
    assert "--force" in err


def test_minutes_are_announced_only_where_they_are_spent(explain, same_photos: Path) -> None:
    code, _, err = explain(same_photos / "red" / "003.png", "--box", "1")
    assert code == 2
    assert "a run whose predictions have such parts" in err
    assert "minutes" not in err


def test_json_is_one_document_and_no_page(explain, same_photos: Path, own_folder: Path) -> None:
    code, out, _ = explain(same_photos / "red" / "003.png", "--method", "saliency", "--json")
    document = json.loads(out)
    assert document["trusted"] is (code == 0)
    assert document["maps"][0]["deletion"]["share"][-1] == 0.5
    assert not list(own_folder.glob("*.html"))


def test_json_has_a_line_for_each_image_also_for_one_that_cannot_be_read(explain, same_photos: Path) -> None:
    code, out, err = explain("nope.png", same_photos / "red" / "003.png", "--method", "saliency", "--json")
    first, second = map(json.loads, out.splitlines())
    assert code == 1
    assert first.keys() == {"path", "error"}
    assert first["path"] == "nope.png"
    assert f"unreadable: nope.png: {first['error']}" in err
    assert second["subject"] == "003.png"


@pytest.mark.parametrize("part", [("--box", "3"), ("--pixel", "3,4"), ("--point", "nose")])
def test_the_page_of_a_part_has_a_name_of_its_own(explain, same_photos: Path, part: tuple[str, str]) -> None:
    page = f"003{part[0][1:]}-{part[1].replace(',', '-')}-explained.html"
    Path("003-explained.html").touch()
    Path(page).touch()
    code, _, err = explain(same_photos / "red" / "003.png", *part)
    assert code == 2
    assert err.startswith(f"error: {page}\n")


@pytest.mark.slow
def test_several_images_and_folders_have_a_page_each(explain, same_photos: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for name in ("001.png", "002.png"):
        (few / name).write_bytes((same_photos / "red" / name).read_bytes())
    words = (few, same_photos / "red" / "001.png", tmp_path / "nope.png", "--method", "saliency", "--out", "pages")
    code, out, err = explain(*words)
    assert code == 1
    assert {page.name for page in Path("pages").iterdir()} == {
        *("001-explained.html", "002-explained.html", "2-001-explained.html")
    }
    assert "nope.png" in err
    code, out, _ = explain(few, "--method", "saliency", "--json")
    assert len([json.loads(line) for line in out.splitlines()]) == 2


def test_one_page_for_several_images_is_refused(explain, same_photos: Path) -> None:
    images = (same_photos / "red" / name for name in ("001.png", "002.png"))
    code, _, err = explain(*images, "--method", "saliency", "--out", "why.html")
    assert code == 2
    assert "--out why\n" in err
    assert not Path("why.html").exists()


def test_a_sample_of_a_named_set(explain) -> None:
    code, out, err = explain("mnist5k#17", "--method", "saliency")
    assert code in (0, 1)
    assert out.startswith("mnist5k#17: ")
    assert "written: mnist5k-17-explained.html" in err


@pytest.mark.slow
def test_a_row_that_begins_with_a_minus(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    place = str(tmp_path / "iris")
    assert main(["train", "iris", "--epochs", "1", "--plan", "plain", "--out", place]) == 0
    for words in (["-1,2,-.5,0.2", "--method", "saliency"], ["--method=saliency", "-.5,2,3,4"]):
        capfd.readouterr()
        assert main(["explain", place, *words]) in (0, 1)
        out, err = capfd.readouterr()
        assert out.startswith("a row of 4 numbers: ")
        assert "written: row-" in err
    assert main(["explain", place, "1,2,3,4", "--metod", "saliency"]) == 2
    assert "--metod" in capfd.readouterr().err


def test_a_folder_of_frames_is_one_clip(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for number in range(8):
        folder = tmp_path / "set" / "ab"[number % 2] / str(number)
        folder.mkdir(parents=True)
        for frame in range(3):
            Image.fromarray(np.full((8, 8, 3), 25 * number + frame, np.uint8)).save(folder / f"{frame}.png")
    train = ["train", str(tmp_path / "set"), "--data.view", "rgb", "--data.frames", "3", "--epochs", "1"]
    assert main([*train, "--model", "conv(2,3) relu gap fc(2)", "--plan", "plain", "--out", "run"]) == 0
    clip = tmp_path / "set" / "a" / "0"
    assert main(["explain", "run", str(clip), "--method", "saliency", "--out", "clip.html"]) in (0, 1)
    assert "written: clip.html" in capfd.readouterr().err
    assert main(["show", "run", "maps", str(clip), "--out", "maps.png"]) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing.png"], "no such file"),
        (["nothing.png"], "name an existing file"),
        (["mnist5k#9999999"], "write mnist5k#4999"),
        (["nothing.png", "--method", "gradcam"], "grad-cam"),
        (["nothing.png", "--out", "page.png"], ".html"),
        (["nothing.png", "--out", "no/page.html"], "mkdir"),
    ],
)
def test_wrong_requests_leave_nothing(explain, own_folder: Path, words: list[str], said: str) -> None:
    code, out, err = explain(*words)
    assert (code, out) == (2, "")
    assert said in err
    assert not list(own_folder.glob("*.html"))
