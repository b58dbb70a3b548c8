"""Whole commands by the clock: each a process of its own, from its start to its last line."""

from __future__ import annotations

import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from common.contender import NOT_INHERITED


def timed(words: Sequence[str], environment: Mapping[str, str] | None = None) -> tuple[float, str]:
    """Wall clock of a Python process, and what it printed; RuntimeError with its last words where it failed."""
    given = {key: value for key, value in os.environ.items() if key not in NOT_INHERITED} | dict(environment or {})
    command, started = [sys.executable, "-W", "ignore", *words], monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=given)
    if done.returncode:
        raise RuntimeError(" ".join(done.stderr.split())[-300:])
    return monotonic() - started, done.stdout


def trained(
    words: Sequence[str], *, launcher: Sequence[str] = (), cache: bool = True
) -> tuple[float, dict[str, Any], list[dict[str, str]]]:
    """`striate train` with these words: its seconds, metrics.json, and the rows of metrics.csv. Without a `cache` it
    begins with one of its own, as if it were the first on this machine."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        own = {} if cache else {"STRIATE_CACHE": f"{folder}/cache"}
        seconds, _ = timed([*launcher, "-m", "striate", "train", *words, "--out", str(out)], own)
        metrics = json.loads((out / "metrics.json").read_text())
        with (out / "metrics.csv").open(encoding="utf-8") as file:
            return seconds, metrics, list(csv.DictReader(file))


def row(name: str, runs: Sequence[dict[str, Any]], *, is_ours: bool) -> dict[str, Any]:
    """Mean and standard deviation of what whole commands reached; every run beside."""

    def figures(key: str) -> dict[str, float]:
        values = [run[key] for run in runs]
        return {"mean": statistics.fmean(values), "std": statistics.stdev(values) if len(values) > 1 else 0.0}

    keys = [key for key in ("accuracy", "accuracy_one_view", "epochs", "seconds") if key in runs[0]]
    return {"contender": name, "ours": is_ours, **{key: figures(key) for key in keys}, "runs": list(runs)}
