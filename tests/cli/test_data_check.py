"""`striate data check`: what it prints, its exit codes, and what it writes."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from striate.cli import main
from striate.data.config import DataConfig
from striate.data.read import load_dataset

sys.path.insert(0, str(Path(__file__).parent.parent / "data"))
from defects import plant, smooth, write_clean


def check(capsys, *words: str) -> tuple[int, str, str]:
    code = main(["data", "check", *words])
    return code, *capsys.readouterr()


def as_json(capsys, *words: str) -> tuple[int, dict]:
    code, out, _ = check(capsys, *words, "--json")
    return code, json.loads(out)


def rows_of(manifest: Path) -> list[dict[str, str]]:
    with manifest.open(newline="") as file:
        return list(csv.DictReader(file))


def test_clean_data_end_with_0_and_say_so(tmp_path: Path, capsys) -> None:
    code, out, err = check(capsys, str(write_clean(tmp_path / "set")))
    assert (code, err) == (0, "")
    assert out.splitlines()[:5] == [
        "set: 60 images; 39 train, 3 val, 18 test (val as striate train cuts it); images",
        "  of 48×48 pixels",
        "3 classes of 20 samples each: daisy, rose, tulip",
        "",
        "Nothing was found.",
    ]
    assert out.splitlines()[-1] == f"  striate data check {tmp_path / 'set'} --labels"


def test_notes_on_how_the_data_are_read_are_printed(tmp_path: Path, capsys) -> None:
    one_hot = np.eye(3)[np.arange(60) % 3]
    images = np.random.default_rng(0).integers(0, 256, (60, 6, 6), np.uint8)
    np.savez(tmp_path / "a.npz", x=images, y=one_hot)
    code, out, _ = check(capsys, str(tmp_path / "a.npz"))
    assert (code, "read as classes" in " ".join(out.split())) == (0, True)
    assert "read as classes" in as_json(capsys, str(tmp_path / "a.npz"))[1]["notes"][0]


def test_an_option_that_has_no_effect_is_named_as_it_was_typed(capsys) -> None:
    code, _, err = check(capsys, "mnist5k", "--data.labels", "corrected.csv")
    assert code == 2
    assert "leave out --data.labels" in err


def test_errors_end_with_1_in_lines_of_80_letters(tmp_path: Path, capsys) -> None:
    root = write_clean(tmp_path / "set")
    plant(root, ("leak", "truncated", "gray"))
    code, out, _ = check(capsys, str(root))
    assert code == 1
    assert "error data.leak: 1 of 18 in test is in another split too: test/daisy/" in out.replace("\n  ", " ")
    assert "2 errors and 1 note" in out
    command = next(line for line in out.splitlines() if line.startswith("  striate data check"))
    assert command == f"  striate data check {root} --quarantine {root}/checked.csv"
    assert all(len(line) <= 80 or str(root) in line for line in out.splitlines())


def test_what_is_said_of_the_quarantine_is_what_it_does(tmp_path: Path, capsys) -> None:
    root = write_clean(tmp_path / "set")
    plant(root, ("two_labels", "truncated"))
    _, out, _ = check(capsys, str(root), "--quarantine", str(root / "left.csv"))
    assert "--quarantine leaves out all of them" in " ".join(out.split())
    assert "split.csv" not in out
    named = {row["path"] for row in rows_of(root / "left.csv")}
    _, document = as_json(capsys, str(root))
    twice = [row["path"] for row in document["samples"] if row["code"] == "data.label-noise"]
    assert twice
    assert not named & set(twice)


def test_a_warning_alone_ends_with_0(tmp_path: Path, capsys) -> None:
    root = write_clean(tmp_path / "set")
    plant(root, ("wrong_suffix",))
    code, document = as_json(capsys, str(root))
    assert (code, document["error"], document["warning"]) == (0, 0, 1)
    [row] = document["samples"]
    assert row == {
        "code": "data.wrong-suffix",
        "path": "train/daisy/png.jpg",
        "label": "daisy",
        "split": row["split"],
        "words": "is PNG",
        "group": 0,
    }


def test_the_json_names_every_sample_and_its_copies(tmp_path: Path, capsys) -> None:
    root = write_clean(tmp_path / "set")
    expected = plant(root, ("leak", "leak_resized"))
    _, document = as_json(capsys, str(root))
    rows = [row for row in document["samples"] if row["code"] == "data.leak"]
    groups = {frozenset(row["path"] for row in rows if row["group"] == place) for place in {r["group"] for r in rows}}
    assert groups == {frozenset(paths) for paths in expected.values()}
    assert document["remedy"].startswith("striate data check ")
    assert {"code", "severity", "where", "measured", "threshold", "why", "remedy"} == set(document["findings"][0])


def test_a_quarantine_is_a_manifest_without_the_errors_that_train_takes(tmp_path: Path, capsys) -> None:
    root = write_clean(tmp_path / "set")
    planted = plant(root, ("leak", "leak_re_encoded", "truncated", "two_labels", "blank"))
    before = sorted(root.rglob("*"))
    file = root / "checked.csv"
    code, document = as_json(capsys, str(root), "--quarantine", str(file))
    assert code == 1
    assert document["quarantine"] == str(file)
    assert sorted(root.rglob("*")) == sorted([*before, file])  # nothing is deleted or moved
    rows = rows_of(file)
    assert list(rows[0]) == ["path", "label", "split"]
    kept = {row["path"] for row in rows}
    for kind in ("truncated", "two_labels", "blank"):
        assert not planted[kind] & kept
    for kind in ("leak", "leak_re_encoded"):
        assert {path.split("/")[0] for path in planted[kind] & kept} == {"test"}
    again, after = as_json(capsys, str(file))
    assert again == 0
    assert not [finding for finding in after["findings"] if finding["severity"] == "error"]
    assert main(["train", str(file), "--model", "fc(3)", "--epochs", "1", "--out", "run", "--plan", "plain"]) == 0


def test_without_given_splits_copies_get_a_group_and_stay_together(tmp_path: Path, capsys) -> None:
    for k, name in enumerate(("one", "two")):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(20):
            picture = smooth(100 * k + i)
            picture.save(tmp_path / "set" / name / f"{7919 * i % 1000}.png")
            picture.resize((36, 36)).save(tmp_path / "set" / name / f"{7919 * i % 1000 + 5000}.jpg")
    code, document = as_json(capsys, str(tmp_path / "set"), "--quarantine", "checked.csv")
    assert code == 1
    assert "data.leak" in {finding["code"] for finding in document["findings"]}
    rows = rows_of(Path("checked.csv"))
    assert {row["path"].split("/")[0] for row in rows} == {"set"}
    assert any(row["group"] for row in rows)
    data = load_dataset(DataConfig("checked.csv"))
    homes: dict[str, set[str]] = {}
    for row in data.rows:
        homes.setdefault(f"{Path(row.path).parent}/{int(Path(row.path).stem) % 5000}", set()).add(row.split)
    assert all(len(splits) == 1 for splits in homes.values())
    assert as_json(capsys, "checked.csv")[0] == 0


def test_a_manifest_keeps_its_groups_in_the_quarantine(tmp_path: Path, capsys) -> None:
    root = write_clean(tmp_path / "set")
    files = sorted(path.relative_to(tmp_path).as_posix() for path in root.rglob("*.jpg"))
    lines = [f"{path},{path.split('/')[2]},{'day' if k < 2 else ''}" for k, path in enumerate(files)]
    Path("list.csv").write_text("\n".join(["path,label,group", *lines]))
    (tmp_path / files[5]).write_bytes(b"")
    assert as_json(capsys, "list.csv", "--quarantine", "checked.csv")[0] == 1
    rows = rows_of(Path("checked.csv"))
    assert [row["path"] for row in rows if row["group"] == "day"] == files[:2]
    assert files[5] not in {row["path"] for row in rows}


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["set", "--quarantine", "checked.txt"], "a .csv file"),
        (["set", "--quarantine", "there.csv"], "nothing is overwritten"),
        (["set", "--quarantine", "elsewhere/checked.csv"], "or a folder above"),
        (["set", "--quarantine", "nowhere/checked.csv"], "or a folder above"),
        (["mnist5k", "--quarantine", "checked.csv"], "cannot be listed in a manifest"),
        (["iris", "--sheet", "sheet.png"], "no pictures"),
        (["set", "--sheet", "there.png"], "nothing is overwritten"),
        (["set", "--sheet", "sheet.jpg"], "ends in .png"),
        (["set", "--optim.lr", "1"], "has no effect on a check"),
        (["set", "--size", "big"], "HEIGHTxWIDTH"),
        (["nothing-there"], "neither a named data set nor a path"),
        (["boston", "--labels"], "labels that are numbers"),
        (["iris", "--size", "32"], "iris holds rows"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(
    words: list[str], said: str, tmp_path: Path, capsys
) -> None:
    write_clean(tmp_path / "set")
    (tmp_path / "elsewhere").mkdir()
    for name in ("there.csv", "there.png"):
        Path(name).write_text("mine")
    before = sorted(Path().iterdir())
    code, out, err = check(capsys, *words)
    assert (code, out) == (2, "")
    assert said in err
    assert sorted(Path().iterdir()) == before
    assert Path("there.csv").read_text() == "mine"


def test_a_remedy_for_a_quarantine_elsewhere_works_when_pasted(tmp_path: Path, capsys) -> None:
    root = write_clean(tmp_path / "set")
    plant(root, ("leak",))
    _, _, err = check(capsys, str(root), "--quarantine", "/checked.txt")
    remedy = err.split("remedy:")[1].split()
    assert check(capsys, str(root), *remedy)[0] == 1
    assert (root / "checked.csv").is_file()


def test_a_link_that_leads_elsewhere_is_refused_and_no_quarantine_written(tmp_path: Path, capsys) -> None:
    root = write_clean(tmp_path / "set")
    files = sorted((root / "train" / "rose").iterdir())[:2]
    for file in files:
        file.rename(tmp_path / f"far {file.name}")
        file.symlink_to(tmp_path / f"far {file.name}")
    code, _, err = check(capsys, str(root), "--quarantine", str(root / "checked.csv"))
    assert code == 2
    assert "2 files that a manifest cannot name (a link to another folder" in err
    assert all(file.name in err for file in files)
    assert not (root / "checked.csv").exists()
    assert check(capsys, str(root), "--quarantine", "checked.csv")[0] == 0


def test_links_to_folders_elsewhere_are_not_proposed_for_a_quarantine(tmp_path: Path, capsys) -> None:
    root = write_clean(tmp_path / "set")
    plant(root, ("leak",))
    (tmp_path / "links").symlink_to(root)
    assert "--quarantine" in check(capsys, str(tmp_path / "links"))[1]
    (tmp_path / "links").unlink()
    (tmp_path / "links").mkdir()
    for split in root.iterdir():
        (tmp_path / "links" / split.name).symlink_to(split)
    assert "--quarantine" not in check(capsys, str(tmp_path / "links"))[1]


def test_an_archive_is_checked_as_its_folder_is(tmp_path: Path, capsys) -> None:
    root = write_clean(tmp_path / "set")
    plant(root, ("leak", "blank", "hidden"))
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", root)
    folder, packed = as_json(capsys, str(root)), as_json(capsys, archive)
    assert folder[0] == packed[0] == 1
    assert folder[1]["samples"] == packed[1]["samples"]
    assert packed[1]["remedy"] == ""


def test_arrays_are_checked(tmp_path: Path, capsys) -> None:
    x = np.stack([np.asarray(smooth(i, 24)) for i in range(40)])
    x[39] = x[0]
    x[38] = 7
    y = np.arange(40) % 2
    np.savez("set.npz", x_train=x[:30], y_train=y[:30], x_test=x[30:], y_test=y[30:])
    code, document = as_json(capsys, "set.npz")
    assert code == 1
    assert {f["code"] for f in document["findings"]} >= {"data.leak", "data.constant-images", "data.label-noise"}


def test_tables_get_what_applies(tmp_path: Path, capsys) -> None:
    x = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    x[:, 2] = 3
    x[7] = x[8]
    np.savez("table.npz", x=x, y=np.arange(60) % 3)
    code, document = as_json(capsys, "table.npz")
    found = {finding["code"]: finding for finding in document["findings"]}
    assert "1 of 4 columns" in found["data.constant-columns"]["measured"]
    assert {row["path"] for row in document["samples"] if row["code"] == "data.label-noise"} == {"00007", "00008"}
    assert code == 1


def test_masks_are_checked(tmp_path: Path, capsys) -> None:
    for part in ("images", "masks"):
        (tmp_path / "set" / part).mkdir(parents=True)
    for i in range(20):
        smooth(i, 32).save(tmp_path / "set" / "images" / f"{i}.png")
        mask = np.zeros((32, 32), np.uint8)
        mask[:, : 16 if i else 0] = 1
        Image.fromarray(mask[:20] if i == 3 else mask).save(tmp_path / "set" / "masks" / f"{i}.png")
    code, document = as_json(capsys, str(tmp_path / "set"))
    assert code == 1
    rows = {row["code"]: row["path"] for row in document["samples"]}
    assert rows == {"data.mask-size": "images/3.png", "data.constant-masks": "images/0.png"}


def test_data_that_cannot_be_trained_on_are_an_error_with_exit_code_1(photos: Callable[..., Path], capsys) -> None:
    code, document = as_json(capsys, str(photos(classes=1)))
    assert code == 1
    assert [f["code"] for f in document["findings"] if f["severity"] == "error"] == ["data.too-few"]
    root = photos(classes=2, each=4, name="damaged")
    for path in root.rglob("*.png"):
        path.write_bytes(b"")
    code, document = as_json(capsys, str(root))
    assert code == 1
    assert {f["code"] for f in document["findings"] if f["severity"] == "error"} == {"data.unreadable", "data.unusable"}


@pytest.mark.slow
def test_a_sheet_shows_what_was_found(tmp_path: Path, capsys) -> None:
    root = write_clean(tmp_path / "set")
    plant(root)
    code, out, _ = check(capsys, str(root), "--sheet", "sheet.png")
    assert code == 1
    assert out.splitlines()[-1] == "sheet.png"
    with Image.open("sheet.png") as sheet:
        assert sheet.mode in ("RGB", "RGBA")
        assert sheet.width > 900
        assert sheet.height > 2000
        assert np.asarray(sheet.convert("RGB"))[2, 2].tolist() == [255, 255, 255]


def test_nothing_to_draw_is_no_sheet(tmp_path: Path, capsys) -> None:
    code, out, err = check(capsys, str(write_clean(tmp_path / "set")), "--sheet", "sheet.png", "--json")
    assert (code, json.loads(out)["sheet"]) == (0, None)
    assert err == "sheet.png is not written: there are no samples to draw\n"
    assert not Path("sheet.png").exists()


def test_class_folders_of_frames_are_checked_as_clips(tmp_path: Path, capsys) -> None:
    for number in range(6):
        folder = tmp_path / "set" / "ab"[number % 2] / str(number)
        folder.mkdir(parents=True)
        for frame in range(4):
            Image.fromarray(np.full((16, 16), 40 * number + frame, np.uint8)).save(folder / f"{frame}.png")
    for words in (["--data.view", "rgb"], ["--data.frames", "4"]):
        _, document = as_json(capsys, str(tmp_path / "set"), *words)
        assert (document["count"], document["inputs"]) == (6, "clips of 16×16 pixels and 4 frames")


@pytest.mark.slow
def test_wrong_labels_are_found_when_asked(tmp_path: Path, capsys) -> None:
    x, y = load_digits(return_X_y=True)
    pixels, y = np.rint(x.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8), y.copy()
    y[::90] = (y[::90] + 5) % 10
    np.savez("digits.npz", x=pixels, y=y)
    _, document = as_json(capsys, "digits.npz", "--labels", "--sheet", "sheet.png")
    [finding] = document["findings"]
    assert finding["code"] == "data.label-noise"
    found = {int(row["path"]) for row in document["samples"]}
    assert len(found & set(range(0, 1797, 90))) >= 10
    assert len(found) <= 16
    assert Path("sheet.png").is_file()
    assert as_json(capsys, "digits.npz")[1]["findings"] == []
