"""Captions in a manifest: several rows an image, what is refused, and what a check says of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from striate.api.data import check_data
from striate.data.annotations.captions import captions_in
from striate.data.config import DataConfig
from striate.data.listing import Listing
from striate.data.sources.list_source import list_source
from striate.errors import DataError

COLORS = ("red", "green", "blue", "gray")


def listed(folder: Path, text: str, annotation: str | None = None) -> Listing:
    for name in ("a", "b"):
        Image.new("RGB", (4, 4)).save(folder / f"{name}.png")
    (folder / "captions.csv").write_text(text)
    return list_source(DataConfig(source=str(folder / "captions.csv")), annotation)


def test_several_rows_an_image(tmp_path: Path) -> None:
    listing = listed(tmp_path, 'path,caption,split\nb.png,A dog.,test\na.png,one,\nb.png,"two, three",test\n')
    assert listing.annotation == "caption"
    assert listing.paths == ("a.png", "b.png")
    assert listing.labels == ("one", "A dog. | two, three")
    assert listing.given == (None, "test")
    assert [captions_in(own) for own in listing.targets] == [[["one"]], [["a", "dog"], ["two", "three"]]]


def test_a_label_beside_captions_is_learned_unless_captions_are_asked_for(tmp_path: Path) -> None:
    text = "path,caption,label\na.png,one,x\nb.png,two,y\n"
    assert listed(tmp_path, text).annotation == "class"
    assert listed(tmp_path, text, "caption").annotation == "caption"


def test_a_folder_with_a_table_of_captions_needs_no_other_name(tmp_path: Path) -> None:
    listed(tmp_path, "path,caption\na.png,one\nb.png,two\n")
    assert list_source(DataConfig(source=str(tmp_path))).labels == ("one", "two")
    (tmp_path / "further").mkdir()
    (tmp_path / "b.png").rename(tmp_path / "further" / "b.png")
    (tmp_path / "captions.csv").write_text("path,caption\na.png,one\nfurther/b.png,two\n")
    assert list_source(DataConfig(source=str(tmp_path)), "caption").labels == ("one", "two")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("path,caption,split\na.png,one,often\n", "line 2"),
        ("path,caption,split\na.png,one,train\na.png,two,test\n", "another split"),
        ("path,caption\na.png,one,two\n", "3 fields"),
        ("path,caption\nc.png,one\n", "c.png"),
        ("path,caption\na.png,...\n", "(?s)no caption with a word.*into the column caption"),
        ("path,caption\na.png," + "word " * 200 + "\n", "200 words"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(DataError, match=named):
        listed(tmp_path, text)


def test_empty_captions_are_found_and_left_out(tmp_path: Path) -> None:
    listing = listed(tmp_path, "path,caption\na.png,one\na.png,\nb.png,.\n")
    assert listing.paths == ("a.png",)
    (finding,) = listing.findings
    assert finding.code == "data.empty-captions"
    assert "2 captions" in finding.measured


def _colored(folder: Path, change: str, count: int = 240) -> Path:
    """Pictures of one color each, whose captions name it; with one mistake."""
    rng, names, rows = np.random.default_rng(0), [], ["path,caption"]
    for number in range(count):
        kind = int(rng.integers(4))
        color = np.full(3, 128) if kind == 3 else 60 + 150 * np.eye(3)[kind]
        noise = rng.integers(-30, 30, (8, 8, 3))
        Image.fromarray((color + noise).clip(0, 255).astype(np.uint8)).save(folder / f"{number:03}.png")
        names.append(f"something {COLORS[kind]} number {number % 7}")
    if change == "shuffled":
        names = [names[k] for k in rng.permutation(count)]
    elif change == "shifted":
        names = names[1:] + names[:1]
    elif change == "same":
        names = ["something"] * count
    rows += [f"{number:03}.png,{name}" for number, name in enumerate(names)]
    (folder / "captions.csv").write_text("\n".join(rows) + "\n")
    return folder / "captions.csv"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ("healthy", None, ""),
        ("shuffled", "data.captions-elsewhere", "chance"),
        ("shifted", "data.captions-elsewhere", "after"),
        ("same", "data.one-caption", "something"),
    ],
)
def test_captions_of_other_images_are_found(tmp_path: Path, change: str, code: str | None, said: str) -> None:
    found = [f for f in check_data(str(_colored(tmp_path, change))).findings if "caption" in f.code]
    assert [finding.code for finding in found] == ([] if code is None else [code])
    assert all(said in f"{finding.measured} {finding.why}" for finding in found)
