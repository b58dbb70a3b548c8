"""Attacks are made as a user meets them: on the command line, in this process or in one whose memory is measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from striate.cli.main import main


@dataclass(frozen=True)
class Told:
    """What a command answered: its exit code, both streams, and, where it was measured, the most memory in MiB."""

    code: int
    out: str
    err: str
    memory: int = 0

    def refused(self, *words: str) -> None:
        """Exit code 2, one error in our form, none of Python's, and these words in it."""
        assert self.code == 2, self
        assert "error:" in self.err
        assert "remedy:" in self.err
        assert "Traceback" not in self.err
        assert "a fault in striate" not in self.err
        for word in words:
            assert word in self.err, self.err


@pytest.fixture
def striate(capfd) -> Callable[..., Told]:
    """Runs one command in this process."""

    def run(*words: object) -> Told:
        capfd.readouterr()
        code = main([str(word) for word in words])
        out, err = capfd.readouterr()
        return Told(code, out, err)

    return run


_MEASURED = """
import contextlib, io, json, sys
from striate.cli.main import main
for words in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    memory = int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) // 1024
    print(json.dumps([code, out.getvalue(), err.getvalue(), memory]))
"""


@pytest.fixture
def measured() -> Callable[..., list[Told]]:
    """Runs commands in a process of their own, and says with each how much memory was taken at most so far."""

    def run(*commands: Sequence[object]) -> list[Told]:
        words = json.dumps([list(map(str, command)) for command in commands])
        program = [sys.executable, "-c", _MEASURED, words]
        done = subprocess.run(program, capture_output=True, text=True, timeout=300, env=dict(os.environ), check=True)
        return [Told(*json.loads(line)) for line in done.stdout.splitlines()]

    return run


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on small pictures, for all tests: to be read only."""
    from PIL import Image

    place = tmp_path_factory.mktemp("run")
    for k, name in enumerate(("cat", "dog")):
        (place / "data" / name).mkdir(parents=True)
        for i in range(8):
            Image.fromarray(np.full((8, 8), 100 * k + i, np.uint8)).save(place / "data" / name / f"{i}.png")
    words = ["train", place / "data", "--model", "fc(2)", "--epochs", "1", "--plan", "plain", "--out", place / "run"]
    assert main([str(word) for word in words]) == 0
    return place / "run"
