"""However a training ends, it says so in a sentence, nothing that was saved is lost, and it goes on bit for bit."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from saved_runs import assert_same_run, at_step, config_for, save_always, train_quietly

from striate.api import load, resume, verify
from striate.cli import main
from striate.errors import DataError, RunError
from striate.runs import checkpoint
from striate.runs.checkpoint import load_checkpoint
from striate.runs.directory import RunDirectory
from striate.runs.events import read_events, read_notes
from striate.training.config_file import config_from_yaml
from striate.training.interruption import Interrupted
from striate.training.objective import Objective


@pytest.fixture(scope="module")
def whole(same_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    train_quietly(config_for(same_photos), run)
    return run


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root may mount a small disk; test_a_checkpoint_that_finds_the_disk_full has a made one")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(disk: Path) -> None:
    """Leave no byte free, nor what a save that is being written now gives back when it replaces an older one."""
    for _ in range(3):
        with (disk / "filler").open("ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"\0" * 4096)
        time.sleep(0.1)


@pytest.mark.slow
def test_a_real_disk_that_fills_ends_the_run_and_it_goes_on_when_there_is_room(
    same_photos: Path, whole: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = small_disk / "run"
    with monkeypatch.context() as patch:
        save_always(patch)
        at_step(patch, 5, lambda: fill(small_disk))
        with pytest.raises(RunError, match="No space left on device") as caught:
            train_quietly(config_for(same_photos), run)
    assert "free some space" in caught.value.remedy
    assert f"striate train --resume {run}" in caught.value.remedy
    assert load_checkpoint(run / "checkpoints/last.pt")["step"] in (4, 5)
    assert not list(run.rglob(".*.tmp"))
    (small_disk / "filler").unlink()
    resume(run, quiet=True)
    assert_same_run(whole, run)


@pytest.mark.slow
def test_a_checkpoint_that_finds_the_disk_full_is_told_at_the_next_step(
    same_photos: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = checkpoint.write_piece
    with monkeypatch.context() as patch:
        save_always(patch)

        def fill_disk() -> None:
            def full(file: BinaryIO, piece: bytes) -> None:
                original(file, piece[:100])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            patch.setattr(checkpoint, "write_piece", full)

        at_step(patch, 5, fill_disk)
        with pytest.raises(RunError, match="No space left on device") as caught:
            train_quietly(config_for(same_photos), Path("run"))
    assert "striate train --resume run" in caught.value.remedy
    assert load_checkpoint(Path("run/checkpoints/last.pt"))["step"] == 4
    resume("run", quiet=True)
    assert_same_run(whole, Path("run"))


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_computed_in_it(same_photos: Path) -> None:
    Path("closed").mkdir(mode=0o500)
    if os.access("closed", os.W_OK):  # root may write anywhere but on a file system that is read only
        mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", "closed"]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("root without the right to mount")
    try:
        with pytest.raises(RunError, match=r"Read-only|Permission denied") as caught:
            train_quietly(config_for(same_photos), Path("closed/run"))
        assert "--out /tmp/run" in caught.value.remedy
    finally:
        subprocess.run(["umount", "-l", "closed"], capture_output=True, check=False)


@pytest.mark.slow
def test_a_disk_that_becomes_read_only_ends_the_run_and_it_goes_on_when_it_can_be_written(
    same_photos: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open
    with monkeypatch.context() as patch:

        def read_only(path: Any, flags: int, *rest: Any, dir_fd: int | None = None) -> int:
            place = Path() if dir_fd is None else Path(f"/proc/self/fd/{dir_fd}").readlink()
            if flags & (os.O_WRONLY | os.O_RDWR) and "run" in (place / path).parts:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            return opened(path, flags, *rest, dir_fd=dir_fd)

        at_step(patch, 5, lambda: patch.setattr(os, "open", read_only))
        with pytest.raises(RunError, match="Read-only file system") as caught:
            train_quietly(config_for(same_photos), Path("run"))
        assert caught.value.remedy == "make the disk writable; then resume with: striate train --resume run"
        with pytest.raises(RunError, match="cannot be written") as caught:
            resume("run", quiet=True)
        assert caught.value.remedy == "cp -r run NEW_PLACE && striate train --resume NEW_PLACE"
    with monkeypatch.context() as patch:

        def full(_: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match="No space left") as caught:
            resume("run", quiet=True)
        assert caught.value.remedy == "free some space; then resume with: striate train --resume run"
    resume("run", quiet=True)
    assert_same_run(whole, Path("run"))


@pytest.mark.slow
def test_a_picture_that_vanishes_while_streaming_ends_the_run_with_its_last_step_saved(
    same_photos: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(same_photos, "photos")
    lost = next(line.split(",")[0] for line in (whole / "split.csv").read_text().splitlines() if line.endswith("train"))
    config = config_for(Path("photos"), **{"data.store": "stream"})
    with monkeypatch.context() as patch:
        at_step(patch, 3, lambda: Path("photos", lost).rename("away.png"))
        with pytest.raises(DataError, match=Path(lost).name) as caught:
            train_quietly(config, Path("run"))
    assert caught.value.remedy == "restore the file; everything up to here is saved: striate train --resume run"
    saved = load_checkpoint(Path("run/checkpoints/last.pt"))
    assert saved["step"] >= 3
    assert read_events(RunDirectory(Path("run")))[-1]["event"] == "data-lost"
    Path("away.png").rename(Path("photos", lost))
    resume("run", quiet=True)
    assert_same_run(whole, Path("run"))


def test_a_second_signal_ends_at_once_and_what_was_saved_stays(
    same_photos: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, began = checkpoint.write_piece, []
    with monkeypatch.context() as patch:
        save_always(patch)

        def endless(file: BinaryIO, piece: bytes) -> None:
            if not began:
                began.append(time.monotonic())
                os.kill(os.getpid(), signal.SIGINT)  # the second one, while the first one's save goes on
            time.sleep(0.05)
            write(file, piece)

        def interrupt() -> None:
            os.kill(os.getpid(), signal.SIGINT)
            patch.setattr(checkpoint, "write_piece", endless)

        at_step(patch, 5, interrupt)
        with pytest.raises(Interrupted, match="stopped at once; the last checkpoint is intact") as caught:
            train_quietly(config_for(same_photos), Path("run"))
    assert str(caught.value).endswith("striate train --resume run")
    assert load_checkpoint(Path("run/checkpoints/last.pt"))["step"] in (4, 5)
    assert not list(Path("run").rglob(".*.tmp"))
    resume("run", quiet=True)
    assert_same_run(whole, Path("run"))


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("what", ["deleted", "moved"])
def test_a_run_directory_that_goes_away_ends_the_run_in_a_sentence(
    same_photos: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    with monkeypatch.context() as patch:
        save_always(patch)

        def lose() -> None:
            time.sleep(0.05)  # a checkpoint or two are there
            Path("run").rename("elsewhere")
            if what == "deleted":
                shutil.rmtree("elsewhere")

        at_step(patch, 5, lose)
        with pytest.raises(RunError, match=f"was {what} while it was trained") as caught:
            train_quietly(config_for(same_photos), Path("run"))
    assert not Path("run").exists()
    if what == "moved":
        assert "striate train --resume NEW_PLACE" in caught.value.remedy
        resume("elsewhere", quiet=True)
        assert_same_run(whole, Path("elsewhere"))


def test_a_training_run_can_be_read_and_not_trained_by_others(
    same_photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    codes: list[int] = []

    def others() -> None:
        photo = str(next((same_photos / "red").iterdir()))
        codes.extend([main(["predict", "run", photo]), main(["eval", "run", "--json"])])
        codes.extend([main(["train", "--resume", "run"]), main(["verify", "run"])])

    save_always(monkeypatch)
    at_step(monkeypatch, 11, others)
    train_quietly(config_for(same_photos), Path("run"))
    assert codes == [0, 0, 2, 2]
    assert f"process {os.getpid()} on" in capsys.readouterr().err
    assert load("run").classes == ("blue", "green", "red")


def test_a_damaged_last_checkpoint_is_told_and_the_run_ends_with_the_same_bits(
    same_photos: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        save_always(patch)
        at_step(patch, 8, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted):
            train_quietly(config_for(same_photos), Path("run"))
    last = Path("run/checkpoints/last.pt")
    last.write_bytes(last.read_bytes()[:-1000])
    assert main(["train", "--resume", "run"]) == 0
    assert "continuing from the checkpoint before it, previous.pt" in " ".join(capsys.readouterr().err.split())
    assert_same_run(whole, Path("run"))


def test_a_best_network_that_is_damaged_is_told_before_the_training_goes_on(same_photos, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        at_step(patch, 8, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted):
            train_quietly(config_for(same_photos), Path("run"))
    Path("run/checkpoints/best.pt").write_bytes(b"PK\x03\x04")
    with pytest.raises(RunError, match=r"best\.pt") as caught:
        resume("run", quiet=True)
    assert "striate train --config run/config.yaml --out run-again" in caught.value.remedy


@pytest.mark.slow
def test_memory_that_runs_out_is_in_the_configuration_of_the_run(
    same_photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Objective.training_loss

    def greedy(self: Objective, module: Any, x: Any, y: Any, blend: Any, part: Any) -> Any:
        if part.step >= 5 and len(x) > 4:
            raise MemoryError
        return original(self, module, x, y, blend, part)

    monkeypatch.setattr(Objective, "training_loss", greedy)
    config = config_for(same_photos)
    train_quietly(config, Path("whole"))
    assert config_from_yaml(Path("whole/config.yaml")).execution.micro_batch_from == ((5, 4),)
    assert any("memory ran out in step 6" in note for note in read_notes(RunDirectory(Path("whole"))))
    with monkeypatch.context() as patch:
        at_step(patch, 9, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted):
            train_quietly(config, Path("cut"))
    resume("cut", quiet=True)
    assert_same_run(Path("whole"), Path("cut"))
    assert verify("whole").verdict == "agree"
