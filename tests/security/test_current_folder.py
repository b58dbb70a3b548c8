"""The folder in which the program is started holds files of a stranger: none of them is run, or obeyed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

from striate.lab.training import training_process
from striate.runs.directory import RunDirectory
from striate.runs.events import read_events

SHADOWED = ("yaml", "numpy", "torch", "rich", "json", "runpy", "sitecustomize", "usercustomize")


@pytest.fixture
def trap(own_folder: Path) -> Path:
    """A file that is written by whatever runs one of the files of the folder; a pipe that blocks who reads it."""
    ran = own_folder.with_name(f"{own_folder.name}-ran")
    for name in SHADOWED:
        (own_folder / f"{name}.py").write_text(f"open({str(ran)!r}, 'a').write('{name} ')\n")
    os.mkfifo(own_folder / "matplotlibrc")
    return ran


def program(words: list[str]) -> list[str]:
    """The command as `pip` installs it, which is no module of the current folder."""
    return [sys.executable, "-P", "-m", "striate", *words]


def test_the_lab_gives_its_training_no_modules_of_this_folder(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = [str(Path(training_process.__file__).parents[3]), str(Path(os.__file__).parent)]
    monkeypatch.setattr(sys, "path", ["", ".", str(own_folder), *usual])
    assert training_process._module_folders() == usual


def test_a_process_of_the_lab_runs_nothing_here(trap: Path) -> None:
    command = [*training_process.COMMAND, json.dumps(training_process._module_folders()), "--version"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([".", os.environ.get("PYTHONPATH", "")])}
    lab, end = os.pipe()
    done = subprocess.run(command, stdin=lab, capture_output=True, text=True, env=environment, timeout=60)
    os.close(lab)
    os.close(end)
    assert (done.returncode, done.stderr) == (0, "")
    assert not trap.exists()


@pytest.mark.slow
def test_a_module_beside_the_user_is_not_imported_by_the_program(trap: Path) -> None:
    for name in ("json", "runpy"):
        Path(f"{name}.py").unlink()  # these Python itself imports for `python -m` before the program begins
    done = subprocess.run([sys.executable, "-m", "striate", "models"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert not trap.exists()


@pytest.mark.slow
def test_matplotlibrc_of_this_folder_is_not_read(trap: Path) -> None:
    done = subprocess.run(
        program(["filter", "mnist5k#0", "sobel-x", "--out", "o.png"]), capture_output=True, timeout=60
    )
    assert done.returncode in (0, 2)
    asked = "import matplotlib; print(matplotlib.rcParams['lines.linewidth'])"
    code = f"from striate.cli.main import _ignore_this_folder; _ignore_this_folder(); {asked}"
    Path("matplotlibrc").unlink()
    Path("matplotlibrc").write_text("lines.linewidth: 77\n")
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, timeout=60)
    assert done.stdout == b"1.5\n"
    assert not trap.exists()


class ServedLab:
    """`striate lab` in a process of its own, with what a program asks of it."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            program(["lab", "--no-open", "--json"]), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.home, _, self.token = json.loads(self.process.stdout.readline())["url"].partition("/?token=")

    def ask(self, path: str, sent: dict[str, Any] | None = None) -> Any:
        content = None if sent is None else json.dumps(sent).encode()
        headers = {"striate-key": self.token, "content-type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(self.home + path, content, headers), timeout=60) as answer:
            return json.load(answer)

    def wait_for(self, run: str, *states: str) -> dict[str, Any]:
        for _ in range(1200):
            known: dict[str, Any] = self.ask(f"/api/train/follow?run={run}")
            if known["state"] in states and (known["rows"] or known["refusal"]):
                return known
            time.sleep(0.1)
        raise AssertionError(known)


@pytest.mark.slow
def test_a_training_of_the_lab_runs_nothing_here_and_ends_when_the_lab_is_killed(trap: Path, own_folder: Path) -> None:
    lab = ServedLab()
    with lab.process:
        asked = {"data": "digits", "model": "fc(10)", "epochs": 1}
        first = lab.ask("/api/train/start", asked)["run"]
        known = lab.wait_for(first, "finished", "failed")
        assert (known["state"], known["refusal"]) == ("finished", None)
        assert not trap.exists()
        second = lab.ask("/api/train/start", asked | {"epochs": 100_000})["run"]
        lab.wait_for(second, "training")
        training = psutil.Process(lab.process.pid).children()
        assert training
        lab.process.send_signal(signal.SIGKILL)
    psutil.wait_procs(training, timeout=60)
    assert not any(one.is_running() for one in training)
    assert read_events(RunDirectory(own_folder / "runs" / second))[-1]["event"] == "interrupted"
