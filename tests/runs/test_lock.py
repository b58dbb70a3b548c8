"""A run belongs to one process at a time, and to nobody once that is gone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from striate.errors import RunError
from striate.runs import lock
from striate.runs.directory import create_run, refuse_occupied
from striate.runs.lock import owned, owner

HOLD = """
import sys, time
from pathlib import Path
from striate.runs.lock import owned
with owned(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def other(tmp_path: Path):
    """Another process that has the run; ends with the test."""
    run = create_run(tmp_path / "run", "run")
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(run.path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process, run.path
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.slow
def test_a_second_process_is_refused_with_the_name_of_the_first_until_that_is_killed(other) -> None:
    process, path = other
    with pytest.raises(RunError, match=f"process {process.pid} on ") as caught, owned(path):
        pass
    assert caught.value.remedy.endswith(f"striate train --resume {path}")
    assert owner(path) is not None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert owner(path) is None
    with owned(path):
        assert (owner(path) or "").startswith(f"process {os.getpid()} ")


def test_two_trainings_of_one_process_are_two(tmp_path: Path) -> None:
    with owned(tmp_path), pytest.raises(RunError, match=f"process {os.getpid()} "), owned(tmp_path):
        pass
    with owned(tmp_path):
        pass


@pytest.mark.skipif(lock.fcntl is None, reason="needs file locks")
def test_who_looks_for_the_owner_keeps_nobody_from_starting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looking = os.open(tmp_path / lock.LOCK, os.O_RDWR | os.O_CREAT)
    lock.fcntl.flock(looking, lock.fcntl.LOCK_SH)
    monkeypatch.setattr(lock, "sleep", lambda _: os.close(looking))  # the look is over
    with owned(tmp_path):
        assert (owner(tmp_path) or "").startswith(f"process {os.getpid()} ")


def test_a_lock_moves_with_its_directory(tmp_path: Path) -> None:
    run = create_run(tmp_path / "run", "run")
    with owned(run.path):
        run.path.rename(tmp_path / "moved")
        with pytest.raises(RunError, match="is training"), owned(tmp_path / "moved"):
            pass


def test_another_folder_than_the_current_one_is_proposed_by_its_name(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "notes.txt").touch()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(RunError, match=f"--out {tmp_path / 'here-2'}"):
        refuse_occupied(Path())


def test_what_a_killed_process_left_is_cleared_and_does_not_occupy(tmp_path: Path) -> None:
    run = create_run(tmp_path / "run", "run")
    for left in (".lock", ".config.yaml.123.tmp", "checkpoints/.last.pt.123.tmp"):
        (run.path / left).write_text("x")
    refuse_occupied(run.path)
    with owned(run.path):
        assert sorted(p.name for p in run.path.rglob("*") if p.is_file()) == [".lock"]


def test_where_there_are_no_locks_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(lock, "fcntl", None)
    with owned(tmp_path, said.append), owned(tmp_path, said.append):
        assert owner(tmp_path) is None
    assert len(said) == 2
    assert "only one process" in said[0]


@pytest.mark.parametrize(("gone", "said"), [(shutil.rmtree, "was deleted"), (lambda p: p.rename("away"), "was moved")])
def test_a_run_that_is_gone_is_told_as_that(tmp_path: Path, gone: Callable[[Path], None], said: str) -> None:
    run = create_run(tmp_path / "run", "run")

    def lose() -> None:
        with owned(run.path):
            gone(run.path)
            run.classes.write_text("x")

    with pytest.raises(RunError, match=said):
        lose()


def test_two_trainings_never_get_the_same_number() -> None:
    with ThreadPoolExecutor(8) as threads:
        runs = list(threads.map(lambda _: create_run(None, "x").path, range(40)))
    assert len(set(runs)) == 40
