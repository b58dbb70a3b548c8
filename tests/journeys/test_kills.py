"""A training that is killed without warning, again and again, ends as one that never was."""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from striate.runs.checkpoint import load_checkpoint

LIVES = Path(__file__).with_name("killed_lives.py")
NETWORK = "conv(8,3) bn relu pool(2) dropout(0.2) conv(16,3) bn relu fc(10)"
TRAIN = ["train", "digits", "--model", NETWORK, "--batch", "32", "--augment.shift", "1"]
OPTIONS = ["--plan", "plain", "--optim.ema", "0.9", "--set", "save_seconds=0.05"]
# What is waited for, and how many of it at most: an epoch has 45 steps, a checkpoint some hundred pieces.
KINDS = (("writing", 300), ("anywhere", 90), ("renaming", 2), ("anywhere", 90))
TIMES = {"seconds", "images_per_second", "data_wait", "augment_share"}


def lives(run: str, epochs: int, deaths: list[list[object]]) -> list[str]:
    """A training that dies so many times, and how each of its lives ended."""
    asked = {"run": run, "words": [*TRAIN, *OPTIONS, "--epochs", str(epochs), "--out", run], "deaths": deaths}
    done = subprocess.run(
        [sys.executable, str(LIVES), json.dumps(asked)], capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stderr
    ends: list[str] = json.loads(done.stdout.splitlines()[-1])
    assert ends[-1] == "ended 0", done.stderr
    return ends


def deaths(count: int, seed: int) -> list[list[object]]:
    """So many, at random instants; every second one while a checkpoint is being written or renamed."""
    draw, found = random.Random(seed), []
    for kind, most in itertools.islice(itertools.cycle(KINDS), count):
        found.append([kind, draw.randint(1, most), 0.0 if kind == "renaming" else draw.uniform(0, 0.02)])
    return found


def weights_digest(run: str, name: str) -> str:
    """SHA-256 of all weights of a checkpoint, averaged ones too."""
    content, digest = load_checkpoint(Path(run, "checkpoints", f"{name}.pt")), hashlib.sha256()
    for key in ("model", "ema"):
        for part, tensor in content[key].items():
            digest.update(part.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def rows(run: str) -> list[dict[str, str]]:
    """metrics.csv without what tells times."""
    with Path(run, "metrics.csv").open() as file:
        return [{key: value for key, value in row.items() if key not in TIMES} for row in csv.DictReader(file)]


def order(run: str) -> dict[str, str]:
    """Which samples each step saw; a step that was done again saw the same ones."""
    seen: dict[str, str] = {}
    for line in Path(f"{run}-order.txt").read_text().splitlines():
        step, _, digest = line.rpartition(" ")
        assert seen.setdefault(step, digest) == digest, f"{run}: step {step} saw other samples"
    return seen


def check_kills(count: int, epochs: int, seed: int) -> None:
    assert lives("whole", epochs, []) == ["ended 0"]
    ends = lives("killed", epochs, deaths(count, seed))
    assert sum(end.startswith("killed") for end in ends) == count, ends
    for name in ("last", "best"):
        assert weights_digest("killed", name) == weights_digest("whole", name), name
    assert rows("killed") == rows("whole")
    assert order("killed") == order("whole")
    figures = [json.loads(Path(run, "metrics.json").read_text()) for run in ("killed", "whole")]
    assert figures[0]["test"] == figures[1]["test"]
    assert not list(Path("killed").rglob(".*.tmp"))
    for line in Path("killed/events.jsonl").read_text().splitlines():
        json.loads(line)


@pytest.mark.slow
def test_five_kills_at_random_instants_change_nothing() -> None:
    check_kills(5, epochs=12, seed=1)


@pytest.mark.slow
def test_twenty_five_kills_at_random_instants_change_nothing() -> None:
    check_kills(25, epochs=50, seed=2)
