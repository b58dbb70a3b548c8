"""How often the accuracy of a training lies in the interval that was foretold for it.

Command: STRIATE_DATA=… python benchmarks/forecast.py [--cases 3] [--again] [--out FILE]
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
from striate.training.budget.forecast import ShortTraining
from striate.training.budget.pace import Pace, Phase
from striate.training.budget.short_trainings import can_extrapolate, forecast_accuracy, run_short_trainings
from striate.training.budget.speed import Work
from striate.training.config import Config
from striate.training.execution import execution_settings
from striate.training.prepare import prepare
from striate.training.request import merge_request

RESULT = Path(__file__).parent / "results" / "forecast.json"
PRIVATE = ("executable", "STRIATE_DATA")
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
    ("iris", "auto", 150, {}),
    ("mnist5k", "conv(16,5) relu pool(2) conv(24,5) relu pool(2) fc(64) relu fc(10)", 30, {"optim.name": "muon"}),
]


def prepared_work(data: str, model: str, epochs: int, fields: dict[str, Any], seed: int) -> tuple[Config, Work]:
    """What is asked for, and the training ready to start."""
    asked = fields | {"model.name": model, "seed": seed, "execution.plan": "plain"}
    config = merge_request(Config(), data=data, epochs=epochs, fields=asked)
    prepared = prepare(config)
    return config, Work(prepared.state, prepared.task, prepared.splits, prepared.config, prepared.normalize)


def trained(data: str, model: str, epochs: int, fields: dict[str, Any], seed: int) -> dict[str, Any]:
    """One row: the short trainings, and what the whole one came to."""
    config, work = prepared_work(data, model, epochs, fields, seed)
    steps = work.config.budget.steps or 0
    # A second a step, on a clock that hardly moves: the share of the steps decides.
    pace = Pace((Phase(1.0, 1.0),), 0.0, math.ceil(steps / epochs))
    with execution_settings(work.config):
        short = run_short_trainings(work, pace, 0.04 * steps)
    with tempfile.TemporaryDirectory() as folder:
        metrics = striate.train(config=config, out=Path(folder) / "run").metrics
    shown = work.config.model.name
    row = {"data": data, "model": shown, "epochs": epochs, "steps": steps, "seed": seed}
    return row | {
        "short": [asdict(s) for s in short],
        "reached": metrics["test"]["accuracy"],
        "n": metrics["test"]["n"],
    }


def with_forecast(row: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    """The row with what its short trainings foretell; None where they foretell nothing."""
    _, work = prepared_work(row["data"], row["model"], row["epochs"], fields, row["seed"])
    short = [ShortTraining(**s) for s in row["short"]]
    if not can_extrapolate(work, short):
        return row | {"foretold": None, "within": None}
    low, expected, high = forecast_accuracy(work, short, row["steps"])
    return row | {"foretold": [low, expected, high], "within": low <= row["reached"] <= high}


def line(row: dict[str, Any]) -> str:
    """The row for reading."""
    errors = " ".join(f"{s['steps']}:{s['error']:.3f}" for s in row["short"])
    what = f"{row['data']:>13} {row['model'][:24]:<24} {row['steps']:>6} steps  reached {100 * row['reached']:.2f} %"
    if row["foretold"] is None:
        return f"{what}  nothing foretold from {errors}"
    low, expected, high = (100 * value for value in row["foretold"])
    verdict = "within" if row["within"] else "OUTSIDE"
    return f"{what}  {verdict} {low:.1f} – {high:.1f} % ({expected:.1f})  from {errors}"


def main() -> None:
    """A line a case, and how many were within."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=len(CASES), help="only the first so many")
    parser.add_argument("--again", action="store_true", help="extrapolate anew from the trainings of the written file")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    kept = {row["seed"]: row for row in json.loads(options.out.read_text())["rows"]} if options.again else {}
    rows = []
    for seed, (data, model, epochs, fields) in enumerate(CASES[: options.cases]):
        if options.again and seed not in kept:
            continue
        try:
            row = kept[seed] if options.again else trained(data, model, epochs, fields, seed)
        except DataError as error:
            print(f"{data}: not there ({error.got})", flush=True)
            continue
        rows.append(with_forecast(row, fields))
        print(line(rows[-1]), flush=True)
    said = [row for row in rows if row["within"] is not None]
    print(f"{sum(row['within'] for row in said)} of {len(said)} within")
    options.out.parent.mkdir(exist_ok=True)
    machine = {key: value for key, value in describe_environment().items() if key not in PRIVATE}
    content = {"command": "python benchmarks/forecast.py", "environment": machine, "rows": rows}
    options.out.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
