"""How often the accuracy of a training lies in the interval that was foretold for it.

Command: STRIATE_DATA=… python benchmarks/forecast.py [--cases 3] [--out FILE]
Each case is a data set, a network and a number of epochs, on the recipe's settings with another seed each. The forecast
is made as `striate train` makes it, from trainings in few steps that take 4 % of the run's; here 4 % of its steps, so
that nothing depends on how fast the machine is. Then the training itself goes its whole way. What is held against the
interval is the accuracy on the test split, of which the forecast knows nothing; cases whose data are not there are
passed over. Writes benchmarks/results/forecast.json.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import striate
from striate.errors import DataError
from striate.runs.environment import describe_environment
from striate.training.config import Config
from striate.training.execution import execution_settings
from striate.training.pace import Pace, Phase
from striate.training.prepare import prepare
from striate.training.request import merge_request
from striate.training.short_trainings import forecast_accuracy, run_short_trainings
from striate.training.speed import Work

RESULT = Path(__file__).parent / "results" / "forecast.json"
CASES: list[tuple[str, str, int, dict[str, Any]]] = [
    ("mnist5k", "mnist-cnn", 40, {}),
    ("mnist5k", "mlp(64,32)", 60, {}),
    ("digits", "auto", 80, {}),
    ("digits", "mlp(64)", 150, {}),
    ("digits", "conv(8,3,pad=1) bn relu conv(16,3,pad=1) bn relu gap fc(10)", 60, {"schedule.first_size": 0.5}),
    ("fashion-mnist", "mnist-cnn", 3, {}),
    ("fashion-mnist", "mlp(128)", 6, {"optim.name": "sgd"}),
    ("mnist", "mnist-cnn", 2, {}),
    ("mnist", "mlp(64,32)", 5, {}),
    ("cifar10", "small-cnn", 3, {}),
    ("wine", "auto", 150, {}),
    ("mnist5k", "conv(16,5) relu pool(2) conv(24,5) relu pool(2) fc(64) relu fc(10)", 30, {"optim.name": "muon"}),
]


def foretold_and_reached(data: str, model: str, epochs: int, fields: dict[str, Any], seed: int) -> dict[str, Any]:
    """One row: what was foretold, and what came."""
    asked = fields | {"model.name": model, "seed": seed, "execution.plan": "plain"}
    config = merge_request(Config(), data=data, epochs=epochs, fields=asked)
    prepared = prepare(config)
    steps = prepared.config.budget.steps or 0
    work = Work(prepared.state, prepared.task, prepared.splits, prepared.config, prepared.normalize)
    # A second a step, on a clock that hardly moves: the share of the steps decides.
    pace = Pace((Phase(1.0, 1.0),), 0.0, math.ceil(steps / epochs))
    with execution_settings(prepared.config):
        short = run_short_trainings(work, pace, 0.04 * steps)
    low, expected, high = forecast_accuracy(work, short, steps)
    with tempfile.TemporaryDirectory() as folder:
        metrics = striate.train(config=config, out=Path(folder) / "run").metrics
    reached = metrics["test"]["accuracy"]
    return {
        "data": data,
        "model": prepared.config.model.name,
        "epochs": epochs,
        "steps": steps,
        "short": [asdict(row) for row in short],
        "foretold": [low, expected, high],
        "reached": reached,
        "n": metrics["test"]["n"],
        "within": low <= reached <= high,
        "error_ratio": max(1 - reached, 1 / metrics["test"]["n"]) / (1 - expected),
    }


def main() -> None:
    """A line a case, and how many were within."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=len(CASES), help="only the first so many")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    rows = []
    for seed, (data, model, epochs, fields) in enumerate(CASES[: options.cases]):
        try:
            row = foretold_and_reached(data, model, epochs, fields, seed)
        except DataError as error:
            print(f"{data}: not there ({error.got})", flush=True)
            continue
        rows.append(row)
        low, expected, high = (100 * value for value in row["foretold"])
        errors = " ".join(f"{s['steps']}:{s['error']:.3f}" for s in row["short"])
        print(
            f"{data:>13} {row['model'][:24]:<24} {row['steps']:>6} steps  {low:.1f} – {high:.1f} % ({expected:.1f})  "
            f"reached {100 * row['reached']:.2f} %  {'within' if row['within'] else 'OUTSIDE'}  "
            f"error × {row['error_ratio']:.2f}  from {errors}",
            flush=True,
        )
    print(f"{sum(row['within'] for row in rows)} of {len(rows)} within")
    command = "python benchmarks/forecast.py" + (f" --cases {options.cases}" if options.cases != len(CASES) else "")
    content = {"command": command, "environment": describe_environment(), "rows": rows}
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
