"""A planner's pupil against DQN at the same number of steps of the environment.

    python benchmarks/planner_pupil.py --steps 3000 --seeds 3 --out runs/pupil

Each is a run under --out; finished ones are not made again, interrupted ones go on. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import torch

import striate
from striate.api.training import resume
from striate.runs.directory import RunDirectory, read_metrics
from striate.statistics.intervals import LEVEL
from striate.wording import percent


def settings(name: str, steps: int) -> dict[str, Any]:
    """What a competitor is asked for."""
    common: dict[str, Any] = {"task.control.steps": steps, "task.control.epoch_steps": max(steps // 10, 1)}
    dqn = {"task.control.algorithm": "dqn", "task.control.learn_after": max(steps // 10, 1)}
    return (
        common
        | {
            "planner": {"recipe": "planner"},
            "planner, the pupil plays half": {"recipe": "planner", "task.control.pupil_plays": 0.5},
            "dqn": dqn,
            "dqn, an update a step": dqn | {"task.control.update_every": 1},
        }[name]
    )


NAMES = ("planner", "dqn", "dqn, an update a step")


def run(source: str, name: str, steps: int, seed: int, folder: Path) -> dict[str, Any]:
    """The metrics of one run."""
    path = folder / f"{source.rpartition('/')[2]}-{name.replace(', ', '-').replace(' ', '-')}-{steps}-{seed}"
    finished = RunDirectory(path)
    if finished.metrics_json.is_file():
        return read_metrics(finished)
    if finished.config.is_file():
        return resume(path).metrics
    return striate.train(source, seed=seed, out=path, set=settings(name, steps)).metrics


def main() -> None:
    """Run all, print the table."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--source", default="gym:MinAtar/Breakout-v1")
    asked.add_argument("--steps", type=int, default=3000)
    asked.add_argument("--seeds", type=int, default=3)
    asked.add_argument("--first-seed", type=int, default=0)
    asked.add_argument("--names", nargs="*", default=list(NAMES))
    asked.add_argument("--threads", type=int, default=1)
    asked.add_argument("--out", type=Path, default=Path("runs/pupil"))
    given = asked.parse_args()
    torch.set_num_threads(given.threads)
    print(f"| {given.source}, {given.steps:,} steps | test return by seed ({percent(LEVEL, 0)} over 100 episodes) | "
          "mean | steps simulated | seconds |\n|---|---|---|---|---|")  # fmt: skip
    for name in given.names:
        seeds = range(given.first_seed, given.first_seed + given.seeds)
        found = [run(given.source, name, given.steps, seed, given.out) for seed in seeds]
        tests = [metrics["test"] for metrics in found]
        ends = [(test["return"], *test["return_interval"]) for test in tests]
        each = ", ".join(f"{mean:.2f} ({low:.2f}–{high:.2f})" for mean, low, high in ends)
        mean = statistics.mean(test["return"] for test in tests)
        simulated = statistics.mean(metrics.get("simulated_steps", 0) for metrics in found)
        seconds = statistics.mean(metrics["train_seconds"] for metrics in found)
        print(f"| {name} | {each} | {mean:.2f} | {simulated:,.0f} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
