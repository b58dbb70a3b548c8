"""`striate data pack`: made once, checked the second time, used by a later reading."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

import striate
from striate.cli.main import main
from striate.data.config import DataConfig
from striate.data.read import load_dataset
from striate.errors import UsageError


def packed(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict:
    assert main(["data", "pack", *words, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_a_pack_is_made_then_found_and_used(same_photos: Path, tmp_path: Path, capsys) -> None:
    out = str(tmp_path / "packs")
    first = packed(capsys, str(same_photos), "--size", "8", "--out", out)
    assert (first["images"], first["shape"], first["data"]) == (36, [3, 8, 8], "photos")
    path = Path(first["path"])
    assert first["bytes"] == sum(file.stat().st_size for file in path.iterdir())
    written = (path / "inputs").stat().st_mtime_ns
    assert packed(capsys, str(same_photos), "--size", "8", "--out", out) == first
    assert (path / "inputs").stat().st_mtime_ns == written
    data = load_dataset(DataConfig(source=str(same_photos), size=(8, 8), packs=out))
    assert any(str(path) in note for note in data.notes)


def test_a_pack_that_was_damaged_unseen_is_made_anew(same_photos: Path, tmp_path: Path, capsys) -> None:
    out = str(tmp_path / "packs")
    path = Path(packed(capsys, str(same_photos), "--out", out)["path"])
    whole = (path / "sums").read_bytes()
    (path / "sums").write_bytes(b"\1" + whole[1:])
    assert main(["data", "pack", str(same_photos), "--out", out]) == 0
    assert "made again" in capsys.readouterr().err
    assert (path / "sums").read_bytes() == whole


def test_the_cache_is_the_usual_place_and_the_words_say_how_it_is_used(
    same_photos: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path / "cache"))
    assert main(["data", "pack", str(same_photos), "--size", "8x6"]) == 0
    words, path = capsys.readouterr().out.splitlines()
    assert words.startswith(f"36 images of 3 × 8 × 6 bytes, 0.0 MB; used by: striate train {same_photos} --size 8x6")
    assert Path(path).parent == tmp_path / "cache" / "packs"
    shutil.copytree(same_photos, "deep")
    Image.fromarray(np.arange(48, dtype=np.uint16).reshape(6, 8) * 999).save("deep/red/000.png")
    assert main(["data", "pack", "deep", "--size", "8x6"]) == 0
    words, warned = capsys.readouterr()
    assert " of 3 × 8 × 6 values of 4 bytes, " in words
    assert "All values take 4 bytes" in warned


@pytest.mark.parametrize(
    ("medium", "options", "words"),
    [
        ("clips", "--data.frames 2 --data.view flow", "16 clips of 2 × 2 × 8 × 8 bytes"),
        ("sounds", "--data.rate 4000 --data.seconds 0.25", "16 sounds of 1 × 64 × 19 bytes"),
    ],
)
def test_the_printed_command_reads_the_pack_of_clips_and_of_sounds(
    medium: str, options: str, words: str, tmp_path: Path, capsys
) -> None:
    rng = np.random.default_rng(0)
    for number in range(16):
        file = tmp_path / medium / f"class{number % 2}" / f"{number}.{'gif' if medium == 'clips' else 'wav'}"
        file.parent.mkdir(parents=True, exist_ok=True)
        if medium == "clips":
            frames = [Image.fromarray(x) for x in rng.integers(0, 256, (3, 8, 8), dtype=np.uint8)]
            frames[0].save(file, save_all=True, append_images=frames[1:], duration=100)
        else:
            soundfile.write(file, rng.uniform(-0.5, 0.5, 4000), 8000)
    out = tmp_path / "packs"
    assert main(["data", "pack", str(tmp_path / medium), *options.split(), "--out", str(out)]) == 0
    said, path = capsys.readouterr().out.splitlines()
    assert said.startswith(words)
    source, *given = said.partition("used by: striate train ")[2].split()
    size = ["--size", "8"] if medium == "clips" else []
    assert sorted(given) == sorted([*options.split(), *size, "--data.packs", str(out)])
    assert main(["train", source, *given, "--model", "fc(2)", "--epochs", "1", "--out", str(tmp_path / "run")]) == 0
    assert f"read from the pack {path}" in capsys.readouterr().err


def test_unreadable_pictures_are_named_and_make_a_bad_verdict(photos, tmp_path: Path, capsys) -> None:
    folder = photos()
    (folder / "red" / "bad.png").write_bytes(b"no picture")
    said = packed(capsys, str(folder), "--out", str(tmp_path / "packs"), code=1)
    assert said["images"] == 36
    assert any("bad.png" in finding["measured"] for finding in said["findings"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["iris"], "got:      tables cannot be packed"),
        (["digits", "--optim.lr", "1"], "has no effect on a pack"),
        (["digits", "--data.store", "memory"], "has no effect on a pack"),
        (["digits", "--data.split_seed", "7"], "has no effect on a pack"),
        (["digits", "--data.val_fraction", "0.3"], "has no effect on a pack"),
        (["digits", "--out", "a", "--data.packs", "b"], "one folder"),
        (["nowhere"], "nowhere"),
        (["digits", "--size", "0"], "size"),
    ],
)
def test_what_cannot_be_packed_is_refused(words: list[str], message: str, capsys) -> None:
    assert main(["data", "pack", *words]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said


def test_packing_in_python_is_the_same(same_photos: Path, tmp_path: Path, capsys) -> None:
    said: list[str] = []
    made = striate.pack(same_photos, size=8, out=tmp_path / "packs", announce=said.append)
    told = packed(capsys, str(same_photos), "--size", "8", "--data.packs", str(tmp_path / "packs"))
    assert Path(told["path"]) == made.path
    assert main(["data", "pack", str(same_photos), "--size", "8", "--data.packs", "packs"]) == 0
    assert "--size 8 --data.packs packs" in capsys.readouterr().out
    with pytest.raises(UsageError, match="has no effect on a pack"):
        striate.pack(same_photos, set={"data.test_fraction": 0.5})


def test_a_folder_that_cannot_be_written_to_is_answered_with_another_one(same_photos: Path, tmp_path: Path, capsys):
    (tmp_path / "file").write_text("no folder")
    assert main(["data", "pack", str(same_photos), "--size", "8", "--out", str(tmp_path / "file" / "packs")]) == 2
    assert "remedy:   --out FOLDER" in capsys.readouterr().err


def test_an_interrupted_pack_says_how_it_goes_on(same_photos: Path, capsys, monkeypatch) -> None:
    def interrupt(*args: object, **given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("striate.api.data.pack_data", interrupt)
    assert main(["data", "pack", str(same_photos)]) == 130
    assert "the same command continues" in capsys.readouterr().err
