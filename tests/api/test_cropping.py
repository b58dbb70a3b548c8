"""What a network finds is cut out upright, with the labels, splits and groups of its pictures."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import nn

from striate import reference
from striate.api import crop_data
from striate.cli import main
from striate.data.config import DataConfig
from striate.data.cut_out import cut_out
from striate.data.dataset import Preparation
from striate.data.normalize import Normalization
from striate.data.sources.list_source import list_source
from striate.errors import DataError, UsageError
from striate.tasks.classify.task import Classify
from striate.tasks.detect.task import Detect
from striate.tasks.keypoints.alignment import aligned, similarity, usual_shape
from striate.training.trained import Trained


def _turned(box: tuple[float, ...], angle: float, side: int = 80) -> np.ndarray:
    """(3, side, side): a box whose left half is red and whose right half is blue, turned."""
    fine = Image.new("RGB", (side * 4, side * 4), (10, 60, 10))
    whole = reference.rotated_corners([[*box, angle]])[0]
    ahead = whole[[0, 1]].mean(0), whole[[3, 2]].mean(0)
    draw = ImageDraw.Draw(fine)
    for fill, corners in (
        ((220, 30, 30), [whole[0], ahead[0], ahead[1], whole[3]]),
        ((30, 30, 220), [ahead[0], whole[1], whole[2], ahead[1]]),
    ):
        draw.polygon([tuple(4 * corner) for corner in corners], fill=fill)
    return np.asarray(fine.resize((side, side), Image.Resampling.BOX)).transpose(2, 0, 1).copy()


@pytest.mark.parametrize("angle", [0.0, 30.0, -100.0])
def test_what_is_cut_out_is_upright(angle: float) -> None:
    planes = _turned((20, 30, 60, 50), angle)
    found = cut_out(planes, (40, 40), (40, 20), angle)
    assert found.shape == (3, 20, 40)
    inner = found[:, 2:-2].astype(int)
    assert (inner[0, :, 2:18] > 190).all()
    assert (inner[2, :, 22:38] > 190).all()
    assert cut_out(planes, (40, 40), (40, 20), angle, (10, 20)).shape == (3, 10, 20)
    beyond = cut_out(planes, (0, 0), (10, 10), angle)
    assert (beyond == planes[:, :1, :1]).all(), "beyond the picture its outermost pixels go on"


class _Bright(nn.Module):
    """Outputs of a detector of two classes: of each picture the box around what is bright, and at its left end a second
    one, less sure."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = []
        for image in x.amax(1):
            down, across = torch.nonzero(image > 0.5).unbind(1)
            edges, sure = [0.0, 0.0, 1.0, 1.0], -9.0
            if len(down):
                edges = [float(v) for v in (across.min(), down.min(), across.max() + 1, down.max() + 1)]
                sure = 3.0
            cell = [0.0, 0.0, 8.0]
            rows.append(
                [[-9.0, sure, *edges, *cell], [sure - 2, -9.0, edges[0], edges[1], edges[0] + 4, edges[3], *cell]]
            )
        return torch.tensor(rows)


@pytest.fixture
def finder() -> Trained:
    task = Detect(("tail", "whale"), (32, 40), (8,), 6.0, 0.3)
    preparation = Preparation("image", (3, 32, 40), "pad")
    return Trained(
        _Bright(), task, preparation, Normalization((0.0,) * 3, (255.0,) * 3), task.classes, torch.device("cpu")
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six pictures of two animals; one is empty, one is no picture."""
    rows = ["path,label,split,group,place"]
    for number in range(6):
        image = np.full((64, 80, 3), 40, np.uint8)
        if number != 2:
            image[20:36, 10 + 2 * number : 50 + 2 * number] = (250, 40 * number, 0)
        file = tmp_path / "data" / f"{'ab'[number % 2]}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
        rows.append(
            f"{file.parent.name}/{number}.png,{file.parent.name},{('train', 'test')[number > 3]},day {number // 2},sea"
        )
    (tmp_path / "data" / "a" / "4.png").write_bytes(b"no picture")
    (tmp_path / "data" / "whales.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "data" / "whales.csv"


def _rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def test_crops_have_what_their_pictures_have(data: Path, finder: Trained, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in data.parent.rglob("*") if path.is_file()}
    written = crop_data(data, finder, tmp_path / "crops", margin=0)
    assert (written.files, written.crops, written.further) == (6, 4, 4)
    assert written.nothing == ("a/2.png",)
    assert len(written.unreadable) == 1
    assert "a/4.png" in written.unreadable[0]
    rows = _rows(written.data)
    assert [row["path"] for row in rows] == [f"images/{'ab'[n % 2]}/{n}.png" for n in (0, 1, 3, 5)]
    assert [(row["label"], row["split"], row["group"], row["place"]) for row in rows] == [
        ("ab"[n % 2], "train" if n < 4 else "test", f"day {n // 2}", "sea") for n in (0, 1, 3, 5)
    ]
    with Image.open(written.path / rows[2]["path"]) as crop:
        assert (np.asarray(crop) == (250, 120, 0)).all(), "the pixels of the file, not of the input"
        assert crop.size == (40, 16)
    told = _rows(written.path / "found.csv")
    assert [(row["source"], row["path"]) for row in told][-1] == ("a/2.png", "")
    assert told[0]["found"] == "whale"
    assert float(told[0]["probability"]) == pytest.approx(0.9526, abs=1e-3)
    assert (told[0]["x"], told[0]["width"]) == ("30.00", "40.00")
    listing = list_source(DataConfig(source=str(written.data)))
    assert listing.classes == ("a", "b")
    assert before == {path: path.read_bytes() for path in data.parent.rglob("*") if path.is_file()}
    assert [path.name for path in tmp_path.iterdir()] == ["data", "crops"] or len(list(tmp_path.iterdir())) == 2


def test_all_that_is_found_stays_in_one_group(data: Path, finder: Trained, tmp_path: Path) -> None:
    lines = [line.rsplit(",", 2)[0] for line in data.read_text().splitlines()]
    data.write_text("\n".join(lines) + "\n")  # without groups
    written = crop_data(data, finder, tmp_path / "crops", every=True, size="24x24")
    assert (written.crops, written.further) == (8, 0)
    rows = _rows(written.data)
    assert [row["group"] for row in rows[:2]] == ["a/0.png"] * 2
    assert [row["path"] for row in rows[:2]] == ["images/a/0.png", "images/a/0-2.png"]
    with Image.open(written.path / rows[0]["path"]) as crop:
        assert crop.size == (24, 24)


def test_what_cannot_be_cut_out_is_refused_and_nothing_is_left(data: Path, finder: Trained, tmp_path: Path) -> None:
    out = tmp_path / "crops"
    with pytest.raises(DataError, match="nothing found in 5 pictures"):
        crop_data(data, finder, out, threshold=0.99)
    classes = Classify(("a", "b"))
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 40, 2))
    other = Trained(network, classes, finder.preparation, finder.normalization, ("a", "b"), finder.device)
    with pytest.raises(UsageError, match="a run that predicts boxes or points"):
        crop_data(data, other, out)
    (data.parent / "boxes.csv").write_text("path,x_min,y_min,x_max,y_max,label\na/0.png,1,1,9,9,tail\n")
    with pytest.raises(DataError, match="positions in the picture"):
        crop_data(data.parent / "boxes.csv", finder, out)
    assert not out.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="which exists already"):
        crop_data(data, finder, out)
    assert (out / "mine.txt").read_text() == "mine"


def test_the_verb_says_what_was_cut_out(
    data: Path, finder: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("striate.api.cropping.load", lambda _: finder)
    words = ["data", "crop", str(data), "--with", "run"]
    assert main([*words, "--out", "crops", "--json"]) == 1, "one could not be read"
    shown = capsys.readouterr()
    told = json.loads(shown.out)
    assert (told["crops"], told["nothing"], told["data"]) == (4, ["a/2.png"], "crops/crops.csv")
    assert "a/4.png" in shown.err
    assert main([*words, "--out", "more", "--all"]) == 1
    shown = capsys.readouterr()
    assert "more: 8 crops of 6 pictures. To train on: striate train more/crops.csv" in shown.out
    assert "nothing found in 1 picture: a/2.png" in shown.out


# Points


def _placed(shape: np.ndarray, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    a = random.uniform(5, 20, count) * np.exp(1j * random.uniform(-0.6, 0.6, count))
    z = a[:, None] * shape + random.normal(0, 30, count)[:, None] * (1 + 1j)
    return np.stack([z.real, z.imag], 2), a


def test_points_are_turned_and_scaled_as_they_usually_lie() -> None:
    shape = np.array([-1 - 1j, 1 - 1j, 0, -0.7 + 1j, 0.7 + 1j])
    places, a = _placed(shape, 40)
    seen = np.random.default_rng(1).random(places.shape[:2]) > 0.1
    usual = usual_shape(places, seen)
    z = np.array([complex(*place) for place in usual])
    fit, _ = similarity(shape, z, np.ones(5))
    assert abs(np.angle(fit)) < abs(np.angle(a.sum())) + 0.02, "upright as they are on average"
    crops = []
    for place in places[:10]:
        found = aligned(usual, np.column_stack([place, np.ones(5)]))
        turn = np.radians(-found.angle)
        back = (place[:, 0] + 1j * place[:, 1] - complex(*found.center)) * np.exp(-1j * turn) / found.sides[0]
        crops.append(back)
    assert np.abs(np.array(crops) - crops[0]).max() < 1e-6, "in all crops at the same place"
    outlier = np.column_stack([places[0], np.ones(5)])
    outlier[2] = (500, 500, 0.0)
    other = aligned(usual, outlier)
    assert other.angle == pytest.approx(aligned(usual, np.column_stack([places[0], np.ones(5)])).angle, abs=1)


def test_points_that_are_never_visible_have_no_place() -> None:
    places, _ = _placed(np.array([-1 - 1j, 1 - 1j, 0.5j]), 6)
    seen = np.ones((6, 3), bool)
    seen[:, 1] = False
    usual = usual_shape(places, seen)
    assert np.isnan(usual[1]).all()
    assert np.isfinite(aligned(usual, np.column_stack([places[0], np.ones(3)])).angle)
    assert usual_shape(places[:, :1], seen[:, :1]) == ()
