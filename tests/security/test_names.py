"""Names from strangers: of files, classes, columns, runs. A terminal and a page are shown them, and obey none."""

from __future__ import annotations

import json
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from striate.runs.checkpoint import load_checkpoint, save_checkpoint

ESCAPES = ("\x1b", "\x9b", "\x07", "\r", "\x08", "\u202e", "\u2066", "\u200b", "\u2028", "\x85")
NASTY = (
    "a\x1b[2J\x1b]0;t\x07\x9b31m\r\x08\u202e\u2066\u200b\u2028\x85[red]\nerror: none of it"
    "{{7*7}}'\"<script>alert(1)</script>&"
)


def harmless(text: str) -> None:
    """Nothing in it moves the cursor, turns the writing round or begins a line of its own."""
    for character in ESCAPES:
        assert character not in text, repr(text)
    assert not re.search("^error: none", text, re.MULTILINE), text


def picture(path: Path, value: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(path, "PNG")
    return path


@pytest.mark.parametrize("as_json", [False, True])
def test_names_of_files_that_are_answered_and_that_cannot_be_read(striate, small_run, as_json) -> None:
    picture(Path("in") / (NASTY.replace("/", "") + ".png"))
    (Path("in") / ("bad" + NASTY.replace("/", "") + ".png")).write_bytes(NASTY.encode())
    (Path(os.fsdecode(b"in/\xff\x1b.png"))).write_bytes(b"")
    told = striate("predict", small_run, "in", *(["--json"] if as_json else []))
    assert told.code == 1
    harmless(told.err)
    harmless(told.out)
    if as_json:
        lines = [json.loads(line) for line in told.out.splitlines()]
        assert len(lines) == 3
        assert any(NASTY.replace("/", "") in line["path"] for line in lines)
    else:
        assert told.out.count("\n") == 1
    assert told.err.count("unreadable:") == 2


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(
    "words",
    [
        ("predict", "{run}", "{name}"),
        ("predict", "{name}", "{name}"),
        ("eval", "{run}", "{name}"),
        ("train", "{name}"),
        ("train", "mnist5k", "--model", "{name}"),
        ("train", "mnist5k", "--weights", "{name}"),
        ("train", "mnist5k", "--config", "{name}"),
        ("train", "mnist5k", "--set", "{name}=1"),
        ("train", "--resume", "{name}"),
        ("summary", "{name}", "--input", "1x8x8"),
        ("summary", "fc(10)", "--input", "{name}"),
        ("data", "show", "{name}", "--out", "x.png"),
        ("filter", "{name}", "out.png", "--kernel", "sharpen"),
        ("filter", "{picture}", "out.{name}", "--kernel", "sharpen"),
        ("filter", "{picture}", "out.png", "--kernel", "{name}"),
        ("pixels", "{name}"),
        ("models", "{name}"),
        ("baseline", "{name}"),
        ("plan", "{name}"),
        ("lr-find", "{name}"),
        ("sweep", "{name}"),
        ("data", "check", "{name}"),
        ("verify", "{name}"),
        ("{name}",),
        ("train", "--{name}", "1"),
    ],
    ids=lambda words: " ".join(words),
)
@pytest.mark.parametrize("as_json", [False, True])
def test_every_verb_shows_a_name_it_does_not_know_as_text(striate, small_run, words, as_json) -> None:
    known = {"name": NASTY, "run": small_run, "picture": picture(Path("p.png"))}
    told = striate(*(word.format(**known) for word in words), *(["--json"] if as_json else []))
    assert told.code in (1, 2)
    harmless(told.err)
    harmless(told.out)
    assert "a fault in striate" not in told.err


def test_pictures_of_strange_names_are_filtered_and_shown(striate) -> None:
    path = picture(Path(NASTY.replace("/", "") + ".png"))
    for words in (("pixels", path), ("filter", path, f"{NASTY.replace('/', '')}2.png", "--kernel", "sharpen")):
        told = striate(*words)
        assert told.code == 0, told
        harmless(told.err + told.out)


@pytest.mark.slow
def test_a_check_of_data_names_its_files_as_text(striate) -> None:
    name = NASTY.replace("/", "")
    for label in ("cat", "dog"):
        for i in range(4):
            picture(Path("in") / label / f"{i}{name}.png", 60 * (label == "dog") + i)
        (Path("in") / label / f"bad{name}.png").write_bytes(b"")
        picture(Path("in") / label / f"copy{name}.png", 0)
    for more in ((), ("--json",), ("--quarantine", "q.csv", "--sheet", "s.png")):
        told = striate("data", "check", "in", *more)
        assert told.code in (1, 2), told  # nothing of these pictures is worth to be kept
        harmless(told.err + told.out)


def test_folders_of_named_sets_are_no_markup(striate, monkeypatch) -> None:
    folder = Path("[red]\x1b[2J[/red]").absolute()
    monkeypatch.setenv("STRIATE_DATA", str(folder))
    for name in ("train", "t10k"):
        for what in ("images-idx3", "labels-idx1"):
            file = folder / "mnist" / f"{name}-{what}-ubyte"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"")
    told = striate("datasets")
    assert told.code == 0
    assert "\x1b" not in told.out
    assert "[red]" in told.out.replace("\n", "").replace(" ", "")
    assert json.loads(striate("datasets", "--json").out)


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links |= {value or "" for name, value in attrs if name in ("src", "href", "action", "data")}


CLASSES = (
    "<script>alert(1)<⁄script>",
    "\"'><img src=x onerror=alert(1)>",
    "{{7*7}}{% raw %}${7*7}",
    "$\\frac$ _^ $",
    "\u202eevil\u2066",
    "--><!--]]>",
    "=cmd|' ⁄C calc'!A0",
    "[bold red]x[⁄bold red]",
)


@pytest.mark.slow
def test_class_names_in_a_report_are_text(striate, capfd, drawing) -> None:
    for k, name in enumerate(CLASSES):
        for i in range(8):
            picture(Path("in<b>") / name / f"{i}<i>.png", 25 * k + i)
    told = striate("train", "in<b>", "--model", "fc(8)", "--epochs", "1", "--plan", "plain", "--out", "run")
    assert told.code == 0, told
    harmless(told.err + told.out)
    text = Path("run/report.html").read_text(encoding="utf-8")
    harmless(text)
    assert "{{7*7}}" in text
    page = Page()
    page.feed(text)
    assert "script" not in page.tags
    assert "in<b>" not in text
    assert not any(name.startswith("on") for name in page.attributes)
    assert all(link.startswith(("data:", "#")) for link in page.links), page.links
    assert "\u202e" in Path("run/classes.txt").read_text(encoding="utf-8")
    shown = striate("eval", "run")
    assert shown.code in (0, 1)
    harmless(shown.err + shown.out)
    for json_option in ((), ("--json",)):
        told = striate("predict", "run", "in<b>", *json_option)
        harmless(told.err + told.out)


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("name", ["cat\n", "a\nb", "\x1b[31m", "a\u2028b", "a\0b"])
def test_class_names_that_are_no_line_of_text_are_refused(striate, name) -> None:
    np.savez("x.npz", x=np.zeros((8, 8, 8), np.uint8), y=np.array([name + "x", "dog"] * 4))
    told = striate("train", "x.npz")
    told.refused("the class name")
    harmless(told.err)


def test_labels_of_a_strangers_checkpoint_are_one_line_each(striate, small_run) -> None:
    shutil.copytree(small_run, "run")
    content = load_checkpoint(Path("run/checkpoints/best.pt"))
    content.pop("format")
    content["classes"] = [NASTY, NASTY + "2"]
    content["task"]["classes"] = [NASTY, NASTY + "2"]
    save_checkpoint(Path("run/checkpoints/best.pt"), content)
    told = striate("predict", "run", picture(Path("p.png")))
    assert told.code == 0, told
    harmless(told.out)
    assert told.out.count("\n") == 1
    assert torch.is_tensor(next(iter(content["model"].values())))
