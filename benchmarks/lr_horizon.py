"""How the best peak learning rate depends on the length of a training: the exponent that `lr-find` extrapolates with.

Command: python benchmarks/lr_horizon.py [--seeds 2] [--only WORD]
Each case trains one-cycle schedules of 30 to 1,000 steps at rates a factor √10 apart; the best rate of a length is the
vertex of the parabola through the three best losses (held-out samples, over the logarithm of the rate), and the
exponent the slope of a straight line through those. Writes benchmarks/results/lr_horizon.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from striate.runs.environment import describe_environment
from striate.training.execution import execution_settings
from striate.training.learning_rate.judge import mean_scores
from striate.training.learning_rate.trials import make_fold, run_trial
from striate.training.prepare import prepare
from striate.training.request import merge_request, read_config

CASES = [
    ("digits", "mlp(64,32)", "adamw"),
    ("digits", "conv(8,3,pad=1) relu pool(2) conv(16,3,pad=1) relu pool(2) fc(32) relu fc(10)", "adamw"),
    ("digits", "conv(8,3,pad=1) bn relu pool(2) conv(16,3,pad=1) bn relu gap fc(10)", "adamw"),
    ("digits", "mlp(64,32)", "sgd"),
]
LENGTHS = (30, 100, 300, 1000)
RATES = [10 ** (k / 2) for k in range(-8, 2)]


def best_rate(scores: dict[float, float]) -> float:
    """The vertex of the parabola through the best rate and its neighbors; the best rate itself at an edge."""
    rates = sorted(scores)
    place = min(range(len(rates)), key=lambda k: scores[rates[k]])
    if not 0 < place < len(rates) - 1:
        return rates[place]
    x = np.log10(rates[place - 1 : place + 2])
    a, b, _ = np.polyfit(x, [scores[r] for r in rates[place - 1 : place + 2]], 2)
    return float(10 ** (-b / (2 * a)))


def measure(case: tuple[str, str, str], seeds: int) -> dict:
    """The best rate of each length, and the exponent."""
    data, model, optimizer = case
    fields = {"model.name": model, "optim.name": optimizer, "optim.ema": 0, "batch": 32, "recipe": "quick"}
    prepared = prepare(merge_request(read_config(None), data=data, fields=fields))
    best = {}
    with execution_settings(prepared.config):
        folds = [make_fold(prepared, seed) for seed in range(seeds)]
        for steps in LENGTHS:
            trials = [run_trial(prepared, folds[k], lr, steps, k) for lr in RATES for k in range(seeds)]
            best[steps] = best_rate(mean_scores(trials, folds[0].constant))
    slope = float(np.polyfit(np.log(list(best)), np.log(list(best.values())), 1)[0])
    return {"data": data, "model": model, "optimizer": optimizer, "best": best, "exponent": slope}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", default="", help="cases whose data, model and optimizer contain this")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "lr_horizon.json")
    asked = parser.parse_args()
    rows = []
    for case in CASES:
        if asked.only in " ".join(case):
            rows.append(measure(case, asked.seeds))
            row = rows[-1]
            best = "  ".join(f"{steps}: {lr:.2g}" for steps, lr in row["best"].items())
            print(f"{row['model'][:40]:<42}{row['optimizer']:<7}{best}   exponent {row['exponent']:.2f}", flush=True)
    machine = {k: v for k, v in describe_environment().items() if k not in ("executable", "STRIATE_DATA")}
    asked.out.parent.mkdir(exist_ok=True)
    asked.out.write_text(json.dumps({"seeds": asked.seeds, "rows": rows, "environment": machine}, indent=2) + "\n")


if __name__ == "__main__":
    main()
