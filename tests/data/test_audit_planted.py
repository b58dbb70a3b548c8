"""Defects of every kind, planted in a small set and in photographs, are found; clean data are called clean."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from defects import KINDS, plant, write_clean

import striate
from remedies_tried import try_remedy
from striate.data.audit.data_check import DataCheck


def found_of(check: DataCheck) -> dict[str, set[str]]:
    """By code the samples that a finding is about; each remedy is tried."""
    for finding in check.findings:
        try_remedy(finding.remedy)
    found: dict[str, set[str]] = {finding.code: set() for finding in check.findings}
    for row in check.to_json()["samples"]:
        found[row["code"]].add(row["path"])
    return found


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    root = write_clean(tmp_path_factory.mktemp("planted") / "set")
    expected = plant(root)
    return expected, found_of(striate.check_data(root))


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_defect_is_found(kind: str, planted) -> None:
    expected, found = planted
    assert KINDS[kind] in found
    assert expected[kind] <= found[KINDS[kind]]


def test_a_class_under_a_second_name_is_missing_in_test_and_rare(planted) -> None:
    _, found = planted
    assert {"data.missing-class", "data.too-few", "data.imbalance", "data.resized"} <= set(found)


def test_nothing_is_found_in_a_clean_set(tmp_path: Path) -> None:
    check = striate.check_data(write_clean(tmp_path / "clean"))
    assert check.findings == ()
    assert check.healthy


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    "kind", ["leak", "leak_re_encoded", "leak_resized", "two_labels", "blank", "turned", "tiny", "frames"]
)
def test_one_defect_alone_is_the_only_one_found(kind: str, tmp_path: Path) -> None:
    root = write_clean(tmp_path / "set")
    expected = plant(root, (kind,))[kind]
    found = found_of(striate.check_data(root))
    also = {"data.resized"} if kind in ("tiny", "frames", "leak_resized") else set()
    assert set(found) - also == {KINDS[kind]}
    assert found[KINDS[kind]] == expected


FLOWERS = Path(os.environ.get("STRIATE_DATA", ".")) / "flowers"


@pytest.mark.slow
@pytest.mark.skipif(not FLOWERS.is_dir(), reason="STRIATE_DATA has no flowers")
def test_photographs_with_every_defect_and_without(tmp_path: Path) -> None:
    root = tmp_path / "flowers"
    for path, split in _dealt():
        home = root / split / path.parent.name
        home.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, home / path.name)
    clean = striate.check_data(root)
    assert [finding.code for finding in clean.findings] == ["data.resized"]
    expected = plant(root)
    found = found_of(striate.check_data(root))
    missed = {kind for kind, code in KINDS.items() if not (code in found and expected[kind] <= found[code])}
    assert not missed


def _dealt() -> Iterator[tuple[Path, str]]:
    """Thirty photographs of each class, ten of them for test."""
    for folder in sorted(FLOWERS.iterdir()):
        for place, path in enumerate(sorted(folder.iterdir())[:30]):
            yield path, "train" if place < 20 else "test"
