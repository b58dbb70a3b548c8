"""Folders in folders, folders of splits, classes of a few images: what is read of them, and what is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from striate.data.annotations.classes import Classes
from striate.data.audit.check import check_evidence
from striate.data.audit.evidence import gather_evidence
from striate.data.config import DataConfig
from striate.data.dataset import Dataset
from striate.data.read import load_dataset, load_for_evaluation
from striate.data.sources.list_source import list_source
from striate.errors import ConfigError, DataError
from striate.records import Remedy


def draw(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng([*str(path).encode()]).integers(0, 256, (6, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two places, two years, three species with five pictures each."""
    root = tmp_path_factory.mktemp("set") / "trees"
    for place in ("north", "south"):
        for year in ("2021", "2022"):
            draw(*(root / place / year / species / f"{i}.png" for species in ("ash", "elm", "oak") for i in range(5)))
    return root


def load(source: Path, **fields: object) -> Dataset:
    return load_dataset(DataConfig(source=str(source), **fields))  # type: ignore[arg-type]


def codes(data: Dataset) -> list[str]:
    return [finding.code for finding in data.findings]


def test_names_that_repeat_across_classes_are_asked_about_with_the_option_that_says_which(places: Path) -> None:
    data = load(places)
    assert data.classes == ("north", "south")
    asked = next(finding for finding in data.findings if finding.code == "data.class-level")
    assert isinstance(asked.remedy, Remedy)
    assert asked.remedy.settings == {"data.class_level": "3"}
    for name in ("north", "2021", "ash"):
        assert name in asked.measured
    checked = check_evidence(
        gather_evidence(list_source(DataConfig(source=str(places))), DataConfig(source=str(places)))
    )
    assert "data.class-level" in [finding.code for finding in checked.findings]


def test_splits_of_an_earlier_run_do_not_change_the_level(places: Path, tmp_path: Path) -> None:
    listing = list_source(DataConfig(source=str(places)))
    splits = tmp_path / "split.csv"
    splits.write_text("path,split\n" + "".join(f"{path},train\n" for path in listing.paths))
    again = list_source(DataConfig(source=str(places), splits=str(splits)))
    assert again.folders_at(3) == listing.folders_at(3) == {name: {"ash", "elm", "oak"} for name in ("north", "south")}


def test_folders_of_the_slices_of_a_sample_are_no_classes(tmp_path: Path) -> None:
    for file in ("sick/1/a.dcm", "sick/1/b.dcm", "well/1/a.dcm", "well/1/b.dcm"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(b"slice")
    listing = list_source(DataConfig(source=str(tmp_path)))
    assert listing.paths == ("sick/1/*.dcm", "well/1/*.dcm")
    assert listing.folders_at(2) == {}


@pytest.mark.parametrize(
    ("level", "first", "count"), [(1, "north", 2), (2, "2021", 2), (3, "ash", 3), ("path", "north/2021/ash", 12)]
)
def test_the_level_says_which_folder_is_the_class(places: Path, level: int | str, first: str, count: int) -> None:
    data = load(places, class_level=level)
    assert (data.classes[0], len(data.classes)) == (first, count)
    assert "data.class-level" not in codes(data)


def test_a_level_without_pictures_or_folders_is_refused(places: Path) -> None:
    with pytest.raises(DataError, match="a level of at most 3, the number of folders above a sample"):
        load(places, class_level=4)
    with pytest.raises(ConfigError, match=r"data\.class_level"):
        load_dataset(DataConfig(source="iris", class_level=1))


def test_other_data_are_read_at_the_level_of_the_network(places: Path) -> None:
    trained = load(places, class_level=3)
    other = load_for_evaluation(DataConfig(source=str(places)), trained.preparation, trained.classes, "class")
    assert other.splits["all"].targets.bincount().tolist() == [20, 20, 20]


def test_classes_of_one_name_in_several_folders_stay_apart_where_they_may_be_new(places: Path) -> None:
    trained = load(places, class_level=3)
    other = load_for_evaluation(DataConfig(source=str(places)), trained.preparation, trained.classes, "identity")
    assert len(other.classes) == 12
    assert "Classes: each of 12 folders is a class, such as north/2021/ash" in " ".join(other.notes)


def test_folders_within_classes_that_differ_are_not_asked_about(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        draw(*(tmp_path / "set" / name / f"{name}{k}" / f"{i}.png" for k in range(2) for i in range(5)))
    assert "data.class-level" not in codes(load(tmp_path / "set"))


def test_one_folder_around_the_classes_gets_the_level_below(places: Path) -> None:
    with pytest.raises(DataError, match="only one class") as caught:
        load(places.parent)
    assert caught.value.remedy.startswith("--data.class_level 2: the folders north, south")


def test_a_set_is_named_by_the_folder_that_a_person_would_name(tmp_path: Path) -> None:
    for split in ("train", "val"):
        draw(*(tmp_path / "birds" / split / name / f"{i}.png" for name in ("crow", "jay") for i in range(6)))
    draw(*(tmp_path / "cars" / "images" / name / f"{i}.png" for name in ("bus", "van") for i in range(6)))
    alone = load(tmp_path / "birds" / "train")
    assert alone.name == "birds"
    assert any(f"val/ beside it. To use all, give {tmp_path / 'birds'}" in note for note in alone.notes)
    assert load(tmp_path / "cars" / "images").name == "cars"


def test_the_classes_are_counted_in_one_line(tmp_path: Path, places: Path) -> None:
    assert load(places).annotated == "2 classes of 30 samples each: north, south"
    draw(*(tmp_path / "odd" / name / f"{i}.png" for name, n in (("crow", 4), ("jay", 6)) for i in range(n)))
    assert load(tmp_path / "odd").annotated == "2 classes: crow (4), jay (6)"
    draw(*(tmp_path / "many" / f"class {k:03}" / f"{i}.png" for k in range(40) for i in range(3)))
    many = load(tmp_path / "many").annotated
    assert many.startswith("40 classes of 3 samples each: class 000, class 001")
    assert many.endswith("more")
    assert len(many) < 200
    alone = list_source(DataConfig(source=str(places.parent)))
    assert Classes().counted(alone, range(60)) == f"1 class of 60 samples: {places.name}"


def test_no_test_split_is_cut_where_its_share_is_0(tmp_path: Path) -> None:
    for split in ("train", "val"):
        draw(*(tmp_path / "birds" / split / name / f"{i}.png" for name in ("crow", "jay") for i in range(9)))
    cut, kept = load(tmp_path / "birds"), load(tmp_path / "birds", test_fraction=0.0)
    assert {name: len(split) for name, split in cut.splits.items()} == {"train": 14, "val": 18, "test": 4}
    assert any("--data.test_fraction 0" in note for note in cut.notes)
    again = load(tmp_path / "birds", fingerprint=cut.fingerprint)  # as eval RUN reads the data of its run
    assert not any("--data.test_fraction" in note for note in again.notes)
    assert {name: len(split) for name, split in kept.splits.items()} == {"train": 18, "val": 18}
    assert any("striate eval RUN DATA" in note for note in kept.notes)
    assert kept.held_out == "val"
    assert not any("has no effect" in note for note in (*cut.notes, *kept.notes))
    asked = load(tmp_path / "birds", val_fraction=0.3, test_fraction=0.3)
    assert [note.partition(" ")[0] for note in asked.notes if "has no effect" in note] == ["--data.val_fraction"]
    with pytest.raises(DataError, match=r"test_fraction 0\.2"):
        kept.require_test("baselines")


def test_a_class_of_one_image_is_an_error_before_training_and_one_without_validation_a_warning(tmp_path: Path) -> None:
    for name, count in (("crow", 20), ("jay", 1), ("owl", 2)):
        draw(*(tmp_path / "birds" / name / f"{i}.png" for i in range(count)))
    found = {finding.code: finding for finding in load(tmp_path / "birds").findings}
    assert found["data.too-few"].severity == "error"
    assert "jay" in found["data.too-few"].why
    assert "val has no jay, owl" in found["data.missing-class"].measured


def test_too_few_classes_for_embeddings_name_the_option_that_makes_each_folder_one(places: Path) -> None:
    config = DataConfig(source=str(places))
    with pytest.raises(DataError, match=r"--data.class_level path: each of 12 folders is a class") as refused:
        load_dataset(config, annotation="identity")
    assert "north/2021/ash" in str(refused.value)
    data = load_dataset(DataConfig(source=str(places), class_level="path"), annotation="identity")
    assert len(data.classes) == 12


def test_a_manifest_has_no_level_of_classes_to_choose(places: Path) -> None:
    files = sorted(path.relative_to(places).as_posix() for path in places.rglob("*.png"))
    (places / "m.csv").write_text("\n".join(["path,label", *(f"{file},only" for file in files)]) + "\n")
    with pytest.raises(DataError) as refused:
        load_dataset(DataConfig(source=str(places / "m.csv")), annotation="identity")
    assert refused.value.remedy == "add classes: two for each split, six in total"
