"""Learn to catch a ball from rewards alone, and film what was learned.

Command: python examples/catch.py [RUN]. Chance comes to a return of about -0.6; the best is 1.
"""

from __future__ import annotations

import sys
from pathlib import Path

import striate


def main() -> None:
    """Train, print the return with its interval, and write game.gif beside the report."""
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "catch")
    steps = {"task.control.steps": 40_000, "task.control.environments": 32}
    run = striate.train("gym:striate/Catch-v0", out=out, set=steps)
    test = run.metrics["test"]
    low, high = test["return_interval"]
    print(f"return {test['return']:.2f} ({low:.2f} to {high:.2f}), n = {test['episodes']} episodes")
    watched = striate.play(run.path, out / "game.gif", episodes=5)
    print(f"returns of the film: {watched.played.returns.tolist()}; {watched.path}")


if __name__ == "__main__":
    main()
