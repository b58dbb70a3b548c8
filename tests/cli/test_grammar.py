"""What the program prints of data with one of something: one image is no "1 images"."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from striate.cli.main import main

_SINGULAR = r"1 (?!class\b|process\b|axis\b|loss\b|pass\b|s\b|is\b|has\b|was\b|means\b|epochs? =)[a-z]+s\b"
_ARTICLE = r"\b[Aa] (?!u[ns]i|one\b|use|unit)[aeiou]\w+|\b[Aa]n [b-df-gj-np-tv-z]\w+"
WRONG = re.compile(rf"(?<![\d.,:×/–-]){_SINGULAR}|{_ARTICLE}|\(\s*\)|\[\s*\]")


def noise(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(path)


def classes(root: Path, count: int) -> None:
    for k, name in enumerate(("ant", "bee")):
        for number in range(count):
            noise(root / name / f"{number}.png", 100 * k + number)


def given(root: Path) -> None:
    """One of everything: a test image, an unreadable one, a loose one, a copy in two splits, a copy with two labels."""
    classes(root / "train", 6)
    classes(root / "val", 1)
    noise(root / "test" / "ant" / "only.png", 77)
    noise(root / "train" / "ant" / "copy.png", 88)
    noise(root / "val" / "ant" / "copy.png", 88)
    noise(root / "train" / "ant" / "both.png", 99)
    noise(root / "train" / "bee" / "both.png", 99)
    (root / "train" / "bee" / "broken.png").write_bytes(b"no picture")
    (root / "train" / "notes.txt").write_text("hello")
    noise(root / "train" / "loose.png", 11)


def masks(root: Path) -> None:
    for number in range(5):
        noise(root / "images" / f"{number}.png", number)
        (root / "masks").mkdir(exist_ok=True)
        Image.fromarray(np.tile(np.arange(12) > number, (12, 1)).astype(np.uint8)).save(
            root / "masks" / f"{number}.png"
        )


def table(root: Path) -> None:
    np.savez(root / "table.npz", x=np.random.default_rng(0).normal(size=(12, 1)), y=np.linspace(0, 1.5, 12))


def group(root: Path) -> None:
    classes(root, 5)
    rows = [f"{name}/{number}.png,{name},{name}" for name in ("ant", "bee") for number in range(5)]
    (root / "one.csv").write_text("path,label,group\n" + "\n".join([*rows[:-1], "bee/4.png,bee,"]) + "\n")


QUICK = ("--epochs", "1", "--plan", "plain", "--execution.threads", "1")


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(
    ("lay", "data", "model"),
    [
        (given, ".", "conv(1,3) relu gap fc(2)"),
        (masks, ".", "conv(4,3,pad=1) relu conv(2,1)"),
        (table, "table.npz", "fc(1)"),
        (group, "one.csv", "conv(1,3) relu gap fc(2)"),
    ],
)
def test_what_is_printed_of_one_of_something(tmp_path, monkeypatch, capsys, lay, data, model):
    (tmp_path / "set").mkdir()
    lay(tmp_path / "set")
    monkeypatch.chdir(tmp_path)
    source = f"set/{data}"
    verbs = (
        ("data", "check", source),
        ("train", source, "--model", model, "--out", "run", *QUICK),
        ("eval", "run"),
        ("eval", "run", source),
        ("baseline", source),
        ("summary", model, "--input", "3x12x12"),
        *((("predict", "run", source),) if data != "one.csv" else ()),
    )
    wrong = []
    for words in verbs:
        assert main([*words]) in (0, 1, 2)
        said = "".join(capsys.readouterr())
        wrong += [f"{words[0]}: {line}" for line in said.splitlines() if WRONG.search(line)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("words", [("train", "set"), ("data", "check", "set"), ("predict", "nope", "set")])
@pytest.mark.parametrize("file", ["one.png", "one.txt", "only/one.png", "only/one.txt", "train/one.png", "one.csv"])
def test_what_is_said_of_a_source_with_one_file(tmp_path, monkeypatch, capsys, words, file):
    monkeypatch.chdir(tmp_path)
    noise(tmp_path / "set" / file.replace(".txt", ".png").replace(".csv", ".png"), 0)
    if not file.endswith(".png"):
        (tmp_path / "set" / file).with_suffix(".png").rename(tmp_path / "set" / file)
    main([*words])
    said = "".join(capsys.readouterr())
    assert not WRONG.search(said), said
