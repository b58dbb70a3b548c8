"""The command as a user gives it, with processes that end early."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch

from striate.api.training import _resumable
from striate.cli.main import main
from striate.errors import TrainingError
from striate.runs.checkpoint import load_checkpoint
from striate.runs.directory import RunDirectory
from striate.training.config import Config
from striate.training.interruption import Interrupted
from striate.training.verification.replay import state_differences

_LONG = ("digits", "--model", "mlp(16)", "--epochs", "40", "--plan", "plain", "--set", "save_seconds=0.1")


def torchrun(count: int, *words: str) -> subprocess.Popen[str]:
    """`torchrun --nproc_per_node=COUNT --no-python striate …`, started."""
    launcher = [sys.executable, "-P", "-m", "torch.distributed.run", f"--nproc_per_node={count}", "--standalone"]
    program = ["--no-python", sys.executable, "-P", "-m", "striate"]
    return subprocess.Popen(
        [*launcher, *program, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path.cwd()
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and stderr of a job, which is given some minutes: more processes than cores wait for one another."""
    try:
        _, said = process.communicate(timeout=240)
    except subprocess.TimeoutExpired:
        process.terminate()  # and its processes with it
        process.communicate()
        raise
    return process.returncode, said


def begun(process: subprocess.Popen[str], run: Path) -> None:
    """Wait until the run has a checkpoint."""
    deadline = time.monotonic() + 60
    while not (run / "checkpoints" / "last.pt").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.terminate()
            raise AssertionError(process.communicate())
        time.sleep(0.02)


def worker(process: subprocess.Popen[str], rank: int) -> psutil.Process:
    """The process of this rank."""
    return next(p for p in psutil.Process(process.pid).children() if p.environ().get("RANK") == str(rank))


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_killed_process_ends_the_job_and_the_run_goes_on_in_one(tmp_path: Path, capsys) -> None:
    run = tmp_path / "run"
    job = torchrun(2, "train", *_LONG, "--out", str(run))
    begun(job, run)
    worker(job, 1).send_signal(signal.SIGKILL)
    code, said = ended(job)
    assert code != 0
    assert said.count("error: training in 2 processes") == 1
    assert f"--resume {run}" in said
    assert not (run / "metrics.json").exists()
    step = load_checkpoint(run / "checkpoints" / "last.pt")["step"]
    assert main(["train", "--resume", str(run)]) == 0
    told = capsys.readouterr().err
    assert "started with 2 processes, continued with 1 process" in told
    assert f"after step {step:,}" in told
    assert [int(row["epoch"]) for row in rows(run)] == list(range(1, 41))
    assert "processes: 2" in (run / "config.yaml").read_text()


@pytest.mark.slow
def test_a_deterministic_job_ends_as_one_process_and_is_verified_by_one(tmp_path: Path, capsys) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    asked = ("train", "digits", "--model", "conv(6,3) bn relu dropout(0.2) gap fc(10)", "--epochs", "2")
    asked = (*asked, "--deterministic", "--out")
    assert ended(torchrun(2, *asked, str(two)))[0] == 0
    assert main([*asked, str(one)]) == 0
    last = [load_checkpoint(run / "checkpoints" / "last.pt") for run in (one, two)]
    assert state_differences(*last) == []
    assert main(["verify", str(two)]) == 0
    assert "bit-identical" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_job_saves_and_goes_on_in_three(number: signal.Signals, tmp_path: Path) -> None:
    run = tmp_path / "run"
    job = torchrun(2, "train", *_LONG, "--out", str(run))
    begun(job, run)
    listening = [one for rank in (0, 1) for one in worker(job, rank).net_connections() if one.status == "LISTEN"]
    assert {one.laddr.ip for one in listening} == {"127.0.0.1"}
    job.send_signal(number)
    code, said = ended(job)
    assert code != 0
    assert said.count(f"{number.name}: checkpoint saved in") == 1
    before = rows(run)
    code, said = ended(torchrun(3, "train", "--resume", str(run)))
    assert code == 0, said
    assert said.count("started with 2 processes, continued with 3 processes") == 1
    assert rows(run)[: len(before)] == before
    assert [int(row["epoch"]) for row in rows(run)] == list(range(1, 41))


@pytest.mark.slow
def test_a_resumed_job_ends_with_the_bits_of_one_that_was_not_interrupted(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert ended(torchrun(2, "train", *_LONG, "--out", str(whole)))[0] == 0
    job = torchrun(2, "train", *_LONG, "--out", str(broken))
    begun(job, broken)
    worker(job, 0).send_signal(signal.SIGKILL)
    assert ended(job)[0] != 0
    assert ended(torchrun(2, "train", "--resume", str(broken)))[0] == 0
    one, other = (load_checkpoint(run / "checkpoints" / "last.pt")["model"] for run in (whole, broken))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("nothing_there",), "error: data nothing_there"),
        (("digits", "--minutes", "1"), "error: budget.minutes"),
        (("digits", "--nonsense"), "error: striate train"),
    ],
)
def test_a_wrong_request_is_told_once(words: tuple[str, ...], expected: str) -> None:
    code, said = ended(torchrun(2, "train", *words))
    assert code != 0
    assert said.count("error: ") == said.count(expected) == 1
    assert not Path("runs").exists()


@pytest.fixture
def second_process(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs the command as the second of two processes."""
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setitem(os.environ, name, value)
    monkeypatch.setattr(sys.modules["striate.cli.main"], "_PATIENCE", 0.0)
    return lambda *words: main(list(words))


def test_an_interruption_before_the_first_step_says_what_ended_and_what_is_saved(monkeypatch, tmp_path: Path) -> None:
    def told() -> str:
        with pytest.raises((TrainingError, Interrupted)) as caught, _resumable(RunDirectory(tmp_path), Config()):
            raise KeyboardInterrupt
        return " ".join(str(caught.value).split())

    resumed = f"in {tmp_path}; resume with: striate train --resume {tmp_path}"
    assert told() == f"interrupted: there was no checkpoint yet {resumed}"
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.pt").touch()
    assert told() == f"interrupted: checkpoint saved {resumed}"
    # the launcher interrupts all others once one has ended: this machine has fewer than it was to have
    job = {"RANK": "0", "WORLD_SIZE": "999", "LOCAL_WORLD_SIZE": "999", "TORCHELASTIC_RUN_ID": "none"}
    for name, value in (job | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}).items():
        monkeypatch.setitem(os.environ, name, value)
    assert "a process ended or stopped responding" in told()
    assert f"striate train --resume {tmp_path}" in told()


def test_only_the_first_process_speaks(second_process: Callable[..., int], capsys) -> None:
    assert second_process("train", "--nonsense") == 2
    assert second_process("train", "--resume", "run", "--epochs", "3") == 2
    assert second_process("data", "pack", "digits") == 2
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")


def test_what_is_not_divided_is_refused_in_several_processes(second_process, monkeypatch, capsys) -> None:
    monkeypatch.setitem(os.environ, "RANK", "0")
    assert second_process("eval", "a run", "--json") == 2
    assert json.loads(capsys.readouterr().out)["error"]["remedy"] == "striate eval 'a run' --json"
