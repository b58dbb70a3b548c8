"""Wrong requests, as a user types them: exit code 2, a message that helps, no traceback, nothing half-written."""

from __future__ import annotations

import errno
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from striate.cli import main
from striate.runs import files

TINY = "conv(4,3) relu pool(2) fc(3)"


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run a request that must be refused; the message."""
    before = {p for p in Path().rglob("*") if p.is_file()}
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    assert err.startswith("error:")
    for part in ("got:", "expected:", "remedy:"):
        assert part in err
    assert {p for p in Path().rglob("*") if p.is_file()} == before, "something was written"
    return err


@pytest.mark.parametrize(
    ("words", "where", "remedy"),
    [
        (["predict", "run", ""], "striate predict", "striate predict --help"),
        (["data", "check", " "], "striate data check", "striate data check --help"),
        (["search", "run", "x", "--in", ""], "--in", "give --in a value, or leave it out"),
        (["train", "iris", "--data.names="], "--data.names", "give --data.names a value, or leave it out"),
        (["eval", "run", "--cost", ""], "--cost", "give --cost a value, or leave it out"),
        ([""], "striate", "striate --help"),
    ],
)
def test_an_empty_word_is_not_the_current_folder(
    words: list[str], where: str, remedy: str, capsys, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = refused(capsys, *words)
    assert said.startswith(f"error: {where}\n")
    assert said.endswith(f"remedy:   {remedy}\n")


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "mnist5k", "--epochs", "0"], "at least 1"),
        (["train", "mnist5k", "--lr", "abc"], "abc"),
        (["train", "mnist5k", "--minutes", "2m"], "remedy:   --minutes 2\n"),
        (["train", "mnist5k", "--lr", "0,01"], "remedy:   --lr 0.01\n"),
        (["train", "mnist5k", "--epochs", "1,000"], "remedy:   --epochs 1000\n"),
        (["train", "mnist5k", "--batch", "1e2"], "remedy:   --batch 100\n"),
        (["train", "mnist5k", "--auxiliary.layers", "conv1"], "remedy:   --auxiliary.layers '[conv1]'\n"),
        (["train", "mnist5k", "--optim.betas", "0.8,0.9"], "remedy:   --optim.betas '[0.8,0.9]'\n"),
        (["train", "mnist5k", "--optim.betas", "[0.8]"], "expected: a list of 2 values\n"),
        (["verify", "x", "--steps", "2.5"], "remedy:   --steps 3\n"),
        (["sweep", "mnist5k", "--over", "batch=16,32", "--trials", "1.5"], "expected: a whole number"),
        (["train", "mnist5k", "--target", "94%"], "remedy:   --target 0.94"),
        (["train", "mnist5k", "--minutes", "1", "--epochs", "3"], "leave out --minutes"),
        (["train", "iris", "--size", "32"], "leave out --size"),
        (["train", "mnist5k", "--lr", "-1"], "above 0"),
        (["train", "mnist5k", "--lr", "nan"], "optim.lr"),
        (["train", "mnist5k", "--batch", "0"], "batch"),
        (["train", "mnist5k", "--minutes", "0"], "above 0"),
        (["train", "mnist5k", "--epochs", "1", "--minutes", "1"], "either of them"),
        (["train", "mnist5k", "--epochs", "1", "--budget.steps", "1"], "either of them"),
        (["train", "mnist5k", "--budget.epochs", "1", "--budget.minutes", "1"], "either of them"),
        (["train", "mnist5k", "--epochs", "1", "--budget.epochs", "2"], "one value"),
        (["train", "mnist5k", "--lr", "inf"], "optim.lr"),
        (["train", "mnist5k", "--lr", "1e39"], "optim.lr"),
        (["train", "mnist5k", "--optim.momentum", "0.5"], "no effect"),
        (["train", "mnist5k", "--optim.name", "sgd", "--optim.betas", "[0.8, 0.9]"], "no effect"),
        (["train", "mnist5k", "--schedule.factor", "0.5"], "no effect"),
        (["train", "mnist5k", "--schedule.name", "step", "--schedule.warmup", "0.5"], "no effect"),
        (["train", "mnist5k", "--task.margin", "2"], "no effect"),
        (["train", "iris", "--batch", "1", "--model", "fc(8) bn relu fc(3)"], "variance"),
        (["train", "mnist5k", "--out", "x" * 300], "shorter"),
        (["train", "--resume", "x" * 300], "shorter"),
        (["train", "mnist5k", "--seed", "-3"], "seed"),
        (["train", "mnist5k", "--size", "0"], "data.size"),
        (["train", "mnist5k", "--size", "big"], "--size 96"),
        (["train", "mnist5k", "--size", "48x"], "48x"),
        (["train", "mnist5k", "--lr", "0.1", "--optim.lr", "0.2"], "one value"),
        (["train", ""], "remedy"),
        (["train", "mnist5k", "--lrr", "1"], "--lr"),
        (["train", "mnist5k", "--optim.lrr", "1"], "optim.lr"),
        (["train", "mnist5k", "--optim.lr"], "optim.lr"),
        (["train", "mnist5k", "--set", "optim.lr"], "FIELD=VALUE"),
        (["train", "mnist5k", "--recipe", "slow"], "standard"),
        (["train", "mnist5k", "--task", "regress", "--task.loss", "hinge"], "squared"),
        (["train", "mnist5k", "--task", "segment"], "masks"),
        (["train", "mnist5k", "--task.loss", "hinge", "--task.label_smoothing", "0.1"], "label_smoothing"),
        (["train", "iris", "--augment.shift", "2"], "images"),
        (["train", "iris", "--augment.crop", "0.5"], "images"),
        (["train", "mnist5k", "--augment.shift", "28"], "less than the shorter side"),
        (["train", "mnist5k", "--execution.device", "cuda:7"], "--device cpu"),
        (["train", "mnits"], "mnist"),
        (["train", "no/such/folder"], "check the path, seen from /"),
        (["train", "mnist5k", "--model", "conv(16,5) rellu fc(10)"], "relu"),
        (["train", "mnist5k", "--model", "conv(16,29) relu fc(10)"], "larger than its map"),
        (["train", "mnist5k", "--model", "conv(16,5) relu fc(7)"], "10 outputs"),
        (["train", "mnist5k", "--model", "mnist-cn"], "mnist-cnn"),
        (["train", "mnist5k", "--model", "none.py:make"], "none.py"),
        (["train", "--config", "none.yaml"], "none.yaml"),
        (["train", "--resume", "nowhere"], "run directory"),
        (["train", "--resume", "nowhere", "--epochs", "3"], "--resume RUN alone"),
        (["eval", "nowhere"], "run directory"),
        (["predict", "nowhere", "x.jpg"], "run directory"),
        (["predict"], "got:      no RUN\n"),
        (["train", "iris", "--model"], "got:      no value for --model\n"),
        (["summary", "lenet5", "--svg", "-x y.svg"], "remedy:   striate summary lenet5 '--svg=-x y.svg'\n"),
        (["datasets", "iris"], "got:      too many arguments: 'iris'\n"),
        (["trian", "iris"], "remedy:   striate train iris\n"),
        (["train", "iris", "--modle=mlp"], "remedy:   striate train iris --model=mlp\n"),
        (["train", "iris", "--modle", "mlp"], "remedy:   striate train iris --model mlp\n"),
        (["train", "digits", "--over", "lr=1..2"], "remedy:   striate train --help\n"),
        (["train", "iris", "--frob.x", "1"], "striate train --help lists the fields"),
        (["sweep", "iris", "--over", "x"], "--over 'batch=16|32|64'"),
    ],
)
def test_a_wrong_request_is_answered(capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    assert said in refused(capsys, *words)


def test_a_file_that_looks_like_an_option_is_given_as_a_path(capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("-x.jpg").touch()
    assert "remedy:   striate predict run ./-x.jpg\n" in refused(capsys, "predict", "run", "-x.jpg")


def test_one_class_is_not_enough(capsys, photos) -> None:
    assert "one class" in refused(capsys, "train", str(photos(classes=1)))


def test_an_empty_class_is_named(capsys, photos) -> None:
    folder = photos()
    (folder / "empty").mkdir()
    assert "empty" in refused(capsys, "train", str(folder))


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("photos/red/nothing.png,red", "line 3"),
        ("../outside.png,red", "inside"),
        ("/etc/hostname,red", "absolute"),
        ("photos/red/001.png,", "line 3"),
    ],
)
def test_a_wrong_row_of_a_manifest_is_named(capsys, photos, row: str, said: str) -> None:
    photos()
    Path("m.csv").write_text(f"path,label\nphotos/red/000.png,red\n{row}\nphotos/blue/000.png,blue\n")
    assert said in refused(capsys, "train", "m.csv")


def test_a_corrupt_idx_header_is_named(capsys) -> None:
    Path("idx").mkdir()
    for name, content in (("images-idx3", b"\x00\x00\x77\x03"), ("labels-idx1", b"\x00\x00\x08\x01")):
        Path(f"idx/train-{name}-ubyte.gz").write_bytes(gzip.compress(content + b"\x00" * 40))
    assert "idx" in refused(capsys, "train", "idx")


def test_a_truncated_picture_is_left_out_and_named(capsys, photos) -> None:
    folder = photos(each=20)
    whole = (folder / "red" / "000.png").read_bytes()
    (folder / "red" / "000.png").write_bytes(whole[: len(whole) // 2])
    assert main(["train", str(folder), "--model", TINY, "--epochs", "1", "--out", "run"]) == 0
    assert "red/000.png" in capsys.readouterr().err
    assert "red/000.png,red,unreadable\n" in Path("run/split.csv").read_text()


def test_an_existing_run_is_never_overwritten(capsys, photos) -> None:
    folder = str(photos())
    assert main(["train", folder, "--model", TINY, "--epochs", "1", "--out", "run"]) == 0
    capsys.readouterr()
    assert "--resume run" in refused(capsys, "train", folder, "--out", "run")
    assert "holds a file" in refused(capsys, "train", folder, "--out", "run/config.yaml")


def test_a_folder_that_cannot_be_made_is_said(capsys, photos) -> None:
    assert "cannot be used" in refused(capsys, "train", str(photos()), "--model", TINY, "--out", "/proc/striate/run")


@pytest.mark.parametrize(("number", "said"), [(errno.ENOSPC, "free some space"), (errno.EROFS, "can be written")])
def test_a_disk_that_fails_while_training_is_said_and_the_run_can_go_on(
    capsys, photos, monkeypatch, number: int, said: str
) -> None:
    folder = str(photos())
    with monkeypatch.context() as patch:

        def fail(_: int) -> None:
            raise OSError(number, "as planted")

        patch.setattr(files.os, "fsync", fail)
        assert main(["train", folder, "--model", TINY, "--epochs", "2", "--out", "run"]) == 2
    message = capsys.readouterr().err
    assert said in message
    assert not list(Path("run").rglob("*.tmp"))


def test_with_json_the_error_is_a_document(capsys) -> None:
    assert main(["train", "mnist5k", "--epochs", "0", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert set(error) == {"where", "got", "expected", "remedy"}


def test_arrays_that_cannot_be_data_are_refused(capsys) -> None:
    np.savez("bad.npz", x=np.full((20, 8, 8), np.nan), y=np.arange(20) % 2)
    assert "bad.npz" in refused(capsys, "train", "bad.npz")
    np.savez("pickle.npz", x=np.array([{}] * 4, dtype=object), y=np.arange(4))
    assert "pickle.npz" in refused(capsys, "train", "pickle.npz")


def test_remedies_for_names_and_targets_fit_the_data(capsys, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("own.npz", x=np.zeros((4, 3), np.float32), y=np.array([0, 1, 0, 1]))
    for names, remedy in (("x=nope", "x=x"), ("q=x", "x=x"), ("x=z,y=y", "x=x")):
        said = refused(capsys, "train", "own.npz", "--data.names", names)
        assert said.endswith(f"remedy:   --data.names {remedy}\n")
    for folder in ("images", "masks"):
        Path("seg", folder).mkdir(parents=True)
        for number in range(4):
            pixels = np.full((6, 6), number % 2, np.uint8)
            Image.fromarray(pixels).save(Path("seg", folder, f"{number}.png"))
    said = refused(capsys, "train", "seg", "--targets", "age:number")
    assert "only a manifest has columns" in said
    assert said.endswith("remedy:   leave out --targets\n")
