"""Groups of a manifest or an .npz: never in two of the splits that are made here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from striate.cli import main
from striate.data.config import DataConfig
from striate.data.read import load_dataset
from striate.errors import ConfigError, DataError


@pytest.fixture
def manifest() -> Callable[..., Path]:
    """Twelve patients with five pictures each, healthy or ill; `split` and `group` as functions of the number."""

    def make(split: Callable[[int], str] | None = None, group: Callable[[int], str] = lambda i: f"patient {i // 5}"):
        rng = np.random.default_rng(0)
        lines = ["path,label" + (",split" if split else "") + ",group"]
        for i in range(60):
            Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(f"{i:03}.png")
            fields = [f"{i:03}.png", "ill" if i // 5 % 2 else "healthy", *([split(i)] if split else []), group(i)]
            lines.append(",".join(fields))
        Path("m.csv").write_text("\n".join(lines) + "\n")
        return Path("m.csv")

    return make


def homes(data) -> dict[str, set[str]]:
    """The splits in which each patient is."""
    found: dict[str, set[str]] = {}
    for row in data.rows:
        found.setdefault(f"patient {int(Path(row.path).stem) // 5}", set()).add(row.split)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_no_group_is_in_two_splits(manifest, seed: int) -> None:
    data = load_dataset(DataConfig(source=str(manifest()), split_seed=seed))
    assert all(len(splits) == 1 for splits in homes(data).values())
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 40, "val": 10, "test": 10}
    assert any("12 groups" in note for note in data.notes)


def test_an_empty_group_is_none_and_leaves_its_samples_alone(manifest) -> None:
    data = load_dataset(DataConfig(source=str(manifest(group=lambda i: "" if i < 30 else "p"))))
    assert len(homes(data)["patient 11"]) == 1
    assert max(len(splits) for splits in homes(data).values()) > 1


def test_an_epoch_of_samples_in_groups_has_no_interval_by_samples(manifest, capsys) -> None:
    words = ["--model", "fc(2)", "--epochs", "1", "--plan", "plain"]
    for group, has_interval in ((lambda i: f"patient {i // 5}", False), (lambda _: "", True)):
        assert main(["train", str(manifest(group=group)), *words, "--out", f"run-{has_interval}"]) == 0
        line = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("epoch 1/1"))
        assert ("n = " in line) == has_interval


def test_an_equal_picture_ties_two_groups_together(manifest) -> None:
    file = manifest()
    for number in range(0, 55, 10):  # a picture of each healthy patient, and of the next healthy one
        Path(f"{number + 10:03}.png").write_bytes(Path(f"{number:03}.png").read_bytes())
    found = homes(load_dataset(DataConfig(source=str(file))))
    healthy = [found[f"patient {number}"] for number in range(0, 12, 2)]
    assert healthy == [{"train"}] * 6  # one unit now, which a single split holds; what is to be learned is in train


def test_groups_follow_their_members_in_a_given_split(manifest) -> None:
    data = load_dataset(DataConfig(source=str(manifest(split=lambda i: "test" if i % 5 == 0 and i < 20 else ""))))
    assert homes(data)["patient 0"] == {"test"}
    assert data.given == ("test",)


def test_a_group_that_given_splits_tear_is_a_finding(manifest) -> None:
    data = load_dataset(DataConfig(source=str(manifest(split=lambda i: "test" if i % 5 == 0 else "train"))))
    torn = next(finding for finding in data.findings if finding.code == "data.group-leak")
    assert torn.measured.startswith("12 of 12 groups")
    assert "patient 0 (test, train)" in torn.measured
    found = homes(data)  # val is cut from train by group all the same
    assert len([splits for splits in found.values() if "val" in splits]) == 2
    assert not any({"train", "val"} <= splits for splits in found.values())


def test_groups_of_arrays(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(60, 4))
    np.savez("g.npz", x=x, y=np.arange(60) % 2, groups=np.arange(60) // 6)
    data = load_dataset(DataConfig(source="g.npz"))
    ids = {name: {i // 6 for i in split.ids.tolist()} for name, split in data.splits.items()}
    assert not ids["train"] & ids["test"]
    assert not ids["train"] & ids["val"]
    assert not ids["val"] & ids["test"]


@pytest.mark.parametrize("groups", [np.arange(59), np.ones((60, 2), int), np.linspace(0, 1, 60)])
def test_groups_that_are_none_are_refused(groups: np.ndarray) -> None:
    np.savez("g.npz", x=np.random.default_rng(0).normal(size=(60, 4)), y=np.arange(60) % 2, groups=groups)
    with pytest.raises(DataError, match="groups") as caught:
        load_dataset(DataConfig(source="g.npz"))
    assert ("astype(str)" if groups.shape == (60,) else "one entry per sample") in caught.value.remedy


def test_groups_of_a_split_that_is_not_there_are_named_as_ignored() -> None:
    x = np.random.default_rng(0).normal(size=(60, 4))
    np.savez("g.npz", x=x, y=np.arange(60) % 2, groups_val=np.arange(60))
    data = load_dataset(DataConfig(source="g.npz"))
    assert any("groups_val" in finding.measured for finding in data.findings)


def write_speakers(root, split=None):
    """A manifest of 24 pictures with a column of four speakers."""
    rows = []
    for i in range(24):
        (root / "files").mkdir(parents=True, exist_ok=True)
        Image.new("L", (6, 4), 10 * i).save(root / "files" / f"{i}.png")
        rows.append(f"files/{i}.png,{'ab'[i % 2]},speaker {i // 6}" + (f",{split(i)}" if split else ""))
    path = root / "words.csv"
    path.write_text("\n".join(["path,label,speaker" + (",split" if split else ""), *rows]))
    return path


def found_in(path, **fields):
    data = load_dataset(DataConfig(source=str(path), **fields))
    return data, {finding.code: finding for finding in data.findings}


def test_a_column_that_looks_like_a_group_is_proposed_and_the_option_keeps_it_together(tmp_path):
    path = write_speakers(tmp_path)
    proposed = found_in(path)[1]["data.group-column"]
    assert proposed.severity == "warning"
    assert proposed.remedy.settings == {"data.group": "speaker"}
    data, found = found_in(path, group="speaker")
    assert "data.group-column" not in found
    homes = [set(facts.columns["group"]) for facts in data.facts.values()]
    assert sum(map(len, homes)) == len(set().union(*homes)) == 4
    with pytest.raises(ConfigError, match=r"--data\.group speaker"):
        found_in(path, group="spekaer")


def test_a_speaker_in_every_given_split_is_an_error(tmp_path):
    path = write_speakers(tmp_path, lambda i: ("train", "val", "test")[i % 3])
    assert found_in(path)[1]["data.group-column"].severity == "error"
    assert found_in(path, group="speaker")[1]["data.group-leak"].severity == "error"
    apart = write_speakers(tmp_path / "apart", lambda i: ("train", "train", "val", "test")[i // 6])
    assert "data.group-column" not in found_in(apart)[1]


@pytest.mark.parametrize("same", [True, False])
def test_a_threshold_that_is_chosen_on_test_is_told(tmp_path: Path, same: bool) -> None:
    rng = np.random.default_rng(0)
    rows = ["path,label,split"]
    for i in range(60):
        split = ("train", "val", "test")[i // 20]
        copied = tmp_path / f"{i - 20}.png"
        if same and split == "test":
            (tmp_path / f"{i}.png").write_bytes(copied.read_bytes())
        else:
            Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
        rows.append(f"{i}.png,{'ab'[i % 2]},{split}")
    (tmp_path / "m.csv").write_text("\n".join(rows) + "\n")
    found = found_in(tmp_path / "m.csv")[1]
    assert ("data.leak" in found) is same
    assert not same or "choose the epoch and the thresholds on test data" in found["data.leak"].why


def test_too_few_groups_are_said_to_be_groups(manifest) -> None:
    file = manifest(group=lambda i: f"clinic {i // 5 % 2} {i // 30}")
    with pytest.raises(DataError, match="60 readable samples in 4 groups that are never divided, none") as caught:
        load_dataset(DataConfig(source=str(file)))
    assert caught.value.remedy == "add samples of other groups: at least three groups for each class"
    thirds = manifest(group=lambda i: f"clinic {i // 5 % 2} {i // 20}")
    assert set(load_dataset(DataConfig(source=str(thirds))).splits) == {"train", "val", "test"}
