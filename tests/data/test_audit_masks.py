"""Values of masks that a split lacks."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from striate.api import check_data
from striate.data.audit.masks import find_missing_mask_values
from striate.data.config import DataConfig
from striate.data.read import load_dataset


def found(train: dict[int, int], test: dict[int, int]):
    masks = {0: Counter(train), 1: Counter(test)}
    listing = SimpleNamespace(source="scenes", values=(), classes=(), ignore=None)
    return find_missing_mask_values(SimpleNamespace(mask_values=masks, listing=listing, splits={0: "train", 1: "test"}))


def test_a_value_that_a_split_lacks_is_named() -> None:
    marked = found({0: 90, 1: 5, 2: 5}, {0: 95, 1: 5, 255: 3})
    assert marked is not None
    finding = marked.finding
    assert (finding.code, finding.severity) == ("data.missing-class", "warning")
    assert finding.measured == "3 values of masks: test has no 2"


def test_what_was_never_shown_is_an_error_and_what_is_ignored_is_not_missed() -> None:
    marked = found({0: 100}, {0: 95, 1: 5})
    assert marked is not None
    assert marked.finding.severity == "error"
    assert found({0: 90, 1: 10, 255: 4}, {0: 95, 1: 5}) is None


def scenes(root: Path, count: int = 24) -> Path:
    """Disks of three classes on noise, and their masks."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:72, :96]
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    (root / "classes.txt").write_text("ground\nleaf\nstone\nsnail\n")
    for number in range(count):
        mask = np.zeros((72, 96), np.uint8)
        for kind in (3, 1, 2):
            row, column, radius = rng.integers(12, 60), rng.integers(12, 84), rng.integers(9, 16)
            mask[np.hypot(y - row, x - column) < radius] = kind
        image = 40 + 60 * mask[..., None] + rng.integers(0, 12, (72, 96, 3))
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(root / "images" / f"{number:02}.png")
        Image.fromarray(mask).save(root / "masks" / f"{number:02}.png")
    return root


def codes(root: Path) -> set[str]:
    return {finding.code for finding in check_data(root).findings if finding.code.startswith("data.mask")}


def change(root: Path, what: str) -> None:
    """Plant one fault."""
    files = sorted((root / "masks").iterdir())
    masks = [Image.open(file).copy() for file in files]
    if what == "interpolated":
        for file, mask in zip(files, masks, strict=True):
            small = mask.resize((48, 36), Image.Resampling.NEAREST)
            small.resize((96, 72), Image.Resampling.BILINEAR).save(file)
    if what == "resized with nearest neighbors":
        for file, mask in zip(files, masks, strict=True):
            small = mask.resize((48, 36), Image.Resampling.NEAREST)
            small.resize((96, 72), Image.Resampling.NEAREST).save(file)
    if what in ("next", "previous"):
        step = 1 if what == "next" else -1
        for k, file in enumerate(files):
            masks[(k + step) % len(files)].save(file)
    if what == "off by one":
        for file, mask in zip(files, masks, strict=True):
            Image.fromarray(np.asarray(mask) + 1).save(file)
    if what == "unnamed":
        Image.fromarray(np.asarray(masks[3]) + 4).save(files[3])


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("fault", "found"),
    [
        ("none", set()),
        ("resized with nearest neighbors", set()),
        ("interpolated", {"data.mask-interpolated"}),
        ("next", {"data.mask-shifted"}),
        ("previous", {"data.mask-shifted"}),
        ("off by one", {"data.mask-values"}),
        ("unnamed", {"data.mask-values"}),
    ],
)
def test_a_planted_fault_is_found_and_its_healthy_twin_is_not(fault: str, found: set[str], tmp_path: Path) -> None:
    root = scenes(tmp_path / "scenes")
    change(root, fault)
    assert codes(root) == found
    if found <= {"data.mask-shifted", "data.mask-interpolated"}:  # others are refused
        before_training = load_dataset(DataConfig(str(root))).findings
        assert {one.code for one in before_training if one.code.startswith("data.mask")} == found


def test_a_named_class_that_no_training_mask_has_is_an_error(tmp_path: Path) -> None:
    root = scenes(tmp_path / "scenes")
    with (root / "classes.txt").open("a") as file:
        file.write("mushroom\n")
    finding = next(one for one in check_data(root).findings if one.code == "data.missing-class")
    assert finding.severity == "error"
    assert "mushroom" in finding.measured


def test_a_value_without_a_name_is_no_class_and_can_be_ignored(tmp_path: Path) -> None:
    root = scenes(tmp_path / "scenes")
    change(root, "unnamed")
    found = {finding.code: finding for finding in check_data(root).findings}
    assert "--data.ignore 4" in found["data.mask-values"].remedy
    assert "data.missing-class" not in found
    mask = np.asarray(Image.open(root / "masks" / "03.png"))
    Image.fromarray(np.where(mask > 4, 5, 0).astype(np.uint8)).save(root / "masks" / "03.png")
    assert "data.mask-values" in {finding.code for finding in check_data(root).findings}
    assert "data.mask-values" not in {one.code for one in check_data(root, set={"data.ignore": 5}).findings}


def test_a_mask_without_its_image_is_named_as_such(tmp_path: Path) -> None:
    root = scenes(tmp_path / "scenes")
    (root / "images" / "03.png").unlink()
    (finding,) = (one for one in check_data(root).findings if one.code == "data.misplaced")
    assert finding.measured == "1 mask without an image of the same name in images/: masks/03.png"


def test_borders_that_jpeg_makes_are_not_compared(tmp_path: Path) -> None:
    root = scenes(tmp_path / "scenes")
    change(root, "next")
    assert "data.mask-shifted" in codes(root)
    for file in sorted((root / "masks").iterdir()):
        Image.open(file).save(file.with_suffix(".jpg"), quality=75)
        file.unlink()
    assert not codes(root) & {"data.mask-shifted", "data.mask-turned"}


@pytest.mark.parametrize(("names", "ignored"), [(None, False), (2, False), (3, True)])
def test_black_and_white_masks_have_two_values_if_training_reads_two(tmp_path: Path, names, ignored: bool) -> None:
    root = scenes(tmp_path)
    for file in (root / "masks").iterdir():
        Image.fromarray((np.asarray(Image.open(file)) > 0).astype(np.uint8) * 255).save(file)
    (root / "classes.txt").unlink()
    if names:
        (root / "classes.txt").write_text("".join(f"{name}\n" for name in ("ground", "leaf", "stone")[:names]))
    assert not codes(root)
    findings = {one.code: one for one in check_data(root).findings}
    assert ("data.missing-class" in findings) == ignored
    if ignored:  # a third name, so that 255 is no class
        assert "only one value beside the ignored 255" in findings["data.constant-masks"].measured


def test_a_value_without_a_name_that_most_masks_have_is_said_to_be_ignored(tmp_path: Path) -> None:
    root = scenes(tmp_path)
    (root / "classes.txt").write_text("ground\nleaf\nstone\n")
    (finding,) = [one for one in check_data(root).findings if one.code == "data.mask-values"]
    assert finding.severity == "note"
    assert "Training ignores these pixels (--data.ignore 3)" in str(finding.remedy)
