"""Does `striate train --minutes T` take T? Whole commands by the clock, from the program's start to its end.

Command: STRIATE_DATA=… python benchmarks/minutes.py [--repeats 3]
A line a command: what was asked for, what it took, and what was foretold. Asked for is −10 % to +3 %. To be run on a
quiet machine; the first run of each finds out how to compute, the later ones have kept it. Writes
benchmarks/results/minutes.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

from striate.runs.environment import describe_environment

RESULT = Path(__file__).parent / "results" / "minutes.json"
COMMANDS = [("mnist5k", 0.3), ("digits", 0.3), ("mnist5k", 0.5), ("fashion-mnist", 0.5), ("fashion-mnist", 1.5)]
PRIVATE = ("executable", "STRIATE_DATA")


def timed(data: str, minutes: float) -> dict[str, Any]:
    """One command, and the share of the minutes that it took."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "striate", "train", data, "--minutes", str(minutes), "--out", f"{folder}/run"]
        began = perf_counter()
        subprocess.run(words, check=True, capture_output=True)
        seconds = perf_counter() - began
        metrics = json.loads(Path(folder, "run", "metrics.json").read_text())
    forecast = metrics["forecast"]
    return {
        "data": data,
        "minutes": minutes,
        "seconds": round(seconds, 2),
        "off": round(seconds / (60 * minutes) - 1, 4),
        "foretold": round(forecast["seconds"], 2),
        "steps": metrics["steps"],
        "accuracy": metrics["test"]["accuracy"],
    }


def main() -> None:
    """All commands in turn, so many times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    rows = []
    for _ in range(options.repeats):
        for data, minutes in COMMANDS:
            row = timed(data, minutes)
            rows.append(row)
            held = "held" if -0.1 <= row["off"] <= 0.03 else "MISSED"
            print(
                f"{data:>13} {60 * minutes:5.0f} s asked, {row['seconds']:6.1f} s taken ({100 * row['off']:+.1f} %, "
                f"{held}), {row['foretold']:.1f} s foretold, {row['steps']:,} steps, {100 * row['accuracy']:.2f} %",
                flush=True,
            )
    machine = {key: value for key, value in describe_environment().items() if key not in PRIVATE}
    content = {"command": "python benchmarks/minutes.py", "environment": machine, "rows": rows}
    RESULT.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
