"""What `classes.txt` and `colors.txt` say of masks, the value to ignore, and splits below images/."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from striate.api import check_data
from striate.data.config import DataConfig
from striate.data.read import load_dataset, load_for_evaluation
from striate.errors import ConfigError, DataError

HEIGHT, WIDTH, IGNORED = 12, 16, 255
COLORS = np.array([[10, 20, 30], [200, 0, 0], [0, 0, 250]], np.uint8)
Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A folder of masks with the values of rows: `values[k]` in the k-th quarter of the height."""

    def made(*values: int, names: str = "", colored: bool = False, below: bool = False, count: int = 12) -> Path:
        root, rng = tmp_path / "scenes", np.random.default_rng(0)
        for number in range(count):
            split = ("train", "val", "test")[number % 3] if below else "."
            mask = np.array(values, np.uint8).repeat(HEIGHT // len(values))[:, None].repeat(WIDTH, 1)
            image = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
            for part, pixels in (("images", image), ("masks", COLORS[mask] if colored else mask)):
                (root / part / split).mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(root / part / split / f"{number:02}.png")
        if names:
            (root / ("colors.txt" if colored else "classes.txt")).write_text(names)
        return root

    return made


def read(root: Path, **config: object) -> tuple[tuple[str, ...], list[int], object]:
    data = load_dataset(DataConfig(str(root), **config))  # type: ignore[arg-type]
    found: set[int] = set()
    for split in data.splits.values():
        found |= set(split.targets.unique().tolist())
    return data.classes, sorted(found), data


def test_lines_name_the_values_in_their_order_also_of_a_class_that_never_occurs(make: Make) -> None:
    classes, found, data = read(make(0, 1, 3, names="ground\ntree\nhouse\ncar\n"))
    assert classes == ("ground", "tree", "house", "car")
    assert found == [0, 1, 3]
    assert data.preparation.values == (0, 1, 2, 3)  # type: ignore[attr-defined]


def test_lines_may_begin_with_their_value(make: Make) -> None:
    classes, found, _ = read(make(0, 255, names="0 background\n255 road\n"))
    assert (classes, found) == (("background", "road"), [0, 1])


def test_of_two_names_the_second_is_white(make: Make) -> None:
    root = make(0, 255, names="background\nroad\n")
    classes, found, data = read(root)
    assert (classes, found) == (("background", "road"), [0, 1])
    assert data.preparation.values == (0, 255)  # type: ignore[attr-defined]
    again = load_for_evaluation(DataConfig(str(root)), data.preparation, classes, "mask")  # type: ignore[attr-defined]
    assert again.splits["all"].targets.unique().tolist() == [0, 1]
    (root / "classes.txt").unlink()
    with pytest.raises(DataError, match="only the value"):
        read(root, ignore=255)


def test_splits_may_lie_below_images(make: Make) -> None:
    _, _, data = read(make(0, 1, below=True))
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 4, "val": 4, "test": 4}  # type: ignore[attr-defined]
    assert data.given == ("test", "train", "val")  # type: ignore[attr-defined]


def test_a_value_is_ignored_where_it_is_asked_for(make: Make) -> None:
    assert read(make(0, 1, 2), ignore=2)[:2] == (("0", "1"), [0, 1, IGNORED])
    with pytest.raises(ConfigError, match="masks"):
        load_dataset(DataConfig("digits", ignore=2))


def test_a_named_class_may_be_ignored(make: Make) -> None:
    classes, found, data = read(make(0, 1, 2, names="ground\nvoid\ncar\n"), ignore=1)
    assert (classes, found) == (("ground", "car"), [0, 1, IGNORED])
    assert data.preparation.values == (0, 2)  # type: ignore[attr-defined]


def test_the_one_value_without_a_name_that_most_masks_have_is_ignored_and_said(make: Make) -> None:
    classes, found, data = read(make(0, 1, 2, names="ground\ncar\n"))
    assert (classes, found) == (("ground", "car"), [0, 1, IGNORED])
    assert [note for note in data.notes if "--data.ignore 2" in note]  # type: ignore[attr-defined]


def test_values_without_a_name_are_refused_with_their_files(make: Make) -> None:
    root = make(0, 1, names="ground\ncar\n")
    Image.fromarray(np.full((HEIGHT, WIDTH), 9, np.uint8)).save(root / "masks" / "03.png")
    with pytest.raises(DataError, match=r"9 in masks/03\.png"):
        read(root)
    assert read(root, ignore=9)[1] == [0, 1, IGNORED]


def test_masks_that_count_from_one_are_not_read_as_the_next_class(make: Make) -> None:
    with pytest.raises(DataError, match="`1 ground`"):
        read(make(1, 2, 3, names="ground\ntree\ncar\n"))


@pytest.mark.parametrize(("names", "said"), [("a\nb\na\n", "line 3"), ("0 a\n300 b\n", "line 2"), ("\n\n", "no name")])
def test_a_wrong_line_is_named(make: Make, names: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read(make(0, 1, names=names))


def test_colors_stand_for_classes_and_an_unknown_one_is_named_with_its_place(make: Make) -> None:
    names = "10 20 30 ground\n200 0 0 car\n0 0 250 sky\n"
    root = make(0, 1, 2, names=names, colored=True)
    classes, found, data = read(root)
    assert (classes, found) == (("ground", "car", "sky"), [0, 1, 2])
    assert data.preparation.colors == ((10, 20, 30), (200, 0, 0), (0, 0, 250))  # type: ignore[attr-defined]
    pixels = COLORS[np.zeros((HEIGHT, WIDTH), int)]
    pixels[2, 5] = (1, 2, 3)
    Image.fromarray(pixels).save(root / "masks" / "03.png")
    data = load_dataset(DataConfig(str(root)))
    unread = [finding for finding in data.findings if finding.code == "data.unreadable"]
    assert "1 2 3 in row 2, column 5" in unread[0].measured
    (root / "colors.txt").write_text("10 20 30 ground\n200 0 car\n")
    with pytest.raises(DataError, match="line 2"):
        read(root)


def test_values_that_compression_made_are_not_to_be_ignored(make: Make) -> None:
    root = make(0, 1, names="ground\ncar\n")
    for file in sorted((root / "masks").iterdir()):
        noise = np.random.default_rng(0).integers(0, 9, (HEIGHT, WIDTH)).astype(np.uint8)
        Image.fromarray(noise).save(file.with_suffix(".jpg"))
        file.unlink()
    with pytest.raises(DataError, match="values without a name") as caught:
        load_dataset(DataConfig(str(root)))
    assert caught.value.remedy.startswith("save the original masks as PNG")
    (found,) = [finding for finding in check_data(root).findings if finding.code == "data.mask-values"]
    assert found.remedy.startswith("Save the original masks as PNG")


def test_a_mask_that_cannot_be_read_is_named(make: Make, tmp_path: Path) -> None:
    root = make(0, 1)
    (root / "masks" / "03.png").write_bytes(b"xx")
    stores = [DataConfig(str(root), store="memory"), DataConfig(str(root), store="pack", packs=str(tmp_path / "packs"))]
    for findings in (*(load_dataset(config).findings for config in stores), check_data(root).findings):
        (unread,) = [finding for finding in findings if finding.code == "data.unreadable"]
        assert "images/03.png (mask masks/03.png: not a picture" in unread.measured


def test_other_data_are_read_by_name_or_by_the_values_of_training(make: Make, tmp_path: Path) -> None:
    root = make(0, 1, names="ground\ncar\n")
    data = load_dataset(DataConfig(str(root)))
    arguments = data.preparation, data.classes, data.annotation
    (root / "classes.txt").write_text("car\nground\n")
    swapped = load_for_evaluation(DataConfig(str(root)), *arguments).splits["all"].targets
    (root / "classes.txt").unlink()
    plain = load_for_evaluation(DataConfig(str(root)), *arguments).splits["all"].targets
    assert torch.equal(swapped, 1 - plain)
    assert plain[0, 0, 0] == 0


def test_colors_without_names_are_listed(tmp_path: Path) -> None:
    for number in range(12):
        image = np.full((6, 8, 3), number, np.uint8)
        for folder in ("images", "masks"):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(image).save(tmp_path / folder / f"{number}.png")
            image[:], image[2:4, 2:5] = 0, (200, 30, 60)
    with pytest.raises(DataError, match="2 colors without names, 0 0 0 and 200 30 60") as refused:
        load_dataset(DataConfig(source=str(tmp_path)))
    (unusable,) = (finding for finding in check_data(tmp_path).findings if finding.code == "data.unusable")
    assert "colors.txt" in unusable.remedy
    command = refused.value.remedy.removeprefix("with the names of your classes: ")
    subprocess.run(["bash", "-c", command], check=True)
    assert load_dataset(DataConfig(source=str(tmp_path))).classes == ("class0", "class1")
