"""A checkpoint is the old one or the new one, whole; whatever happens to its bytes afterwards is noticed."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from striate.errors import RunError
from striate.runs import checkpoint
from striate.runs.checkpoint import (
    Abandoned,
    check_archive,
    load_checkpoint,
    recover_run,
    replace_checkpoint,
    save_checkpoint,
)
from striate.runs.directory import RunDirectory, create_run
from striate.runs.events import append_event, read_events

CONTENT: dict[str, Any] = {"model": {"w": torch.arange(48.0)}, "history": [{"loss": 1.5}], "step": 3}


def same(content: dict[str, Any]) -> bool:
    return torch.equal(content["model"]["w"], CONTENT["model"]["w"]) and content["history"] == CONTENT["history"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    file = tmp_path_factory.mktemp("checkpoint") / "a.pt"
    save_checkpoint(file, CONTENT)
    return file, file.read_bytes()


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@example(place=0.5, bit=0)
def test_a_flipped_bit_is_noticed_or_changes_nothing(written: tuple[Path, bytes], place: float, bit: int) -> None:
    file, content = written
    damaged = bytearray(content)
    damaged[int(place * len(content))] ^= 1 << bit
    file.write_bytes(damaged)
    try:
        loaded = load_checkpoint(file)
    except RunError:
        return
    assert same(loaded)


def test_a_bit_of_a_weight_is_noticed_although_torch_does_not(written: tuple[Path, bytes]) -> None:
    file, content = written
    damaged = bytearray(content)
    damaged[content.index(CONTENT["model"]["w"].numpy().tobytes()) + 5] ^= 1
    file.write_bytes(damaged)
    assert not same(torch.load(file, weights_only=True))  # the planted damage is one that torch lets pass
    with pytest.raises(RunError, match="damaged"):
        load_checkpoint(file)


@given(length=st.floats(0, 1, exclude_max=True))
def test_a_cut_file_is_noticed(written: tuple[Path, bytes], length: float) -> None:
    file, content = written
    file.write_bytes(content[: int(length * len(content))])
    with pytest.raises(RunError):
        load_checkpoint(file)


def test_what_was_packed_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.pt", CONTENT)
    with zipfile.ZipFile(tmp_path / "a.pt") as read, zipfile.ZipFile(tmp_path / "b.pt", "w") as write:
        for part in read.infolist():
            write.writestr(part.filename, read.read(part), zipfile.ZIP_DEFLATED)
    with pytest.raises(RunError, match="damaged"):
        load_checkpoint(tmp_path / "b.pt")


def test_the_checkpoint_before_is_kept_and_both_are_whole(tmp_path: Path) -> None:
    last, previous = tmp_path / "last.pt", tmp_path / "previous.pt"
    for step in range(4):
        replace_checkpoint(last, previous, CONTENT | {"step": step})
        assert load_checkpoint(last)["step"] == step
        assert previous.exists() == (step > 0)
        if step:
            assert load_checkpoint(previous)["step"] == step - 1
    assert {path.name for path in tmp_path.iterdir()} == {"last.pt", "previous.pt"}


def test_folders_are_flushed_after_a_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    sync, replace = os.fsync, os.replace

    def noted_sync(descriptor: int) -> None:
        done.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")  # noqa: PTH112
        sync(descriptor)

    def noted_replace(path: str, target: str, **folders: int) -> None:
        done.append(f"to {target}")
        replace(path, target, **folders)

    save_checkpoint(tmp_path / "last.pt", CONTENT)
    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(os, "replace", noted_replace)
    replace_checkpoint(tmp_path / "last.pt", tmp_path / "previous.pt", CONTENT)
    assert done == ["file", "to previous.pt", "to last.pt", "folder"]


def test_a_new_checkpoint_that_reads_back_damaged_takes_no_place(tmp_path: Path, monkeypatch) -> None:
    last, previous = tmp_path / "last.pt", tmp_path / "previous.pt"
    save_checkpoint(last, CONTENT)
    original = checkpoint.write_piece

    def flipping(file: BinaryIO, piece: bytes) -> None:
        weights = CONTENT["model"]["w"].numpy().tobytes()
        original(file, bytes(piece).replace(weights, b"\x01" + weights[1:]))

    monkeypatch.setattr(checkpoint, "write_piece", flipping)
    with pytest.raises(RunError, match="damaged"):
        replace_checkpoint(last, previous, CONTENT | {"step": 4})
    assert load_checkpoint(last)["step"] == 3
    assert list(tmp_path.iterdir()) == [last]


@pytest.mark.parametrize("piece", [1, 3])
def test_a_disk_that_fills_while_writing_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch, piece: int) -> None:
    last, written = tmp_path / "last.pt", []
    save_checkpoint(last, CONTENT)
    original = checkpoint.write_piece

    def full(file: BinaryIO, content: bytes) -> None:
        written.append(content)
        if len(written) > piece:
            raise OSError(28, "No space left on device")
        original(file, content)

    monkeypatch.setattr(checkpoint, "write_piece", full)
    with pytest.raises(RunError, match="No space left") as caught:
        replace_checkpoint(last, tmp_path / "previous.pt", CONTENT | {"step": 4})
    assert "free some space" in caught.value.remedy
    assert load_checkpoint(last)["step"] == 3
    assert list(tmp_path.iterdir()) == [last]


def test_writing_can_be_given_up(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "last.pt", CONTENT)
    with pytest.raises(Abandoned):
        replace_checkpoint(tmp_path / "last.pt", tmp_path / "previous.pt", CONTENT | {"step": 4}, lambda: True)
    assert load_checkpoint(tmp_path / "last.pt")["step"] == 3


def run_with(steps: dict[str, int | None]) -> RunDirectory:
    """A run whose checkpoints are of these steps; None is a damaged one."""
    run = create_run(Path("run"), "run")
    run.config.write_text("x")
    for name, step in steps.items():
        save_checkpoint(run.path / "checkpoints" / f"{name}.pt", CONTENT | {"step": step})
        if step is None:
            file = run.path / "checkpoints" / f"{name}.pt"
            file.write_bytes(file.read_bytes()[:-300])
    return run


def test_a_damaged_last_checkpoint_falls_back_to_the_one_before_and_says_so() -> None:
    run, said = run_with({"last": None, "previous": 2}), []
    assert recover_run(run, said.append) == run.previous
    assert "last.pt: damaged" in said[0]
    assert "previous.pt" in said[0]
    event = read_events(run)[-1]
    assert (event["event"], event["file"], event["used"]) == ("damaged-checkpoint", "last.pt", "previous.pt")
    # the damaged one must not take the place of the whole one when the next is written
    replace_checkpoint(run.last, run.previous, CONTENT | {"step": 9})
    assert load_checkpoint(run.previous)["step"] == 2
    assert (run.path / "checkpoints/last.pt.damaged").exists()


def test_a_kill_between_the_two_renames_loses_nothing_and_says_nothing() -> None:
    run, said = run_with({"previous": 2}), []
    assert recover_run(run, said.append) == run.previous
    assert not said


@pytest.mark.parametrize("steps", [{"last": None}, {"last": None, "previous": None}, {"previous": None}])
def test_no_checkpoint_left_is_a_clear_error(steps: dict[str, int | None]) -> None:
    run = run_with(steps)
    with pytest.raises(RunError, match="no intact checkpoint") as caught:
        recover_run(run, lambda _: None)
    assert "striate train --config run/config.yaml --out run-again" in caught.value.remedy


def test_the_error_of_a_damaged_network_names_the_intact_one_of_the_run() -> None:
    run = run_with({"last": None})
    again = "train it again from the start: striate train --config run/config.yaml --out run-again"
    save_checkpoint(run.best, CONTENT)
    with pytest.raises(RunError) as caught:
        load_checkpoint(run.last)
    assert caught.value.remedy == f"use the network of the best epoch, run/checkpoints/best.pt; or {again}"
    run.best.write_bytes(b"PK")
    with pytest.raises(RunError) as caught:
        load_checkpoint(run.best)
    assert caught.value.remedy == again
    aside = run.last.rename("lone.pt")
    with pytest.raises(RunError, match="of a run directory"):
        load_checkpoint(aside)


def test_a_run_without_checkpoints_starts_over() -> None:
    assert recover_run(run_with({}), lambda _: None) is None


def test_only_the_whole_file_counts(written: tuple[Path, bytes]) -> None:
    file, content = written
    file.write_bytes(content)
    check_archive(file)
    append_event(run_with({"last": 1}), "x")


def test_a_checkpoint_of_another_run_is_told_how_to_train_the_same_again(tmp_path: Path) -> None:
    last = tmp_path / "my run" / "checkpoints" / "last.pt"
    with pytest.raises(RunError) as told, checkpoint.fitting(last):
        raise KeyError("model")
    assert told.value.remedy == f"train again: striate train --config '{tmp_path}/my run/config.yaml'"
