"""`striate eval RUN --robustness`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def print_robustness(run: Path, *, plan: Literal["auto", "plain"], json: bool) -> int:
    """Measure it, write it into the run, print it."""
    from striate.api import robustness, write_robustness
    from striate.cli.output import print_json, print_note, print_text, results_only

    with results_only(json):
        found = robustness(run, plan=plan, announce=print_note)
        for written in write_robustness(run, found):
            print_note(f"written: {written}")
    if json:
        print_json(found.to_json())
    else:
        print_text(str(found))
    return 0
