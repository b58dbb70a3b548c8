"""Does `striate train --minutes T` take T? Whole commands by the clock, from the program's start to its end.

Command: STRIATE_DATA=… python benchmarks/minutes.py [--repeats 3]

Asked for is 10 % too early at most, and 3 % too late. The first run of each finds out how to compute, the later ones
have kept it. Where the machine becomes slower or faster, the number of steps follows.
"""

from __future__ import annotations

from typing import Any

from common.commands import row, trained
from common.results import arguments, claim, parsed, write_result

COMMANDS = (("mnist5k", 0.3), ("digits", 0.3), ("mnist5k", 0.5), ("fashion-mnist", 0.5), ("fashion-mnist", 1.5))
EARLY, LATE = -0.1, 0.03


def measured(data: str, minutes: float) -> dict[str, Any]:
    """One command: how far it was off, as a share of what was asked, and what it reached."""
    seconds, metrics, _ = trained([data, "--minutes", str(minutes)])
    return {
        "seconds": seconds,
        "off": seconds / (60 * minutes) - 1,
        "foretold": metrics["forecast"]["seconds"],
        "steps": metrics["steps"],
        "epochs": metrics["epochs"],
        "accuracy": metrics["test"]["accuracy"],
    }


def said(data: str, minutes: float, run: dict[str, Any]) -> str:
    """A line on a command."""
    held = "held" if EARLY <= run["off"] <= LATE else "MISSED"
    return (
        f"{data:>13} {60 * minutes:5.0f} s asked, {run['seconds']:6.1f} s taken ({100 * run['off']:+.1f} %, {held}), "
        f"{run['foretold']:.1f} s foretold, {run['steps']:,} steps, {100 * run['accuracy']:.2f} %"
    )


def main() -> None:
    """All commands in turn, so many times."""
    parser = arguments(__doc__, repeats=3)
    asked = parsed(parser)
    commands = COMMANDS[:1] if asked.quick else COMMANDS
    runs: dict[tuple[str, float], list[dict[str, Any]]] = {command: [] for command in commands}
    for _ in range(asked.repeats):
        for (data, minutes), found in runs.items():
            found.append(measured(data, minutes))
            print(said(data, minutes, found[-1]), flush=True)
    rows = [row(f"{data}, {60 * minutes:.0f} s", found, is_ours=True) for (data, minutes), found in runs.items()]
    offs = [run["off"] for found in runs.values() for run in found]
    kept = sum(EARLY <= off <= LATE for off in offs)
    told = f"{100 * min(offs):+.1f} to {100 * max(offs):+.1f} %: {kept} of {len(offs)} within"
    case = {"name": "striate train DATA --minutes T", "options": {}, "rows": rows, "missing": [], "note": f"{told}."}
    claims = {"minutes": claim(told, None if asked.quick else kept == len(offs))}
    print(write_result(__file__, asked, [case], about=(__doc__ or "").split("\n\n")[2], claims=claims))


if __name__ == "__main__":
    main()
