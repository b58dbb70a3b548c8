"""Whether `lr-find` is right: its answer on networks and data against a grid of full trainings by the quick recipe.

Command: python benchmarks/lr_find_grid.py [--seeds 3] [--seconds 30] [--only WORD]
Each case trains at rates a factor √10 apart, with several seeds (weights and order; for small data twice as many, each
with another split), and takes the rate with the lowest mean validation loss of the epoch that is kept; rates that are
as good within the noise between seeds form a range. `lr-find` sees seed 0 only. It is right within a factor 3 of the
best rate, or inside that range, or where it says that it cannot tell. `regret` is the loss of full trainings at its
answer over that at the best rate. Writes benchmarks/results/lr_find_grid.json.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path
from time import monotonic

from striate.errors import NonFiniteLoss
from striate.runs.environment import describe_environment
from striate.training.events import EpochDone
from striate.training.execution import execution_settings
from striate.training.learning_rate.find import search_learning_rate
from striate.training.learning_rate.judge import judge, scores
from striate.training.learning_rate.records import RateTrial
from striate.training.learning_rate.trials import make_fold
from striate.training.loop import training_events
from striate.training.prepare import prepare_data, read_data
from striate.training.request import merge_request, read_config

SMALL = 1000  # training samples: with fewer, the split varies with the seed too
TANH = "conv(8,3,pad=1) tanh pool(2) conv(16,3,pad=1) tanh pool(2) fc(64) tanh fc(10)"
DEEP = "2*[ 3*[ conv(12,3,pad=1) bn relu ] pool(2) ] 13*[ conv(12,3,pad=1) bn relu ] gap fc(10)"
RESIDUAL = "conv(12,3,pad=1) bn relu 3*[ res[ conv(12,3,pad=1) bn relu conv(12,3,pad=1) bn ] relu ] gap fc(10)"
CASES = [
    ("mnist5k", "perceptron", "adamw"),
    ("mnist5k", "mlp(128,64)", "adamw"),
    ("mnist5k", "mnist-cnn", "adamw"),
    ("mnist5k", "lenet5", "adamw"),
    ("digits", "small-cnn", "adamw"),
    ("digits", TANH, "adamw"),
    ("digits", DEEP, "adamw"),
    ("digits", RESIDUAL, "adamw"),
    ("iris", "mlp(25,15)", "adamw"),
    ("boston", "mlp(8,6)", "adamw"),
    ("mnist5k", "mlp(128,64)", "sgd"),
    ("digits", "small-cnn", "sgd"),
    ("digits", RESIDUAL, "sgd"),
]
RATES = {"adamw": [10 ** (k / 2) for k in range(-8, 1)], "sgd": [10 ** (k / 2) for k in range(-6, 2)]}


def prepared_at(case: tuple[str, str, str], lr: float | None, seed: int, cache: dict):
    """The case ready to train, by the quick recipe; the data are read once for each split."""
    name, model, optimizer = case
    fields = {"model.name": model, "optim.name": optimizer, "recipe": "quick", "seed": seed}
    fields |= {} if lr is None else {"optim.lr": lr}
    split_seed = seed if name in cache and len(cache[name][1].splits["train"]) < SMALL else 0
    config = merge_request(read_config(None), data=name, fields=fields | {"data.split_seed": split_seed})
    key = name if split_seed == 0 else f"{name} {split_seed}"
    if key not in cache:
        cache[key] = read_data(config)
    with_data, data = cache[key]
    return prepare_data(replace(config, data=with_data.data), data, request=config)


def full_training(case: tuple[str, str, str], lr: float, seed: int, cache: dict) -> RateTrial:
    """Validation loss of the epoch that a run at this rate keeps."""
    prepared = prepared_at(case, lr, seed, cache)
    kept = None
    with execution_settings(prepared.config):
        try:
            events = training_events(
                prepared.state, prepared.objective, prepared.splits, prepared.config, prepared.normalize
            )
            for event in events:
                if isinstance(event, EpochDone) and (event.best or kept is None):
                    kept = event.row.val["loss"]
        except NonFiniteLoss:
            kept = None
    return RateTrial(lr, seed, 0.0, 0.0, kept, kept is None)


def mean_score(trials: list[RateTrial], constant: float) -> float:
    """The mean logarithm of the loss, as in the verdict."""
    found = next(iter(scores(trials, constant).values()), None)
    return math.inf if found is None else sum(found.values()) / len(found)


def measure(case: tuple[str, str, str], seeds: int, seconds: float, cache: dict) -> dict:
    """One row."""
    prepared = prepared_at(case, None, 0, cache)
    started = monotonic()
    search = search_learning_rate(prepared, seconds=seconds)
    took, started = monotonic() - started, monotonic()
    fold = make_fold(prepared, 0)
    if len(prepared.data.splits["train"]) < SMALL:
        seeds *= 2
    trials = [full_training(case, lr, seed, cache) for lr in RATES[case[2]] for seed in range(seeds)]
    verdict = judge(trials, fold.start, fold.constant)
    losses = {rate.lr: rate.held_out for rate in verdict.rates}
    best = min(
        (lr for lr in losses if losses[lr] is not None),
        key=lambda lr: mean_score([t for t in trials if t.lr == lr], fold.constant),
    )
    row = {
        "data": case[0], "model": case[1], "optimizer": case[2], "lr_find": search.suggestion,
        "lr_find_range": [search.low, search.high], "why": search.why, "lr_find_seconds": round(took, 1),
        "trial_steps": search.steps, "run_steps": search.run_steps, "recipe": search.configured,
        "grid_best": best, "grid_range": [verdict.low, verdict.high], "grid": losses,
    }  # fmt: skip
    if search.suggestion is not None:
        low, high = (verdict.low or best), (verdict.high or best)
        factor = max(search.suggestion / best, best / search.suggestion)
        at = mean_score([full_training(case, search.suggestion, seed, cache) for seed in range(seeds)], fold.constant)
        regret = math.exp(at - mean_score([t for t in trials if t.lr == best], fold.constant))
        row |= {"factor": factor, "regret": regret, "inside": low <= search.suggestion <= high}
        row["right"] = bool(factor <= 3 or row["inside"])
    else:
        row |= {"factor": None, "regret": None, "inside": None, "right": True}
    row["grid_seconds"] = round(monotonic() - started, 1)
    return row


def show(row: dict) -> str:
    """One line."""
    found = "cannot tell" if row["lr_find"] is None else f"{row['lr_find']:g} ({row['factor']:.1f}× off)"
    regret = "" if row["regret"] is None else f"  loss ×{row['regret']:.2f}"
    grid = "–".join("?" if v is None else f"{v:.2g}" for v in row["grid_range"])
    name = f"{row['data']} {row['model'][:28]} {row['optimizer']}"
    verdict = "right" if row["right"] else "WRONG"
    time = f"{row['trial_steps']}/{row['run_steps']} steps, {row['lr_find_seconds']} s + {row['grid_seconds']} s"
    return f"{name:<44} found {found:<20} best {row['grid_best']:.2g} ({grid}){regret}  {verdict}  {time}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--only", default="", help="cases whose data, model and optimizer contain this")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "lr_find_grid.json")
    asked = parser.parse_args()
    rows, cache = [], {}
    for case in CASES:
        if asked.only in " ".join(case):
            rows.append(measure(case, asked.seeds, asked.seconds, cache))
            print(show(rows[-1]), flush=True)
    right = sum(row["right"] for row in rows)
    print(f"{right} of {len(rows)} right, {sum(row['lr_find'] is None for row in rows)} of them cannot tell")
    machine = {k: v for k, v in describe_environment().items() if k not in ("executable", "STRIATE_DATA")}
    result = {"seeds": asked.seeds, "seconds": asked.seconds, "rows": rows, "environment": machine}
    asked.out.parent.mkdir(exist_ok=True)
    asked.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
