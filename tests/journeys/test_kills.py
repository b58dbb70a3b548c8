"""A training that is killed without warning, again and again, ends as one that never was."""

from __future__ import annotations

import csv
import hashlib
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from striate.runs.checkpoint import load_checkpoint

LIVES = Path(__file__).with_name("killed_lives.py")
NETWORK = "conv(8,3) bn relu pool(2) dropout(0.2) conv(16,3) bn relu fc(10)"
TRAIN = ["train", "digits", "--model", NETWORK, "--epochs", "8", "--batch", "32", "--augment.shift", "1"]
OPTIONS = ["--plan", "plain", "--optim.ema", "0.9", "--set", "save_seconds=0.05"]
TIMES = {"seconds", "images_per_second", "data_wait", "augment_share"}


def lives(run: str, deaths: list[list[object]]) -> list[str]:
    """A training that dies so many times, and how each of its lives ended."""
    asked = {"run": run, "words": [*TRAIN, *OPTIONS, "--out", run], "deaths": deaths}
    done = subprocess.run(
        [sys.executable, str(LIVES), json.dumps(asked)], capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stderr
    ends: list[str] = json.loads(done.stdout.splitlines()[-1])
    assert ends[-1] == "ended 0", done.stderr
    return ends


def deaths(count: int, seed: int) -> list[list[object]]:
    """So many, at random instants; every second one while a checkpoint is being written or renamed."""
    draw = random.Random(seed)
    kinds = ["writing", "anywhere", "renaming", "anywhere"]
    return [[kinds[k % 4], 0.0 if kinds[k % 4] == "renaming" else draw.uniform(0, 0.15)] for k in range(count)]


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


def check_kills(count: int, seed: int) -> None:
    assert lives("whole", []) == ["ended 0"]
    ends = lives("killed", deaths(count, seed))
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


def test_five_kills_at_random_instants_change_nothing() -> None:
    check_kills(5, seed=1)


@pytest.mark.slow
def test_twenty_five_kills_at_random_instants_change_nothing() -> None:
    check_kills(25, seed=2)
