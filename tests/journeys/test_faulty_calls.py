"""Every call that reads or writes a file of a run fails once, each in a training of its own: what is left goes on to
the same bits, or is refused with a reason. With EIO each of a training does; of the rest every so manieth.

The calls are those of libc (open, read, write, fsync, truncate, rename, mkdir, unlink, close) below the directory of
the run, whoever makes them: `faults.c` stands before libc. Not reached: what maps files into memory, and what only asks
(stat, listing a folder).
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

LIVES = Path(__file__).with_name("faulty_lives.py")
SHORT, KILLED = 0, -1
ALL = (errno.EIO, errno.ENOSPC, errno.EINTR, SHORT, KILLED)
FIELDS = ["--model", "fc(2)", "--batch", "24", "--epochs", "2", "--augment.shift", "0", "--keep", "best"]

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or shutil.which("cc") is None, reason="needs Linux and a C compiler (cc)"
)


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that lets calls fail."""
    made = tmp_path_factory.mktemp("faults") / "faults.so"
    source = Path(__file__).with_name("faults.c")
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", made, source, "-ldl"], check=True)
    return made


@pytest.fixture(scope="module")
def two_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 gray images, left or right of which is bright: as little as makes a whole run."""
    random, y = np.random.default_rng(0), np.arange(80) % 2
    x = random.integers(0, 90, (80, 8, 8), dtype=np.uint8)
    x[y == 1, :, :4] += 120
    np.savez(made := tmp_path_factory.mktemp("data") / "two.npz", x=x, y=y)
    return made


def failing(faults: Path, asked: dict[str, Any]) -> list[dict[str, Any]]:
    """The cases that `faulty_lives.py` tells of, in the test's own folder."""
    settings = {"LD_PRELOAD": str(faults), "STRIATE_CACHE": str(Path("cache").absolute()), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(LIVES), json.dumps({"below": str(Path("lives/run").absolute())} | asked)],
        **{"capture_output": True, "text": True, "check": False, "env": os.environ | settings},
    )
    assert done.returncode == 0, done.stderr
    cases = [json.loads(line) for line in done.stdout.splitlines()]
    assert cases
    assert [case for case in cases if case["wrong"]] == []
    return cases


def training(data: Path, *more: str) -> dict[str, Any]:
    run = str(Path("lives/run").absolute())
    words = ["train", str(data), *FIELDS, "--plan", "plain", "--out", run, *more]
    return {"words": words, "recover": ["train", "--resume", run]}


@pytest.mark.slow
def test_calls_of_a_training_that_fail_leave_a_run_that_goes_on(faults: Path, two_classes: Path) -> None:
    cases = failing(faults, training(two_classes) | {"errors": [errno.EIO], "every": 400})
    assert {case["recovered"] for case in cases} == {0}
    assert 2 in {case["ended"] for case in cases}


@pytest.mark.slow
@pytest.mark.parametrize(("error", "every"), [(error, {errno.EIO: 1, KILLED: 3}.get(error, 9)) for error in ALL])
def test_every_call_of_a_training_fails_once(faults: Path, two_classes: Path, error: int, every: int) -> None:
    cases = failing(faults, training(two_classes) | {"errors": [error], "every": every})
    assert {case["recovered"] for case in cases} == {0}
    if error in (errno.EINTR, SHORT):
        again = [case["ended"] for case in cases if case["what"].split()[0] in ("open", "read", "write", "fsync")]
        assert set(again) == {0}  # tried again at once


@pytest.mark.slow
@pytest.mark.parametrize("killed_at", [0.15, 0.6, 0.9])
@pytest.mark.parametrize("error", ALL)
def test_every_call_of_a_run_that_goes_on_fails_once(
    faults: Path, two_classes: Path, error: int, killed_at: float
) -> None:
    asked = {"errors": [error], "every": 17, "killed_at": killed_at}
    assert {case["recovered"] for case in failing(faults, training(two_classes) | asked)} == {0}


@pytest.mark.slow
def test_calls_of_a_cross_validation_that_fail_leave_one_that_goes_on(faults: Path, two_classes: Path) -> None:
    cases = failing(faults, training(two_classes, "--cv", "2x1") | {"errors": ALL, "every": 13})
    assert {case["recovered"] for case in cases} == {0}


@pytest.mark.slow
def test_calls_of_a_sweep_that_fail_leave_one_that_goes_on(faults: Path, two_classes: Path) -> None:
    pytest.importorskip("optuna")
    run = str(Path("lives/run").absolute())
    words = ["sweep", str(two_classes), *FIELDS[:-2], "--plan", "plain", "--trials", "2", "--seeds", "1", "--out", run]
    asked = {"words": words, "recover": ["sweep", "--resume", run], "errors": ALL, "every": 53}
    assert {case["recovered"] for case in failing(faults, asked)} == {0}


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--out", "--shards"])
def test_calls_of_packing_that_fail_are_told_and_packed_again(faults: Path, same_photos: Path, option: str) -> None:
    words = ["data", "pack", str(same_photos), option, str(Path("lives/run").absolute())]
    for case in failing(faults, {"words": words, "recover": words, "errors": ALL, "every": 3}):
        assert case["recovered"] == 0 or "a path with other content" in case["refused"]
